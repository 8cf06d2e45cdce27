"""The pictures: training curves, accuracies, mistakes, and what a network looks at.

Every function returns a matplotlib Figure, which a notebook displays by itself and
``figure.savefig("name.png")`` writes. matplotlib is imported when a picture is drawn, and
pyplot not at all: no state is shared with the caller's own figures.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import accumulate, cycle
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from ._checks import check_positive, did_you_mean
from ._networks import eval_mode, unwrapped
from .data import Augmentation, Digits, augment
from .graph import MORE, Graph, Node, graph_of
from .inspection import Inputs, profile

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .evaluation import Metrics
    from .training import History

__all__ = [
    "accuracy_against_cost",
    "augmented",
    "class_accuracy",
    "confusion_matrix",
    "curves",
    "draw",
    "feature_maps",
    "filters",
    "mistakes",
]

# Okabe and Ito's colours, which colour-blind readers tell apart, without yellow and black
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = "osD^vP"
GREY = "0.45"
INK = "gray_r"  # pictures as on paper: dark strokes on white
SIGNED = "RdBu_r"
TILE_GAP = 0.1  # between pictures, in widths of one
MATRIX = 16  # channels; of more, kernels are averaged over the input channels


# --- What all share --------------------------------------------------------------------------


def _figure(width: float, height: float) -> Figure:
    """An empty figure of that many inches."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        message = 'plots need matplotlib: pip install "mnist-zoo[examples]"'
        raise ModuleNotFoundError(message, name="matplotlib") from error
    figure = Figure((width, height), layout="constrained")
    # IPython knows how to show a figure only once pyplot was imported, but asks for this method.
    vars(figure)["_repr_png_"] = partial(_png, figure)
    return figure


def _png(figure: Figure) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()


def _named(argument: str, value: Any) -> dict[str, Any]:
    """A mapping as it is, and a single thing under the name ""."""
    named = dict(value) if isinstance(value, Mapping) else {"": value}
    if not named:
        raise ValueError(f"`{argument}` (={value!r}) must hold at least one")
    return named


def _colours(count: int) -> list[str]:
    """As many colours as are needed; beyond those chosen, steps from dark to bright."""
    if count <= len(COLOURS):
        return list(COLOURS[:count])
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return [to_hex(colormaps["viridis"](0.95 * place / (count - 1))) for place in range(count)]


def _tidy(axes: Axes) -> None:
    """Takes away the lines that say nothing, and lays pale ones behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)


def _percent(axes: Axes) -> None:
    from matplotlib.ticker import PercentFormatter

    axes.yaxis.set_major_formatter(PercentFormatter(1))


def _tiles(
    axes: Axes, pictures: Sequence[Any], columns: int, *, below: float = 0, **style: Any
) -> tuple[list[float], list[float]]:
    """Lays pictures (H, W) or (H, W, 3) out row by row, each 1 wide, on one pair of axes.

    One pair of axes a picture would be drawn, and laid out, many times slower.

    Returns:
        The middles of the columns, and the lower edges of the rows, below which `below` is free.
    """
    height = pictures[0].shape[0] / pictures[0].shape[1]
    across, down = 1 + TILE_GAP, height + below + TILE_GAP
    for position, picture in enumerate(pictures):
        row, column = divmod(position, columns)
        left, top = column * across, row * down
        axes.imshow(picture, extent=(left, left + 1, top + height, top), **style)
    rows = math.ceil(len(pictures) / columns)
    axes.set(xlim=(0, columns * across - TILE_GAP), ylim=(rows * down - TILE_GAP, 0))
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize="small")
    axes.set(xticks=[], yticks=[])
    return [c * across + 0.5 for c in range(columns)], [r * down + height for r in range(rows)]


def _picture(image: Tensor) -> Any:
    """An image (C, H, W) as matplotlib takes it: grey (H, W), or colour (H, W, 3)."""
    image = image.detach().cpu()
    if image.shape[0] == 3:
        return image.movedim(0, 2).numpy()
    return image.float().mean(0).numpy()


def _highest(values: Tensor) -> float:
    """The largest finite magnitude, or 1 where all is 0."""
    finite = values[values.isfinite()]
    return finite.abs().amax().item() if finite.any() else 1.0


# --- Training --------------------------------------------------------------------------------


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
    named = _named("histories", histories)
    figure = _figure(10, 4.2)
    both = {"loss": figure.add_subplot(1, 2, 1), "accuracy": figure.add_subplot(1, 2, 2)}
    colours = [(c, c) for c in _colours(len(named))] if len(named) > 1 else [COLOURS[:2]]
    for history, (training, validation) in zip(named.values(), colours, strict=True):
        for what, axes in both.items():
            _draw_training(axes, history, what, training)
            _draw_validation(axes, history, what, validation)
    for axes in both.values():
        _tidy(axes)
        _epoch_axis(axes)
    both["loss"].set_ylabel("loss (cross-entropy, nats)")
    _loss_axis(both["loss"])
    both["accuracy"].set_ylabel("accuracy")
    _percent(both["accuracy"])
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


# --- Evaluation ------------------------------------------------------------------------------


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
    named = _named("metrics", metrics)
    counts = {name: len(entry.confusion) for name, entry in named.items()}
    if len({*counts.values()}) > 1:
        raise ValueError(f"`metrics` must have equally many classes, got {counts}")
    classes = range(next(iter(counts.values())))
    figure = _figure(max(7, 1.5 + 0.28 * len(classes) * len(named)), 4)
    axes = figure.add_subplot()
    width = 0.84 / len(named)
    for place, (name, colour) in enumerate(zip(named, _colours(len(named)), strict=True)):
        entry = named[name]
        left = [label + (place - (len(named) - 1) / 2) * width for label in classes]
        told = f"{entry.accuracy:.2%} of all pictures"
        told = f"{name}: {told}" if name else told
        bars = axes.bar(left, entry.accuracy_by_class, 0.94 * width, color=colour, label=told)
        texts = ["" if math.isnan(v) else f"{v:.1%}" for v in entry.accuracy_by_class]
        axes.bar_label(bars, texts, padding=2, fontsize=8, rotation=90 if len(named) > 1 else 0)
    _tidy(axes)
    _percent(axes)
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
    figure = _figure(side + 0.4, side + 0.6)
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
        figure = _figure(5, 1)
        figure.suptitle(f"no mistakes in {metrics.total:,} pictures")
        return figure
    figure = _figure(columns * 1.15 + 0.2, math.ceil(len(shown) / columns) * 1.35 + 0.6)
    axes = figure.add_subplot()
    pictures = [_picture(digits.images[mistake.index]) for mistake in shown]
    across, edges = _tiles(axes, pictures, columns, below=0.18, cmap=INK, vmin=0, vmax=255)
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


# --- Data ------------------------------------------------------------------------------------


def augmented(
    digits: Digits, augmentation: Augmentation, *, rows: int = 6, columns: int = 10, seed: int = 0
) -> Figure:
    """Pictures and what an augmentation makes of them, the original in the first column.

    Args:
        digits: The pictures; the rows show some at equal distances, from the first to the last.
        augmentation: How they are moved and bent.
        rows: Pictures, at most.
        columns: The original and its random variants together, at least 2.
        seed: Of the variants; torch's own random state is left as it is.

    Returns:
        The figure.

    Raises:
        ValueError: If there are no pictures, or a number is too small.
        ModuleNotFoundError: If matplotlib is not installed.
    """
    check_positive(rows=rows, columns=columns)
    if columns < 2:
        raise ValueError(f"`columns` (={columns}) must be at least 2")
    if not len(digits):
        raise ValueError(f"`digits` (={digits!r}) must hold at least one picture")
    rows = min(rows, len(digits))
    chosen = [row * (len(digits) - 1) // max(1, rows - 1) for row in range(rows)]
    originals = digits.images[chosen].float().div(255)
    generator = torch.Generator(originals.device).manual_seed(seed)
    variants = augment(originals.repeat_interleave(columns - 1, 0), augmentation, generator)
    blocks = zip(originals, variants.split(columns - 1), strict=True)
    pictures = [_picture(image) for first, others in blocks for image in (first, *others)]
    figure = _figure(columns * 0.85 + 0.2, rows * 0.85 + 0.7)
    axes = figure.add_subplot()
    middles, _ = _tiles(axes, pictures, columns, cmap=INK, vmin=0, vmax=1)
    axes.axvline(1 + TILE_GAP / 2, color=COLOURS[1], linewidth=1.5)
    axes.set_xticks(middles[:1], ["original"])
    axes.set_title(_in_words(augmentation))
    return figure


def _in_words(augmentation: Augmentation) -> str:
    told = {
        f"rotation ±{augmentation.rotation:g}°": augmentation.rotation,
        f"shift ±{augmentation.shift:g} px": augmentation.shift,
        f"scale ±{augmentation.scale:.0%}": augmentation.scale,
        f"shear ±{augmentation.shear:g}°": augmentation.shear,
        f"elastic {augmentation.elastic:g}": augmentation.elastic,
    }
    return ", ".join(text for text, bound in told.items() if bound) or "no augmentation"


# --- Networks --------------------------------------------------------------------------------


def draw(model: nn.Module, input_size: Inputs = None) -> Figure:
    """A diagram of a network: on the left its layers and blocks, beside it each kind of block.

    A box tells what it is, its name, the shape that it gives (channels × height × width) and its
    parameters. Blocks that are the same stand in a dashed frame with their number. The inside of
    a block is drawn once for each form it takes, with its branches and shortcuts; of a block of
    many blocks, the first few.

    Args:
        model: A network that torch.fx can trace, as all of the zoo's; it is not touched.
        input_size: What it is fed; see `mnist_zoo.summary`. By default its own `input_size`.

    Returns:
        The figure; ``figure.savefig("name.svg")`` writes it.

    Raises:
        ValueError: If the network cannot be traced, or `input_size` is missing or no shape.
        TypeError: If `model` is not a network or cannot be copied.
        RuntimeError: If the network cannot process the input.
        ModuleNotFoundError: If matplotlib is not installed.
    """
    graph = graph_of(model, input_size)
    cost = profile(model, input_size)
    name = getattr(unwrapped(model), "factory", None) or cost.model
    title = (name, f"{cost.params:,} parameters, {cost.macs:,} MACs")
    blocks = [*graph.blocks()]
    hues = dict(zip(dict.fromkeys(b.kind for b in blocks), cycle(COLOURS), strict=False))
    plans = [_Plan(graph, title), *(_plan_of_block(block) for block in blocks)]
    places = _packed(plans)
    width, height = _extent(plans, places)
    figure = _figure(width, height)
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


# --- Inside a network ------------------------------------------------------------------------


def filters(model: nn.Module, *, layer: str | None = None, limit: int = 64) -> Figure:
    """The kernels of a convolution, on one scale of colours with white at 0.

    With one input channel (or one a group) the kernels stand in a grid, numbered row by row. With
    more, up to 16 either way, there is a column for each output channel and a row for each input
    channel. Beyond that the grid shows each output channel by the mean of its kernels over
    the input channels.

    Args:
        model: Any network.
        layer: Name of the `torch.nn.Conv2d`, as of ``named_modules``; None for the first one.
        limit: Output channels shown, at most: the first ones.

    Returns:
        The figure.

    Raises:
        ValueError: If there is no such layer, or it is no Conv2d.
        ModuleNotFoundError: If matplotlib is not installed.
    """
    check_positive(limit=limit)
    name, conv = _convolution(unwrapped(model), layer)
    weight = conv.weight.detach().float().cpu()
    kernels = weight[:limit]
    title = f"{name}: {_part(len(kernels), len(weight), 'kernels')}" + _size(weight)
    inputs = weight.shape[1]
    if 1 < inputs <= MATRIX and len(kernels) <= MATRIX:
        return _matrix(kernels, title)
    if inputs > 1:
        title += f",\nmean over {inputs} input channels"
    return _grid(kernels.mean(1), title, signed=True)


def _convolution(model: nn.Module, layer: str | None) -> tuple[str, nn.Conv2d]:
    found = {name: m for name, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    if layer is None:
        if not found:
            raise ValueError(f"`model` must have a Conv2d; {type(model).__name__} has none")
        return next(iter(found.items()))
    module = _submodule(model, layer)
    if not isinstance(module, nn.Conv2d):
        kind = type(module).__name__
        raise ValueError(f"`layer` (={layer!r}) must be a Conv2d; it is a {kind}")
    return layer, module


def _submodule(model: nn.Module, name: str) -> nn.Module:
    modules = dict(model.named_modules(remove_duplicate=False))
    if name not in modules:
        known = did_you_mean(name, modules) or "see named_modules()"
        raise ValueError(f"`layer` (={name!r}) must be the name of a layer; {known}")
    return modules[name]


def _part(shown: int, total: int, what: str) -> str:
    return f"{total} {what}" if shown == total else f"the first {shown} of {total} {what}"


def _size(maps: Tensor) -> str:
    return f" of {maps.shape[-2]}×{maps.shape[-1]}"


def _grid(maps: Tensor, title: str, *, signed: bool) -> Figure:
    """Maps (count, H, W) row by row; the ticks tell the number of each."""
    count = len(maps)
    columns = count if count <= 8 else 2 ** math.ceil(math.log2(count) / 2)
    figure, axes, across, down = _tiled([*maps.numpy()], columns, _highest(maps), signed)
    axes.set_title(title)
    if len(down) == 1:
        axes.set_xticks(across, map(str, range(columns)))
        axes.set_xlabel("channel")
        return figure
    axes.set_xticks(across, [f"+{column}" for column in range(columns)])
    axes.set_yticks(down, [str(row * columns) for row in range(len(down))])
    axes.set_ylabel("channel")
    return figure


def _matrix(kernels: Tensor, title: str) -> Figure:
    """Kernels (outputs, inputs, H, W), a column for each output."""
    outputs, inputs = kernels.shape[:2]
    pictures = [*kernels.transpose(0, 1).flatten(0, 1).numpy()]
    figure, axes, across, down = _tiled(pictures, outputs, _highest(kernels), signed=True)
    axes.set_xticks(across, map(str, range(outputs)))
    axes.set_yticks(down, map(str, range(inputs)))
    axes.set(xlabel="output channel", ylabel="input channel", title=title)
    return figure


def _tiled(
    pictures: Sequence[Any], columns: int, highest: float, signed: bool
) -> tuple[Figure, Axes, list[float], list[float]]:
    """A figure of tiles with their bar of colours, and the middles of columns and rows."""
    rows = math.ceil(len(pictures) / columns)
    ratio = pictures[0].shape[0] / pictures[0].shape[1]
    tile = min(0.9, 8 / columns, 8 / (rows * ratio))
    figure = _figure(max(3.5, 1.1 * tile * columns + 1.5), max(1.8, 1.1 * tile * rows * ratio + 1))
    axes = figure.add_subplot()
    lowest, colours = (-highest, SIGNED) if signed else (0.0, "viridis")
    across, edges = _tiles(axes, pictures, columns, cmap=colours, vmin=lowest, vmax=highest)
    figure.colorbar(axes.images[0], ax=axes, aspect=25, pad=0.02)
    return figure, axes, across, [edge - ratio / 2 for edge in edges]


def feature_maps(model: nn.Module, picture: Tensor, layer: str, *, limit: int = 64) -> Figure:
    """What a layer makes of one picture, in eval mode, all maps on one scale of colours.

    Maps with negative values are blue below 0, white at 0 and red above; others go from dark at 0
    to bright. The network's modes and hooks stay as they were.

    Args:
        model: Any network of one input.
        picture: A picture (C, H, W) as the network expects it: float, after its `Preprocessing`.
            It is moved to the network's device and type.
        layer: Name of a submodule, as of ``named_modules``. Of one that runs several times the
            first run is shown.
        limit: Maps shown, at most: the first ones.

    Returns:
        The figure.

    Raises:
        ValueError: If the picture has another shape or type, there is no such layer, it does not
            run, or what it gives is not (N, C, H, W).
        ModuleNotFoundError: If matplotlib is not installed.
    """
    check_positive(limit=limit)
    if not isinstance(picture, Tensor) or picture.dim() != 3 or not picture.is_floating_point():
        got = f"{picture.dtype} {tuple(picture.shape)}" if isinstance(picture, Tensor) else picture
        raise ValueError(f"`picture` must be float (C, H, W), as Preprocessing gives it, got {got}")
    maps = _output_of(unwrapped(model), layer, picture)
    shown = maps[0, :limit]
    title = f"{layer}: {_part(len(shown), maps.shape[1], 'maps')}{_size(maps)}"
    return _grid(shown, title, signed=bool((shown < 0).any()))


def _output_of(model: nn.Module, layer: str, picture: Tensor) -> Tensor:
    """The layer's first output (1, C, H, W), float32 on the CPU."""
    outputs: list[Any] = []

    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        if not outputs:  # a copy: an in-place ReLU may come next
            outputs.append(output.clone() if isinstance(output, Tensor) else output)

    like = next(model.parameters(), picture)
    handle = _submodule(model, layer).register_forward_hook(keep)
    try:
        with eval_mode(model), torch.inference_mode():
            model(picture[None].to(like))
    finally:
        handle.remove()
    if not outputs:
        raise ValueError(f"`layer` (={layer!r}) must run in the forward pass; it does not")
    output = outputs[0]
    if not isinstance(output, Tensor) or output.dim() != 4:
        got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(f"`layer` (={layer!r}) must give maps (N, C, H, W), but gives {got}")
    return output.float().cpu()


# --- Several networks ------------------------------------------------------------------------


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
    figure = _figure(11, 4.6)
    left = figure.add_subplot(1, 2, 1)
    both = {"parameters": left, "macs": figure.add_subplot(1, 2, 2, sharey=left)}
    for what, axes in both.items():
        _draw_costs(axes, networks, what)
    left.set_ylabel("accuracy")
    _percent(left)
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
    _tidy(axes)


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
