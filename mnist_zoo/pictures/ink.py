"""Finding the ink of one digit in an image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    pass

PAPER_SIDE = 64  # the paper's light is seen on a picture of this size
SMALLEST_PHOTO = 24  # pixels; on smaller pictures the paper is taken to be even
DIM = 16.0  # of 255: light below which differences are noise
FAINT = 5.0  # of 255: pictures with less contrast are empty
NOISE = 5.0  # and so are those whose ink is not this many deviations of the paper's noise
PALE = 0.015  # part of the light that ink takes at least
FRAME = 0.9  # of an outline that is no digit's
LINKED = 0.2  # ink that connects parts
SPECK = 0.03  # smallest part of a digit, of all its ink
EMPTY = "must show a digit; it is empty"
SEVERAL = "must show one digit; it shows several"


def ends(marked: Tensor) -> tuple[Tensor, Tensor]:
    """The first and the last marked place of each row (n, size)."""
    marked = marked.byte()
    return marked.argmax(1), marked.shape[1] - 1 - marked.flip(1).argmax(1)


def without_frames(grey: Tensor) -> Tensor:
    """The pictures (n, H, W), those of a sheet on a table or of a form's box cut to its inside."""
    framed = (_frame_edge(grey)[1] > FRAME).nonzero().squeeze(1).tolist()
    if framed:
        grey = grey.clone()
    for row in framed:
        grey[row] = _inside_frame(grey[row])
    return grey


def _frame_edge(grey: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
    """The box of what differs from the border of each picture, and how much of its outline does.

    The box is its first and last row, and its first and last column.
    """
    change = (grey - _border(grey).median(1).values[:, None, None]).abs()
    differs = change > (change.amax((1, 2), keepdim=True) / 4).clamp(min=FAINT)
    rows, columns = differs.sum(2), differs.sum(1)
    box = (*ends(rows > 0), *ends(columns > 0))
    top, bottom, left, right = box
    filled = rows.gather(1, torch.stack((top, bottom), 1)).sum(1)
    filled = filled + columns.gather(1, torch.stack((left, right), 1)).sum(1)
    share = filled / (2 * (bottom - top + right - left + 2)) * differs.flatten(1).any(1)
    return box, share


def _inside_frame(picture: Tensor) -> Tensor:
    """What a frame or a sheet (H, W) shows, if that keeps clear of it; else the picture as it is.

    A solid 1 and a square 0 fill their outline, too, but have nothing inside.
    """
    inner = picture
    while min(inner.shape) >= 8:
        box, share = _frame_edge(inner[None])
        top, bottom, left, right = (int(end) for end in box)
        height, width = inner.shape
        if share <= FRAME:
            clear = top > 0 and left > 0 and bottom < height - 1 and right < width - 1
            if not (clear and share > 0 and bottom - top + 1 >= height / 4):
                return picture
            alone = _border(inner[None]).median().expand_as(picture).clone()
            alone[:height, :width] = inner
            return alone
        if (bottom - top + 1, right - left + 1) == (height, width):
            return picture
        soft = min(2, min(height, width) // 8)  # the frame's edge
        inner = inner[top + soft : bottom + 1 - soft, left + soft : right + 1 - soft]
    return picture


def _border(grey: Tensor) -> Tensor:
    """The outermost pixels (n, 2·H + 2·W) of the pictures (n, H, W)."""
    return torch.cat((grey[:, 0], grey[:, -1], grey[:, :, 0], grey[:, :, -1]), 1)


def ink_of(grey: Tensor) -> Tensor:
    """How much ink there is at each pixel of the pictures (n, H, W): 0 on paper, 1 in strokes."""
    border = _border(grey)
    paper = border.median(1, keepdim=True).values
    even = (border - paper).abs().le(2).float().mean(1) >= 0.5
    even |= min(grey.shape[1:]) < SMALLEST_PHOTO
    change = grey - paper[:, :, None]
    ink = change * change.pow(3).mean((1, 2), keepdim=True).sign()
    if not even.all():
        ink[~even] = _ink_on_uneven_paper(grey[~even])
    return _stretched_ink(ink.clamp(min=0), even[:, None])


def _ink_on_uneven_paper(grey: Tensor) -> Tensor:
    """The same, before stretching, where light and shadow change the paper from place to place.

    Light multiplies, so logarithms are compared: what is narrow and darker than all around it.
    """
    page = F.avg_pool2d(grey[:, None], 3, 1, 1, count_include_pad=False).add(DIM).log()
    # the median of half a picture is paper still, and strokes are where it is missed most
    small = _reduced(page, PAPER_SIDE // 2)
    reach = max(1, max(small.shape[2:]) // 4)
    around = F.unfold(F.pad(small, [reach] * 4, mode="replicate"), 2 * reach + 1).median(1).values
    is_light = (small.flatten(1) - around).pow(3).mean(1) > 0
    sign = torch.where(is_light, -1.0, 1.0).view(-1, 1, 1, 1)
    paper = _without_narrow(sign * _reduced(page, PAPER_SIDE))
    paper = F.interpolate(paper, page.shape[2:], mode="bilinear")
    return (sign * (1 - (page - sign * paper).exp())).clamp(min=0)[:, 0]


def _reduced(page: Tensor, side: int) -> Tensor:
    """The pictures (n, 1, H, W) with a longer side of this many pixels, if it is more."""
    shape = page.shape[2:]
    size = [min(pixels, max(1, round(pixels * side / max(shape)))) for pixels in shape]
    return F.interpolate(page, size, mode="area")


def _without_narrow(page: Tensor) -> Tensor:
    """Each picture without what is darker than all around it and narrow: its closing."""
    height, width = page.shape[2:]
    reach = max(1, min(max(height, width) // 8, (min(height, width) - 1) // 2))
    beyond = [2 * reach] * 4  # light falls on as it did up to the edge
    page = 2 * F.pad(page, beyond, mode="replicate") - F.pad(page, beyond, mode="reflect")
    higher = F.max_pool2d(page, 2 * reach + 1, 1)
    return -F.max_pool2d(-higher, 2 * reach + 1, 1)


def _stretched_ink(ink: Tensor, even: Tensor) -> Tensor:
    """Ink (n, H, W) from the paper's own noise, which becomes 0, to that of the strokes, 1.

    Where it does not stand out there is none: on even paper (n, 1) by `FAINT`, else by the noise.
    """
    values = ink.flatten(1)
    most = values.amax(1, keepdim=True)
    is_ink = values > most * _otsu(values / most.clamp(min=1e-12))[:, None]
    level, noise = _level_and_noise(values, ~is_ink)
    high = values.masked_fill(~is_ink, math.nan).nanmedian(1, keepdim=True).values
    stands_out = high - level > torch.where(even, FAINT, (NOISE * noise).clamp(min=PALE))
    low = level + 3 * noise
    stretched = ((values - low) / (high - low).clamp(min=1e-3 * most)).clamp(0, 1)
    return torch.where(stands_out, stretched, 0).nan_to_num(0).view_as(ink)


def _level_and_noise(values: Tensor, is_paper: Tensor) -> tuple[Tensor, Tensor]:
    """The median (n, 1) of each row's paper, and its deviation as noise would have it."""
    level, noise = values.new_zeros(2, len(values), 1)
    # clean paper is 0 for the most part, and then so are both medians
    rest = ((values == 0) & is_paper).sum(1) * 2 <= is_paper.sum(1)
    paper = values[rest].masked_fill(~is_paper[rest], math.nan)
    level[rest] = paper.nanmedian(1, keepdim=True).values
    noise[rest] = 1.4826 * (paper - level[rest]).abs().nanmedian(1, keepdim=True).values
    return level, noise


def _otsu(values: Tensor) -> Tensor:
    """The threshold in 0…1 that parts each row's values best (Otsu 1979)."""
    bins = 64
    counts = torch.zeros(len(values), bins)
    places = (values * (bins - 1)).round().long()
    counts.scatter_add_(1, places, torch.ones_like(values))
    below = counts.cumsum(1)
    sums = (counts * torch.arange(bins)).cumsum(1)
    above = below[:, -1:] - below
    distance = sums / below.clamp(min=1) - (sums[:, -1:] - sums) / above.clamp(min=1)
    between = below * above * distance.square()
    return (between.argmax(1) + 0.5) / (bins - 1)


def one_digit(ink: Tensor) -> tuple[Tensor, dict[int, str]]:
    """The ink (n, H, W) of the digit alone, without specks and what reaches in from the edges."""
    import numpy as np
    from scipy import ndimage

    touching = np.zeros((3, 3, 3), dtype=bool)
    touching[1] = True  # neighbours in a picture, none between pictures
    kept = ink.numpy() > LINKED
    labels, _ = ndimage.label(kept, structure=touching)
    last = np.maximum.accumulate(labels.max((1, 2)))  # they are counted picture by picture
    parts = np.diff(last, prepend=0)
    problems = dict.fromkeys(np.flatnonzero(parts == 0).tolist(), EMPTY)
    for picture in np.flatnonzero(parts > 1).tolist():
        own = np.maximum(labels[picture] - (last[picture] - parts[picture]), 0)
        boxes, areas = ndimage.find_objects(own), np.bincount(own.ravel())
        chosen = _digit_of(range(1, len(areas)), boxes, areas, own.shape)
        if _several([boxes[label - 1] for label in chosen]):
            problems[picture] = SEVERAL
        kept[picture] = np.isin(np.arange(len(areas)), chosen)[own]
    return ink * _grown(torch.from_numpy(kept)), problems


def _grown(marked: Tensor) -> Tensor:
    """What is marked (n, H, W) and all that touches it, such as the faint edges of strokes."""
    wide = marked.clone()
    wide[:, :, 1:] |= marked[:, :, :-1]
    wide[:, :, :-1] |= marked[:, :, 1:]
    grown = wide.clone()
    grown[:, 1:] |= wide[:, :-1]
    grown[:, :-1] |= wide[:, 1:]
    return grown


def _digit_of(
    labels: Sequence[int], boxes: Sequence[Any], areas: Any, shape: Sequence[int]
) -> list[int]:
    """Those of a picture's connected parts that are neither specks nor come from its edges."""
    inside = [label for label in labels if not _at_edge(boxes[label - 1], shape)]
    total = sum(areas[label] for label in labels)
    if sum(areas[label] for label in inside) > total / 5:
        labels = inside
    total = sum(areas[label] for label in labels)
    return [label for label in labels if areas[label] >= SPECK * total]


def _at_edge(box: Any, shape: Sequence[int]) -> bool:
    return any(part.start == 0 or part.stop == size for part, size in zip(box, shape, strict=True))


def _several(boxes: list[Any]) -> bool:
    """Whether some parts stand beside or below each other as only digits do."""
    rows, columns = [box[0] for box in boxes], [box[1] for box in boxes]
    height = max(row.stop for row in rows) - min(row.start for row in rows)
    width = max(column.stop for column in columns) - min(column.start for column in columns)
    tall = sorted(
        (column for row, column in zip(rows, columns, strict=True) if _long(row) >= 0.6 * height),
        key=lambda column: column.start,
    )
    if any(a.stop <= b.start and not _bridged(a, b, columns) for a, b in pairwise(tall)):
        return True
    wide = sorted(
        (
            row
            for row, column in zip(rows, columns, strict=True)
            if _long(row) >= 0.3 * height
            and _long(column) >= 0.4 * width
            and _long(row) <= 2.5 * _long(column)
        ),
        key=lambda row: row.start,
    )
    return height > 1.8 * width and any(a.stop <= b.start for a, b in pairwise(wide))


def _long(extent: slice) -> int:
    return int(extent.stop - extent.start)


def _bridged(left: slice, right: slice, columns: list[slice]) -> bool:
    """Whether another part reaches from one to the other, as in a digit made of dots."""
    return any(part.start <= left.stop and part.stop >= right.start for part in columns)
