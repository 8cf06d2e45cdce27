"""Sessions: exported ONNX files as networks."""

import copy
import json
import os
import pickle
import shutil

import numpy as np
import pytest
import torch
import unknown_cases
from export_cases import onnx

from mnist_zoo import as_mnist, ensemble, evaluate, mini_resnet, predict
from mnist_zoo.export import ExportError, Session, export, load_session, quantize


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
            for node in foreign.graph.node:
                node.input[:] = ["x" if name == "digits" else name for name in node.input]
            foreign.graph.input[0].name = "x"
        onnx.save(foreign, bad)
        with pytest.raises(ExportError, match=r"must be a file that mnist_zoo\.export wrote"):
            load_session(bad)


def changed(proto, said=None, **stated):
    """A copy of an exported model whose metadata says something else."""
    foreign = onnx.ModelProto.FromString(proto.SerializeToString())
    entry = next(entry for entry in foreign.metadata_props if entry.key == "mnist_zoo")
    entry.value = json.dumps({**json.loads(entry.value), **stated}) if said is None else said
    return foreign


def test_files_whose_input_or_metadata_export_does_not_write_are_refused(file, tmp_path):
    proto = onnx.load(file)
    cases = {
        "deep": changed(proto, "[" * 100_000),
        "list": changed(proto, "[]"),
        "number": changed(proto, "3"),
        "huge": changed(proto, preprocessing={"image_size": 10**6}),
        "other": changed(proto, preprocessing={"image_size": 32}),
        "unknown": changed(proto, preprocessing={"x\x1b[2J": 1}),
        "nothing": changed(proto, preprocessing=None),
        "many": changed(proto, classes=["a"] * 11),
        "none": changed(proto, classes=None),
    }
    cases["batch"] = changed(proto)
    cases["batch"].graph.input[0].type.tensor_type.shape.dim[0].dim_value = 7
    cases["type"] = changed(proto)
    cases["type"].graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    cast = onnx.helper.make_node("Cast", ["digits"], ["cast"], to=onnx.TensorProto.FLOAT)
    for node in cases["type"].graph.node:
        node.input[:] = ["cast" if name == "digits" else name for name in node.input]
    cases["type"].graph.node.insert(0, cast)
    for name, foreign in cases.items():
        bad = tmp_path / f"{name}.onnx"
        onnx.save(foreign, bad)
        with pytest.raises(ExportError, match=rf"{name}\.onnx'") as error:
            load_session(bad)
        assert "\x1b" not in str(error.value)


def test_a_network_that_fails_while_it_runs_is_an_export_error(file, tmp_path):
    foreign = changed(onnx.load(file))
    for node in foreign.graph.node:
        node.input[:] = ["reshaped" if name == "digits" else name for name in node.input]
    foreign.graph.node.insert(0, onnx.helper.make_node("Reshape", ["digits", "odd"], ["reshaped"]))
    foreign.graph.node.insert(0, onnx.helper.make_node("Shape", ["digits"], ["shape"]))
    minus = onnx.numpy_helper.from_array(np.array([0, 0, 0, 1], np.int64), "minus")
    foreign.graph.initializer.append(minus)
    foreign.graph.node.insert(1, onnx.helper.make_node("Sub", ["shape", "minus"], ["odd"]))
    onnx.save(foreign, tmp_path / "fails.onnx")
    session = load_session(tmp_path / "fails.onnx")
    with pytest.raises(ExportError, match="ONNX Runtime cannot run the network"):
        session(torch.zeros(1, 1, 28, 28))


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


def test_a_file_that_normalises_images_refuses_those_that_are_normalised(model, digits, uint8_file):
    session = load_session(uint8_file)
    for use in (
        lambda: evaluate(session, digits, model.preprocessing),
        lambda: predict(session, digits.images[0], preprocessing=model.preprocessing),
        lambda: session(model.preprocessing(digits.images[:2])),
        lambda: session(torch.full((1, 1, 28, 28), float("nan"))),
    ):
        with pytest.raises(ValueError, match=r"must be in 0…1, as its own `preprocessing`"):
            use()
    assert evaluate(session, digits).correct == evaluate(model, digits).correct


def test_a_file_of_another_batch_says_which_ones_are_read(model, tmp_path):
    export(model, tmp_path / "a.onnx", batch=4)
    with pytest.raises(ExportError, match="with `batch` None or 1; its batch is 4"):
        load_session(tmp_path / "a.onnx")


def test_a_session_works_after_its_file_is_deleted(file, tmp_path, digits):
    shutil.copy(file, tmp_path / "a.onnx")
    session = load_session(tmp_path / "a.onnx")
    (tmp_path / "a.onnx").unlink()
    assert isinstance(session, Session)
    assert predict(session, digits.images[0]).digit == digits.labels[0]


# --- Familiarity -------------------------------------------------------------------------------


def familiarity(network, images):
    return np.array([prediction.familiarity for prediction in predict(network, images)])


def test_a_session_tells_the_familiarity_of_the_network(file, model, digits):
    scribbles = as_mnist(unknown_cases.scribbles(20))
    images = torch.cat([digits.images[:50], scribbles])
    session = load_session(file, threads=1)
    assert familiarity(session, images) == pytest.approx(familiarity(model, images), abs=1e-3)
    found = familiarity(model, scribbles).argmin()
    assert predict(session, scribbles[found], reject_unknown=True).digit is None
    assert [output.name for output in onnx.load(file).graph.output] == ["logits", "familiarity"]
    x = session.preprocessing(images)
    assert session(x).shape == (70, 10)


def test_a_file_of_probabilities_tells_the_same_familiarity(model, digits, softmax_file):
    session = load_session(softmax_file)
    images = digits.images[:20]
    assert familiarity(session, images) == pytest.approx(familiarity(model, images), abs=1e-3)
    both = familiarity(ensemble([session, model]), images)
    assert both == pytest.approx(familiarity(model, images), abs=1e-3)


def test_a_file_without_familiarity_still_works(model, digits, tmp_path):
    bare = copy.deepcopy(model)
    bare.familiarity = None
    export(bare, tmp_path / "bare.onnx")
    assert [output.name for output in onnx.load(tmp_path / "bare.onnx").graph.output] == ["logits"]
    session = load_session(tmp_path / "bare.onnx")
    assert predict(session, digits.images[0]).is_digit is None
    with pytest.raises(ValueError, match="fit_familiarity"):
        predict(session, digits.images[0], reject_unknown=True)


def test_int8_keeps_the_familiarity(file, model, digits, calibration, tmp_path):
    quantize(file, tmp_path / "int8.onnx", calibration)
    session = load_session(tmp_path / "int8.onnx")
    images = digits.images[:300]
    one, other = familiarity(session, images), familiarity(model, images)
    assert np.corrcoef(one, other)[0, 1] > 0.97
    assert (one < 0).mean() == pytest.approx((other < 0).mean(), abs=0.01)


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_other_formats_give_logits_alone(model, tmp_path):
    x = torch.zeros(2, 1, 28, 28)
    export(model, tmp_path / "m.pt2", "torch_export")
    export(model, tmp_path / "m.pt", "torchscript")
    for run in (torch.export.load(tmp_path / "m.pt2").module(), torch.jit.load(tmp_path / "m.pt")):
        assert run(x).shape == (2, 10)


def test_a_session_refuses_other_outputs(file, tmp_path):
    proto = onnx.load(file)
    proto.graph.output[1].name = "other"
    next(node for node in proto.graph.node if "familiarity" in node.output).output[0] = "other"
    onnx.save(proto, tmp_path / "other.onnx")
    with pytest.raises(ExportError, match="at most its familiarity"):
        load_session(tmp_path / "other.onnx")
