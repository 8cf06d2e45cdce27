"""Exported files, read by the runtimes that will read them."""

import json
import os
import pickle
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import mnist_zoo
from mnist_zoo import (
    Preprocessing,
    ensemble,
    evaluate,
    get_model,
    lenet5,
    list_models,
    load_mnist,
    mini_convnet,
    mini_resnet,
    predict,
    resnet18,
)

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")

onnx = pytest.importorskip("onnx", reason="the onnx extra is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")

from conftest import DEEP, randomize_norms, slow_if  # noqa: E402

from mnist_zoo.export import (  # noqa: E402
    ExportError,
    Session,
    export,
    load_session,
    quantize,
    writing,
)
from mnist_zoo.export.writing import BATCHES  # noqa: E402

SMALL = set(list_models(max_params=1_000_000)) - set(DEEP)
SUFFIX = {"onnx": ".onnx", "torch_export": ".pt2", "torchscript": ".pt"}


def by_its_runtime(path, format):
    """The file as a function, with nothing of the library between."""
    if format == "torch_export":
        return torch.export.load(path).module()
    if format == "torchscript":
        return torch.jit.load(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(["logits"], {"digits": x.numpy()})[0])


def agrees(model, path, format):
    model = randomize_norms(model)
    report = export(model, path, format)
    run = by_its_runtime(path, format)
    for batch in BATCHES:
        x = torch.randn(batch, *model.input_size)
        with torch.no_grad():
            expected = model.eval()(x)
            assert (run(x) - expected).abs().max() <= 1e-4 * expected.abs().max().clamp(min=1)
    assert report.size == path.stat().st_size
    return report


@pytest.mark.parametrize("format", SUFFIX)
@pytest.mark.parametrize(
    "name",
    [slow_if(name not in SMALL, name) for name in list_models()],
)
def test_every_network_agrees_with_its_file(name, format, tmp_path):
    path = tmp_path / f"file{SUFFIX[format]}"
    agrees(get_model(name), path, format)
    other = get_model(name, in_channels=3, num_classes=7, image_size=36)
    agrees(other, path, format)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_large_network_agrees_with_its_file(tmp_path):
    report = agrees(resnet18(), tmp_path / "file.onnx", "onnx")
    assert report.opset >= 18
    assert str(report).startswith(f"{tmp_path}")
    proto = onnx.load(tmp_path / "file.onnx")
    assert not {node.op_type for node in proto.graph.node} & {"BatchNormalization"}


@pytest.fixture(scope="module")
def model():
    return mini_resnet(weights="mnist").eval()


@pytest.fixture(scope="module")
def file(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "mini_resnet.onnx"
    export(model, path)
    return path


@pytest.fixture(scope="module")
def digits():
    return load_mnist("test", source="sample")


def test_the_file_says_what_it_is(file, model):
    proto = onnx.load(file)
    onnx.checker.check_model(proto, full_check=True)
    (given,), (output,) = proto.graph.input, proto.graph.output
    shape = [d.dim_param or d.dim_value for d in given.type.tensor_type.shape.dim]
    assert (given.name, shape) == ("digits", ["batch", 1, 28, 28])
    assert output.name == "logits"
    (entry,) = proto.metadata_props
    stated = json.loads(entry.value)
    assert Preprocessing(**stated["preprocessing"]) == model.preprocessing
    assert stated["classes"] == list("0123456789")
    assert stated["network"] == "mini_resnet"


def test_the_file_tells_nothing_of_the_machine(file):
    content = file.read_bytes()
    for folder in (Path(mnist_zoo.__file__).parent, Path(torch.__file__).parent):
        assert str(folder).encode() not in content


def test_other_formats_say_the_same(model, tmp_path):
    export(model, tmp_path / "a.pt2", "torch_export", classes=list("abcdefghij"))
    export(model, tmp_path / "a.pt", "torchscript")
    extra = {"mnist_zoo": ""}
    torch.export.load(tmp_path / "a.pt2", extra_files=extra)
    assert json.loads(extra["mnist_zoo"])["classes"] == list("abcdefghij")
    torch.jit.load(tmp_path / "a.pt", _extra_files=extra)
    assert json.loads(extra["mnist_zoo"])["preprocessing"]["std"] == model.preprocessing.std


def test_predict_and_evaluate_take_a_session_as_any_network(file, model, digits):
    session = load_session(file, threads=1)
    ours, theirs = predict(model, digits.images[:50]), predict(session, digits.images[:50])
    assert [p.digit for p in ours] == [p.digit for p in theirs]
    assert np.allclose(
        [p.probabilities for p in ours], [p.probabilities for p in theirs], atol=1e-5
    )
    assert evaluate(session, digits).correct == evaluate(model, digits).correct
    assert predict(ensemble([session, model]), digits.images[0]).digit == digits.labels[0]
    assert str(file) in repr(session)


def test_probabilities_on_demand(model, tmp_path, digits):
    export(model, tmp_path / "p.onnx", softmax=True)
    runtime = onnxruntime.InferenceSession(tmp_path / "p.onnx")
    x = model.preprocessing(digits.images[:4])
    (found,) = runtime.run(["probabilities"], {"digits": x.numpy()})
    assert np.allclose(found.sum(1), 1, atol=1e-6)
    assert np.allclose(found, model(x).softmax(1).detach(), atol=1e-5)
    again = predict(load_session(tmp_path / "p.onnx"), digits.images[0])
    assert again.probability == pytest.approx(predict(model, digits.images[0]).probability)


def test_a_colour_network_reads_grey_digits(tmp_path, digits):
    model = mini_resnet(in_channels=3)
    export(model, tmp_path / "c.onnx")
    ours, theirs = (
        predict(m, digits.images[0]) for m in (model, load_session(tmp_path / "c.onnx"))
    )
    assert ours.probabilities == pytest.approx(theirs.probabilities, abs=1e-5)


def test_the_file_states_its_own_size(tmp_path, digits, calibration):
    model = resnet18().eval()
    model.preprocessing = Preprocessing(mean=0.2)
    export(model, tmp_path / "a.onnx", input_size=(1, 40, 40))
    session = load_session(tmp_path / "a.onnx")
    assert session.preprocessing == Preprocessing(mean=0.2, image_size=40)
    found = predict(session, digits.images[0])
    wanted = predict(model, digits.images[0], preprocessing=session.preprocessing)
    assert found.probabilities == pytest.approx(wanted.probabilities, abs=1e-5)
    quantize(tmp_path / "a.onnx", tmp_path / "q.onnx", calibration[slice(0, 10)])


def test_the_network_stays_as_it_is(tmp_path):
    model = randomize_norms(mini_convnet()).half().train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    random = torch.get_rng_state()
    for format, suffix in SUFFIX.items():
        export(model, tmp_path / f"a{suffix}", format)
    assert model.training
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)


def test_large_outputs_may_differ_in_proportion(tmp_path, monkeypatch):
    model = lenet5().eval()
    model.fc3.bias.data.fill_(1000.0)
    read_back = writing._read_back
    for off, fits in ((0.05, True), (0.2, False)):

        def a_little_off(*arguments, off=off):
            run = read_back(*arguments)
            return lambda x: run(x) + off

        monkeypatch.setattr(writing, "_read_back", a_little_off)
        if fits:
            report = export(model, tmp_path / "a", "torchscript")
            assert report.largest_difference == pytest.approx(off, rel=0.01)
        else:
            with pytest.raises(ExportError, match=r"differs by 2.0e-01"):
                export(model, tmp_path / "a", "torchscript")


def test_any_network_is_exported_with_its_size_given(tmp_path):
    model = nn.Sequential(nn.Flatten(), nn.Linear(2 * 5 * 5, 3))
    with pytest.raises(ValueError, match="`input_size` must be given: Sequential has none"):
        export(model, tmp_path / "a.onnx")
    export(model, tmp_path / "a.onnx", input_size=(2, 5, 5), classes=["x", "y", "z"])
    session = load_session(tmp_path / "a.onnx")
    assert (session.input_size, session.classes) == ((2, 5, 5), ("x", "y", "z"))
    x = torch.randn(4, 2, 5, 5)
    assert torch.allclose(session(x), model(x), atol=1e-5)


# --- what goes wrong -------------------------------------------------------------------------


class Branching(nn.Module):
    input_size = (1, 28, 28)

    def forward(self, x):
        x = x.flatten(1)[:, :10]
        return x if x.sum() > 0 else -x


@pytest.mark.parametrize("format", SUFFIX)
def test_a_branch_on_values_is_refused_and_nothing_written(format, tmp_path):
    with pytest.raises(ExportError, match=rf"`model` \(Branching\) cannot be exported as {format}"):
        export(Branching(), tmp_path / "a", format)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("batch", "off"), [(1, 2e-4), (7, 2e-4), (2, float("nan"))])
@pytest.mark.parametrize("format", SUFFIX)
def test_a_file_that_differs_is_not_left_behind(format, batch, off, tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_text("what was there before")
    read_back = writing._read_back

    def a_little_off(*arguments):
        run = read_back(*arguments)
        return lambda x: run(x) + (off if len(x) == batch else 0)

    monkeypatch.setattr(writing, "_read_back", a_little_off)
    with pytest.raises(ExportError, match=rf"differs by {off:.1e} from itself, more than"):
        export(lenet5(), path, format)
    assert [file.read_text() for file in tmp_path.iterdir()] == ["what was there before"]


@pytest.mark.parametrize("format", SUFFIX)
def test_a_frozen_batch_is_refused(format, tmp_path):
    class Frozen(nn.Module):
        input_size = (1, 4, 4)

        def forward(self, x):
            return x.flatten(1) if len(x) == 2 else x.flatten(1) + 0

    with pytest.raises(ExportError, match="cannot be exported"):
        export(Frozen(), tmp_path / "a", format)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"format": "tflite"}, r"`format` \(='tflite'\) must be one of 'onnx'"),
        ({"tolerance": 0}, r"`tolerance` \(=0\) must be more than 0"),
        ({"classes": ["a"]}, r"`classes` \(=\['a'\]\) must be the names of 10 classes"),
        ({"input_size": (28, 28)}, r"`input_size` \(=\(28, 28\)\) must be a shape"),
        ({"input_size": (1, 28, 27)}, r"`input_size` \(=\(1, 28, 27\)\) must be that of a square"),
        ({"input_size": (1, 32, 32)}, r"must take pictures of shape \(1, 1, 32, 32\): expected"),
    ],
)
def test_impossible_arguments_are_named(arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        export(mini_resnet(), tmp_path / "a.onnx", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_places_that_cannot_be_written(tmp_path):
    with pytest.raises(FileNotFoundError, match="must be in a folder that exists"):
        export(mini_resnet(), tmp_path / "none" / "a.onnx")
    with pytest.raises(ValueError, match="must be a file; it is a folder"):
        export(mini_resnet(), tmp_path)
    if Path("/proc").is_dir():
        with pytest.raises(OSError):  # noqa: PT011  (which one is the system's choice)
            export(mini_resnet(), "/proc/a.onnx")
    with pytest.raises(ValueError, match=r"`model` .* must be a network"):
        export("mini_resnet", tmp_path / "a.onnx")
    with pytest.raises(ValueError, match="must map pictures"):
        export(nn.Conv2d(1, 2, 3), tmp_path / "a.onnx", input_size=(1, 28, 28))


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        export(mini_resnet(), tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_no_exports(file, tmp_path):
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
        with pytest.raises(ExportError, match=r"must be a file of mnist_zoo\.export"):
            load_session(bad)


def test_wrong_input_at_run_time_is_named(file):
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


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "onnxscript"])
def test_a_missing_package_is_named(package, tmp_path, file, calibration, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    uses = {
        "onnx onnxruntime onnxscript": lambda: export(mini_resnet(), tmp_path / "a.onnx"),
        "onnx onnxruntime": lambda: quantize(file, tmp_path / "a.onnx", calibration),
        "onnxruntime": lambda: load_session(file),
    }
    for needed, use in uses.items():
        if package in needed.split():
            with pytest.raises(ImportError, match=rf'{package}: pip install "mnist-zoo\[onnx\]"'):
                use()
    assert list(tmp_path.iterdir()) == []
    export(mini_resnet(), tmp_path / "a.pt2", "torch_export")


# --- int8 --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def calibration():
    return load_mnist("train", source="sample").split(1000)[0]


def test_int8_keeps_what_the_file_says(file, calibration, digits, tmp_path):
    report = quantize(file, tmp_path / "q.onnx", calibration, test=digits)
    assert [path.name for path in tmp_path.iterdir()] == ["q.onnx"]
    assert report.metrics.correct >= report.float_metrics.correct - len(digits) // 500
    assert report.size == (tmp_path / "q.onnx").stat().st_size
    assert report.size <= 0.3 * report.float_size == 0.3 * file.stat().st_size
    before, after = load_session(file), load_session(tmp_path / "q.onnx")
    assert (after.preprocessing, after.classes) == (before.preprocessing, before.classes)
    weights = [t for t in onnx.load(tmp_path / "q.onnx").graph.initializer if len(t.dims) == 4]
    assert weights
    assert {tensor.data_type for tensor in weights} == {onnx.TensorProto.INT8}
    for text in ("% of the float file", "accuracy", "times as fast"):
        assert text in str(report)
    for batch in BATCHES:
        assert after(torch.randn(batch, 1, 28, 28)).shape == (batch, 10)


def test_int8_one_scale_a_channel(file, calibration, tmp_path):
    quantize(file, tmp_path / "q.onnx", calibration)
    proto = onnx.load(tmp_path / "q.onnx")
    sizes = {tensor.name: tuple(tensor.dims) for tensor in proto.graph.initializer}
    scales = [
        sizes[node.input[1]]
        for node in proto.graph.node
        if node.op_type == "DequantizeLinear" and len(sizes.get(node.input[0], ())) == 4
    ]
    assert sorted(scales) == [(16,)] * 3 + [(32,)] * 3


@pytest.mark.parametrize("name", list_models(pretrained=True))
def test_int8_of_every_network_that_ships(name, tmp_path, calibration):
    test = full_test()
    export(get_model(name, weights="mnist"), tmp_path / "f.onnx")
    report = quantize(tmp_path / "f.onnx", tmp_path / "q.onnx", calibration, test=test)
    assert report.float_metrics.correct - report.metrics.correct <= 10
    assert report.size <= 0.3 * report.float_size


def full_test():
    if "MNIST_ZOO_DATA" not in os.environ:
        pytest.skip("the 10,000 test digits are needed: set MNIST_ZOO_DATA")
    return load_mnist("test")


def test_softmax_stays_float(model, calibration, digits, tmp_path):
    export(model, tmp_path / "p.onnx", softmax=True)
    report = quantize(tmp_path / "p.onnx", tmp_path / "q.onnx", calibration, test=digits)
    assert report.metrics.correct >= report.float_metrics.correct - len(digits) // 500
    assert report.metrics.nll == pytest.approx(report.float_metrics.nll, abs=0.02)
    graph = onnx.load(tmp_path / "q.onnx").graph
    (softmax,) = (node for node in graph.node if node.op_type == "Softmax")
    assert softmax.output[0] == graph.output[0].name


def test_what_cannot_be_quantized(file, calibration, tmp_path):
    quantize(file, tmp_path / "q.onnx", calibration)
    content = (tmp_path / "q.onnx").read_bytes()
    with pytest.raises(ExportError, match="it is quantized already"):
        quantize(tmp_path / "q.onnx", tmp_path / "r.onnx", calibration)
    with pytest.raises(ValueError, match="`calibration` must hold digits"):
        quantize(file, tmp_path / "q.onnx", calibration[slice(0, 0)])
    with pytest.raises(FileNotFoundError, match="folder that exists"):
        quantize(file, tmp_path / "none" / "q.onnx", calibration)
    with pytest.raises(ValueError, match="must be another file than `source`"):
        quantize(file, file, calibration)
    assert [path.name for path in tmp_path.iterdir()] == ["q.onnx"]
    assert (tmp_path / "q.onnx").read_bytes() == content


def test_a_session_outlives_its_file(file, tmp_path, digits):
    shutil.copy(file, tmp_path / "a.onnx")
    session = load_session(tmp_path / "a.onnx")
    (tmp_path / "a.onnx").unlink()
    assert isinstance(session, Session)
    assert predict(session, digits.images[0]).digit == digits.labels[0]
