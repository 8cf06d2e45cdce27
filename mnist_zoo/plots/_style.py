"""The style that all plots share."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind readers tell apart, without yellow and black
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = "osD^vP"
GREY = "0.45"
INK = "gray_r"  # pictures as on paper: dark strokes on white
SIGNED = "RdBu_r"
TILE_GAP = 0.1  # between pictures, in widths of one


def new_figure(width: float, height: float) -> Figure:
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


def by_name(argument: str, value: Any) -> dict[str, Any]:
    """A mapping as it is, and a single thing under the name ""."""
    named = dict(value) if isinstance(value, Mapping) else {"": value}
    if not named:
        raise ValueError(f"`{argument}` (={value!r}) must hold at least one")
    return named


def colours_of(count: int) -> list[str]:
    """As many colours as are needed; beyond those chosen, steps from dark to bright."""
    if count <= len(COLOURS):
        return list(COLOURS[:count])
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return [to_hex(colormaps["viridis"](0.95 * place / (count - 1))) for place in range(count)]


def tidy(axes: Axes) -> None:
    """Takes away the lines that say nothing, and lays pale ones behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)


def in_percent(axes: Axes) -> None:
    from matplotlib.ticker import PercentFormatter

    axes.yaxis.set_major_formatter(PercentFormatter(1))


def tiles(
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


def show_picture(image: Tensor) -> Any:
    """An image (C, H, W) as matplotlib takes it: grey (H, W), or colour (H, W, 3)."""
    image = image.detach().cpu()
    if image.shape[0] == 3:
        return image.movedim(0, 2).numpy()
    return image.float().mean(0).numpy()


def largest_of(values: Tensor) -> float:
    """The largest finite magnitude, or 1 where all is 0."""
    finite = values[values.isfinite()]
    return finite.abs().amax().item() if finite.any() else 1.0
