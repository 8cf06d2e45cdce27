"""What all figures share: no pyplot, a display in notebooks, a clear error without matplotlib."""

import pickle
import subprocess
import sys

import pytest
import torch
from plots_cases import history

from mnist_zoo.evaluation import Metrics
from mnist_zoo.plots.evaluation import confusion_matrix
from mnist_zoo.plots.training import curves


def test_pyplot_is_never_imported(tmp_path):
    code = """
import sys, torch, mnist_zoo.plots as plots
assert not any(name.startswith("matplotlib") for name in sys.modules), "too early"
figure = plots.accuracy_against_cost([("a", 0.9, 10, 10), ("a", 0.8, 10, 10)])
model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3))
plots.filters(model).savefig(sys.argv[1] + "/filters.svg")
plots.feature_maps(model, torch.randn(1, 5, 5), "0")
assert figure._repr_png_().startswith(b"\\x89PNG")
assert "matplotlib.figure" in sys.modules
assert "matplotlib.pyplot" not in sys.modules, "pyplot"
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)


def test_a_notebook_displays_a_figure_without_pyplot():
    figure = confusion_matrix(Metrics.from_logits(torch.eye(3), torch.arange(3)))
    assert figure._repr_png_().startswith(b"\x89PNG")
    copy = pickle.loads(pickle.dumps(figure))
    copy.axes[0].set_title("another")
    assert copy._repr_png_() != figure._repr_png_()


def test_every_call_makes_a_new_figure():
    first, second = curves(history()), curves(history())
    assert first is not second
    assert first.axes[0] is not second.axes[0]


def test_missing_matplotlib_is_an_error_that_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModuleNotFoundError, match="plots need matplotlib: pip install") as caught:
        curves(history())
    assert caught.value.name == "matplotlib"
