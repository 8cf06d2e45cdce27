"""Quantised files against the float files that they were made from."""

import os

import pytest
import torch
from conftest import slow_if
from export_cases import onnx

from mnist_zoo import get_model, list_models, load_mnist
from mnist_zoo.export import ExportError, export, load_session, quantize
from mnist_zoo.export.comparing import BATCHES


def test_int8_file_is_small_and_keeps_accuracy_and_metadata(
    file, calibration, digits, tmp_path, capfd
):
    report = quantize(file, tmp_path / "q.onnx", calibration, test=digits)
    assert capfd.readouterr() == ("", "")
    stated = onnx.load(tmp_path / "q.onnx").opset_import
    assert [(opset.domain, opset.version >= 18) for opset in stated] == [("", True)]
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


def test_int8_weights_have_one_scale_per_channel(file, calibration, tmp_path):
    quantize(file, tmp_path / "q.onnx", calibration)
    proto = onnx.load(tmp_path / "q.onnx")
    sizes = {tensor.name: tuple(tensor.dims) for tensor in proto.graph.initializer}
    scales = [
        sizes[node.input[1]]
        for node in proto.graph.node
        if node.op_type == "DequantizeLinear" and len(sizes.get(node.input[0], ())) == 4
    ]
    assert sorted(scales) == [(16,)] * 3 + [(32,)] * 3


@pytest.mark.parametrize("batch", [None, slow_if(True, 1)])
def test_a_file_of_uint8_images_is_quantised(
    batch, model, uint8_file, calibration, digits, tmp_path
):
    file = uint8_file
    if batch:
        file = tmp_path / "a.onnx"
        export(model, file, pixels="uint8", batch=batch)
    few = calibration[slice(0, 200)]
    report = quantize(file, tmp_path / "q.onnx", few, test=digits)
    assert report.metrics.correct >= report.float_metrics.correct - len(digits) // 200
    (given,) = onnx.load(tmp_path / "q.onnx").graph.input
    assert given.type.tensor_type.elem_type == onnx.TensorProto.UINT8


def full_test():
    if "MNIST_ZOO_DATA" not in os.environ:
        pytest.skip("the 10,000 test digits are needed: set MNIST_ZOO_DATA")
    return load_mnist("test")


@pytest.mark.slow  # the tests above quantise one network, and count on the sample
@pytest.mark.parametrize("name", list_models(pretrained=True))
def test_int8_keeps_the_accuracy_of_every_pretrained_network(name, tmp_path, calibration):
    test = full_test()
    export(get_model(name, weights="mnist"), tmp_path / "f.onnx")
    report = quantize(tmp_path / "f.onnx", tmp_path / "q.onnx", calibration, test=test)
    assert report.float_metrics.correct - report.metrics.correct <= 10
    assert report.size <= 0.3 * report.float_size + 16_000  # of the graph, which grows


def test_softmax_stays_float(softmax_file, calibration, digits, tmp_path):
    report = quantize(softmax_file, tmp_path / "q.onnx", calibration, test=digits)
    assert report.metrics.correct >= report.float_metrics.correct - len(digits) // 500
    assert report.metrics.nll == pytest.approx(report.float_metrics.nll, abs=0.02)
    graph = onnx.load(tmp_path / "q.onnx").graph
    (softmax,) = (node for node in graph.node if node.op_type == "Softmax")
    assert softmax.output[0] == graph.output[0].name


def test_impossible_quantisations(file, calibration, tmp_path):
    quantize(file, tmp_path / "q.onnx", calibration)
    content = (tmp_path / "q.onnx").read_bytes()
    with pytest.raises(ExportError, match="its weights are quantized already"):
        quantize(tmp_path / "q.onnx", tmp_path / "r.onnx", calibration)
    with pytest.raises(ValueError, match="`calibration` must hold digits"):
        quantize(file, tmp_path / "q.onnx", calibration[slice(0, 0)])
    with pytest.raises(FileNotFoundError, match="folder that exists"):
        quantize(file, tmp_path / "none" / "q.onnx", calibration)
    with pytest.raises(ValueError, match="must be another file than `source`"):
        quantize(file, file, calibration)
    with pytest.raises(TypeError, match="`calibration` must be Digits; it is a Tensor"):
        quantize(file, tmp_path / "r.onnx", calibration.images)
    with pytest.raises(TypeError, match="`test` must be Digits; it is a Tensor"):
        quantize(file, tmp_path / "r.onnx", calibration, test=calibration.images)
    assert [path.name for path in tmp_path.iterdir()] == ["q.onnx"]
    assert (tmp_path / "q.onnx").read_bytes() == content
