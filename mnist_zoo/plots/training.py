"""Plots of training runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from ..training.history import History
from ._style import COLOURS, as_mapping, distinct_colours, draw_legend, new_figure, style_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["curves"]

GREY = "0.45"  # of the legend's lines that stand for all runs


def curves(histories: History | Mapping[str, History]) -> Figure:
    """Draws loss and error over the epochs, side by side; the error is 1 - accuracy.

    Training is dashed; validation, or what else `History.evaluated` names, is solid. The mean over
    a training epoch is drawn at the middle of the epoch, and each evaluation where it was made. The
    pale line behind them shows the training batches, averaged over a twentieth of an epoch.

    Args:
        histories: One run, or several by name, each in its own colour.

    Returns:
        The figure, with the loss on the left, in nats, and the error on the right. An axis is
        logarithmic if its highest value is more than five times the lowest: accuracies of 99.0
        and 99.5 % are then as far apart as 90 and 95 %.

    Raises:
        TypeError: If `histories` are no `History`.
        ValueError: If the mapping is empty.
        ModuleNotFoundError: If matplotlib is not installed.

    Example:
        >>> from mnist_zoo import fit, get_recipe, lenet5, load_mnist, plots
        >>> digits = load_mnist("train", source="sample")[:200]
        >>> recipe = get_recipe("lenet5_report", epochs=1)
        >>> history = fit(lenet5(), digits, recipe=recipe, progress=False)
        >>> plots.curves(history).savefig("curves.png")
    """
    runs = as_mapping("histories", histories, History, "fit")
    figure = new_figure(10, 4.2)
    left, right = figure.subplots(1, 2)
    colours = [(c, c) for c in distinct_colours(len(runs))] if len(runs) > 1 else [COLOURS[:2]]
    for quantity, axes in (("loss", left), ("error", right)):
        for history, (training, validation) in zip(runs.values(), colours, strict=True):
            _draw_training(axes, history, quantity, training)
            _draw_validation(axes, history, quantity, validation)
        style_axes(axes)
        _style_epochs(axes)
    left.set_ylabel("loss (cross-entropy, nats)")
    _style_values(left, lambda value, _: f"{value:g}")
    right.set_ylabel("error")
    _style_values(right, lambda value, _: f"{100 * value:g}%")
    _draw_legend(figure, runs, colours)
    return figure


def _of(source: Any, quantity: str, prefix: str) -> list[float]:
    """The losses or errors of a history's steps, or of its records, whose names have a prefix."""
    name = prefix + ("accuracy" if quantity == "error" else quantity)
    each = [getattr(entry, name) for entry in source] if isinstance(source, list) else None
    values = getattr(source, name) if each is None else each
    return [1 - value for value in values] if quantity == "error" else [*values]


def _draw_training(axes: Axes, history: History, quantity: str, colour: str) -> None:
    """Draws the batches as a pale line, and the mean of each epoch at the epoch's middle."""
    values = torch.tensor(_of(history, quantity, ""), dtype=torch.float64, device="cpu")
    window = min(max(1, history.steps_per_epoch // 20), max(1, len(values)))
    if len(values):
        values = values.unfold(0, window, 1).mean(1)
    window_ends = [(step + window) / history.steps_per_epoch for step in range(len(values))]
    records = history.epochs
    alpha = 0.3 if records else 1
    axes.plot(window_ends, values.tolist(), color=colour, linewidth=0.8, alpha=alpha)
    middles = [record.epoch - 0.5 for record in records]
    means = _of(records, quantity, "train_")
    axes.plot(middles, means, "--", color=colour, marker="o", markersize=3.5)


def _draw_validation(axes: Axes, history: History, quantity: str, colour: str) -> None:
    epochs = [evaluation.epoch for evaluation in history.evaluations]
    values = _of(history.evaluations, quantity, "")
    axes.plot(epochs, values, color=colour, marker="o", markersize=3.5)


def _style_epochs(axes: Axes) -> None:
    """Labels the x axis, with ticks at whole epochs only, unless the run is short."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("epoch")
    if axes.get_xlim()[1] > 2:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _style_values(axes: Axes, text: Callable[[float, int], str]) -> None:
    """Writes the ticks of the y axis as this text; makes it logarithmic if the values differ much.

    Errors of 0 are below every logarithmic axis, and do not count.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.yaxis.set_major_formatter(FuncFormatter(text))
    lines: list[Any] = [line.get_ydata() for line in axes.lines]
    values = [value for line in lines for value in line if 0 < value < math.inf]
    if not values or max(values) < 5 * min(values):
        return
    axes.set_yscale("log")
    steps = (1.0,) if max(values) > 1000 * min(values) else (1.0, 2.0, 5.0)
    axes.yaxis.set_major_locator(LogLocator(subs=steps))
    axes.yaxis.set_major_formatter(FuncFormatter(text))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _draw_legend(
    figure: Figure, runs: Mapping[str, History], colours: Sequence[Sequence[str]]
) -> None:
    """Explains below the axes the colours of the runs, if there are several, and the lines."""
    from matplotlib.lines import Line2D

    several = len(runs) > 1
    names = zip(runs, colours, strict=True) if several else ()
    handles = [Line2D([], [], color=pair[0], label=name) for name, pair in names]
    training, validation = (GREY, GREY) if several else colours[0]
    if any(history.epochs for history in runs.values()):
        handles.append(Line2D([], [], color=training, linestyle="--", label="training"))
    else:
        handles.append(Line2D([], [], color=training, linewidth=0.8, label="training batches"))
    for name in dict.fromkeys(run.evaluated for run in runs.values() if run.evaluations):
        handles.append(Line2D([], [], color=validation, label=name))
    draw_legend(figure, handles, 5)
    if not several:
        figure.suptitle(next(iter(runs)))
