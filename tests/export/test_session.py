"""Sessions: exported ONNX files as networks."""

import os
import pickle
import shutil

import numpy as np
import pytest
import torch
from export_cases import onnx

from mnist_zoo import ensemble, evaluate, mini_resnet, predict
from mnist_zoo.export import ExportError, Session, export, load_session


def test_predict_evaluate_and_ensemble_accept_a_session(file, model, digits):
    session = load_session(file, threads=1)
    ours, theirs = predict(model, digits.images[:50]), predict(session, digits.images[:50])
    assert [p.digit for p in ours] == [p.digit for p in theirs]
    assert np.allclose(
        [p.probabilities for p in ours], [p.probabilities for p in theirs], atol=1e-5
    )
    assert evaluate(session, digits).correct == evaluate(model, digits).correct
    assert predict(ensemble([session, model]), digits.images[0]).digit == digits.labels[0]
    assert str(file) in repr(session)


def test_a_session_with_three_channels_predicts_grey_digits(tmp_path, digits):
    model = mini_resnet(in_channels=3)
    export(model, tmp_path / "c.onnx")
    ours, theirs = (
        predict(m, digits.images[0]) for m in (model, load_session(tmp_path / "c.onnx"))
    )
    assert ours.probabilities == pytest.approx(theirs.probabilities, abs=1e-5)


def test_files_that_export_did_not_write_are_refused(file, tmp_path):
    content = file.read_bytes()
    bad = tmp_path / "bad.onnx"
    for spoilt in (b"", b"text", content[: len(content) // 2], os.urandom(1000), content[:-1]):
        bad.write_bytes(spoilt)
        with pytest.raises(ExportError, match=r"bad\.onnx'"):
            load_session(bad)
    with pytest.raises(ExportError, match="must be a file"):
        load_session(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such file"):
        load_session(tmp_path / "none.onnx")
    with pytest.raises(ValueError, match=r"`threads` \(=0\)"):
        load_session(file, threads=0)
    proto = onnx.load(file)
    for spoil in ("metadata", "name"):
        foreign = onnx.ModelProto.FromString(proto.SerializeToString())
        if spoil == "metadata":
            del foreign.metadata_props[:]
        else:
            foreign.graph.input[0].name = foreign.graph.node[0].input[0] = "x"
        onnx.save(foreign, bad)
        with pytest.raises(ExportError, match=r"must be a file that mnist_zoo\.export wrote"):
            load_session(bad)


def test_a_session_refuses_wrong_inputs(file):
    session = load_session(file)
    for shape in ((1, 28, 28), (2, 3, 28, 28), (2, 1, 32, 32)):
        got = ", ".join(map(str, shape))
        with pytest.raises(ValueError, match=rf"\(N, 1, 28, 28\), got \({got}\)"):
            session(torch.zeros(shape))
    with pytest.raises(ValueError, match=r"floating-point numbers, got torch\.uint8"):
        session(torch.zeros(1, 1, 28, 28, dtype=torch.uint8))
    with pytest.raises(ValueError, match="must have the same num_classes"):
        ensemble([session, mini_resnet(num_classes=3)])
    with pytest.raises(TypeError, match="cannot be copied or pickled"):
        pickle.dumps(session)


def test_a_session_works_after_its_file_is_deleted(file, tmp_path, digits):
    shutil.copy(file, tmp_path / "a.onnx")
    session = load_session(tmp_path / "a.onnx")
    (tmp_path / "a.onnx").unlink()
    assert isinstance(session, Session)
    assert predict(session, digits.images[0]).digit == digits.labels[0]
