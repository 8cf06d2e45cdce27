"""Plots of evaluation results."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from .._checks import check_positive
from ..data.digits import Digits
from ._style import INK, by_name, colours_of, in_percent, new_figure, show_picture, tidy, tiles

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..evaluation import Metrics

__all__ = ["class_accuracy", "confusion_matrix", "mistakes"]


def class_accuracy(metrics: Metrics | Mapping[str, Metrics]) -> Figure:
    """The accuracy of each class as a bar; the axis starts near the lowest one.

    Args:
        metrics: What one network achieved, or several by name, whose bars stand side by side.

    Returns:
        The figure. A class without pictures has no bar.

    Raises:
        ValueError: If the mapping is empty, or the numbers of classes differ.
        ModuleNotFoundError: If matplotlib is not installed.
    """
    named = by_name("metrics", metrics)
    counts = {name: len(entry.confusion) for name, entry in named.items()}
    if len({*counts.values()}) > 1:
        raise ValueError(f"`metrics` must have equally many classes, got {counts}")
    classes = range(next(iter(counts.values())))
    figure = new_figure(max(7, 1.5 + 0.28 * len(classes) * len(named)), 4)
    axes = figure.add_subplot()
    width = 0.84 / len(named)
    for place, (name, colour) in enumerate(zip(named, colours_of(len(named)), strict=True)):
        entry = named[name]
        left = [label + (place - (len(named) - 1) / 2) * width for label in classes]
        told = f"{entry.accuracy:.2%} of all pictures"
        told = f"{name}: {told}" if name else told
        bars = axes.bar(left, entry.accuracy_by_class, 0.94 * width, color=colour, label=told)
        texts = ["" if math.isnan(v) else f"{v:.1%}" for v in entry.accuracy_by_class]
        axes.bar_label(bars, texts, padding=2, fontsize=8, rotation=90 if len(named) > 1 else 0)
    tidy(axes)
    in_percent(axes)
    axes.grid(visible=False, axis="x")
    axes.set(xlabel="class", ylabel="accuracy", xticks=classes, ylim=_accuracy_range(named))
    axes.set_yticks([tick for tick in axes.get_yticks() if axes.get_ylim()[0] <= tick <= 1])
    figure.legend(loc="outside lower center", ncols=min(len(named), 3), frameon=False)
    return figure


def _accuracy_range(metrics: Mapping[str, Metrics]) -> tuple[float, float]:
    """From somewhat below the lowest bar to somewhat above 1, for the numbers on the bars."""
    values = [value for entry in metrics.values() for value in entry.accuracy_by_class]
    lowest = min((value for value in values if not math.isnan(value)), default=0.0)
    bottom = max(0.0, lowest - max(0.005, 0.3 * (1 - lowest)))
    return bottom, 1 + (0.05 if len(metrics) == 1 else 0.15) * (1 - bottom)


def confusion_matrix(metrics: Metrics) -> Figure:
    """How many pictures of each class were taken for each class.

    The mistakes are coloured by the square root of their number, so that a rare one shows
    beside a frequent one; the diagonal is not, since its numbers would drown them.

    Args:
        metrics: What `evaluate` returned.

    Returns:
        The figure: a row for what the pictures are, a column for what they were taken for.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
    """
    counts = torch.tensor(metrics.confusion, dtype=torch.float64)
    classes = len(counts)
    side = max(4.5, 0.48 * classes)
    figure = new_figure(side + 0.4, side + 0.6)
    axes = figure.add_subplot()
    diagonal = torch.eye(classes, dtype=torch.bool)
    wrong = counts.sqrt().masked_fill(diagonal, math.nan)
    highest = counts.masked_fill(diagonal, 0).amax().sqrt().item() or 1.0
    from matplotlib import colormaps

    colours = colormaps["Oranges"].with_extremes(bad="#DCE9F3")
    axes.imshow(wrong.numpy(), cmap=colours, vmin=0, vmax=1.15 * highest)
    for row, entries in enumerate(metrics.confusion):
        for column, count in enumerate(entries):
            style = _cell_style(row == column, count, (count**0.5) / highest)
            axes.text(column, row, str(count), ha="center", va="center", **style)
    axes.set(xlabel="was taken for", ylabel="is", xticks=range(classes), yticks=range(classes))
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set_title(f"{metrics.correct:,} of {metrics.total:,} right: {metrics.accuracy:.2%}")
    return figure


def _cell_style(on_diagonal: bool, count: int, strength: float) -> dict[str, Any]:
    size = 9 if count < 1000 else 8
    if on_diagonal:
        return {"color": "black", "fontsize": size, "fontweight": "bold"}
    if count == 0:
        return {"color": "0.75", "fontsize": size}
    return {"color": "white" if strength > 0.7 else "black", "fontsize": size}


def mistakes(digits: Digits, metrics: Metrics, *, rows: int = 4, columns: int = 8) -> Figure:
    """The most confident mistakes, each with "label → predicted, probability".

    Args:
        digits: The pictures that were measured.
        metrics: What `evaluate` returned for them.
        rows: Rows of pictures, at most.
        columns: Pictures a row.

    Returns:
        The figure, with the most confident mistake first; if there is none, it says so.

    Raises:
        ValueError: If `digits` are not those measured, or a number is less than 1.
        ModuleNotFoundError: If matplotlib is not installed.
    """
    check_positive(rows=rows, columns=columns)
    _check_measured(digits, metrics)
    shown = metrics.mistakes[: rows * columns]
    if not shown:
        figure = new_figure(5, 1)
        figure.suptitle(f"no mistakes in {metrics.total:,} pictures")
        return figure
    figure = new_figure(columns * 1.15 + 0.2, math.ceil(len(shown) / columns) * 1.35 + 0.6)
    axes = figure.add_subplot()
    pictures = [show_picture(digits.images[mistake.index]) for mistake in shown]
    across, edges = tiles(axes, pictures, columns, below=0.18, cmap=INK, vmin=0, vmax=255)
    for place, mistake in enumerate(shown):
        told = f"{mistake.label} → {mistake.predicted}, {mistake.probability:.1%}"
        x, y = across[place % columns], edges[place // columns] + 0.02
        axes.text(x, y, told, ha="center", va="top", fontsize=9)
    most = f", the {len(shown)} most confident" if len(shown) < len(metrics.mistakes) else ""
    figure.suptitle(f"{len(metrics.mistakes):,} mistakes in {metrics.total:,} pictures{most}")
    return figure


def _check_measured(digits: Digits, metrics: Metrics) -> None:
    known = len(digits) == metrics.total and all(
        int(digits.labels[mistake.index]) == mistake.label for mistake in metrics.mistakes
    )
    if not known:
        raise ValueError(
            f"`digits` (={digits!r}) must be the pictures that `metrics` measured, "
            f"{metrics.total:,} with the same labels"
        )
