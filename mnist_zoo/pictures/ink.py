"""Finding the ink of one digit on even paper, on many images at once.

What is not clear there is for `photos`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .choosing import NEAR, SPECK, are_several, count_digits, distance
from .parts import BOLDEST, outline

if TYPE_CHECKING:
    from .paper import Mask, Numbers

FAINT = 5.0  # of 255; an image with less contrast is empty
TINY = 24  # pixels; images with a shorter side are taken to have even paper
LINKED = 0.2  # connected pixels with more ink than this form a part
FULL = 0.6  # of a box's pixels; a part that fills more of its box may be a sheet
ROUND = 0.78  # of the tightest rectangle around its outline; a disc fills more
SHEET = 0.9  # of the box of a sheet, at least, where it stands upright
HELD = 0.2  # of a box's longer side; a part with others of this size in its box may be a frame
ALIKE = 0.5  # of the longest part; another one as long may be a digit of its own
SHADOW = 0.45  # of a box's outline; a shadow has more of it at the image's edges, no digit has
TOUCHING = 0.2  # of a box's outline; a part with more of it at the image's edges may be a shadow
OUTSIDE = 0.5  # of the digit's pixels; more of them at the edges, beside the digit, are no trifle
EMPTY = "must show a digit; it is empty"
SEVERAL = "must show one digit; it shows several ({} seen), which read_digits reads"
SPECKS = "must show one digit; it shows small specks only"


def find_on_even_paper(grey: Tensor) -> tuple[Tensor, Tensor, dict[int, str]]:
    """Finds the ink of the digit on each image (n, H, W) of numbers in 0…255.

    Returns:
        The ink (n, H, W), from 0 on paper to 1 in strokes; which images are clear, (n,): even
        paper with nothing on it, or the strokes of one digit; and what is wrong with each image
        that does not show exactly one digit, by its index.
    """
    values = grey.flatten(1)
    contrast = values.amax(1) - values.amin(1)  # aminmax takes several times as long
    faint = {int(row): EMPTY for row in (contrast < FAINT).nonzero().squeeze(1)}
    ink, is_even = _ink(grey)
    ink, is_clear, problems = _one_digit(ink, is_even)
    is_clear[list(faint)] = True
    if min(grey.shape[1:]) < TINY:
        is_clear[:] = True
    return ink, is_clear, problems | faint


def _border(grey: Tensor) -> Tensor:
    """The outermost pixels (n, 2·H + 2·W) of images (n, H, W)."""
    return torch.cat((grey[:, 0], grey[:, -1], grey[:, :, 0], grey[:, :, -1]), 1)


def _ink(grey: Tensor) -> tuple[Tensor, Tensor]:
    """The ink (n, H, W), 0 on paper, 1 in strokes; and which images have even paper."""
    border = _border(grey)
    paper = border.median(1, keepdim=True).values
    is_even = (border - paper).abs().le(2).float().mean(1) >= 0.5
    change = grey - paper[:, :, None]
    # strokes change little of the image, but much: cubed, they outweigh the rest
    ink = change * change.pow(3).mean((1, 2), keepdim=True).sign()
    return _stretched_ink(ink.clamp(min=0)), is_even


def _stretched_ink(ink: Tensor) -> Tensor:
    """Ink (n, H, W), rescaled so that the paper's noise becomes 0 and the strokes become 1.

    Strokes must stand out by `FAINT`. Otherwise the image gets no ink at all.
    """
    values = ink.flatten(1)
    most = values.amax(1, keepdim=True)
    is_ink = values > most * _otsu(values / most.clamp(min=1e-12))[:, None]
    level, noise = _level_and_noise(values, ~is_ink)
    high = _median(values, is_ink)
    stands_out = high - level > FAINT
    low = level + 3 * noise
    stretched = ((values - low) / (high - low).clamp(min=1e-3 * most)).clamp(0, 1)
    return torch.where(stands_out, stretched, 0).nan_to_num(0).view_as(ink)


def _level_and_noise(values: Tensor, is_paper: Tensor) -> tuple[Tensor, Tensor]:
    """Median and standard deviation, (n, 1) each, of the paper's pixels in each row (n, size)."""
    level, noise = values.new_zeros(2, len(values), 1)
    # where most of the paper is exactly 0, both are 0
    rest = ((values == 0) & is_paper).sum(1) * 2 <= is_paper.sum(1)
    if rest.any():
        paper, is_paper = values[rest], is_paper[rest]
        level[rest] = _median(paper, is_paper)
        # a normal distribution's standard deviation is 1.4826 times its median absolute deviation
        noise[rest] = 1.4826 * _median((paper - level[rest]).abs(), is_paper)
    return level, noise


def _median(values: Tensor, chosen: Tensor) -> Tensor:
    """The median (n, 1) of the chosen values in each row (n, size); NaN where there are none."""
    if len(values) == 1:  # a tenth of nanmedian's time
        return values[chosen].median().view(1, 1)
    return values.masked_fill(~chosen, math.nan).nanmedian(1, keepdim=True).values


def _otsu(values: Tensor) -> Tensor:
    """The threshold in 0…1 that best separates each row's values into two groups (Otsu 1979)."""
    import numpy as np

    bins = 64
    places = np.rint(values.numpy() * (bins - 1)).astype(int)
    places += bins * np.arange(len(values))[:, None]
    counts = np.bincount(places.ravel(), minlength=bins * len(values)).reshape(-1, bins)
    below = counts.cumsum(1)
    sums = (counts * np.arange(bins)).cumsum(1)
    above = below[:, -1:] - below
    distance = sums / np.maximum(below, 1) - (sums[:, -1:] - sums) / np.maximum(above, 1)
    thresholds = ((below * above * distance**2).argmax(1) + 0.5) / (bins - 1)
    return torch.from_numpy(thresholds).to(values.dtype)


def _one_digit(ink: Tensor, is_even: Tensor) -> tuple[Tensor, Tensor, dict[int, str]]:
    """Ink without specks and what reaches in from the edges; which is clear; problems by index."""
    import numpy as np
    from scipy import ndimage

    touching = np.zeros((3, 3, 3), dtype=bool)
    touching[1] = True  # pixels touch within an image, not across images
    kept = ink.numpy() > LINKED
    rows, columns = (np.flatnonzero(kept.any(axis)) for axis in ((0, 2), (0, 1)))
    labels = np.zeros(kept.shape, np.int32)
    if len(rows):
        place = np.s_[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        labels[place], _ = ndimage.label(kept[place], structure=touching)
    last = np.maximum.accumulate(labels.max((1, 2)))  # labels go on from image to image
    parts = np.diff(last, prepend=0)
    problems = dict.fromkeys(np.flatnonzero(parts == 0).tolist(), EMPTY)
    is_clear = torch.from_numpy(_is_clear(kept) & (parts == 1)) & is_even
    for row in np.flatnonzero((parts > 0) & ~is_clear.numpy()).tolist():
        own = np.maximum(labels[row] - (last[row] - parts[row]), 0)  # 1, 2, … in each image
        boxes, areas = ndimage.find_objects(own), np.bincount(own.ravel())
        chosen = _parts_of_digit(boxes, areas, own.shape, bool(is_even[row]))
        places = [boxes[label - 1] for label in chosen]
        if not chosen:
            problems[row] = SPECKS
        elif are_several(places):
            problems[row] = SEVERAL.format(count_digits(places))
        elif is_even[row]:
            is_clear[row] = (
                _stands_alone(own, chosen, boxes, areas)
                and _are_strokes(places)
                and not any(_is_sheet(own, n, boxes[n - 1], areas[n]) for n in chosen)
            )
        is_chosen = np.zeros(len(areas), dtype=bool)
        is_chosen[chosen] = True
        kept[row] = is_chosen[own]
    return ink * torch.from_numpy(_grown(kept)), is_clear, problems


def stands_free(ink: Tensor) -> bool:
    """Whether ink (H, W) is upright, has room at a side, and is neither a sheet nor a shadow."""
    marked = ink > LINKED
    rows, columns = (marked.any(axis).nonzero().flatten().tolist() for axis in (1, 0))
    if not rows:
        return False
    height, width = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
    has_room = columns[0] > 0 or columns[-1] < ink.shape[1] - 1
    is_shadow = int(_border(marked[None]).sum()) > SHADOW * 2 * (height + width)
    is_sheet = int(marked.sum()) >= SHEET * height * width
    return has_room and width <= height and not (is_shadow or is_sheet)


def is_joined(ink: Tensor) -> bool:
    """Whether ink (H, W) hangs together, as a digit does, and leaves room in its box."""
    import numpy as np
    from scipy import ndimage

    labels, count = ndimage.label(ink.numpy() > LINKED, structure=np.ones((3, 3)))
    return count == 1 and not _fills(ndimage.find_objects(labels)[0], int((labels > 0).sum()))


def _is_clear(kept: Mask) -> Mask:
    """Which marks, arrays (n, H, W), are a single part that is neither a sheet nor a shadow."""
    marked = torch.from_numpy(kept).byte()  # NumPy takes long for many short rows
    (top, bottom), (left, right) = (ends(marked.amax(axis).numpy()) for axis in (2, 1))
    height, width = bottom - top + 1, right - left + 1
    area = kept.sum((1, 2))
    at_edge = _border(torch.from_numpy(kept)).numpy().sum(1)
    clear = (area <= FULL * height * width) | (width < BOLDEST * height)
    return clear & (at_edge <= TOUCHING * 2 * (height + width))


def _stands_alone(labels: Any, chosen: Sequence[int], boxes: Sequence[Any], areas: Any) -> bool:
    """Whether all but the chosen parts are specks, or small at the edges.

    Of the chosen ones, only the largest may touch an edge, and no more than strokes do.
    """
    at_edge = {n for n, box in enumerate(boxes, 1) if _at_edge(box, labels.shape)}
    main = max(chosen, key=lambda label: areas[label])
    others = set(range(1, len(areas))).difference(chosen)
    specks = sum(areas[label] for label in others - at_edge)
    outside = sum(areas[label] for label in others & at_edge)
    if specks > SPECK * sum(areas[1:]) or outside > OUTSIDE * sum(areas[chosen]):
        return False
    edges = (labels[0], labels[-1], labels[:, 0], labels[:, -1])
    contact = sum(int((edge == main).sum()) for edge in edges)
    return at_edge <= others | {main} and contact <= TOUCHING * 2 * sum(map(_span, boxes[main - 1]))


def _are_strokes(boxes: Sequence[Any]) -> bool:
    """Whether parts are strokes of one digit, and clearly so: no digits, no bar, and no frame."""
    main = max(boxes, key=_side)
    for box in boxes:
        farthest = 0 if _side(box) > ALIKE * _side(main) else NEAR * _side(main)
        if box is not main and distance(box, main) >= farthest:
            return False
    return not any(
        all(out.start < own.start and own.stop < out.stop for out, own in zip(a, b, strict=True))
        and _side(b) >= HELD * _side(a)
        for a in boxes
        for b in boxes
    )


def _is_sheet(labels: Any, label: int, box: Any, area: int) -> bool:
    """Whether a part fills its box as a sheet does; thick strokes leave corners."""
    if not _fills(box, area):
        return False
    part = labels[box] == label
    return outline(part, part)[0] > ROUND


def _fills(box: Any, area: int) -> bool:
    height, width = map(_span, box)
    return area > FULL * height * width and width >= BOLDEST * height


def _side(box: Any) -> int:
    return max(map(_span, box))


def _span(extent: slice) -> int:
    return int(extent.stop - extent.start)


def _parts_of_digit(
    boxes: Sequence[Any], areas: Any, shape: Sequence[int], is_even: bool
) -> list[int]:
    """The labels of an image's connected parts that are neither specks nor touch its edges.

    Where that leaves at most a fifth of the pixels, the digit reaches beyond an edge: on even paper
    it is the largest part and those near it, else they all are.
    """
    labels = range(1, len(areas))
    chosen = [label for label in labels if not _at_edge(boxes[label - 1], shape)]
    if sum(areas[chosen]) <= sum(areas[1:]) / 5:
        main = boxes[int(areas[1:].argmax())]
        room = NEAR * _side(main) if is_even else math.inf
        chosen = [label for label in labels if distance(boxes[label - 1], main) < room]
    total = sum(areas[chosen])
    return [label for label in chosen if areas[label] >= SPECK * total]


def _at_edge(box: Any, shape: Sequence[int]) -> bool:
    return any(part.start == 0 or part.stop == size for part, size in zip(box, shape, strict=True))


def _grown(marked: Mask) -> Mask:
    """Marks (n, H, W), and their neighbours, which hold the faint edges of strokes."""
    wide = marked.copy()
    wide[:, :, 1:] |= marked[:, :, :-1]
    wide[:, :, :-1] |= marked[:, :, 1:]
    grown = wide.copy()
    grown[:, 1:] |= wide[:, :-1]
    grown[:, :-1] |= wide[:, 1:]
    return grown


def ends(marked: Numbers) -> tuple[Numbers, Numbers]:
    """The first and the last marked position in each row of an array (n, size)."""
    return marked.argmax(1), marked.shape[1] - 1 - marked[:, ::-1].argmax(1)
