"""Candidate cuts through connected ink: seams from top to bottom that cross little of it."""

from __future__ import annotations

import numpy as np

from .page import Array

WORKING_HEIGHT = 24  # pixels; seams are looked for on digits reduced to about this height
RISE = 0.05  # of the digits' height; beside a seam, others cross so much more ink
THROUGH = 0.45  # of the digits' height; a seam through more ink than this is no candidate
STRAIGHT = 0.8  # of the digits' height; the same for straight cuts along two joined strokes
SLOPES = np.linspace(-0.5, 0.5, 11)  # columns per row; straight cuts are slanted as writing is
UPRIGHT = 0.07  # of the most ink; price of a cut that is one column per row off the upright
ALIKE = 0.08  # of the digits' height; seams that are nearer than this on average are one
ROWS = (0.25, 0.5, 0.75)  # of a part's height; gaps between its strokes are looked for there
STEP = 0.02  # cost of a step to the side, in pixels of ink
ACROSS = 0.3  # more of it within ink: strokes are rather cut from top to bottom


def seams(ink: Array, height: float) -> Array:
    """Candidate seams through a part's ink (H, W): the column (n, H) left of which each row is cut.

    They pass the gaps between strokes, or where a part is low, as where two rounds touch. Through
    each gap, one is straight: two uprights may be joined for most of their length. `height` is that
    of the digits, in pixels. Seams do not cross each other.
    """
    fine = max(1, round(height / WORKING_HEIGHT))
    if fine > 1:
        return _enlarged(seams(_reduced(ink, fine), height / fine), fine, ink.shape)
    solid = ink > 0.5
    filled = np.logical_or.accumulate(solid) & np.logical_or.accumulate(solid[::-1])[::-1]
    ways = _Ways(ink)
    rows = {round(share * (len(ink) - 1)) for share in ROWS}
    gaps = [(row, column) for row in rows for column in _gaps(solid[row], ways.total[row])]
    found = [ways.through(*gap, THROUGH * height) for gap in gaps]
    ways, middle = _Ways(filled.astype(ink.dtype)), len(ink) // 2
    low = [(middle, place) for place in _valleys(ways.total[middle].tolist(), RISE * height)]
    found += [ways.through(*valley, THROUGH * height) for valley in low]
    found += [_straight(ink, *place, STRAIGHT * height) for place in gaps + low]
    paths = np.array([path for path in found if path is not None], np.intp).reshape(-1, len(ink))
    paths = np.maximum.accumulate(paths[paths.mean(1).argsort(kind="stable")], 0)
    kept: list[Array] = []
    for path in paths:
        if not kept or (path - kept[-1]).mean() >= ALIKE * height:
            kept.append(path)
    return np.array(kept, np.intp).reshape(len(kept), len(ink))


def _reduced(ink: Array, factor: int) -> Array:
    """Ink (H, W), averaged over squares of this side; what lies beyond it is paper."""
    rows, columns = (-(-side // factor) for side in ink.shape)
    whole = np.zeros((rows * factor, columns * factor), ink.dtype)
    whole[: ink.shape[0], : ink.shape[1]] = ink
    return whole.reshape(rows, factor, columns, factor).mean((1, 3))


def _enlarged(paths: Array, factor: int, shape: tuple[int, ...]) -> Array:
    """Seams of a reduced part, through the middles of its pixels."""
    paths = paths.repeat(factor, 1)[:, : shape[0]] * factor + factor // 2
    return paths.clip(max=shape[1] - 1)


class _Ways:
    """The cheapest ways from the top to the bottom of a part's ink through each of its pixels."""

    def __init__(self, ink: Array) -> None:
        down, self.above = _cheapest(ink)
        up, self.below = _cheapest(ink[::-1])
        self.total = down + up[::-1] - ink

    def through(self, row: int, column: int, most: float) -> Array | None:
        """The columns of the way through a pixel; None if it crosses more ink than `most`."""
        if self.total[row, column] > most:
            return None
        above = _followed(self.above, row, column)
        below = _followed(self.below, len(self.below) - 1 - row, column)
        return np.array(above[::-1] + below[1:])


def _straight(ink: Array, row: int, column: int, most: float) -> Array | None:
    """The columns of the straight cut through a pixel that crosses least; None if over `most`."""
    down = np.arange(len(ink))
    columns = np.rint(column + SLOPES[:, None] * (down - row)).astype(np.intp)
    inside = (columns >= 0) & (columns < ink.shape[1])
    columns = columns.clip(0, ink.shape[1] - 1)
    crossed = (ink[down, columns] * inside).sum(1)
    best = (crossed + UPRIGHT * most * np.abs(SLOPES)).argmin()
    return columns[best] if crossed[best] <= most else None


def _gaps(solid: Array, total: Array) -> list[int]:
    """The middles of the cheapest places of each gap between ink in a row."""
    ends = np.diff(np.concatenate(([0], solid, [0])))
    starts, stops = np.flatnonzero(ends == -1)[:-1], np.flatnonzero(ends == 1)[1:]
    places = []
    for start, stop in zip(starts, stops, strict=True):
        gap = total[start:stop]
        cheapest = np.flatnonzero(gap <= gap.min() + 0.2)
        places.append(int(start + cheapest[len(cheapest) // 2]))
    return places


def _followed(steps: Array, row: int, column: int) -> list[int]:
    """The columns of a cheapest way, from this pixel to the first row."""
    way = [column]
    for above in range(row, 0, -1):
        column += int(steps[above, column])
        way.append(column)
    return way


def _cheapest(ink: Array) -> tuple[Array, Array]:
    """Cost of the cheapest way from the first row to each pixel, and the step back along it."""
    width = ink.shape[1]
    total, steps = np.full((len(ink), width + 2), np.inf, ink.dtype), np.zeros(ink.shape, np.int8)
    total[0, 1:-1] = ink[0]
    aside = STEP + ACROSS * ink
    for row in range(1, len(ink)):
        straight, left, right = (total[row - 1, x : x + width] for x in (1, 0, 2))
        best = np.minimum(left, right) + aside[row]
        steps[row] = np.where(left < right, -1, 1) * (best < straight)
        total[row, 1:-1] = ink[row] + np.minimum(straight, best)
    return total[:, 1:-1], steps


def _valleys(values: list[float], rise: float) -> list[int]:
    """Places of the lowest values between two that are higher by at least `rise`."""
    places: list[int] = []
    is_down, high, low, first, last = False, values[0], 0.0, 0, 0
    for place, value in enumerate(values):
        if not is_down:
            high = max(high, value)
            if value < high - rise:
                is_down, low, first, last = True, value, place, place
        elif value < low - 1e-4:
            low, first, last = value, place, place
        elif value <= low + 1e-4 and place == last + 1:
            last = place
        elif value > low + rise:
            places.append((first + last) // 2)
            is_down, high = False, value
    return places
