"""Helpers that several tests of plots share."""

import math

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="the examples' extra is not installed")
pytest.importorskip("mlxtend", reason="the examples' extra is not installed")

from matplotlib.patches import FancyBboxPatch

from mnist_zoo.training.history import History, ValidationPoint
from mnist_zoo.training.recipes import get_recipe

STEPS = 40  # per epoch


def history(steps=3 * STEPS + 10, every=16, factor=1.0):
    loss = [factor * 2.3 * math.exp(-step / 30) + 0.05 for step in range(steps)]
    evaluations = [s for s in range(1, steps + 1) if s % STEPS == 0 or (every and s % every == 0)]
    return History(
        get_recipe("lenet5_report"),
        STEPS,
        loss=loss,
        accuracy=[1 - value / 3 for value in loss],
        lr=[0.1] * steps,
        evaluations=[
            ValidationPoint(s, s / STEPS, loss[s - 1], 1 - loss[s - 1] / 4) for s in evaluations
        ],
    )


def data(line):
    return [list(values) for values in line.get_data()]


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def labels_of(ticks):
    return [tick.get_text() for tick in ticks]


def shown(figure):
    """The images on the first axes, row by row."""
    return [np.asarray(image.get_array()) for image in figure.axes[0].images]


def drawn(figure):
    """Draws the figure without saving it, so that texts have their final sizes."""
    figure.draw_without_rendering()
    return figure


def numpy(tensor):
    return tensor.detach().float().numpy()


def boxes(figure):
    """The boxes of layers, in inches: left, upper, right and lower edges."""
    found = [p for p in figure.axes[0].patches if isinstance(p, FancyBboxPatch)]
    found = [p for p in found if math.isclose(p.get_height(), 0.36)]
    return [
        (p.get_x(), p.get_y(), p.get_x() + p.get_width(), p.get_y() + p.get_height()) for p in found
    ]


def runs():
    rows = [
        ("lenet5", 0.988, 44_426, 281_640),
        ("mini_resnet", 0.991, 41_514, 2_013_184),
        ("lenet5", 0.990, 44_426, 281_640),
        ("lenet5", 0.992, 44_426, 281_640),
    ]
    return iter(rows)  # any iterable is accepted
