"""Taking the lines of ruled and squared paper out of ink."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from .paper import Map, Mask

STEEPEST = 8.0  # degrees; lines are at most this far from level or upright
STEP = 0.5  # degrees
SEARCH_SIDE = 128  # pixels; lines are looked for on a map of about this size
SMALLEST = 64  # pixels; on a smaller map a stroke is as thin as a line
COVERED = 0.6  # of a line's length is ink
THICKEST = 0.045  # of the map's longer side


def without_lines(ink: Map, threshold: float) -> tuple[Map, int]:
    """Ink (H, W) without thin straight lines that cross the whole map; how many there were.

    Strokes that cross a line stay: ink on both of its sides, or ink much stronger than the line.
    """
    count = 0
    if min(ink.shape) < SMALLEST:
        return ink, 0
    for turned in (False, True):
        found, lines = _without_level_lines(ink.T if turned else ink, threshold)
        ink = found.T if turned else found
        count += lines
    return ink, count


def _without_level_lines(ink: Map, threshold: float) -> tuple[Map, int]:
    import numpy as np

    is_ink = ink > threshold
    if is_ink.any(0).mean() < COVERED:
        return ink, 0
    tilt, score = _tilt(is_ink)
    if score < COVERED:
        return ink, 0
    rows = _sheared_rows(ink.shape, tilt)
    columns = np.arange(ink.shape[1])
    height = ink.shape[0]
    inside = (rows >= 0) & (rows < height)
    level = np.where(inside, ink[rows.clip(0, height - 1), columns], 0)
    cleaned, count = _without_rows(level, inside, threshold)
    if not count:
        return ink, 0
    result = ink.copy()
    result[rows[inside], np.broadcast_to(columns, rows.shape)[inside]] = cleaned[inside]
    return result, count


def _sheared_rows(shape: tuple[int, ...], tilt: float) -> np.ndarray[Any, Any]:
    """Row numbers that turn lines of this tilt level; more rows than the map has."""
    import numpy as np

    height, width = shape
    drop = np.rint(tilt * (np.arange(width) - width / 2)).astype(int)
    beyond = int(np.abs(drop).max(initial=0))
    return np.arange(-beyond, height + beyond)[:, None] + drop


def _tilt(is_ink: Mask) -> tuple[float, float]:
    """The slope along which rows of ink are fullest, and how full the fullest row is."""
    import numpy as np

    step = max(1, max(is_ink.shape) // SEARCH_SIDE)
    height, width = (side // step for side in is_ink.shape)
    blocks = is_ink[: height * step, : width * step].reshape(height, step, width, step)
    small: Mask = np.asarray(blocks.any((1, 3)))
    slopes = np.tan(np.deg2rad(np.arange(-STEEPEST, STEEPEST + STEP / 2, STEP)))
    drop = np.rint(slopes[:, None] * (np.arange(width) - width / 2)).astype(int)
    rows = np.arange(height)[None, :, None] + drop[:, None]
    inside = (rows >= 0) & (rows < height)
    seen = small[rows.clip(0, height - 1), np.arange(width)] & inside
    share = seen.sum(2) / np.maximum(inside.sum(2), width / 2)
    # sharp rows, not wide ones: strokes and shadows are thick
    sharp = share - np.minimum(np.roll(share, 3, 1), np.roll(share, -3, 1))
    best = int((np.sort(sharp, 1)[:, -3:]).mean(1).argmax())
    return float(slopes[best]), float(share[best].max())


def _without_rows(level: Map, inside: np.ndarray[Any, Any], threshold: float) -> tuple[Map, int]:
    """A map without its thin rows of ink that reach from side to side."""
    import numpy as np
    from scipy import ndimage

    is_ink = level > threshold
    # a line may waver by a pixel
    near = ndimage.maximum_filter1d(is_ink.view(np.uint8), 3, axis=0).astype(bool)
    length = np.maximum(inside.sum(1), level.shape[1] / 2)
    share = (near & inside).sum(1) / length
    labels, _ = ndimage.label(share > COVERED)
    thickest = max(4.0, THICKEST * max(level.shape)) + 2
    marked = np.zeros(len(level), dtype=bool)
    lines = 0
    for (rows,) in ndimage.find_objects(labels):
        if rows.stop - rows.start <= thickest and _reaches(near[rows].any(0), inside[rows].any(0)):
            marked[rows] = True
            lines += 1
    if not lines:
        return level, 0
    rest = np.where(marked[:, None], 0, level)
    thick = max(rows.stop - rows.start for (rows,) in ndimage.find_objects(labels))
    bridged = ndimage.grey_closing(rest, (int(min(thick, thickest)) + 3, 1))
    strong = np.quantile(level[is_ink], 0.95)
    usual = np.quantile(level[marked], 0.85)
    kept = np.where(level > (strong + usual) / 2, level, 0) if strong > 1.5 * usual else 0
    return np.where(marked[:, None], np.maximum(np.minimum(level, bridged), kept), level), lines


def _reaches(covered: np.ndarray[Any, Any], inside: np.ndarray[Any, Any]) -> bool:
    """Whether a line's ink begins and ends near both ends of the map."""
    import numpy as np

    places = np.flatnonzero(inside)
    near = max(2, len(places) // 64)
    return bool(covered[places[:near]].any() and covered[places[-near:]].any())
