"""Helpers that several tests of export use; importing them skips the tests without ONNX."""

import itertools

import pytest
import torch
from conftest import DEEPER_VARIANTS, randomize_norms, slow_if

from mnist_zoo import list_models
from mnist_zoo.export import export
from mnist_zoo.export.writing import BATCHES

onnx = pytest.importorskip("onnx", reason="the onnx extra is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")

SUFFIX = {"onnx": ".onnx", "torch_export": ".pt2", "torchscript": ".pt"}
OTHER_SHAPE = {"in_channels": 3, "num_classes": 7, "image_size": 36}


def _is_slow(name, format, options):
    most = 1_000_000 if format == "onnx" else 45_000  # parameters
    if options and name not in ("lenet5", "mini_resnet"):
        return True
    return name in DEEPER_VARIANTS or name not in list_models(max_params=most)


CASES = [
    slow_if(_is_slow(*case), *case, name="-".join([*case[:2], "other" if case[2] else "own"]))
    for case in itertools.product(list_models(), SUFFIX, [{}, OTHER_SHAPE])
    if not (case[2] and case[0] in DEEPER_VARIANTS)  # they repeat the layers of others
]
"""Networks, formats and options whose files are compared; large networks are slow."""


def run_by_runtime(path, format):
    """The file as a function, computed by its runtime without this library."""
    if format == "torch_export":
        return torch.export.load(path).module()
    if format == "torchscript":
        return torch.jit.load(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(["logits"], {"digits": x.numpy()})[0])


def export_and_compare(model, path, format):
    """Exports a network, compares the file with it at every batch size, and returns the report."""
    model = randomize_norms(model)
    report = export(model, path, format)
    run = run_by_runtime(path, format)
    for batch in BATCHES:
        x = torch.randn(batch, *model.input_size)
        with torch.no_grad():
            expected = model.eval()(x)
            assert (run(x) - expected).abs().max() <= 1e-4 * expected.abs().max().clamp(min=1)
    assert report.size == path.stat().st_size
    return report
