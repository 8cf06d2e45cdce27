"""What the library sees on a photo."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..pictures.explanation import explain
from ._style import COLOURS, INK_ON_PAPER, draw_image, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..pictures.reading import Picture

__all__ = ["preparation"]


def preparation(picture: Picture) -> Figure:
    """Shows what `as_mnist` makes of a photo: the place it looks at, the ink, and the 28×28 image.

    The words above say what was decided: how the paper was seen, whether the ink is darker or
    lighter, what was left out, and why an image is refused. For a photo that is read wrongly.

    Args:
        picture: One image, of any kind that `predict` takes.

    Returns:
        The figure.

    Raises:
        PictureError: If the image cannot be read at all, or there are several. One that shows no
            digit, or several, is shown.
        FileNotFoundError: If a file does not exist.
        TypeError: If `picture` is no image.
        ModuleNotFoundError: If matplotlib is not installed.

    Example:
        >>> from PIL import Image, ImageDraw, ImageFont
        >>> from mnist_zoo import plots
        >>> page = Image.new("L", (120, 120), "white")
        >>> ImageDraw.Draw(page).text((40, 10), "7", font=ImageFont.load_default(80))
        >>> plots.preparation(page).savefig("preparation.png")
    """
    seen = explain(picture)
    figure = new_figure(9, 3.6)
    photo, ink, digit = figure.subplots(1, 3)
    draw_image(photo, seen.grey.numpy(), cmap="gray", vmin=0, vmax=255)
    top, bottom, left, right = seen.place
    corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    photo.plot(*zip(*corners, strict=True), color=COLOURS[1], clip_on=False)
    draw_image(ink, seen.ink.numpy(), cmap=INK_ON_PAPER, vmin=0, vmax=1)
    draw_image(digit, seen.digit.numpy(), cmap=INK_ON_PAPER, vmin=0, vmax=255)
    for axes, title in ((photo, "the image"), (ink, "its ink"), (digit, "as MNIST")):
        axes.set(title=title, xticks=[], yticks=[])
    words = "; ".join(seen.steps)
    refused = f"refused: {seen.problem}" if seen.problem else ""
    figure.suptitle("\n".join(line for line in (words, refused) if line), wrap=True)
    return figure
