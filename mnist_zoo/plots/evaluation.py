"""Plots of evaluation results."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from .._checks import check_positive
from ..data.digits import Digits, check_digits
from ..evaluation import Metrics
from ._style import (
    INK_ON_PAPER,
    MARKERS,
    as_mapping,
    check_kind,
    distinct_colours,
    draw_image,
    draw_legend,
    draw_tiles,
    image_array,
    new_figure,
    percent_ticks,
    style_axes,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["class_accuracy", "confusion_matrix", "mistakes"]


def class_accuracy(metrics: Metrics | Mapping[str, Metrics]) -> Figure:
    """Draws the accuracy of each class as a dot; the axis starts near the lowest accuracy.

    Args:
        metrics: Results of one network, or of several by name, whose dots stand side by side.

    Returns:
        The figure. A class without images has no dot.

    Raises:
        TypeError: If `metrics` are no `Metrics`.
        ValueError: If the mapping is empty, or the number or the names of the classes differ.
        ModuleNotFoundError: If matplotlib is not installed.

    Example:
        >>> from mnist_zoo import evaluate, load_mnist, mini_resnet, plots
        >>> digits = load_mnist("test", source="sample")[:200]
        >>> metrics = evaluate(mini_resnet(weights="mnist"), digits)
        >>> plots.class_accuracy(metrics).savefig("classes.png")
    """
    results = as_mapping("metrics", metrics, Metrics, "evaluate")
    counts = {name: len(result.confusion) for name, result in results.items()}
    if len({*counts.values()}) > 1:
        raise ValueError(f"`metrics` must have the same number of classes, got {counts}")
    all_names = {name: result.classes for name, result in results.items()}
    if len({*all_names.values()}) > 1:
        raise ValueError(f"`metrics` must have the same classes, got {all_names}")
    names = next(iter(all_names.values()))
    classes = range(len(names))
    figure = new_figure(max(7, 1.5 + 0.28 * len(classes) * len(results)), 4)
    axes = figure.add_subplot()
    width = 0.84 / len(results)
    rotation = 90 if len(results) > 1 else 0
    colours = distinct_colours(len(results))
    for place, (name, result) in enumerate(results.items()):
        middles = [label + (place - (len(results) - 1) / 2) * width for label in classes]
        legend = f"{result.accuracy:.2%} of all images"
        legend = f"{name}: {legend}" if name else legend
        look: dict[str, Any] = {"marker": MARKERS[place % len(MARKERS)], "linestyle": "none"}
        values = result.accuracy_by_class
        axes.plot(middles, values, color=colours[place], label=legend, **look)
        text: dict[str, Any] = {"textcoords": "offset points", "rotation": rotation, "fontsize": 8}
        for middle, value in zip(middles, values, strict=True):
            if not math.isnan(value):
                axes.annotate(f"{value:.1%}", (middle, value), (0, 6), ha="center", **text)
    style_axes(axes)
    percent_ticks(axes)
    axes.grid(visible=False, axis="x")
    axes.set(xlabel="class", ylabel="accuracy", ylim=_accuracy_limits(results))
    axes.set_xticks(classes, names, **_slanted(names))
    axes.set_yticks([tick for tick in axes.get_yticks() if axes.get_ylim()[0] <= tick <= 1])
    draw_legend(figure, axes.lines, 3)
    return figure


def _slanted(names: Sequence[str]) -> dict[str, Any]:
    """How the names of classes stand under an axis: slanted if one of them is long."""
    return {"rotation": 40, "ha": "right"} if max(map(len, names)) > 3 else {}


def _accuracy_limits(results: Mapping[str, Metrics]) -> tuple[float, float]:
    """From a little below the lowest dot to a little above 1, so that the numbers fit."""
    values = [value for result in results.values() for value in result.accuracy_by_class]
    lowest = min((value for value in values if not math.isnan(value)), default=0.0)
    bottom = max(0.0, lowest - max(0.005, 0.3 * (1 - lowest)))
    return bottom, 1 + (0.05 if len(results) == 1 else 0.15) * (1 - bottom)


def confusion_matrix(metrics: Metrics) -> Figure:
    """Shows how many images of each class were predicted as each class.

    The colour of a mistake follows the square root of its count, so that a rare mistake is still
    visible beside a frequent one. The diagonal has one colour: its counts are far larger.

    Args:
        metrics: The result of `evaluate`.

    Returns:
        The figure, with a row per true class and a column per predicted class.

    Raises:
        TypeError: If `metrics` is no `Metrics`.
        ModuleNotFoundError: If matplotlib is not installed.

    Example:
        >>> from mnist_zoo import evaluate, load_mnist, mini_resnet, plots
        >>> digits = load_mnist("test", source="sample")[:200]
        >>> metrics = evaluate(mini_resnet(weights="mnist"), digits)
        >>> plots.confusion_matrix(metrics).savefig("confusion.png")
    """
    check_kind(Metrics, "evaluate", metrics=metrics)
    counts = torch.tensor(metrics.confusion, dtype=torch.float64, device="cpu")
    classes = len(counts)
    side = max(4.5, 0.48 * classes)
    figure = new_figure(side + 0.4, side + 0.6)
    from matplotlib import colormaps

    axes = figure.add_subplot()
    diagonal = torch.eye(classes, dtype=torch.bool, device="cpu")
    strengths = counts.sqrt().masked_fill(diagonal, math.nan)
    highest = counts.masked_fill(diagonal, 0).amax().sqrt().item() or 1.0
    colours = colormaps["Oranges"].with_extremes(bad="#DCE9F3")  # bad: the diagonal's NaN
    draw_image(axes, strengths.numpy(), cmap=colours, vmin=0, vmax=1.15 * highest)
    for row, row_counts in enumerate(metrics.confusion):
        for column, count in enumerate(row_counts):
            style = _cell_style(row == column, count, count**0.5 / highest)
            axes.text(column, row, str(count), ha="center", va="center", **style)
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.set_xticks(range(classes), metrics.classes, **_slanted(metrics.classes))
    axes.set_yticks(range(classes), metrics.classes)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set_title(f"{metrics.correct:,} of {metrics.total:,} correct: {metrics.accuracy:.2%}")
    return figure


def _cell_style(on_diagonal: bool, count: int, strength: float) -> dict[str, Any]:
    size = 9 if count < 1000 else 8
    if on_diagonal:
        return {"color": "black", "fontsize": size, "fontweight": "bold"}
    if count == 0:
        return {"color": "0.75", "fontsize": size}
    return {"color": "white" if strength > 0.7 else "black", "fontsize": size}


def mistakes(digits: Digits, metrics: Metrics, *, rows: int = 4, columns: int = 8) -> Figure:
    """Shows the most confident mistakes, each with "true → predicted, probability".

    Args:
        digits: The images that were evaluated.
        metrics: The result of `evaluate` for these images.
        rows: Largest number of rows.
        columns: Images per row.

    Returns:
        The figure, with the most confident mistake first. If there are none, its title says so.

    Raises:
        TypeError: If `digits` are no `Digits`, or `metrics` is no `Metrics`.
        ValueError: If `digits` are not the images that were evaluated, or a number is below 1.
        ModuleNotFoundError: If matplotlib is not installed.

    Example:
        >>> from mnist_zoo import evaluate, lenet5, load_mnist, plots
        >>> digits = load_mnist("test", source="sample")[:200]
        >>> metrics = evaluate(lenet5(), digits)  # random weights make many mistakes
        >>> plots.mistakes(digits, metrics).savefig("mistakes.png")
    """
    check_positive(rows=rows, columns=columns)
    check_digits(digits=digits)
    check_kind(Metrics, "evaluate", metrics=metrics)
    _check_same_images(digits, metrics)
    shown = metrics.mistakes[: rows * columns]
    if not shown:
        figure = new_figure(5, 1)
        figure.suptitle(f"no mistakes in {metrics.total:,} images")
        return figure
    is_long = max(map(len, metrics.classes)) > 3
    after_arrow, after_name, space = ("\n", "\n", 0.52) if is_long else (" ", ", ", 0.18)
    height = math.ceil(len(shown) / columns) * (1.17 + space)
    figure = new_figure(columns * 1.15 + 0.2, height + 0.6)
    axes = figure.add_subplot()
    images = [image_array(digits.images[mistake.index]) for mistake in shown]
    style: dict[str, Any] = {"cmap": INK_ON_PAPER, "vmin": 0, "vmax": 255}
    middles, lower_edges = draw_tiles(axes, images, columns, space_below=space, **style)
    for place, mistake in enumerate(shown):
        label, predicted = (metrics.classes[place] for place in (mistake.label, mistake.predicted))
        caption = f"{label} →{after_arrow}{predicted}{after_name}{mistake.probability:.1%}"
        x, y = middles[place % columns], lower_edges[place // columns] + 0.02
        axes.text(x, y, caption, ha="center", va="top", fontsize=9)
    part = f", the {len(shown)} most confident" if len(shown) < len(metrics.mistakes) else ""
    title = f"{len(metrics.mistakes):,} mistakes in {metrics.total:,} images{part}"
    figure.suptitle(f"{title}: true → predicted")
    return figure


def _check_same_images(digits: Digits, metrics: Metrics) -> None:
    same = len(digits) == metrics.total and all(
        int(digits.labels[mistake.index]) == mistake.label for mistake in metrics.mistakes
    )
    if not same:
        raise ValueError(
            f"`digits` (={digits!r}) must be the images that `metrics` was measured on, "
            f"{metrics.total:,} with the same labels"
        )
