"""Plots of accuracy against cost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from ._style import COLOURS, MARKERS, in_percent, new_figure, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["accuracy_against_cost"]


def accuracy_against_cost(results: Iterable[tuple[str, float, int, int]]) -> Figure:
    """Accuracy against parameters and against multiply-accumulates, side by side.

    Args:
        results: A row a run: the network's name, its accuracy from 0 to 1, its parameters and its
            MACs a picture, such as ``(name, metrics.accuracy, cost.params, cost.macs)`` with
            ``cost = profile(model)``. Rows of the same name are runs with other seeds.

    Returns:
        The figure: a point at each network's mean, with a bar of one standard deviation (of the
        sample, n - 1) to each side where there are several runs. The costs are logarithmic.

    Raises:
        ValueError: If there are no rows, or a value is impossible, or one name has two costs.
        ModuleNotFoundError: If matplotlib is not installed.
    """
    networks = _networks(results)
    figure = new_figure(11, 4.6)
    left = figure.add_subplot(1, 2, 1)
    both = {"parameters": left, "macs": figure.add_subplot(1, 2, 2, sharey=left)}
    for what, axes in both.items():
        _draw_costs(axes, networks, what)
    left.set_ylabel("accuracy")
    in_percent(left)
    left.margins(y=0.12)
    both["macs"].set_xlabel("MACs a picture")
    figure.draw_without_rendering()  # settles where the axes are
    for what, axes in both.items():
        _label_points(figure, axes, networks, what)
    return figure


class _Network(NamedTuple):
    """What `accuracy_against_cost` shows of one network."""

    name: str
    accuracy: float
    spread: float | None
    parameters: int
    macs: int
    colour: str
    marker: str


def _networks(results: Iterable[tuple[str, float, int, int]]) -> list[_Network]:
    """The rows by name."""
    runs: dict[str, list[float]] = {}
    costs: dict[str, tuple[int, int]] = {}
    for name, accuracy, parameters, macs in results:
        if not 0 <= accuracy <= 1:
            raise ValueError(f"`results`: accuracy (={accuracy!r}) of {name} must be from 0 to 1")
        cost = (parameters, macs)
        if not min(cost) > 0:
            raise ValueError(f"`results`: parameters and MACs (={cost}) of {name} must be above 0")
        if costs.setdefault(name, cost) != cost:
            both = f"{costs[name]} and {cost}"
            raise ValueError(f"`results`: parameters and MACs (={both}) of {name} must be the same")
        runs.setdefault(name, []).append(accuracy)
    if not runs:
        raise ValueError("`results` (=[]) must hold at least one run")
    networks = []
    for place, (name, values) in enumerate(runs.items()):
        spread = stdev(values) if len(values) > 1 else None
        marker = MARKERS[place // len(COLOURS) % len(MARKERS)]
        look = (COLOURS[place % len(COLOURS)], marker)
        networks.append(_Network(name, fmean(values), spread, *costs[name], *look))
    return networks


def _draw_costs(axes: Axes, networks: Sequence[_Network], what: str) -> None:
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    for network in networks:
        look: dict[str, Any] = {"color": network.colour, "marker": network.marker}
        at = getattr(network, what)
        axes.errorbar(at, network.accuracy, network.spread, capsize=3, label=network.name, **look)
    costs = [getattr(network, what) for network in networks]
    steps = (1.0,) if max(costs) > 50 * min(costs) else (1.0, 2.0, 5.0)
    axes.set(xlabel=what, xscale="log")
    axes.margins(x=0.2)
    axes.xaxis.set_major_locator(LogLocator(subs=steps))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_minor_formatter(NullFormatter())
    tidy(axes)


def _label_points(figure: Figure, axes: Axes, networks: Sequence[_Network], what: str) -> None:
    """Writes each name near its point, where it covers the least of what is there already."""
    from matplotlib.text import Text

    dot = figure.dpi / 72  # pixels; boxes are x0, y0, x1, y1 in pixels
    points = [(getattr(n, what), n.accuracy, n.spread or 0.0) for n in networks]
    ends = [axes.transData.transform([(x, y - dy), (x, y + dy)]).ravel() for x, y, dy in points]
    taken = [torch.tensor(bar) + torch.tensor([-5, -5, 5, 5]) * dot for bar in ends]
    inside = torch.tensor(axes.bbox.extents)
    line = {"arrowstyle": "-", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3}
    for network in sorted(networks, key=lambda n: -n.accuracy):
        at = (getattr(network, what), network.accuracy)
        arrow = {**line, "color": network.colour}
        style: dict[str, Any] = {"fontsize": 9, "color": "0.15", "arrowprops": arrow}
        label = axes.annotate(network.name, at, (0, 0), textcoords="offset points", **style)
        label.set_in_layout(False)
        extent = Text.get_window_extent(label)  # without the line to the point
        size = torch.tensor([extent.width, extent.height], dtype=torch.float64)
        offsets = torch.tensor([*_offsets(*(size / dot).tolist())], dtype=torch.float64)
        corners = torch.tensor(axes.transData.transform(at)) + offsets * dot
        boxes = torch.cat((corners, corners + size), 1)
        outside = size.prod() - _shared(boxes, inside[None])[:, 0]
        covering = _shared(boxes, torch.stack(taken)).sum(1)
        best = int((outside + covering).round().argmin())  # of equals the first, the nearest
        label.set_position(tuple(offsets[best].tolist()))
        taken.append(boxes[best])


def _shared(boxes: Tensor, others: Tensor) -> Tensor:
    """The areas (N, M) that boxes (N, 4) share with others (M, 4)."""
    low = torch.maximum(boxes[:, None, :2], others[:, :2])
    high = torch.minimum(boxes[:, None, 2:], others[:, 2:])
    return (high - low).clamp(min=0).prod(2)


def _offsets(width: float, height: float) -> Iterator[tuple[float, float]]:
    """Where a text of that size may stand, from near to far: its lower left corner."""
    for distance in (8, 16, 26, 38, 52):
        right, left, middle = distance, -distance - width, -width / 2
        above, below, level = distance, -distance - height, -height / 2
        near = 0.6 * distance
        yield from ((right, level), (left, level), (middle, above), (middle, below))
        yield from ((near, near), (near, -near - height))
        yield from ((-near - width, near), (-near - width, -near - height))
