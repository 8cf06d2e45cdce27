"""What all figures share: no pyplot, a display in notebooks, a clear error without matplotlib."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

pytest.importorskip("matplotlib", reason="the examples' extra is not installed")

import matplotlib.style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from plots_cases import drawn, history, legend, runs

from mnist_zoo import Augmentation, lenet5, mini_resnet, sample_pictures
from mnist_zoo.evaluation import Metrics, evaluate
from mnist_zoo.plots import draw, filters
from mnist_zoo.plots.cost import accuracy_against_cost
from mnist_zoo.plots.data import augmented
from mnist_zoo.plots.evaluation import class_accuracy, confusion_matrix, mistakes
from mnist_zoo.plots.preparation import preparation
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


LONG = "resnet18 from ImageNet, ten epochs, strong augmentation"


def plots_with_legends(names):
    metrics = Metrics.from_logits(torch.eye(3), torch.arange(3))
    rows = [(name, 0.9 + place / 100, 10, 10) for place, name in enumerate(names)]
    return {
        "curves": curves(dict.fromkeys(names, history())),
        "class_accuracy": class_accuracy(dict.fromkeys(names, metrics)),
        "accuracy_against_cost": accuracy_against_cost(rows, groups={n: n for n in names}),
    }


@pytest.mark.parametrize("plot", ["curves", "class_accuracy", "accuracy_against_cost"])
def test_long_names_in_a_legend_are_within_the_figure(plot):
    figure = drawn(plots_with_legends([f"{LONG} {place}" for place in range(4)])[plot])
    box = figure.legends[0].get_window_extent()
    assert 0 <= box.x0 < box.x1 <= figure.bbox.width
    assert box.y0 >= 0


@pytest.mark.parametrize("plot", ["curves", "class_accuracy", "accuracy_against_cost"])
def test_names_that_begin_with_an_underscore_are_in_the_legend(plot):
    found = legend(plots_with_legends(["_a", "_b"])[plot])
    assert [text[:2] for text in found[:2]] == ["_a", "_b"]


def pixels(figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def plots_of_images(digits):
    metrics = evaluate(lenet5(weights="mnist"), digits)
    yield confusion_matrix(metrics)
    yield mistakes(digits, metrics)
    yield augmented(digits, Augmentation(rotation=15))
    yield preparation(sample_pictures()[0])
    yield filters(mini_resnet(weights="mnist"))


def test_images_are_drawn_alike_whatever_the_settings_of_matplotlib_for_images(digits):
    usual = [pixels(figure) for figure in plots_of_images(digits)]
    settings = {"image.origin": "lower", "image.aspect": "auto", "axes.grid": True}
    with matplotlib.rc_context(settings):
        for expected, figure in zip(usual, plots_of_images(digits), strict=True):
            assert np.array_equal(pixels(figure), expected)


def brightness(colour):
    return float(np.mean(to_rgb(colour)))


def test_texts_differ_from_what_is_behind_them_in_dark_styles():
    rows = [("lenet5", 0.99, 10, 10), ("mini_resnet", 0.992, 20, 20)]
    with matplotlib.style.context("dark_background"):
        for figure in (draw(mini_resnet()), accuracy_against_cost(rows)):
            drawn(figure)
            for axes in figure.axes:
                for text in axes.texts:
                    middle = text.get_window_extent().get_points().mean(0)
                    behind = [
                        patch.get_facecolor()
                        for patch in axes.patches
                        if patch.get_facecolor()[3] and patch.get_window_extent().contains(*middle)
                    ]
                    colour = (behind or [figure.get_facecolor()])[-1]
                    assert abs(brightness(text.get_color()) - brightness(colour)) > 0.3


@pytest.mark.slow
def test_defaults_of_torch_change_no_plot(digits):
    metrics = evaluate(lenet5(weights="mnist"), digits)
    model = mini_resnet(weights="mnist")

    def drawn_pixels():
        figures = [
            confusion_matrix(metrics),
            mistakes(digits, metrics),
            augmented(digits, Augmentation(rotation=15)),
            preparation(sample_pictures()[0]),
            filters(model),
            draw(model),
            curves(history()),
            accuracy_against_cost(runs()),
        ]
        return [pixels(figure) for figure in figures]

    usual = drawn_pixels()
    with torch.device("meta"):  # stands for cuda
        assert all(map(np.array_equal, drawn_pixels(), usual))
    torch.set_default_dtype(torch.float64)
    try:
        assert all(map(np.array_equal, drawn_pixels(), usual))
    finally:
        torch.set_default_dtype(torch.float32)
