"""Diagrams of networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, chain, count, cycle
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

# all lengths are in inches
BOX_WIDTH, BOX_HEIGHT = 2.1, 0.36
ROW_GAP, LANE_GAP, LINE_LANE_WIDTH = 0.24, 0.15, 0.26
MARGIN, TITLE_HEIGHT = 0.2, 0.5
FORK, JOIN = 0.07, 0.12  # lines turn this far below their first box and above their last
SIGN_RADIUS = 0.13
SIGNS = {"add": "+", "mul": "×", "sub": "−"}
TINTS = {"Conv": "#dcebf7", "Linear": "#e6dff2", "Norm": "#f0f0f0", "Pool": "#dff0e4"}
ACTIVATION_TINT = "#fdebd8"
TEXT_STYLE: dict[str, Any] = {"va": "center", "clip_on": False}
BOX_STYLE = {**TEXT_STYLE, "color": "black"}  # boxes are pale in dark styles, too


def draw(model: nn.Module, inputs: Inputs = None) -> Figure:
    """Draws a diagram of a network on the left, and the inside of its blocks on the right.

    Each box shows the kind of layer or block, its name, its output shape (channels × height ×
    width) and its number of parameters. Equal blocks in a row are drawn once, in a dashed frame
    with their number. The inside of a block, with its branches and shortcuts, is drawn once for
    all blocks of the same kind and structure. If a block consists of many blocks, only the first
    few are drawn. The title says "at least" where thop, which counts the MACs, has no rule for some
    of the operations; see `mnist_zoo.profile`.

    Args:
        model: A network that torch.fx can trace, such as any of the zoo. It is not changed.
        inputs: Input of the network, as in `mnist_zoo.summary`; its own `input_size` by default.

    Returns:
        The figure; ``figure.savefig("name.svg")`` saves it.

    Raises:
        ValueError: If the network cannot be traced, or `inputs` is missing or not a shape.
        TypeError: If `model` is not a network or cannot be copied.
        RuntimeError: If the network cannot process the input.
        ModuleNotFoundError: If matplotlib is not installed.

    Example:
        >>> from mnist_zoo import mini_resnet, plots
        >>> plots.draw(mini_resnet()).savefig("mini_resnet.svg")
    """
    graph = graph_of(model, inputs)
    cost = profile(model, inputs)
    name = getattr(unwrapped(model), "factory", None) or cost.model
    least = "at least " if cost.flops > 2 * cost.macs else ""  # thop has no rule for some
    costs = f"{cost.params:,} parameters, {least}{cost.macs:,} MACs"
    blocks = [*graph.blocks()]
    kinds = dict.fromkeys(block.kind for block in blocks)  # each once
    hues = dict(zip(kinds, cycle(COLOURS), strict=False))
    plans = [_Plan(graph, name, costs), *(_plan_of_block(block) for block in blocks)]
    corners = _arrange(plans)
    width, height = _extent(plans, corners)
    figure = new_figure(width, height)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    for plan, corner in zip(plans, corners, strict=True):
        _draw_plan(axes, plan, corner, hues)
    return figure


class _Plan:
    """The layout of one graph in rows and lanes (columns).

    A node is one row below the lowest of its inputs. The longest path is in lane 0; every other
    branch is in the first lane that is free in all its rows. A line that passes other rows runs
    down the lane of its first or last node if it is free there, else the first free lane.
    """

    def __init__(self, graph: Graph, title: str, subtitle: str) -> None:
        self.graph = graph
        self.title = title
        self.subtitle = subtitle
        self.rows: dict[Node, int] = {}
        for node in graph.nodes:
            self.rows[node] = 1 + max((self.rows[source] for source in node.inputs), default=-1)
        self.users: dict[Node, list[Node]] = {node: [] for node in graph.nodes}
        for node in graph.nodes:
            for source in node.inputs:
                self.users[source].append(node)
        # each occupied cell (lane, row), with the node whose box or outgoing line is in it
        self.taken: dict[tuple[int, int], Node] = {}
        self.lanes = self._node_lanes()
        self.lines = [
            (source, node, self._line_lane(source, node))
            for node in graph.nodes
            for source in node.inputs
        ]
        widths = [
            BOX_WIDTH if lane in self.lanes.values() else LINE_LANE_WIDTH
            for lane in range(1 + max(lane for lane, _ in self.taken))
        ]
        self.middles = [
            sum(widths[:lane]) + LANE_GAP * lane + width / 2 for lane, width in enumerate(widths)
        ]
        times_width = 0.3 if graph.repeats else 0  # for "×3" to the right of a frame
        lanes_width = self.middles[-1] + widths[-1] / 2 + times_width
        self.width = max(lanes_width, 0.09 * len(title), 0.065 * len(subtitle)) + 2 * MARGIN
        rows = 1 + max(self.rows.values())
        self.height = rows * (BOX_HEIGHT + ROW_GAP) - ROW_GAP + TITLE_HEIGHT + 2 * MARGIN

    def _node_lanes(self) -> dict[Node, int]:
        """The lane of each node; takes the cells of all boxes and of the lines in a branch."""
        lanes: dict[Node, int] = {}
        node = max(self.graph.nodes, key=self.rows.__getitem__)
        while node not in lanes:  # up the longest path
            lanes[node] = 0
            self.taken[0, self.rows[node]] = node
            node = max(node.inputs, key=self.rows.__getitem__, default=node)
        for node in self.graph.nodes:
            if node in lanes:
                continue
            branch = [node]
            while len(users := self.users[branch[-1]]) == 1 and users[0] not in lanes:
                branch.append(users[0])
            end = max((self.rows[user] for user in users), default=self.rows[branch[-1]] + 1)
            rows = range(self.rows[node], end)  # down to where the branch joins another
            lane = next(lane for lane in count(1) if self._is_free(lane, rows))
            lanes.update(dict.fromkeys(branch, lane))
            for row in rows:
                *_, owner = (member for member in branch if self.rows[member] <= row)
                self.taken[lane, row] = owner
        return lanes

    def _line_lane(self, source: Node, node: Node) -> int:
        """The lane in which the line from `source` to `node` runs down; takes its cells."""
        source_lane, node_lane = self.lanes[source], self.lanes[node]
        rows = range(self.rows[source] + 1, self.rows[node])  # those between the two boxes
        if not rows:
            forks = len(self.users[source]) > 1
            return node_lane if forks else source_lane
        lanes = chain((source_lane, node_lane), count(1))
        lane = next(lane for lane in lanes if self._is_free(lane, rows, source))
        self.taken.update({(lane, row): source for row in rows})
        return lane

    def _is_free(self, lane: int, rows: range, owner: Node | None = None) -> bool:
        """Whether nothing is in these cells, or only the owner's lines."""
        return all(self.taken.get((lane, row), owner) is owner for row in rows)

    def top(self, row: int) -> float:
        """The upper edge of the boxes in a row, measured from the upper edge of the plan."""
        return MARGIN + TITLE_HEIGHT + row * (BOX_HEIGHT + ROW_GAP)


def _plan_of_block(block: Node) -> _Plan:
    inside = cast("Graph", block.inside)
    shapes = f"{_shape_text(inside.nodes[0])} → {_shape_text(block)}"
    return _Plan(inside, block.kind, f"{block.name}: {shapes}")


def _shape_text(node: Node) -> str:
    return "×".join(map(str, node.shape))


def _arrange(plans: Sequence[_Plan]) -> list[tuple[float, float]]:
    """The upper left corner of each plan, so that the longer side of the figure is shortest."""
    tallest = max(plan.height for plan in plans)
    stacked = accumulate(plan.height for plan in plans[1:])
    layouts = [_in_columns(plans, limit) for limit in (tallest, *stacked) if limit >= tallest]
    return min(layouts, key=lambda corners: max(_extent(plans, corners)))


def _in_columns(plans: Sequence[_Plan], limit: float) -> list[tuple[float, float]]:
    """Corners for the first plan on the left, and the others in columns no higher than `limit`."""
    x, y, column_width = plans[0].width, 0.0, 0.0
    corners = [(0.0, 0.0)]
    for plan in plans[1:]:
        if y and y + plan.height > limit:
            x, y, column_width = x + column_width, 0.0, 0.0
        corners.append((x, y))
        y, column_width = y + plan.height, max(column_width, plan.width)
    return corners


def _extent(plans: Sequence[_Plan], corners: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Width and height of all plans together."""
    ends = [(x + p.width, y + p.height) for p, (x, y) in zip(plans, corners, strict=True)]
    return max(x for x, _ in ends), max(y for _, y in ends)


def _draw_plan(
    axes: Axes, plan: _Plan, corner: tuple[float, float], hues: Mapping[str, str]
) -> None:
    """Draws a plan at its upper left corner; `hues` gives each kind of block its colour."""
    left, upper = corner[0] + MARGIN, corner[1]
    _draw_title(axes, plan, left, upper, hues.get(plan.title))
    middles = {node: left + plan.middles[lane] for node, lane in plan.lanes.items()}
    tops = {node: upper + plan.top(row) for node, row in plan.rows.items()}
    for source, node, lane in plan.lines:
        start, end = (middles[source], tops[source] + BOX_HEIGHT), (middles[node], tops[node])
        signs = {"from_sign": source.kind in SIGNS, "to_sign": node.kind in SIGNS}
        _draw_line(axes, start, end, left + plan.middles[lane], **signs)
    for node in plan.lanes:
        _draw_node(axes, node, middles[node], tops[node], hues)
    for repeat in plan.graph.repeats:
        bottom = tops[repeat.last] + BOX_HEIGHT
        _draw_repeat(axes, repeat.times, middles[repeat.first], tops[repeat.first], bottom)


def _draw_title(axes: Axes, plan: _Plan, left: float, upper: float, hue: str | None) -> None:
    """Draws title and subtitle of a plan and, if it has a colour, a frame around the plan."""
    from matplotlib.patches import FancyBboxPatch

    if hue is not None:
        size = (plan.width - MARGIN, plan.height - MARGIN)
        frame = FancyBboxPatch((left - 0.1, upper + 0.1), *size, boxstyle="round,pad=0")
        frame.set(facecolor="none", edgecolor=hue, linewidth=1.2)
        axes.add_patch(frame)
    style = TEXT_STYLE if hue is None else {**TEXT_STYLE, "color": hue}
    axes.text(left, upper + 0.3, plan.title, weight="bold", size=10, **style)
    axes.text(left, upper + 0.5, plan.subtitle, size=8, **TEXT_STYLE)


def _draw_line(
    axes: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    lane_x: float,
    *,
    from_sign: bool,
    to_sign: bool,
) -> None:
    """Draws an arrow that leaves a box at `start`, runs down at `lane_x` and ends at `end`.

    A sign is a circle smaller than a box; arrows from and to it are longer by `inset`.
    """
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path

    (start_x, start_y), (end_x, end_y) = start, end
    inset = BOX_HEIGHT / 2 - SIGN_RADIUS
    points = [
        (start_x, start_y - inset * from_sign),
        (start_x, start_y + FORK),
        (lane_x, start_y + FORK),
        (lane_x, end_y - JOIN),
        (end_x, end_y - JOIN),
        (end_x, end_y + inset * to_sign),
    ]
    path = Path(list(dict.fromkeys(points)))
    arrow = FancyArrowPatch(path=path, arrowstyle="-|>", mutation_scale=7)
    arrow.set(color="0.5", linewidth=1)
    axes.add_patch(arrow)


def _draw_node(axes: Axes, node: Node, x: float, top: float, hues: Mapping[str, str]) -> None:
    """Draws a box with its middle at x, or a circle with the sign of an operation."""
    from matplotlib.patches import Circle, FancyBboxPatch

    middle = top + BOX_HEIGHT / 2
    if node.kind in SIGNS:
        axes.add_patch(Circle((x, middle), SIGN_RADIUS, facecolor="white", edgecolor="0.3"))
        axes.text(x, middle, SIGNS[node.kind], size=11, ha="center", **BOX_STYLE)
        return
    corner = (x - BOX_WIDTH / 2, top)
    box = FancyBboxPatch(corner, BOX_WIDTH, BOX_HEIGHT, boxstyle="round,pad=0,rounding_size=0.05")
    hue = hues.get(node.kind, "0.3")
    box.set(facecolor=_tint(node), edgecolor=hue, linewidth=1.6 if node.inside else 0.6)
    axes.add_patch(box)
    if node.kind == "input":
        text = f"{node.name} {_shape_text(node)}"
        axes.text(x, middle, text, size=8, ha="center", **BOX_STYLE)
        return
    upper, lower = top + 0.1, top + BOX_HEIGHT - 0.1
    left, right = x - BOX_WIDTH / 2 + 0.07, x + BOX_WIDTH / 2 - 0.07
    kind = f"… {node.detail} more" if node.kind == MORE else f"{node.kind} {node.detail}".rstrip()
    axes.text(left, upper, kind, size=8, weight="bold", color=hue, **TEXT_STYLE)
    name = node.name if len(node.name) < 20 else f"…{node.name[-18:]}"
    axes.text(right, upper, name, size=6.5, color="0.4", ha="right", **TEXT_STYLE)
    axes.text(left, lower, _shape_text(node), size=7.5, **BOX_STYLE)
    if node.params:
        parameters = f"{node.params:,} parameters"
        axes.text(right, lower, parameters, size=7, color="0.25", ha="right", **TEXT_STYLE)


def _tint(node: Node) -> str:
    """The colour inside a box, by kind of layer; white for blocks and all other nodes."""
    if node.inside is not None or node.kind in ("input", MORE):
        return "white"
    tints = (tint for kind, tint in TINTS.items() if kind.lower() in node.kind.lower())
    is_activation = hasattr(nn.modules.activation, node.kind)
    return next(tints, ACTIVATION_TINT if is_activation else "white")


def _draw_repeat(axes: Axes, times: int, x: float, top: float, bottom: float) -> None:
    """Draws a dashed frame, and how many times the boxes in it are repeated."""
    from matplotlib.patches import FancyBboxPatch

    left, width = x - BOX_WIDTH / 2 - 0.07, BOX_WIDTH + 0.14
    top, bottom = top - 0.07, bottom + 0.07
    frame = FancyBboxPatch((left, top), width, bottom - top, boxstyle="round,pad=0")
    frame.set(facecolor="none", edgecolor="0.5", linestyle="--", linewidth=0.8)
    axes.add_patch(frame)
    x, y = left + width + 0.06, (top + bottom) / 2
    axes.text(x, y, f"×{times}", weight="bold", size=9, **TEXT_STYLE)
