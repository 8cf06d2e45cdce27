"""Plots of accuracy against cost."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from numbers import Real
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from typing_extensions import Unpack

from .._checks import plain
from ._style import COLOURS, MARKERS, draw_legend, new_figure, percent_ticks, style_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation

__all__ = ["accuracy_against_cost"]

OTHERS = "others' results"
TICKS = (0.1, 0.2, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.997, 0.998, 0.999, 0.9995, 0.9999)


def accuracy_against_cost(
    results: Iterable[tuple[str, float, Unpack[tuple[float, ...]]]],
    *,
    costs: Sequence[str] = ("parameters", "MACs per image"),
    groups: Mapping[str, str] | None = None,
) -> Figure:
    """Draws accuracy against parameters, multiply-accumulates or other costs, side by side.

    Args:
        results: A row per run: the network's name, its accuracy from 0 to 1, and its costs, such
            as ``(name, metrics.accuracy, cost.params, cost.macs)`` with ``cost = profile(model)``.
            Rows of the same name are runs with different seeds.
        costs: What the costs in each row are, with their unit; each has a plot of its own.
        groups: The group of each network by its name, such as its family. Networks of a group
            share a colour and a marker, which the legend explains; networks without a group are
            the results of others, as hollow grey points. None gives each network its own colour.

    Returns:
        The figure, with a point at the mean accuracy of each network. Where a network has several
        runs, a bar shows one sample standard deviation (n - 1) to each side. The axes of the
        costs are logarithmic, and that of the accuracy is in the error (a logit scale): from 98
        to 99 % is as far as from 99 to 99.5 %.

    Raises:
        ValueError: If there are no rows, a value is impossible, one name has different costs, or a
            row does not have one cost for each of `costs`.
        TypeError: If a row is something else, or `groups` is no mapping.
        ModuleNotFoundError: If matplotlib is not installed.

    Example:
        >>> from mnist_zoo import plots
        >>> results = [
        ...     ("lenet5", 0.988, 44_426, 281_640),
        ...     ("lenet5", 0.990, 44_426, 281_640),
        ...     ("mini_resnet", 0.991, 41_514, 2_013_184),
        ... ]
        >>> plots.accuracy_against_cost(results).savefig("costs.png")
    """
    if isinstance(costs, str) or not costs:
        raise ValueError(f"`costs` (={costs!r}) must be a sequence of at least one name")
    if groups is not None and not isinstance(groups, Mapping):
        raise TypeError(f"`groups` (={groups!r:.80}) must be a mapping from names to groups")
    networks = _grouped_by_name(results, costs, groups)
    figure = new_figure(5.5 * len(costs), 4.6 if groups is None else 5)
    left = figure.add_subplot(1, len(costs), 1)
    others = range(2, len(costs) + 1)
    panels = [left, *(figure.add_subplot(1, len(costs), place, sharey=left) for place in others)]
    for place, axes in enumerate(panels):
        _draw_points(axes, networks, place)
        axes.set_xlabel(costs[place])
    left.set_ylabel("accuracy")
    _scale_accuracy(left, networks)
    if groups is not None:
        unique = {container.get_label(): container for container in left.containers}
        draw_legend(figure, [*unique.values()], 6)
    figure.draw_without_rendering()  # the layout places the axes, and labels depend on it
    with torch.device("cpu"):  # whatever the default is
        for place, axes in enumerate(panels):
            _label_points(figure, axes, networks, place)
    return figure


class _Network(NamedTuple):
    """One network of `accuracy_against_cost`, its runs averaged."""

    name: str
    accuracy: float
    spread: float | None
    costs: tuple[float, ...]
    legend: str
    colour: str
    marker: str


def _grouped_by_name(
    results: Iterable[tuple[str, float, Unpack[tuple[float, ...]]]],
    names: Sequence[str],
    groups: Mapping[str, str] | None,
) -> list[_Network]:
    """Checks the rows, and averages those of each name."""
    accuracies: dict[str, list[float]] = {}
    costs: dict[str, tuple[float, ...]] = {}
    for name, accuracy, *found in map(_checked, results):
        if not 0 <= accuracy <= 1:
            raise ValueError(f"`results`: accuracy (={accuracy!r}) of {name} must be from 0 to 1")
        cost = tuple(found)
        if len(cost) != len(names):
            rule = f"must be {len(names)}: {', '.join(names)}"
            raise ValueError(f"`results`: costs (={cost}) of {name} {rule}")
        if not all(0 < value < math.inf for value in cost):
            raise ValueError(f"`results`: costs (={cost}) of {name} must be finite and above 0")
        if costs.setdefault(name, cost) != cost:
            both = f"{costs[name]} and {cost}"
            raise ValueError(f"`results`: costs (={both}) of {name} must be the same")
        accuracies.setdefault(name, []).append(accuracy)
    if not accuracies:
        raise ValueError("`results` (=[]) must hold at least one run")
    titles = {name: name if groups is None else groups.get(name, OTHERS) for name in accuracies}
    distinct = [title for title in dict.fromkeys(titles.values()) if title != OTHERS]
    networks = []
    for name, values in accuracies.items():
        spread = stdev(values) if len(values) > 1 else None
        title = titles[name]
        place = distinct.index(title) if title != OTHERS else 0
        colour = COLOURS[place % len(COLOURS)] if title != OTHERS else "0.45"
        turn = place if groups is not None else place // len(COLOURS)
        marker = MARKERS[turn % len(MARKERS)]
        networks.append(_Network(name, fmean(values), spread, costs[name], title, colour, marker))
    return networks


def _checked(row: Any) -> tuple[Any, ...]:
    """A row of `results` with plain numbers; TypeError if it is none."""
    name, *values = map(plain, row) if isinstance(row, (tuple, list)) and row else (None,)
    if not values or isinstance(name, float) or not all(isinstance(v, Real) for v in values):
        example = '("lenet5", 0.99, 44_426, 281_640)'
        raise TypeError(
            f"`results` must hold rows of name, accuracy and costs, such as {example}; one is "
            f"{row!r:.200}"
        )
    return name, *values


def _scale_accuracy(axes: Axes, networks: Sequence[_Network]) -> None:
    """Makes the axis of the accuracy logarithmic in the error; linear if a point is 0 or 1."""
    percent_ticks(axes)
    ends = [n.accuracy + sign * (n.spread or 0) for n in networks for sign in (-1, 1)]
    if min(ends) > 0 and max(ends) < 1:
        from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

        # matplotlib's own limits leave out a single accuracy
        low, high = (math.log(end / (1 - end)) for end in (min(ends), max(ends)))
        margin = max(0.12 * (high - low), 0.05)
        bottom, top = (1 / (1 + math.exp(-value)) for value in (low - margin, high + margin))
        axes.set(yscale="logit", ylim=(bottom, top))
        axes.yaxis.set_major_locator(FixedLocator(_ticks(bottom, top)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}%"))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.margins(y=0.12)


def _ticks(bottom: float, top: float) -> list[float]:
    """Accuracies at which the axis has numbers: round errors, or on a short axis equal steps."""
    from matplotlib.ticker import MaxNLocator

    for ticks in (TICKS, MaxNLocator(5).tick_values(bottom, top)):
        shown = [tick for tick in ticks if bottom <= tick <= top]
        if len(shown) > 1:
            break
    return shown


def _draw_points(axes: Axes, networks: Sequence[_Network], which: int) -> None:
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    for network in networks:
        look: dict[str, Any] = {"color": network.colour, "marker": network.marker}
        look |= (
            {"linestyle": "none", "markerfacecolor": "white"} if network.legend == OTHERS else {}
        )
        x, y = network.costs[which], network.accuracy
        axes.errorbar(x, y, network.spread, capsize=3, label=network.legend, **look)
    values = [network.costs[which] for network in networks]
    steps = (1.0,) if max(values) > 50 * min(values) else (1.0, 2.0, 5.0)
    axes.set_xscale("log")
    axes.margins(x=0.2)
    axes.xaxis.set_major_locator(LogLocator(subs=steps))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_minor_formatter(NullFormatter())
    style_axes(axes)


def _label_points(figure: Figure, axes: Axes, networks: Sequence[_Network], which: int) -> None:
    """Writes each name near its point, at the offset where it and its line cover the least."""
    from matplotlib.text import Text

    dot = figure.dpi / 72  # pixels per typographic point; boxes are x0, y0, x1, y1 in pixels
    points = [(n.costs[which], n.accuracy, n.spread or 0.0) for n in networks]
    bars = [axes.transData.transform([(x, y - dy), (x, y + dy)]).ravel() for x, y, dy in points]
    marks = [(torch.tensor(bar) + torch.tensor([-5, -5, 5, 5]) * dot)[None] for bar in bars]
    inside = torch.tensor(axes.bbox.extents)
    line = {"arrowstyle": "-", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3}
    labels: list[Annotation] = []
    for network, (x, y, _) in zip(networks, points, strict=True):
        arrow = {**line, "color": network.colour}
        style: dict[str, Any] = {"fontsize": 9, "arrowprops": arrow}
        labels.append(
            axes.annotate(network.name, (x, y), (0, 0), textcoords="offset points", **style)
        )
        labels[-1].set_in_layout(False)
    places = [torch.tensor(axes.transData.transform(point[:2])) for point in points]
    extents = [Text.get_window_extent(label) for label in labels]  # without the lines
    sizes = [torch.tensor([e.width, e.height], dtype=torch.float64) for e in extents]
    taken: dict[int, Tensor] = {}  # the boxes of each label and of its line
    # the first pass places each label among those before it, and the next ones among all others
    for own in 3 * sorted(range(len(networks)), key=lambda index: -networks[index].accuracy):
        size, place = sizes[own], places[own]
        offsets = torch.tensor([*_offsets(*(size / dot).tolist())], dtype=torch.float64)
        corners = place + offsets * dot
        boxes = torch.cat((corners - 2 * dot, corners + size + 2 * dot), 1)
        lines = _lines(place, boxes, 2 * dot)
        others = [box for index, box in taken.items() if index != own]
        others += [mark for index, mark in enumerate(marks) if index != own]
        covered = _areas(boxes) - _shared_areas(boxes, inside[None])[:, 0]  # outside the axes
        covered += _shared_areas(boxes, torch.cat((*others, marks[own]))).sum(1)
        if others:
            covered += _shared_areas(lines, torch.cat(others)).sum((1, 2))
        best = int(covered.round().argmin())  # the first of equals, which is nearest
        labels[own].set_position(tuple(offsets[best].tolist()))
        taken[own] = torch.cat((boxes[best, None], lines[best]))


def _lines(place: Tensor, boxes: Tensor, width: float) -> Tensor:
    """Small boxes (N, M, 4) along the lines from a place to the centres of boxes (N, 4)."""
    centres = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2
    along = place + torch.linspace(0.1, 0.9, 24, dtype=torch.float64)[:, None] * (centres - place)
    return torch.cat((along - width / 2, along + width / 2), 2)


def _areas(boxes: Tensor) -> Tensor:
    """The areas (N) of boxes (N, 4)."""
    return (boxes[:, 2:] - boxes[:, :2]).prod(1)


def _shared_areas(boxes: Tensor, others: Tensor) -> Tensor:
    """The areas (…, M) that boxes (…, 4) share with other boxes (M, 4)."""
    low = torch.maximum(boxes[..., None, :2], others[:, :2])
    high = torch.minimum(boxes[..., None, 2:], others[:, 2:])
    return (high - low).clamp(min=0).prod(-1)


def _offsets(width: float, height: float) -> Iterator[tuple[float, float]]:
    """Yields places for the lower left corner of a text of that size, from near to far."""
    for distance in (8, 16, 26, 38, 52):
        right, left, middle = distance, -distance - width, -width / 2
        above, below, level = distance, -distance - height, -height / 2
        near = 0.6 * distance
        yield from ((right, level), (left, level), (middle, above), (middle, below))
        yield from ((near, near), (near, -near - height))
        yield from ((-near - width, near), (-near - width, -near - height))
