"""Taking the lines of ruled and squared paper out of ink."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .paper import Map, Mask, Numbers

STEEPEST = 8.0  # degrees; lines are at most this far from level or upright
TURNS = 16  # tilts to each side that are tried first
SEARCH_SIDE = 128  # pixels; lines are looked for on a map of about this size
LOWEST = 8  # pixels; and of at least this height
SHORTEST = 24  # pixels
SMALLEST = 64  # pixels; a shorter line may be a stroke
FEWEST = 2  # of them are lines
COVERED = 0.6  # of a line's length is ink
THICKEST = 0.045  # of the map's longer side


def without_lines(ink: Map, threshold: float, shortest: int = SHORTEST) -> tuple[Map, int]:
    """Ink (H, W) without thin straight lines that cross the whole map; how many there were.

    Strokes that cross a line stay: ink on both of its sides, or ink much stronger than the line.
    Maps with sides below `shortest` keep the lines along these.
    """
    count, result = 0, ink
    for turned in (False, True):  # both on the whole ink: lines of one way cross those of the other
        length = ink.shape[0 if turned else 1]
        if length < shortest:
            continue
        before = (ink.T, result.T) if turned else (ink, result)
        found, lines = _without_level_lines(*before, threshold)
        if lines >= (FEWEST if length < SMALLEST else 1):
            result = found.T if turned else found
            count += lines
    return result, count


def _without_level_lines(ink: Map, left: Map, threshold: float) -> tuple[Map, int]:
    """What is `left` of some ink, without the ink's level lines; and their number."""
    import numpy as np

    is_ink = ink > threshold
    if is_ink.any(0).mean() < COVERED:
        return left, 0
    tilt, score = _tilt(is_ink)
    if score < COVERED:
        return left, 0
    rows = _sheared_rows(ink.shape, tilt)
    columns = np.arange(ink.shape[1])
    height = ink.shape[0]
    inside = (rows >= 0) & (rows < height)
    level, rest = (np.where(inside, it[rows.clip(0, height - 1), columns], 0) for it in (ink, left))
    marked, count = _lines(level, inside, threshold)
    if not count:
        return left, 0
    cleaned = _without_rows(level, rest, marked, threshold)
    result = left.copy()
    result[rows[inside], np.broadcast_to(columns, rows.shape)[inside]] = cleaned[inside]
    return result, count


def _sheared_rows(shape: tuple[int, ...], tilt: float) -> Numbers:
    """Row numbers that turn lines of this tilt level; more rows than the map has."""
    import numpy as np

    height, width = shape
    drop = np.rint(tilt * (np.arange(width) - width / 2)).astype(int)
    beyond = int(np.abs(drop).max(initial=0))
    return np.arange(-beyond, height + beyond)[:, None] + drop


def _tilt(is_ink: Mask) -> tuple[float, float]:
    """The slope along which rows of ink are fullest, and how full the fullest row is."""
    import numpy as np

    height, width = is_ink.shape
    largest = min(max(is_ink.shape), 2 * width, height * SEARCH_SIDE // LOWEST)
    step = max(1, largest // SEARCH_SIDE)
    height, width = (side // step for side in is_ink.shape)
    blocks = is_ink[: height * step, : width * step].reshape(height, step, width, step)
    small: Mask = np.asarray(blocks.any((1, 3)))
    # a steeper line is on the map for too little of its width
    steepest = min(STEEPEST, math.degrees(math.atan(height / (COVERED * width / 2))))
    angles = np.linspace(-steepest, steepest, 1 + 2 * TURNS)
    slopes = np.tan(np.deg2rad(angles[np.abs(angles).argsort()]))  # of the best, the flattest
    columns = np.arange(width)
    inside = _lengths(_drops(slopes, columns, width), height)
    share = _counts_along(small, slopes, columns) / np.maximum(inside, width / 2)
    # sharp rows, not wide ones: strokes and shadows are thick
    sharp = share - np.minimum(np.roll(share, 3, 1), np.roll(share, -3, 1))
    best = int((np.sort(sharp, 1)[:, -3:]).mean(1).argmax())
    slope = _refined(is_ink, float(slopes[best]), math.radians(steepest / TURNS), step)
    return slope, float(share[best].max())


def _refined(is_ink: Mask, slope: float, turn: float, step: int) -> float:
    """A slope that was found in turns of this size on a map smaller by `step`, in finer steps."""
    import numpy as np

    columns = np.arange(0, is_ink.shape[1], step)
    slopes = slope + turn * np.linspace(-0.75, 0.75, 1 + 4 * min(step, 8))
    seen = _counts_along(is_ink, slopes, columns)
    full = np.sort(seen, 1)[:, -3 * step :].sum(1)
    near = np.abs(slopes - slope)  # of slopes that are as good, the nearest
    return float(slopes[np.lexsort((near, -full))[0]])


def _counts_along(is_ink: Mask, slopes: Numbers, columns: Numbers) -> Numbers:
    """How many of these columns are ink along each line: one for each slope and row."""
    import numpy as np

    height, width = is_ink.shape
    y, at = is_ink[:, columns].nonzero()  # most pixels are paper, which need not be looked at
    rows = y - _drops(slopes, columns, width)[:, at]
    line = rows + height * np.arange(len(slopes))[:, None]
    counts = np.bincount(line[(rows >= 0) & (rows < height)], minlength=len(slopes) * height)
    return counts.reshape(len(slopes), height)


def _lengths(drops: Numbers, height: int) -> Numbers:
    """How many columns of each line are on a map of this height: one for each slope and row."""
    import numpy as np

    rows = np.arange(height)
    starts, ends = np.sort(-drops, 1), np.sort(height - drops, 1)
    return np.array(
        [
            np.searchsorted(start, rows, "right") - np.searchsorted(end, rows, "right")
            for start, end in zip(starts, ends, strict=True)
        ]
    )


def _drops(slopes: Numbers, columns: Numbers, width: int) -> Numbers:
    """By how many rows lines of these slopes are lower at these columns than in the middle."""
    import numpy as np

    return np.rint(slopes[:, None] * (columns - width / 2)).astype(int)


def _lines(level: Map, inside: Mask, threshold: float) -> tuple[Mask, int]:
    """Which rows of a map (H, W) are thin lines of ink from side to side; and how many lines."""
    import numpy as np
    from scipy import ndimage

    # a line may waver by a pixel
    near = ndimage.maximum_filter1d((level > threshold).view(np.uint8), 3, axis=0).astype(bool)
    length = np.maximum(inside.sum(1), level.shape[1] / 2)
    share = (near & inside).sum(1) / length
    labels, _ = ndimage.label(share > COVERED)
    marked = np.zeros(len(level), dtype=bool)
    lines = 0
    for (rows,) in ndimage.find_objects(labels):
        is_thin = rows.stop - rows.start <= _thickest(level)
        if is_thin and _reaches(near[rows].any(0), inside[rows].any(0)):
            marked[rows] = True
            lines += 1
    return marked, lines


def _thickest(level: Map) -> float:
    return max(4.0, THICKEST * max(level.shape)) + 2


def _without_rows(level: Map, left: Map, marked: Mask, threshold: float) -> Map:
    """What is `left` of a level map of ink, without its marked rows."""
    import numpy as np
    from scipy import ndimage

    rest = np.where(marked[:, None], 0, left)
    labels, _ = ndimage.label(marked)
    thick = max(rows.stop - rows.start for (rows,) in ndimage.find_objects(labels))
    bridged = ndimage.grey_closing(rest, (int(thick) + 3, 1))
    strong = np.quantile(level[level > threshold], 0.95)
    on_lines = level[marked]
    usual = np.median(on_lines[on_lines > threshold])
    kept = np.where(left > (strong + usual) / 2, left, 0) if strong > 1.5 * usual else 0
    return np.where(marked[:, None], np.maximum(np.minimum(left, bridged), kept), left)


def _reaches(covered: Numbers, inside: Numbers) -> bool:
    """Whether a line's ink begins and ends near both ends of the map."""
    import numpy as np

    places = np.flatnonzero(inside)
    near = max(2, len(places) // 64)
    return bool(covered[places[:near]].any() and covered[places[-near:]].any())
