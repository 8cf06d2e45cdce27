"""What a page shows: its rows of parts that may be digits, and the marks that are none."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..pictures.parts import Part
from ..pictures.reading import PictureError
from .page import MOST, Array, box_of, see_page
from .result import Mark

CRUMB = 0.1  # of the digits' height; smaller parts are noise
DOT = 0.25  # of the digits' height; smaller parts are dots, or crumbs of digits
FLAT = 0.35  # of the digits' height; a wide part that is lower is a dash
BESIDE = 0.2  # of the digits' height; the bar of a 5 is at most so far from its body
THIN = 0.25  # of its width; a line is lower than this, and LONG
LONG = 2.0  # of the digits' height
TALL = 0.5  # of the digits' height; parts of this size make the rows, the others join them
NEAR = 0.9  # of the digits' height; a small part that is farther from every row is a speck
SLANT = 0.15  # steepest slope of a row: about 8.5°
APART = 0.45  # of the digits' height; rows' middles are at least so far apart
CLOSE = 0.4  # of the digits' height; the same where the number of rows is known
UNEVEN = 0.8  # of the digits' height; then the gaps within rows are narrower than this


@dataclass(frozen=True)
class Layout:
    """The parts of each row, from the top, left to right; and how to find their ink."""

    ink: Array
    labels: Array
    rows: list[list[Part]]
    marks: list[Mark]
    height: float  # of the digits, in pixels


def lay_out(grey: Array, count: int | None = None) -> Layout:
    """Finds the rows on a page (H, W) in 0…255: as many as `count`, where it shows so many."""
    page = see_page(grey)
    parts, marks = page.parts, [Mark(box, "box or grid") for box in page.frames]
    if not parts:
        return Layout(page.ink, page.labels, [], marks, 1.0)
    height = _usual_height(parts)
    if page.unseen >= TALL * height:
        raise PictureError(f"shows more than {MOST} digits or marks; cut it up")
    parts = [part for part in parts if part.side >= CRUMB * height]
    lines = [part for part in parts if _is_line(part, height)]
    marks += [Mark(box_of(line), "line") for line in lines]
    parts = [part for part in parts if part not in lines]
    dashes = [part for part in parts if _is_dash(part, parts, height)]
    marks += [Mark(box_of(dash), "minus sign or dash") for dash in dashes]
    tall = [part for part in parts if part.height >= TALL * height and part not in dashes]
    slope = _slope(tall, height)
    rows = _rows(tall, height, slope, count)
    small = [part for part in parts if part not in tall and part not in dashes]
    marks += _joined(small, rows, height, slope)
    rows = [sorted(row, key=lambda part: sum(box_of(part)[::2])) for row in rows]
    return Layout(page.ink, page.labels, rows, marks, height)


def _usual_height(parts: list[Part]) -> float:
    """The height of the digits: the median over their parts, the larger ones counting more."""
    heights = np.array([max(part.height, part.width / 2) for part in parts], float)
    heights = np.sort(heights[heights >= 0.2 * heights.max()])
    weights = heights.cumsum()
    return float(heights[np.searchsorted(weights, weights[-1] / 2)])


def _centre(part: Part) -> tuple[float, float]:
    """Column and row of the middle of a part's box."""
    left, top, right, bottom = box_of(part)
    return (left + right) / 2, (top + bottom) / 2


def _level(part: Part, slope: float) -> float:
    """Row of the middle of a part, where rows of this slope meet column 0."""
    x, y = _centre(part)
    return y - slope * x


def _overlap(one: Part, other: Part) -> int:
    """The number of columns that both boxes have."""
    (_, a), (_, b) = one.box, other.box
    return int(min(a.stop, b.stop) - max(a.start, b.start))


def _is_line(part: Part, height: float) -> bool:
    """Whether a part is a rule, rather than a dash or joined digits."""
    return part.width > LONG * height and (
        part.height < THIN * height or part.area < 0.12 * part.width * height
    )


def _is_dash(part: Part, parts: list[Part], height: float) -> bool:
    """Whether a part is flat and stands alone, unlike the bar of a 5 above or beside its body."""
    if part.height > FLAT * height or part.width < max(DOT * height, 1.8 * part.height):
        return False
    return not any(
        _is_over(part, other, height) or _is_bar_of(part, other, height)
        for other in parts
        if other is not part and other.height > part.height
    )


def _is_over(part: Part, other: Part, height: float) -> bool:
    """Whether a flat part is close above or below another, or in it."""
    return (
        _overlap(other, part) > 0.25 * part.width
        and other.box[0].start - 0.4 * height < part.box[0].stop
        and part.box[0].start < other.box[0].stop + 0.4 * height
    )


def _is_bar_of(part: Part, other: Part, height: float) -> bool:
    """Whether a flat part is close to the right of another's top, as a 5's bar may be."""
    gap = part.box[1].start - other.box[1].stop
    return (
        abs(gap) < BESIDE * height
        and part.box[0].stop > other.box[0].start - BESIDE * height
        and _centre(part)[1] < other.box[0].start + 0.35 * other.height
    )


def _slope(parts: list[Part], height: float) -> float:
    """How far rows go down per pixel to the right, found from the parts' middles."""
    if len(parts) < 2:
        return 0.0
    x, y = (np.array([_centre(part)[axis] for part in parts]) for axis in (0, 1))
    slopes = np.linspace(-SLANT, SLANT, 61)
    spread = np.array([_spread(y - slope * x, height) for slope in slopes])
    # of slopes about as good, the flattest
    return float(slopes[(spread + 0.05 * height * np.abs(slopes) / SLANT).argmin()])


def _spread(middles: Array, height: float) -> float:
    """Mean distance of middles from that of their row, and a price for each further row."""
    middles = np.sort(middles)
    row = np.concatenate(([0], (np.diff(middles) > APART * height).cumsum()))
    means = np.bincount(row, middles) / np.bincount(row)
    return float(np.abs(middles - means[row]).mean()) + 0.1 * height * float(row[-1])


def _rows(parts: list[Part], height: float, slope: float, count: int | None) -> list[list[Part]]:
    """The parts of each row, from the top; parted by wide gaps.

    With `count`, these are the widest `count` - 1, if each is wider than `CLOSE` and no other as
    wide as `UNEVEN`.
    """
    if not parts:
        return []
    parts = sorted(parts, key=lambda part: _level(part, slope))
    gaps = np.diff([_level(part, slope) for part in parts])
    ends = np.flatnonzero(gaps > APART * height) + 1
    if count is not None:
        widest = np.argsort(-gaps, kind="stable")
        cut, left = gaps[widest[: count - 1]], gaps[widest[count - 1 :]]
        if (cut > CLOSE * height).all() and (left < UNEVEN * height).all():
            ends = np.sort(widest[: count - 1]) + 1
    return [parts[a:b] for a, b in zip([0, *ends], [*ends, len(parts)], strict=True)]


def _joined(small: list[Part], rows: list[list[Part]], height: float, slope: float) -> list[Mark]:
    """Adds small parts to the rows they are in; gives back those of no digit, as marks."""
    levels = [math.fsum(_level(part, slope) for part in row) / len(row) for row in rows]
    digits = [list(row) for row in rows]
    marks = []
    for part in small:
        below = [_level(part, slope) - level for level in levels]
        at = min(range(len(rows)), key=lambda row: abs(below[row]), default=None)
        if at is None or abs(below[at]) > NEAR * height:
            marks.append(Mark(box_of(part), "speck"))
        elif _is_alone(part, digits[at], height):
            is_low = below[at] > 0.2 * height
            marks.append(Mark(box_of(part), "decimal point or comma" if is_low else "speck"))
        else:
            rows[at].append(part)
    return marks


def _is_alone(part: Part, digits: list[Part], height: float) -> bool:
    """Whether a small part is a dot rather than a crumb of a digit beside, above or below it."""
    return part.side < DOT * height and not any(_overlap(digit, part) > 0 for digit in digits)
