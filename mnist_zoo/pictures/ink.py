"""Finding the ink of one digit in an image.

`find_digit` looks inside frames, measures the ink of each pixel, and keeps the digit's parts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

FAINT = 5.0  # of 255; an image with less contrast is empty
FRAME = 0.9  # a shape that covers more of its bounding box's outline may be a frame
SMALLEST_PHOTO = 24  # pixels; images with a shorter side are taken to have even paper
PAPER_SIDE = 64  # pixels; the light on uneven paper is estimated on an image of this size
DIM = 16.0  # of 255; differences of light below it are noise
NOISE = 5.0  # on uneven paper, strokes stand out by this many standard deviations of its noise
PALE = 0.015  # and absorb at least this share of the light
LINKED = 0.2  # connected pixels with more ink than this form a part
SPECK = 0.03  # a part with a smaller share of the digit's pixels is a speck
EMPTY = "must show a digit; it is empty"
SEVERAL = "must show one digit; it shows several, which read_digits reads"
SPECKS = "must show one digit; it shows small specks only"


def find_digit(grey: Tensor) -> tuple[Tensor, dict[int, str]]:
    """Finds the ink of the digit on each image (n, H, W) of numbers in 0…255.

    Returns:
        The ink (n, H, W), from 0 on paper to 1 in strokes; and what is wrong with each image that
        does not show exactly one digit, by its index.
    """
    grey = _without_frames(grey)
    low, high = grey.flatten(1).aminmax(dim=1)
    faint = {int(row): EMPTY for row in (high - low < FAINT).nonzero().squeeze(1)}
    ink, problems = _one_digit(_ink(grey))
    return ink, problems | faint


def _without_frames(grey: Tensor) -> Tensor:
    """Images (n, H, W), where a sheet on a table or a box on a form is replaced by its inside."""
    framed = (_frame_edge(grey)[1] > FRAME).nonzero().squeeze(1).tolist()
    if framed:
        grey = grey.clone()
    for row in framed:
        grey[row] = _inside_frame(grey[row])
    return grey


def _frame_edge(grey: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
    """Bounding box of what differs from each image's border, and how much of its outline differs.

    The box is its first and last row, then its first and last column.
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


def _inside_frame(image: Tensor) -> Tensor:
    """The inside of the frame or sheet on an image (H, W), on plain paper of the same size.

    The image comes back unchanged unless something lies inside, clear of the frame: a solid 1 and
    a square 0 look like frames, but have nothing inside.
    """
    inner = image
    while min(inner.shape) >= 8:
        box, share = _frame_edge(inner[None])
        top, bottom, left, right = (int(end) for end in box)
        height, width = inner.shape
        if share <= FRAME:
            clear = top > 0 and left > 0 and bottom < height - 1 and right < width - 1
            if not (clear and share > 0 and bottom - top + 1 >= height / 4):
                return image
            alone = _border(inner[None]).median().expand_as(image).clone()
            alone[:height, :width] = inner
            return alone
        if (bottom - top + 1, right - left + 1) == (height, width):
            return image
        soft = min(2, min(height, width) // 8)  # pixels of the frame's blurred edge
        inner = inner[top + soft : bottom + 1 - soft, left + soft : right + 1 - soft]
    return image


def _border(grey: Tensor) -> Tensor:
    """The outermost pixels (n, 2·H + 2·W) of images (n, H, W)."""
    return torch.cat((grey[:, 0], grey[:, -1], grey[:, :, 0], grey[:, :, -1]), 1)


def _ink(grey: Tensor) -> Tensor:
    """The amount of ink at each pixel of images (n, H, W): 0 on paper, 1 in strokes."""
    border = _border(grey)
    paper = border.median(1, keepdim=True).values
    even = (border - paper).abs().le(2).float().mean(1) >= 0.5
    even |= min(grey.shape[1:]) < SMALLEST_PHOTO
    change = grey - paper[:, :, None]
    # strokes change little of the image, but much: cubed, they outweigh the rest
    ink = change * change.pow(3).mean((1, 2), keepdim=True).sign()
    if not even.all():
        ink[~even] = _ink_on_uneven_paper(grey[~even])
    return _stretched_ink(ink.clamp(min=0), even[:, None])


def _ink_on_uneven_paper(grey: Tensor) -> Tensor:
    """Ink before stretching, where light and shadow change the paper from place to place.

    Ink is what is narrow and differs from the paper around it. Light multiplies, so logarithms
    are compared.
    """
    page = F.avg_pool2d(grey[:, None], 3, 1, 1, count_include_pad=False).add(DIM).log()
    # the median over half the image is still paper, and strokes differ from it most
    small = _reduced(page, PAPER_SIDE // 2)
    reach = max(1, max(small.shape[2:]) // 4)
    around = F.unfold(F.pad(small, [reach] * 4, mode="replicate"), 2 * reach + 1).median(1).values
    is_light = (small.flatten(1) - around).pow(3).mean(1) > 0
    sign = (1 - 2 * is_light.to(page.dtype)).view(-1, 1, 1, 1)
    paper = _without_narrow(sign * _reduced(page, PAPER_SIDE))
    paper = F.interpolate(paper, page.shape[2:], mode="bilinear")
    return (sign * (1 - (page - sign * paper).exp())).clamp(min=0)[:, 0]


def _reduced(page: Tensor, side: int) -> Tensor:
    """Images (n, 1, H, W), reduced to a longer side of `side` pixels if theirs is longer."""
    shape = page.shape[2:]
    size = [min(pixels, max(1, round(pixels * side / max(shape)))) for pixels in shape]
    return F.interpolate(page, size, mode="area")


def _without_narrow(page: Tensor) -> Tensor:
    """Images (n, 1, H, W) without what is narrow and darker than its surroundings: a closing."""
    height, width = page.shape[2:]
    reach = max(1, min(max(height, width) // 8, (min(height, width) - 1) // 2))
    beyond = [2 * reach] * 4  # the light goes on beyond the edge as it changed before it
    page = 2 * F.pad(page, beyond, mode="replicate") - F.pad(page, beyond, mode="reflect")
    higher = F.max_pool2d(page, 2 * reach + 1, 1)
    return -F.max_pool2d(-higher, 2 * reach + 1, 1)


def _stretched_ink(ink: Tensor, even: Tensor) -> Tensor:
    """Ink (n, H, W), rescaled so that the paper's noise becomes 0 and the strokes become 1.

    Strokes must stand out by `FAINT` on paper that is `even` (n, 1), elsewhere by more than the
    noise. Otherwise the image gets no ink at all.
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
    """Median and standard deviation, (n, 1) each, of the paper's pixels in each row (n, size)."""
    level, noise = values.new_zeros(2, len(values), 1)
    # where most of the paper is exactly 0, both are 0
    rest = ((values == 0) & is_paper).sum(1) * 2 <= is_paper.sum(1)
    paper = values[rest].masked_fill(~is_paper[rest], math.nan)
    level[rest] = paper.nanmedian(1, keepdim=True).values
    # a normal distribution's standard deviation is 1.4826 times its median absolute deviation
    noise[rest] = 1.4826 * (paper - level[rest]).abs().nanmedian(1, keepdim=True).values
    return level, noise


def _otsu(values: Tensor) -> Tensor:
    """The threshold in 0…1 that best separates each row's values into two groups (Otsu 1979)."""
    bins = 64
    counts = torch.zeros(len(values), bins, dtype=values.dtype, device="cpu")
    places = (values * (bins - 1)).round().long()
    counts.scatter_add_(1, places, torch.ones_like(values))
    below = counts.cumsum(1)
    sums = (counts * torch.arange(bins, device="cpu")).cumsum(1)
    above = below[:, -1:] - below
    distance = sums / below.clamp(min=1) - (sums[:, -1:] - sums) / above.clamp(min=1)
    between = below * above * distance.square()
    return (between.argmax(1) + 0.5) / (bins - 1)


def _one_digit(ink: Tensor) -> tuple[Tensor, dict[int, str]]:
    """Ink (n, H, W) without specks and what reaches in from the edges; problems by index."""
    import numpy as np
    from scipy import ndimage

    touching = np.zeros((3, 3, 3), dtype=bool)
    touching[1] = True  # pixels touch within an image, not across images
    kept = ink.numpy() > LINKED
    labels, _ = ndimage.label(kept, structure=touching)
    last = np.maximum.accumulate(labels.max((1, 2)))  # labels go on from image to image
    parts = np.diff(last, prepend=0)
    problems = dict.fromkeys(np.flatnonzero(parts == 0).tolist(), EMPTY)
    for row in np.flatnonzero(parts > 1).tolist():
        own = np.maximum(labels[row] - (last[row] - parts[row]), 0)  # 1, 2, … in each image
        boxes, areas = ndimage.find_objects(own), np.bincount(own.ravel())
        chosen = _parts_of_digit(range(1, len(areas)), boxes, areas, own.shape)
        if not chosen:
            problems[row] = SPECKS
        elif _are_several([boxes[label - 1] for label in chosen]):
            problems[row] = SEVERAL
        kept[row] = np.isin(np.arange(len(areas)), chosen)[own]
    return ink * _grown(torch.from_numpy(kept)), problems


def _parts_of_digit(
    labels: Sequence[int], boxes: Sequence[Any], areas: Any, shape: Sequence[int]
) -> list[int]:
    """The labels of an image's connected parts that are neither specks nor touch its edges.

    Parts at the edges stay where the others have at most a fifth of the pixels.
    """
    inside = [label for label in labels if not _at_edge(boxes[label - 1], shape)]
    total = sum(areas[label] for label in labels)
    if sum(areas[label] for label in inside) > total / 5:
        labels = inside
    total = sum(areas[label] for label in labels)
    return [label for label in labels if areas[label] >= SPECK * total]


def _at_edge(box: Any, shape: Sequence[int]) -> bool:
    return any(part.start == 0 or part.stop == size for part, size in zip(box, shape, strict=True))


def _are_several(boxes: list[Any]) -> bool:
    """Whether parts stand beside or below each other as only separate digits do."""
    height = max(row.stop for row, _ in boxes) - min(row.start for row, _ in boxes)
    width = max(column.stop for _, column in boxes) - min(column.start for _, column in boxes)
    tall = [column for row, column in boxes if _span(row) >= 0.6 * height]
    tall.sort(key=lambda column: column.start)
    columns = [column for _, column in boxes]
    if any(a.stop <= b.start and not _is_bridged(a, b, columns) for a, b in pairwise(tall)):
        return True
    wide = [
        row
        for row, column in boxes
        if _span(row) >= 0.3 * height
        and _span(column) >= 0.4 * width
        and _span(row) <= 2.5 * _span(column)
    ]
    wide.sort(key=lambda row: row.start)
    return height > 1.8 * width and any(a.stop <= b.start for a, b in pairwise(wide))


def _span(extent: slice) -> int:
    return int(extent.stop - extent.start)


def _is_bridged(left: slice, right: slice, columns: list[slice]) -> bool:
    """Whether a part reaches from the left one to the right one, as in a digit made of dots."""
    return any(part.start <= left.stop and part.stop >= right.start for part in columns)


def _grown(marked: Tensor) -> Tensor:
    """The marked pixels (n, H, W) and their neighbours, which hold the faint edges of strokes."""
    wide = marked.clone()
    wide[:, :, 1:] |= marked[:, :, :-1]
    wide[:, :, :-1] |= marked[:, :, 1:]
    grown = wide.clone()
    grown[:, 1:] |= wide[:, :-1]
    grown[:, :-1] |= wide[:, 1:]
    return grown


def ends(marked: Tensor) -> tuple[Tensor, Tensor]:
    """The first and the last marked position in each row (n, size)."""
    marked = marked.byte()
    return marked.argmax(1), marked.shape[1] - 1 - marked.flip(1).argmax(1)
