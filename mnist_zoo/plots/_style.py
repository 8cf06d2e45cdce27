"""The style that all plots share."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Kind = TypeVar("Kind")

# Okabe and Ito's colours, which colour-blind readers can tell apart, without yellow and black
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = "osD^vP"
INK_ON_PAPER = "gray_r"  # the colour map of images: dark strokes on white
TILE_GAP = 0.1  # between two images, as a part of an image's width


def new_figure(width: float, height: float) -> Figure:
    """Makes an empty figure; width and height are in inches."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        message = 'plots need matplotlib: pip install "mnist-zoo[examples]"'
        raise ModuleNotFoundError(message, name="matplotlib") from error
    figure = Figure((width, height), layout="constrained")
    # IPython can show a figure by itself only after an import of pyplot, but uses this method.
    vars(figure)["_repr_png_"] = partial(_png, figure)
    return figure


def _png(figure: Figure) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()


def as_mapping(argument: str, value: Any, kind: type[Kind], maker: str) -> dict[str, Kind]:
    """Returns a copy of a mapping, or {"": value} for a single value.

    Raises:
        ValueError: If the mapping is empty; the message names the argument.
        TypeError: If a value is not of this kind; the message says what makes one.
    """
    entries = dict(value) if isinstance(value, Mapping) else {"": value}
    if not entries:
        raise ValueError(f"`{argument}` (={value!r}) must hold at least one")
    for entry in entries.values():
        check_kind(kind, maker, **{argument: entry})
    return entries


def check_kind(kind: type, maker: str, **arguments: object) -> None:
    """Raises TypeError for the first argument that is not of this kind."""
    for name, value in arguments.items():
        if not isinstance(value, kind):
            rule = f"must be {kind.__name__}, which {maker} gives"
            raise TypeError(f"`{name}` {rule}; its type is {type(value).__name__}")


def distinct_colours(count: int) -> list[str]:
    """Returns that many colours: from `COLOURS`, or if they are too few, from dark to bright."""
    if count <= len(COLOURS):
        return list(COLOURS[:count])
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return [to_hex(colormaps["viridis"](0.95 * place / (count - 1))) for place in range(count)]


def style_axes(axes: Axes) -> None:
    """Hides the upper and right spines, and draws a pale grid behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)


def percent_ticks(axes: Axes) -> None:
    """Writes the ticks of the y axis, from 0 to 1, in percent."""
    from matplotlib.ticker import PercentFormatter

    axes.yaxis.set_major_formatter(PercentFormatter(1))


def draw_legend(figure: Figure, handles: Sequence[Any], most: int) -> None:
    """Explains the handles below the axes, in as many columns as fit, and no more than `most`."""
    look: dict[str, Any] = {"loc": "outside lower center", "frameon": False}
    for columns in range(min(len(handles), most), 0, -1):
        legend = figure.legend(handles=handles, ncols=columns, **look)
        if columns == 1 or legend.get_window_extent().width <= figure.bbox.width:
            break
        legend.remove()


def draw_image(axes: Axes, image: Any, **style: Any) -> None:
    """Draws an array with its first row above, whatever the user's settings of matplotlib say."""
    axes.imshow(image, **{"origin": "upper", "aspect": "equal", **style})
    axes.grid(visible=False)


def draw_tiles(
    axes: Axes, images: Sequence[Any], columns: int, *, space_below: float = 0, **style: Any
) -> tuple[list[float], list[float]]:
    """Draws images (H, W) or (H, W, 3) row by row on one pair of axes; each is 1 wide.

    With a pair of axes per image, layout and drawing would be many times slower.

    Args:
        axes: Where to draw.
        images: Arrays of equal shape.
        columns: Images per row.
        space_below: Free height below each row, for a text.
        style: Options of ``Axes.imshow``.

    Returns:
        The x of each column's middle, and the y of each row's lower edge.
    """
    height = images[0].shape[0] / images[0].shape[1]
    column_step, row_step = 1 + TILE_GAP, height + space_below + TILE_GAP
    for position, image in enumerate(images):
        row, column = divmod(position, columns)
        left, top = column * column_step, row * row_step
        draw_image(axes, image, extent=(left, left + 1, top + height, top), **style)
    rows = math.ceil(len(images) / columns)
    axes.set(xlim=(0, columns * column_step - TILE_GAP), ylim=(rows * row_step - TILE_GAP, 0))
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize="small")
    axes.set(xticks=[], yticks=[])
    middles = [column * column_step + 0.5 for column in range(columns)]
    return middles, [row * row_step + height for row in range(rows)]


def image_array(image: Tensor) -> Any:
    """Converts an image (C, H, W) for matplotlib: to (H, W, 3) if it is RGB, else to (H, W)."""
    image = image.detach().cpu()
    if image.shape[0] == 3:
        return image.movedim(0, 2).numpy()
    return image.float().mean(0).numpy()
