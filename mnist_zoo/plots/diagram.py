"""Diagrams of networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, cycle
from typing import TYPE_CHECKING, Any, cast

from torch import nn

from .._networks import unwrapped
from ..inspection.copies import Inputs
from ..inspection.costs import profile
from ..inspection.graph import MORE, Graph, Node, graph_of
from ._style import COLOURS, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw"]


def draw(model: nn.Module, inputs: Inputs = None) -> Figure:
    """A diagram of a network: on the left its layers and blocks, beside it each kind of block.

    A box tells what it is, its name, the shape that it gives (channels × height × width) and its
    parameters. Blocks that are the same stand in a dashed frame with their number. The inside of
    a block is drawn once for each form it takes, with its branches and shortcuts; of a block of
    many blocks, the first few.

    Args:
        model: A network that torch.fx can trace, as all of the zoo's; it is not touched.
        inputs: What it is fed; see `mnist_zoo.summary`. By default its own `input_size`.

    Returns:
        The figure; ``figure.savefig("name.svg")`` writes it.

    Raises:
        ValueError: If the network cannot be traced, or `inputs` is missing or no shape.
        TypeError: If `model` is not a network or cannot be copied.
        RuntimeError: If the network cannot process the input.
        ModuleNotFoundError: If matplotlib is not installed.
    """
    graph = graph_of(model, inputs)
    cost = profile(model, inputs)
    name = getattr(unwrapped(model), "factory", None) or cost.model
    title = (name, f"{cost.params:,} parameters, {cost.macs:,} MACs")
    blocks = [*graph.blocks()]
    hues = dict(zip(dict.fromkeys(b.kind for b in blocks), cycle(COLOURS), strict=False))
    plans = [_Plan(graph, title), *(_plan_of_block(block) for block in blocks)]
    places = _packed(plans)
    width, height = _extent(plans, places)
    figure = new_figure(width, height)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    for plan, place in zip(plans, places, strict=True):
        _paint(axes, plan, place, hues)
    return figure


BOX_WIDTH, BOX_HEIGHT = 2.1, 0.36  # inches, as all of a diagram
ROW_GAP, LINE_LANE = 0.24, 0.26
MARGIN, TITLE_HEIGHT = 0.2, 0.5
FORK, JOIN = 0.07, 0.12  # how far from the boxes lines turn
SIGNS = {"add": "+", "mul": "×", "sub": "−"}
TINTS = {"Conv": "#dcebf7", "Linear": "#e6dff2", "Norm": "#f0f0f0", "Pool": "#dff0e4"}
ACTIVATION = "#fdebd8"


class _Plan:
    """Where the boxes and lines of a graph stand: each node in a row and a lane.

    The longest path takes lane 0; what runs beside it takes the first lane that is free for as
    many rows, and so does a line past other boxes.
    """

    def __init__(self, graph: Graph, title: tuple[str, str]) -> None:
        self.graph = graph
        self.title = title
        self.rows: dict[Node, int] = {}
        for node in graph.nodes:
            self.rows[node] = 1 + max((self.rows[given] for given in node.inputs), default=-1)
        self.users: dict[Node, list[Node]] = {node: [] for node in graph.nodes}
        for node in graph.nodes:
            for given in node.inputs:
                self.users[given].append(node)
        self.taken: dict[tuple[int, int], Node] = {}  # lane and row: whose box or line is there
        self.lanes = self._lanes()
        self.lines = [
            (given, node, self._line(given, node)) for node in graph.nodes for given in node.inputs
        ]
        widths = [
            BOX_WIDTH if lane in self.lanes.values() else LINE_LANE
            for lane in range(1 + max(lane for lane, _ in self.taken))
        ]
        self.middles = [sum(widths[:lane]) + 0.15 * lane + w / 2 for lane, w in enumerate(widths)]
        frame = 0.3 if graph.repeats else 0
        inner = self.middles[-1] + widths[-1] / 2 + frame
        self.width = max(inner, 0.09 * len(title[0]), 0.065 * len(title[1])) + 2 * MARGIN
        rows = 1 + max(self.rows.values())
        self.height = rows * (BOX_HEIGHT + ROW_GAP) - ROW_GAP + TITLE_HEIGHT + 2 * MARGIN

    def _lanes(self) -> dict[Node, int]:
        lanes: dict[Node, int] = {}
        node = max(self.graph.nodes, key=self.rows.__getitem__)
        while node not in lanes:
            lanes[node] = 0
            self.taken[0, self.rows[node]] = node
            node = max(node.inputs, key=self.rows.__getitem__, default=node)
        for node in self.graph.nodes:
            if node in lanes:
                continue
            chain = [node]
            while len(users := self.users[chain[-1]]) == 1 and users[0] not in lanes:
                chain.append(users[0])
            end = max((self.rows[user] for user in users), default=self.rows[chain[-1]] + 1)
            span = range(self.rows[node], end)
            lane = self._free(span, None)
            lanes.update(dict.fromkeys(chain, lane))
            for row in span:
                owner = [link for link in chain if self.rows[link] <= row][-1]
                self.taken[lane, row] = owner
        return lanes

    def _free(self, rows: range, owner: Node | None) -> int:
        """The first lane beside the main one in which these rows are free, or the owner's."""
        lane = 1
        while any(self.taken.get((lane, row), owner) is not owner for row in rows):
            lane += 1
        return lane

    def _line(self, given: Node, node: Node) -> int:
        """The lane in which a line goes from one box to another."""
        rows = range(self.rows[given] + 1, self.rows[node])
        forks = len(self.users[given]) > 1
        for lane in (self.lanes[given], self.lanes[node]):
            if rows and all(self.taken.get((lane, row), given) is given for row in rows):
                break
        else:
            lane = self._free(rows, given) if rows else self.lanes[node if forks else given]
        self.taken.update({(lane, row): given for row in rows})
        return lane

    def top(self, row: int) -> float:
        """Where the boxes of a row begin, below the plan's own upper edge."""
        return MARGIN + TITLE_HEIGHT + row * (BOX_HEIGHT + ROW_GAP)


def _plan_of_block(block: Node) -> _Plan:
    inside = cast("Graph", block.inside)
    given = "×".join(map(str, inside.nodes[0].shape))
    return _Plan(inside, (block.kind, f"{block.name}: {given} → {'×'.join(map(str, block.shape))}"))


def _packed(plans: Sequence[_Plan]) -> list[tuple[float, float]]:
    """The upper left corner of each plan, in a form that is neither wide nor high."""
    tallest = max(plan.height for plan in plans)
    heights = accumulate(plan.height for plan in plans[1:])
    ways = [_in_columns(plans, limit) for limit in (tallest, *heights) if limit >= tallest]
    return min(ways, key=lambda corners: max(_extent(plans, corners)))


def _in_columns(plans: Sequence[_Plan], limit: float) -> list[tuple[float, float]]:
    """The first plan by itself, the others in columns of at most that height beside it."""
    x, y, wide = plans[0].width, 0.0, 0.0
    corners = [(0.0, 0.0)]
    for plan in plans[1:]:
        if y and y + plan.height > limit:
            x, y, wide = x + wide, 0.0, 0.0
        corners.append((x, y))
        y, wide = y + plan.height, max(wide, plan.width)
    return corners


def _extent(plans: Sequence[_Plan], corners: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Width and height of all plans together."""
    ends = [(x + p.width, y + p.height) for p, (x, y) in zip(plans, corners, strict=True)]
    return max(x for x, _ in ends), max(y for _, y in ends)


def _paint(axes: Axes, plan: _Plan, corner: tuple[float, float], hues: Mapping[str, str]) -> None:
    """Draws a plan."""
    from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
    from matplotlib.path import Path

    left, upper = corner[0] + MARGIN, corner[1]
    style: dict[str, Any] = {"va": "center", "clip_on": False}
    name, told = plan.title
    colour = hues.get(name, "black")
    if name in hues:
        size = (plan.width - MARGIN, plan.height - MARGIN)
        frame = FancyBboxPatch((left - 0.1, upper + 0.1), *size, boxstyle="round,pad=0")
        frame.set(facecolor="none", edgecolor=colour, linewidth=1.2)
        axes.add_patch(frame)
    axes.text(left, upper + 0.3, name, weight="bold", size=10, color=colour, **style)
    axes.text(left, upper + 0.5, told, size=8, **style)

    middle = {node: left + plan.middles[lane] for node, lane in plan.lanes.items()}
    for given, node, lane in plan.lines:
        across = left + plan.middles[lane]
        start = upper + plan.top(plan.rows[given]) + BOX_HEIGHT
        end = upper + plan.top(plan.rows[node])
        inset = BOX_HEIGHT / 2 - 0.13  # of a sign's circle
        points = [
            (middle[given], start - inset * (given.kind in SIGNS)),
            (middle[given], start + FORK),
            (across, start + FORK),
            (across, end - JOIN),
            (middle[node], end - JOIN),
            (middle[node], end + inset * (node.kind in SIGNS)),
        ]
        path = Path(list(dict.fromkeys(points)))
        arrow = FancyArrowPatch(path=path, arrowstyle="-|>", mutation_scale=7)
        arrow.set(color="0.3", linewidth=1)
        axes.add_patch(arrow)
    for node, x in middle.items():
        _paint_node(axes, node, x, upper + plan.top(plan.rows[node]), hues)
    for repeat in plan.graph.repeats:
        top = upper + plan.top(plan.rows[repeat.first]) - 0.07
        bottom = upper + plan.top(plan.rows[repeat.last]) + BOX_HEIGHT + 0.07
        x, width = middle[repeat.first] - BOX_WIDTH / 2 - 0.07, BOX_WIDTH + 0.14
        box = FancyBboxPatch((x, top), width, bottom - top, boxstyle="round,pad=0")
        box.set(facecolor="none", edgecolor="0.5", linestyle="--", linewidth=0.8)
        axes.add_patch(box)
        times, at = f"×{repeat.times}", (x + width + 0.06, (top + bottom) / 2)
        axes.text(*at, times, weight="bold", size=9, **style)


def _paint_node(axes: Axes, node: Node, x: float, y: float, hues: Mapping[str, str]) -> None:
    """Draws a box, or a circle with the sign of what joins two lines."""
    from matplotlib.patches import Circle, FancyBboxPatch

    middle = y + BOX_HEIGHT / 2
    style: dict[str, Any] = {"va": "center", "clip_on": False}
    if node.kind in SIGNS:
        axes.add_patch(Circle((x, middle), 0.13, facecolor="white", edgecolor="0.3"))
        axes.text(x, middle, SIGNS[node.kind], size=11, ha="center", **style)
        return
    shape = "×".join(map(str, node.shape))
    box = FancyBboxPatch(
        (x - BOX_WIDTH / 2, y), BOX_WIDTH, BOX_HEIGHT, boxstyle="round,pad=0,rounding_size=0.05"
    )
    hue = hues.get(node.kind, "0.3")
    box.set(facecolor=_tint(node), edgecolor=hue, linewidth=1.6 if node.inside else 0.6)
    axes.add_patch(box)
    if node.kind == "input":
        axes.text(x, middle, f"{node.name} {shape}", size=8, ha="center", **style)
        return
    low, high, side = y + 0.1, y + BOX_HEIGHT - 0.1, BOX_WIDTH / 2 - 0.07
    kind = f"… {node.detail} more" if node.kind == MORE else f"{node.kind} {node.detail}".rstrip()
    axes.text(x - side, low, kind, size=8, weight="bold", color=hue, **style)
    name = node.name if len(node.name) < 20 else f"…{node.name[-18:]}"
    axes.text(x + side, low, name, size=6.5, color="0.4", ha="right", **style)
    axes.text(x - side, high, shape, size=7.5, **style)
    if node.params:
        told = f"{node.params:,} parameters"
        axes.text(x + side, high, told, size=7, color="0.25", ha="right", **style)


def _tint(node: Node) -> str:
    """The colour of a box, by what the layer does."""
    if node.inside is not None or node.kind in ("input", MORE):
        return "white"
    kinds = (tint for kind, tint in TINTS.items() if kind.lower() in node.kind.lower())
    known = hasattr(nn.modules.activation, node.kind)
    return next(kinds, ACTIVATION if known else "white")
