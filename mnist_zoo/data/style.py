"""Styles of writing that MNIST lacks, drawn into its digits: flags, feet, bars, slabs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .._checks import check_range, plain
from .augmentation import float_batch, random_like

__all__ = ["Style", "restyle"]


@dataclass(frozen=True)
class Style:
    """How many digits are redrawn in each style of writing; 0 switches a style off.

    The labels stay: a 1 with a flag is a 1.

    Attributes:
        flag: Share of the 1s that get a flag, a stroke from the top down to the left.
        foot: Share of the 1s that get a foot, a level stroke under the stem.
        bar: Share of the 7s that get a bar through the stem.
        closed: Share of the 4s whose open top is closed.
        opened: Share of the 4s whose top is cut open.
        narrow: Share of all digits that become narrower, down to 45 % of their width.
        slab: Share of the 1s that become slabs: two to six pixels wider, with sharp corners.
        heavy: Share of all digits whose strokes become one to two pixels wider.

    Raises:
        ValueError: If a share is not between 0 and 1.

    Example:
        >>> from mnist_zoo import Style
        >>> bool(Style(flag=0.4)), bool(Style())
        (True, False)
    """

    flag: float = 0.0
    foot: float = 0.0
    bar: float = 0.0
    closed: float = 0.0
    opened: float = 0.0
    narrow: float = 0.0
    slab: float = 0.0
    heavy: float = 0.0

    def __post_init__(self) -> None:
        for entry in fields(self):
            object.__setattr__(self, entry.name, plain(getattr(self, entry.name)))
        check_range(at_least=0, at_most=1, **vars(self))

    def __bool__(self) -> bool:
        """Whether it changes anything."""
        return any(vars(self).values())


def restyle(
    images: Tensor, labels: Tensor, style: Style, generator: torch.Generator | None = None
) -> Tensor:
    """Redraws some of the digits in other styles.

    Args:
        images: Images (N, C, H, W), uint8 or float from 0 to 1, with bright ink on dark paper, and
            digits of about MNIST's size.
        labels: The digits (N,), from 0 to 9.
        style: How many digits are redrawn.
        generator: Random number generator on the images' device; None for torch's default one.

    Returns:
        float32 images of the same shape; uint8 values are divided by 255.

    Raises:
        TypeError: If `images` is no tensor, or `style` is something else.
        ValueError: If the images are not (N, C, H, W), or there is not one label for each.

    Example:
        >>> import torch
        >>> from mnist_zoo import Style, restyle
        >>> one = torch.zeros(1, 1, 28, 28)
        >>> one[..., 4:24, 13:15] = 1
        >>> flagged = restyle(one, torch.tensor([1]), Style(flag=1))
        >>> bool((flagged > one).any()), bool((flagged < one).any())
        (True, False)
    """
    images = float_batch(images, style=(style, Style))
    labels = torch.as_tensor(labels, device=images.device)
    if labels.shape != images.shape[:1]:
        raise ValueError(f"`labels` must be ({len(images)},), got {tuple(labels.shape)}")
    if not style:
        return images
    images = images.clone()
    with torch.autocast(images.device.type, enabled=False):
        for name, (digit, draw) in STYLES.items():
            if not (share := getattr(style, name)):
                continue
            drawn = random_like(images, (len(images),), generator) < share
            rows = (drawn if digit is None else drawn & (labels == digit)).nonzero().squeeze(1)
            if len(rows):
                images.index_copy_(0, rows, draw(images.index_select(0, rows), generator))
    return images


# --- The styles: images of the digit that a style is for give images -----------------------------


def flagged(images: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draws a stroke from the top of the stem down to the left."""
    ends, between = _ends(images), _uniform(images, generator)
    angle = between(math.radians(20), math.radians(65))
    length = ends.half + between(0.2, 0.6) * ends.height
    top = ends.top + ends.half
    return _with_stroke(
        images,
        (top, ends.top_column),
        (top + length * angle.sin(), ends.top_column - length * angle.cos()),
        ends.half * between(0.6, 1.1),
    )


def footed(images: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draws a level stroke under the stem."""
    ends, between = _ends(images), _uniform(images, generator)
    left, right = between(1.5, 6), between(1.5, 6)
    row, column = ends.bottom - ends.half / 2, ends.bottom_column
    return _with_stroke(
        images, (row, column - left), (row, column + right), ends.half * between(0.6, 1.1)
    )


def barred(images: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draws a nearly level stroke through the middle of the stem."""
    ends, between = _ends(images), _uniform(images, generator)
    row = (ends.top + ends.bottom) / 2 + between(-2, 2)
    tilt, left, right = between(-1.5, 1.5), between(2.5, 5.5), between(2.5, 5.5)
    column = _column_at(images, row.round().long())
    return _with_stroke(
        images,
        (row + tilt, column - left),
        (row - tilt, column + right),
        ends.half * between(0.6, 1.0),
    )


def closed(images: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draws a straight stroke from the left end of the crossbar to the top of a raised stem.

    What lies above that stroke, the left arm of an open 4, is erased.
    """
    ends, between = _ends(images), _uniform(images, generator)
    ink, columns = _ink(images), torch.arange(images.shape[-1], device=images.device)
    row = ink.sum(2).argmax(1)  # of the crossbar
    first = (ink > 0.3)[torch.arange(len(ink), device=ink.device), row].float().argmax(1)
    centre = (ink.sum(1) * columns).sum(1) / ink.sum((1, 2)).clamp(min=1e-3)
    stem = _ends(images * (columns >= centre[:, None])[:, None, None])
    half = ends.half * between(0.7, 1.0)
    left = (row.float(), first + half)
    top = (ends.top + half, stem.top_column)
    stroke = torch.maximum(
        _stroke(images, left, top, half),
        _stroke(images, (stem.top + half, stem.top_column), top, half),
    )
    return torch.maximum(images * ~_above(images, left, top), stroke)


def opened(images: Tensor, generator: torch.Generator | None) -> Tensor:
    """Erases what lies at the top, on the left of the stem, which opens a closed 4."""
    ends, between = _ends(images), _uniform(images, generator)
    rows, columns = (torch.arange(size, device=images.device) for size in images.shape[-2:])
    depth = rows - ends.top[:, None]
    slope = (ends.bottom_column - ends.top_column) / ends.height.clamp(min=1)
    edge = (ends.top_column - 1.5 * ends.half)[:, None] + slope[:, None] * depth
    high = depth < (between(0.25, 0.45) * ends.height)[:, None]
    return images * ~(high[..., None] & (columns < edge[..., None]))[:, None]


def narrowed(images: Tensor, generator: torch.Generator | None) -> Tensor:
    """Makes the images narrower, by a factor between 0.45 and 0.9."""
    factor = _uniform(images, generator)(0.45, 0.9)
    theta = images.new_zeros((len(images), 2, 3))
    theta[:, 0, 0], theta[:, 1, 1] = 1 / factor, 1
    grid = F.affine_grid(theta, [len(images), 1, *images.shape[-2:]], align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def slabbed(images: Tensor, generator: torch.Generator | None) -> Tensor:
    """Widens the strokes to slabs, by up to three pixels on each side."""
    return _widened(images, 3, 1 + 2 * _uniform(images, generator)(0, 1))


def heavier(images: Tensor, generator: torch.Generator | None) -> Tensor:
    """Widens the strokes, by up to one pixel on each side."""
    return _widened(images, 1, _uniform(images, generator)(0.5, 1))


Draw = Callable[[Tensor, torch.Generator | None], Tensor]
# by style: the digit that it is for, None for all, and how it is drawn
STYLES: dict[str, tuple[int | None, Draw]] = {
    "flag": (1, flagged),
    "foot": (1, footed),
    "bar": (7, barred),
    "closed": (4, closed),
    "opened": (4, opened),
    "narrow": (None, narrowed),
    "slab": (1, slabbed),
    "heavy": (None, heavier),
}


# --- Where the strokes are -----------------------------------------------------------------------


class Ends(NamedTuple):
    """Where the ink of each image begins and ends, in pixels, each (N,)."""

    top: Tensor
    bottom: Tensor
    top_column: Tensor
    bottom_column: Tensor
    half: Tensor
    """Half of the width of the strokes."""

    @property
    def height(self) -> Tensor:
        """The height of the ink."""
        return self.bottom - self.top


def _ends(images: Tensor) -> Ends:
    ink = _ink(images)
    rows = (ink > 0.3).any(2).float()
    top = rows.argmax(1)
    bottom = rows.shape[1] - 1 - rows.flip(1).argmax(1)
    # a stroke has area width · length, and an outline of two lengths
    padded = F.pad(ink, (1, 1, 1, 1))
    across, down = padded[:, 1:, 1:] - padded[:, 1:, :-1], padded[:, 1:, 1:] - padded[:, :-1, 1:]
    half = (ink.sum((1, 2)) / torch.hypot(across, down).sum((1, 2)).clamp(min=1)).clamp(0.6, 2.5)
    columns = (_column_at(images, top), _column_at(images, bottom))
    return Ends(top.float(), bottom.float(), *columns, half)


def _ink(images: Tensor) -> Tensor:
    """The ink (N, H, W) over all channels."""
    return images.amax(1)


def _column_at(images: Tensor, row: Tensor) -> Tensor:
    """The mean column of the ink in a row of each image."""
    ink = _ink(images)
    row = row.clamp(0, ink.shape[1] - 1)
    line = ink[torch.arange(len(ink), device=ink.device), row]
    columns = torch.arange(ink.shape[2], device=ink.device)
    return (line * columns).sum(1) / line.sum(1).clamp(min=1e-3)


def _uniform(images: Tensor, generator: torch.Generator | None) -> Callable[[float, float], Tensor]:
    """A function that draws a number between two bounds for each image."""

    def between(low: float, high: float) -> Tensor:
        return low + (high - low) * random_like(images, (len(images),), generator)

    return between


Point = tuple[Tensor, Tensor]  # row and column of each image


def _stroke(images: Tensor, start: Point, end: Point, half: Tensor) -> Tensor:
    """A straight stroke with round ends in each image: (N, 1, H, W) from 0 to 1."""
    height, width = images.shape[-2:]
    rows = torch.arange(height, device=images.device)[:, None]
    columns = torch.arange(width, device=images.device)
    (row0, column0), (row1, column1) = ([v.view(-1, 1, 1) for v in p] for p in (start, end))
    down, right = row1 - row0, column1 - column0
    squared = (down.square() + right.square()).clamp(min=1e-3)
    along = (((rows - row0) * down + (columns - column0) * right) / squared).clamp(0, 1)
    distance = torch.hypot(rows - row0 - along * down, columns - column0 - along * right)
    return (half.view(-1, 1, 1) + 0.5 - distance).clamp(0, 1)[:, None]


def _above(images: Tensor, start: Point, end: Point) -> Tensor:
    """Which pixels lie above and to the left of the line between two points: (N, 1, H, W)."""
    height, width = images.shape[-2:]
    rows = torch.arange(height, device=images.device)[:, None]
    columns = torch.arange(width, device=images.device)
    (row0, column0), (row1, column1) = ([v.view(-1, 1, 1) for v in p] for p in (start, end))
    side = (columns - column0) * (row1 - row0) - (rows - row0) * (column1 - column0)
    return ((side > 0) & (rows < row0))[:, None]


def _widened(images: Tensor, most: int, pixels: Tensor) -> Tensor:
    """Strokes that are wider by so many pixels (N,) on each side, at most `most`."""
    for step in range(most):
        grown = F.max_pool2d(images, 3, stride=1, padding=1)
        images = torch.lerp(images, grown, (pixels - step).clamp(0, 1).view(-1, 1, 1, 1))
    return images


def _with_stroke(images: Tensor, start: Point, end: Point, half: Tensor) -> Tensor:
    return torch.maximum(images, _stroke(images, start, end, half))
