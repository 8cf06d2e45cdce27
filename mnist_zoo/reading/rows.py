"""Sorting the parts of a page into rows."""

from __future__ import annotations

import math

import numpy as np

from .page import Array
from .parts import Part

SLANT = 0.15  # steepest slope of a row: about 8.5°


def row_slope(parts: list[Part], height: float) -> float:
    """How far rows go down per pixel to the right, found from the parts' middles."""
    if len(parts) < 2:
        return 0.0
    x, y = (np.array([part.centre[axis] for part in parts]) for axis in (0, 1))
    slopes = np.linspace(-SLANT, SLANT, 61)
    spread = np.array([_spread(y - slope * x, height) for slope in slopes])
    # of slopes about as good, the flattest
    cost = spread + 0.02 * height * np.abs(slopes) / SLANT
    return float(slopes[cost.argmin()])


def _spread(middles: Array, height: float) -> float:
    """Mean distance of middles from that of their row, where gaps part the rows."""
    middles = np.sort(middles)
    row = np.concatenate(([0], (np.diff(middles) > 0.4 * height).cumsum()))
    means = np.bincount(row, middles) / np.bincount(row)
    # a long chain of middles that drift is one row here, and so costs much
    return float(np.abs(middles - means[row]).mean()) + 0.01 * height * row[-1]


def sort_rows(
    parts: list[Part], height: float, slope: float, count: int | None
) -> list[list[Part]]:
    """The parts of each row, from the top, left to right; `count` is their number if known."""
    if not parts:
        return []
    level = [part.centre[1] - slope * part.centre[0] for part in parts]
    order = sorted(range(len(parts)), key=level.__getitem__)
    gaps = [level[b] - level[a] for a, b in zip(order, order[1:], strict=False)]
    if count is None:
        ends = [place for place, gap in enumerate(gaps, 1) if gap > 0.45 * height]
    else:
        widest = sorted(range(len(gaps)), key=gaps.__getitem__, reverse=True)[: count - 1]
        ends = sorted(place + 1 for place in widest)
    rows = [
        [parts[place] for place in order[start:end]]
        for start, end in zip([0, *ends], [*ends, len(order)], strict=True)
    ]
    return [sorted(row, key=lambda part: part.centre[0]) for row in rows]


def level_of(row: list[Part], slope: float) -> float:
    """The row's middle at column 0."""
    return math.fsum(part.centre[1] - slope * part.centre[0] for part in row) / len(row)
