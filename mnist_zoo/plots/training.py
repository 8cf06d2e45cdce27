"""Plots of training runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from ._style import COLOURS, GREY, by_name, colours_of, in_percent, new_figure, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..training.history import History

__all__ = ["curves"]


def curves(histories: History | Mapping[str, History]) -> Figure:
    """Loss and accuracy over the epochs, side by side.

    Training is dashed and validation solid. The mean over each training epoch stands at the
    epoch's middle, and each evaluation where it was made; the pale line behind them is
    the training batches, averaged over a twentieth of an epoch.

    Args:
        histories: One run, or several by name, each in its colour.

    Returns:
        The figure, with the loss on the left, in nats (logarithmic if the highest is more than
        five times the lowest), and the accuracy on the right.

    Raises:
        ValueError: If the mapping is empty.
        ModuleNotFoundError: If matplotlib is not installed.
    """
    named = by_name("histories", histories)
    figure = new_figure(10, 4.2)
    both = {"loss": figure.add_subplot(1, 2, 1), "accuracy": figure.add_subplot(1, 2, 2)}
    colours = [(c, c) for c in colours_of(len(named))] if len(named) > 1 else [COLOURS[:2]]
    for history, (training, validation) in zip(named.values(), colours, strict=True):
        for what, axes in both.items():
            _draw_training(axes, history, what, training)
            _draw_validation(axes, history, what, validation)
    for axes in both.values():
        tidy(axes)
        _epoch_axis(axes)
    both["loss"].set_ylabel("loss (cross-entropy, nats)")
    _loss_axis(both["loss"])
    both["accuracy"].set_ylabel("accuracy")
    in_percent(both["accuracy"])
    _explain(figure, named, colours)
    return figure


def _draw_training(axes: Axes, history: History, what: str, colour: str) -> None:
    """The batches, pale, and the mean of each epoch, which stands at its middle."""
    values = torch.tensor(getattr(history, what), dtype=torch.float64)
    window = min(max(1, history.steps_per_epoch // 20), max(1, len(values)))
    if len(values):
        values = values.unfold(0, window, 1).mean(1)
    ends = [(step + window) / history.steps_per_epoch for step in range(len(values))]
    records = history.epochs
    axes.plot(ends, values.tolist(), color=colour, linewidth=0.8, alpha=0.3 if records else 1)
    middles = [record.epoch - 0.5 for record in records]
    means = [getattr(record, f"train_{what}") for record in records]
    axes.plot(middles, means, "--", color=colour, marker="o", markersize=3.5)


def _draw_validation(axes: Axes, history: History, what: str, colour: str) -> None:
    at = [evaluation.epoch for evaluation in history.evaluations]
    values = [getattr(evaluation, what) for evaluation in history.evaluations]
    axes.plot(at, values, color=colour, marker="o", markersize=3.5)


def _epoch_axis(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("epoch")
    if axes.get_xlim()[1] > 2:  # no ticks at parts of an epoch
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _loss_axis(axes: Axes) -> None:
    """A logarithmic axis with plain numbers, where the losses differ much."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    drawn: list[Any] = [line.get_ydata() for line in axes.lines]
    values = [value for line in drawn for value in line if 0 < value < math.inf]
    if not values or max(values) < 5 * min(values):
        return
    axes.set_yscale("log")
    steps = (1.0,) if max(values) > 1000 * min(values) else (1.0, 2.0, 5.0)
    axes.yaxis.set_major_locator(LogLocator(subs=steps))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _explain(
    figure: Figure, histories: Mapping[str, History], colours: Sequence[Sequence[str]]
) -> None:
    """The legend below: the runs' colours, if there are several, and the kinds of line."""
    from matplotlib.lines import Line2D

    several = len(histories) > 1
    names = zip(histories, colours, strict=True) if several else ()
    handles = [Line2D([], [], color=pair[0], label=name) for name, pair in names]
    training, validation = (GREY, GREY) if several else colours[0]
    if any(history.epochs for history in histories.values()):
        handles.append(Line2D([], [], color=training, linestyle="--", label="training"))
    else:
        handles.append(Line2D([], [], color=training, linewidth=0.8, label="training batches"))
    if any(history.evaluations for history in histories.values()):
        handles.append(Line2D([], [], color=validation, label="validation"))
    columns = min(len(handles), 5)
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False)
    if not several:
        figure.suptitle(next(iter(histories)))
