"""Files that export writes, read by their own runtimes."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import randomize_norms, slow_if
from export_cases import CASES, SUFFIX, export_and_compare, onnx, onnxruntime, run_by_runtime
from torch import nn

import mnist_zoo
from mnist_zoo import (
    Preprocessing,
    evaluate,
    get_model,
    lenet5,
    mini_convnet,
    mini_resnet,
    predict,
)
from mnist_zoo.export import ExportError, export, load_session, quantize, writing
from mnist_zoo.export.program import form_of

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")


@pytest.mark.parametrize(("name", "format", "options"), CASES)
def test_exported_file_agrees_with_the_network(name, format, options, tmp_path):
    path = tmp_path / f"file{SUFFIX[format]}"
    report = export_and_compare(get_model(name, **options), path, format)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert str(report).startswith(f"{path}")
    if format == "onnx":
        assert report.opset >= 18
    if format == "onnx" and name in ("mini_resnet", "resnet18"):  # norms that follow convolutions
        assert "BatchNormalization" not in {node.op_type for node in onnx.load(path).graph.node}


def test_onnx_file_has_a_dynamic_batch_and_stores_preprocessing_and_classes(file, model):
    proto = onnx.load(file)
    onnx.checker.check_model(proto, full_check=True)
    (given,), (output, familiarity) = proto.graph.input, proto.graph.output
    shape = [d.dim_param or d.dim_value for d in given.type.tensor_type.shape.dim]
    assert (given.name, shape) == ("digits", ["batch", 1, 28, 28])
    assert (output.name, familiarity.name) == ("logits", "familiarity")
    (entry,) = proto.metadata_props
    stated = json.loads(entry.value)
    assert Preprocessing(**stated["preprocessing"]) == model.preprocessing
    assert stated["classes"] == list("0123456789")
    assert stated["network"] == "mini_resnet"


def test_names_of_classes_may_be_any_iterable(tmp_path):
    names = [f"class {number}" for number in range(10)]
    for given in (names, tuple(names), (name for name in names), dict.fromkeys(names)):
        export(lenet5(), tmp_path / "a.pt", "torchscript", classes=given)
        extra = {"mnist_zoo": ""}
        torch.jit.load(tmp_path / "a.pt", _extra_files=extra)
        assert json.loads(extra["mnist_zoo"])["classes"] == names


def test_onnx_file_contains_no_path_of_the_machine(file):
    content = file.read_bytes()
    for folder in (Path(mnist_zoo.__file__).parent, Path(torch.__file__).parent):
        assert str(folder).encode() not in content


def test_other_formats_store_preprocessing_and_classes(model, tmp_path):
    export(model, tmp_path / "a.pt2", "torch_export", classes=dict.fromkeys("abcdefghij").keys())
    export(model, tmp_path / "a.pt", "torchscript")
    extra = {"mnist_zoo": ""}
    torch.export.load(tmp_path / "a.pt2", extra_files=extra)
    assert json.loads(extra["mnist_zoo"])["classes"] == list("abcdefghij")
    torch.jit.load(tmp_path / "a.pt", _extra_files=extra)
    assert json.loads(extra["mnist_zoo"])["preprocessing"]["std"] == model.preprocessing.std


def test_softmax_makes_the_file_return_probabilities(model, softmax_file, digits):
    runtime = onnxruntime.InferenceSession(softmax_file)
    x = model.preprocessing(digits.images[:4])
    (found,) = runtime.run(["probabilities"], {"digits": x.numpy()})
    assert np.allclose(found.sum(1), 1, atol=1e-6)
    assert np.allclose(found, model(x).softmax(1).detach(), atol=1e-5)
    again = predict(load_session(softmax_file), digits.images[0])
    assert again.probability == pytest.approx(predict(model, digits.images[0]).probability)


@pytest.mark.parametrize("softmax", [True, False])
def test_a_network_that_gives_probabilities_is_refused(softmax, tmp_path):
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10), nn.Softmax(1))
    with pytest.raises(ValueError, match=r"must give logits; it gives probabilities"):
        export(model, tmp_path / "a.onnx", input_size=(1, 28, 28), softmax=softmax)
    assert list(tmp_path.iterdir()) == []


def test_a_network_with_nan_is_refused(tmp_path):
    model = lenet5()
    model.fc3.bias.data[4] = float("nan")
    with pytest.raises(ValueError, match=r"`model` \(LeNet5\) must give finite `logits`"):
        export(model, tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == []


def test_file_stores_the_size_that_it_was_exported_for(tmp_path, digits, calibration):
    model = get_model("digitnet_1k").eval()
    model.preprocessing = Preprocessing(mean=0.2)
    export(model, tmp_path / "a.onnx", input_size=(1, 40, 40))
    session = load_session(tmp_path / "a.onnx")
    assert session.preprocessing == Preprocessing(mean=0.2, image_size=40)
    found = predict(session, digits.images[0])
    wanted = predict(model, digits.images[0], preprocessing=session.preprocessing)
    assert found.probabilities == pytest.approx(wanted.probabilities, abs=1e-5)
    quantize(tmp_path / "a.onnx", tmp_path / "q.onnx", calibration[slice(0, 10)])


def test_export_leaves_the_network_unchanged(tmp_path):
    model = randomize_norms(mini_convnet()).half().train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    random = torch.get_rng_state()
    for format, suffix in SUFFIX.items():
        export(model, tmp_path / f"a{suffix}", format)
    assert model.training
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)


def test_tolerance_is_relative_for_large_outputs(tmp_path, monkeypatch):
    model = lenet5().eval()
    model.fc3.bias.data.fill_(1000.0)
    form = form_of("torchscript")
    reader = form.reader
    for off, fits in ((0.05, True), (0.2, False)):

        def a_little_off(*arguments, off=off):
            run = reader(*arguments)
            return lambda x: run(x) + off

        monkeypatch.setattr(form, "reader", a_little_off)
        if fits:
            report = export(model, tmp_path / "a", "torchscript")
            assert report.largest_difference == pytest.approx(off, rel=0.01)
        else:
            with pytest.raises(ExportError, match=r"differs by 2.0e-01"):
                export(model, tmp_path / "a", "torchscript")


def test_a_network_without_input_size_is_exported_with_a_given_one(tmp_path):
    model = nn.Sequential(nn.Flatten(), nn.Linear(2 * 5 * 5, 3))
    with pytest.raises(ValueError, match="`input_size` must be given: Sequential has none"):
        export(model, tmp_path / "a.onnx")
    export(model, tmp_path / "a.onnx", input_size=(2, 5, 5), classes=["x", "y", "z"])
    session = load_session(tmp_path / "a.onnx")
    assert (session.input_size, session.classes) == ((2, 5, 5), ("x", "y", "z"))
    x = torch.randn(4, 2, 5, 5)
    assert torch.allclose(session(x), model(x), atol=1e-5)


class Branching(nn.Module):
    input_size = (1, 28, 28)

    def forward(self, x):
        x = x.flatten(1)[:, :10]
        return x if x.sum() > 0 else -x


@pytest.mark.parametrize("format", SUFFIX)
def test_a_branch_on_values_is_refused_and_nothing_is_written(format, tmp_path):
    with pytest.raises(ExportError, match=rf"`model` \(Branching\) cannot be exported as {format}"):
        export(Branching(), tmp_path / "a", format)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("format", "batch", "off"),
    [
        slow_if(format == "onnx" and batch != 7, format, batch, off)
        for format in SUFFIX
        for batch, off in [(1, 2e-4), (7, 2e-4), (2, float("nan"))]
    ],
)
def test_a_file_that_differs_does_not_replace_the_earlier_one(
    format, batch, off, tmp_path, monkeypatch
):
    path = tmp_path / "a"
    path.write_text("what was there before")
    form = form_of(format)
    reader = form.reader

    def a_little_off(*arguments):
        run = reader(*arguments)
        return lambda x: run(x) + (off if len(x) == batch else 0)

    monkeypatch.setattr(form, "reader", a_little_off)
    with pytest.raises(ExportError, match=rf"differs by {off:.1e} from the original, more than"):
        export(lenet5(), path, format)
    assert [file.read_text() for file in tmp_path.iterdir()] == ["what was there before"]


@pytest.mark.parametrize("format", SUFFIX)
def test_a_branch_on_the_batch_size_is_refused(format, tmp_path):
    class Frozen(nn.Module):
        input_size = (1, 4, 4)

        def forward(self, x):
            return x.flatten(1) if len(x) == 2 else x.flatten(1) + 0

    with pytest.raises(ExportError, match="cannot be exported"):
        export(Frozen(), tmp_path / "a", format)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", SUFFIX)
def test_files_take_images_as_they_come(format, tmp_path, digits):
    model = randomize_norms(mini_convnet()).eval()
    model.preprocessing = Preprocessing(mean=0.2, std=0.4)
    path = tmp_path / f"a{SUFFIX[format]}"
    export(model, path, format, pixels="uint8")
    if format == "onnx":
        (given,) = onnx.load(path).graph.input
        assert given.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    run = run_by_runtime(path, format)
    for count in (1, 3, 7):
        images = digits.images[:count]
        with torch.no_grad():
            wanted = model(model.preprocessing(images))
        assert torch.allclose(run(images), wanted, atol=1e-5)
    with pytest.raises(Exception, match=r"27|28"):  # of many types
        run(torch.zeros(2, 1, 27, 27, dtype=torch.uint8))


def test_colours_are_normalised_in_the_file(tmp_path):
    model = mini_convnet(in_channels=3).eval()
    model.preprocessing = Preprocessing(mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6), redraw=False)
    export(model, tmp_path / "a.onnx", pixels="uint8")
    session = load_session(tmp_path / "a.onnx")
    image = torch.randint(256, (3, 28, 28), dtype=torch.uint8)
    wanted = predict(model, image).probabilities
    assert predict(session, image).probabilities == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("pixels", ["float32", slow_if(True, "uint8")])
def test_a_session_of_one_image_at_a_time(pixels, tmp_path, model, digits):
    export(model, tmp_path / "a.onnx", pixels=pixels, batch=1)
    (given,) = onnx.load(tmp_path / "a.onnx").graph.input
    assert given.type.tensor_type.shape.dim[0].dim_value == 1
    session = load_session(tmp_path / "a.onnx")
    few = digits[slice(0, 20)]
    assert evaluate(session, few).correct == evaluate(model, few).correct
    x = model.preprocessing(few.images)
    if pixels == "float32":
        assert torch.allclose(session(x), model(x), atol=1e-5)
    assert session(x[:0]).shape == (0, 10)


def test_times_are_per_image_whatever_the_batch(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "latency", lambda runs, x: [0.002 * len(x), 0.003 * len(x)])
    for batch in (None, 1, 8):
        report = export(lenet5(), tmp_path / "a.pt", "torchscript", batch=batch)
        assert (report.milliseconds, report.eager_milliseconds) == pytest.approx((2, 3))


@pytest.mark.parametrize("opset", [18, slow_if(True, 20), slow_if(True, 23)])
def test_the_opset_is_the_one_asked_for(opset, tmp_path):
    assert export(lenet5(), tmp_path / "a.onnx", opset=opset).opset == opset
    stated = {entry.domain: entry.version for entry in onnx.load(tmp_path / "a.onnx").opset_import}
    assert stated == {"": opset}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pixels": "uint16"}, r"`pixels` \(='uint16'\) must be one of 'float32', 'uint8'"),
        ({"batch": 0}, r"`batch` \(=0\) must be a whole number of at least 1"),
        ({"opset": 17}, r"`opset` \(=17\) must be between 18 and 23"),
        ({"opset": 18, "format": "torchscript"}, r"`opset` \(=18\) is for ONNX"),
        ({"format": "tflite"}, r"`format` \(='tflite'\) must be one of 'onnx'"),
        ({"tolerance": 0}, r"`tolerance` \(=0\) must be more than 0"),
        ({"classes": ["a"]}, r"`classes` \(=\['a'\]\) must be the names of 10 classes"),
        ({"classes": iter("ab")}, r"`classes` \(=\['a', 'b'\]\) must be the names of 10"),
        ({"classes": set("abcdefghij")}, r"must be the names of 10 classes, in their order"),
        ({"classes": 10}, r"`classes` \(=10\) must be the names of 10 classes"),
        ({"input_size": (28, 28)}, r"`input_size` \(=\(28, 28\)\) must be a shape"),
        ({"input_size": (1, 28, 27)}, r"`input_size` \(=\(1, 28, 27\)\) must be square"),
        ({"input_size": (1, 32, 32)}, r"must accept images of shape \(1, 1, 32, 32\): expected"),
    ],
)
def test_impossible_arguments(arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        export(mini_resnet(), tmp_path / "a.onnx", **arguments)
    assert list(tmp_path.iterdir()) == []


ENDINGS = {".onnx": "onnx", ".pt2": "torch_export", ".pt": "torchscript", ".html": "page"}


@pytest.mark.parametrize(
    ("ending", "format"),
    [
        (ending, format)
        for ending in (*ENDINGS, ".pte", ".c", ".HTML")
        for format in ENDINGS.values()
        if ENDINGS.get(ending.lower()) != format
    ],
)
def test_a_path_that_ends_as_files_of_another_format_is_refused(ending, format, tmp_path):
    """A page in a file .onnx, or an ONNX file .html, would not be opened by any program."""
    with pytest.raises(ValueError, match=rf"the ending of '\w+' files, and `format` is '{format}'"):
        export(lenet5(), tmp_path / f"a{ending}", format)
    assert list(tmp_path.iterdir()) == []


def test_impossible_paths_and_networks(tmp_path):
    with pytest.raises(FileNotFoundError, match="must be in a folder that exists"):
        export(mini_resnet(), tmp_path / "none" / "a.onnx")
    with pytest.raises(ValueError, match="must be a file; it is a folder"):
        export(mini_resnet(), tmp_path)
    if Path("/proc").is_dir():
        with pytest.raises(OSError):  # noqa: PT011  (which one is the system's choice)
            export(mini_resnet(), "/proc/a.onnx")
    with pytest.raises(TypeError, match=r"`model` .* must be a network"):
        export("mini_resnet", tmp_path / "a.onnx")
    for model, message in (
        (nn.Conv2d(1, 2, 3), r"must give logits \(1, classes\) for 1 images, got \(1, 2, 26, 26\)"),
        (nn.Sequential(nn.Flatten(), nn.Linear(784, 1)), "must give at least 2 logits, got 1"),
        (nn.Sequential(nn.Flatten(), nn.LazyLinear(9)), "must be initialised; call it on images"),
        (lenet5().to("meta"), "must hold data; it is on device meta"),
    ):
        with pytest.raises(ValueError, match=message):
            export(model, tmp_path / "a.onnx", input_size=(1, 28, 28))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_no_file(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        export(mini_resnet(), tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "onnxscript"])
def test_a_missing_package_is_named(package, tmp_path, file, calibration, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    uses = {
        "onnx onnxruntime onnxscript": lambda: export(mini_resnet(), tmp_path / "a.onnx"),
        "onnx onnxruntime": lambda: quantize(file, tmp_path / "a.onnx", calibration),
        "onnx onnxscript": lambda: export(mini_resnet(), tmp_path / "a.html", "page"),
        "onnxruntime": lambda: load_session(file),
    }
    for needed, use in uses.items():
        if package in needed.split():
            with pytest.raises(ImportError, match=rf'{package}: pip install "mnist-zoo\[onnx\]"'):
                use()
    assert list(tmp_path.iterdir()) == []
    export(mini_resnet(), tmp_path / "a.pt2", "torch_export")


def test_a_missing_executorch_is_named(tmp_path, monkeypatch):
    (tmp_path / "a.pte").write_bytes(b"0000ET12")
    monkeypatch.setitem(sys.modules, "executorch", None)
    for use in (
        lambda: load_session(tmp_path / "a.pte"),
        lambda: export(mini_resnet(), tmp_path / "b.pte", "executorch"),
    ):
        with pytest.raises(ImportError, match=r'pip install "mnist-zoo\[executorch\]"'):
            use()
    assert [file.name for file in tmp_path.iterdir()] == ["a.pte"]
