"""Helpers that several tests of export use; importing them skips the tests without ONNX."""

import itertools

import pytest
import torch
from conftest import DEEPER_VARIANTS, randomize_norms, slow_if
from torch import nn

from mnist_zoo import list_models
from mnist_zoo.export import export
from mnist_zoo.export.comparing import BATCHES

onnx = pytest.importorskip("onnx", reason="the onnx extra is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")

SMALL = [name for name in list_models() if name.startswith(("lenet", "mini", "digitnet"))]
"""The networks that fit on a page and a board."""


class Attention(nn.Module):
    """Squeeze and excitation: each map times a number from all of them."""

    def __init__(self, channels):
        super().__init__()
        self.down, self.up = nn.Conv2d(channels, 4, 1), nn.Conv2d(4, channels, 1)

    def forward(self, x):
        weights = self.up(self.down(x.mean((2, 3), keepdim=True)).relu()).sigmoid()
        return x * weights


class Branches(nn.Module):
    def __init__(self, *branches):
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x):
        return torch.cat([branch(x) for branch in self.branches], 1)


def _strided():
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.LeakyReLU(0.1)),
        *(nn.Conv2d(8, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.LeakyReLU(0.1)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)),
    )


def _separable():
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3, 2, 1), nn.Hardswish(), nn.Conv2d(8, 8, 5, 1, 2, groups=8)),
        *(nn.BatchNorm2d(8), nn.Hardswish(), Attention(8), nn.Conv2d(8, 16, 1), nn.SiLU()),
        *(nn.AvgPool2d(7), nn.Flatten(), nn.Linear(32 * 2, 10)),
    )


def _layers():
    return nn.Sequential(
        *(nn.Flatten(), nn.Linear(784, 40), nn.BatchNorm1d(40), nn.Tanh()),
        *(nn.Linear(40, 20, bias=False), nn.Sigmoid(), nn.Dropout(0.5), nn.Linear(20, 10)),
    )


def _branched():
    return nn.Sequential(
        nn.MaxPool2d(3, 2, 1),
        Branches(
            nn.Conv2d(1, 4, 3, padding=2, dilation=2),
            nn.AvgPool2d(3, 1, 1),
            nn.AvgPool2d(3, 1, 1, count_include_pad=False),
            nn.Conv2d(1, 3, (1, 5), padding=(0, 2)),
        ),
        *(nn.ReLU6(), nn.AvgPool2d(3, 2, ceil_mode=True), nn.Flatten(), nn.Linear(9 * 49, 10)),
    )


def _unshuffled():
    return nn.Sequential(
        *(nn.PixelUnshuffle(4), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 8, 3)),
        *(nn.Hardsigmoid(), nn.MaxPool2d(2, ceil_mode=True), nn.Flatten(), nn.Linear(72, 10)),
    )


STRANGERS = {
    "strided": _strided,
    "separable": _separable,
    "layers": _layers,
    "branched": _branched,
    "unshuffled": _unshuffled,
}
"""Networks of other designs than the zoo's, by name."""

SUFFIX = {"onnx": ".onnx", "torch_export": ".pt2", "torchscript": ".pt"}
OTHER_SHAPE = {"in_channels": 3, "num_classes": 7, "image_size": 36}


MIDDLE = list_models(max_params=1_000_000)
TINY = list_models(max_params=45_000)


# With other shapes.
OTHERS = [("mini_resnet", "onnx"), ("lenet5", "torch_export"), ("lenet5", "torchscript")]
# Their layers are those of other networks, which are exported in turn.
ALIKE = ("lenet5_conv_residual", "lenet5_fc_residual", "digitnet_20k", "preact_resnet20")


def _is_slow(name, format, options):
    if options and (name, format) not in OTHERS:
        return True
    if name in ALIKE and format == "onnx":
        return True
    return name in DEEPER_VARIANTS or name not in (MIDDLE if format == "onnx" else TINY)


def _adds(name, format, options):
    """Whether a file proves what others do not: ONNX files are made of torch.export's graphs."""
    if name in DEEPER_VARIANTS:  # they repeat the layers of others
        return format == "onnx" and not options
    return format != "torch_export" or name in MIDDLE


CASES = [
    slow_if(_is_slow(*case), *case, name="-".join([*case[:2], "other" if case[2] else "own"]))
    for case in itertools.product(list_models(), SUFFIX, [{}, OTHER_SHAPE])
    if _adds(*case)
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
