"""What a page shows: its rows of parts that may be digits, and the marks that are none."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .lines import Array
from .page import page_ink
from .parts import Part, find_parts, usual_height, without_frames
from .result import Mark

CRUMB = 0.1  # of the digits' height; smaller parts are noise
DOT = 0.25  # of the digits' height; smaller parts are dots, or crumbs of digits
FLAT = 0.35  # of the digits' height; a wide part that is lower is a dash
THIN = 0.25  # of its width; a line is lower than this, and LONG
LONG = 2.0  # of the digits' height
TALL = 0.5  # of the digits' height; parts of this size make the rows, the others join them
NEAR = 0.9  # of the digits' height; a small part that is farther from every row is a speck
SLANT = 0.15  # steepest slope of a row: about 8.5°
APART = 0.45  # of the digits' height; rows' middles are at least so far apart


@dataclass(frozen=True)
class Layout:
    """The parts of each row, from the top, left to right; and how to find their ink."""

    ink: Array
    labels: Array
    rows: list[list[Part]]
    marks: list[Mark]
    height: float  # of the digits, in pixels


def lay_out(grey: Array, count: int | None = None) -> Layout:
    """Finds the rows on a page (H, W) in 0…255; `count` is their number, if known."""
    ink, frames = without_frames(page_ink(grey))
    labels, parts = find_parts(ink)
    marks = [Mark(box, "box or grid") for box in frames]
    if not parts:
        return Layout(ink, labels, [], marks, 1.0)
    height = usual_height(parts)
    parts = [part for part in parts if part.size >= CRUMB * height]
    lines = [part for part in parts if _is_line(part, height)]
    marks += [Mark(line.box, "line") for line in lines]
    parts = [part for part in parts if part not in lines]
    dashes = [part for part in parts if _is_dash(part, parts, height)]
    marks += [Mark(dash.box, "minus sign or dash") for dash in dashes]
    tall = [part for part in parts if part.size >= TALL * height and part not in dashes]
    slope = _slope(tall, height)
    rows = _rows(tall, height, slope, count)
    small = [part for part in parts if part.size < TALL * height and part not in dashes]
    marks += _joined(small, rows, height, slope)
    return Layout(ink, labels, [sorted(row, key=Part.middle) for row in rows], marks, height)


def _is_line(part: Part, height: float) -> bool:
    """Whether a part is a rule, rather than a dash or joined digits."""
    return part.width > LONG * height and (
        part.height < THIN * height or part.area < 0.12 * part.width * height
    )


def _is_dash(part: Part, parts: list[Part], height: float) -> bool:
    """Whether a part is flat and stands alone, unlike the bar of a 5 above its body."""
    if part.height > FLAT * height or part.width < max(DOT * height, 1.8 * part.height):
        return False
    return not any(
        other.height > part.height
        and other.overlap(part) > 0.25 * part.width
        and other.box[1] - 0.4 * height < part.box[3]
        and part.box[1] < other.box[3] + 0.4 * height
        for other in parts
        if other is not part
    )


def _slope(parts: list[Part], height: float) -> float:
    """How far rows go down per pixel to the right, found from the parts' middles."""
    if len(parts) < 2:
        return 0.0
    x, y = (np.array([part.centre[axis] for part in parts]) for axis in (0, 1))
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
    """The parts of each row, from the top; parted by wide gaps, or by the widest `count` - 1."""
    if not parts:
        return []
    parts = sorted(parts, key=lambda part: part.level(slope))
    gaps = np.diff([part.level(slope) for part in parts])
    if count is None:
        ends = np.flatnonzero(gaps > APART * height) + 1
    else:
        ends = np.sort(np.argsort(-gaps, kind="stable")[: count - 1]) + 1
    return [parts[a:b] for a, b in zip([0, *ends], [*ends, len(parts)], strict=True)]


def _joined(small: list[Part], rows: list[list[Part]], height: float, slope: float) -> list[Mark]:
    """Adds small parts to the rows they are in; gives back those of no digit, as marks."""
    levels = [math.fsum(part.level(slope) for part in row) / len(row) for row in rows]
    digits = [list(row) for row in rows]
    marks = []
    for part in small:
        below = [part.level(slope) - level for level in levels]
        at = min(range(len(rows)), key=lambda row: abs(below[row]), default=None)
        if at is None or abs(below[at]) > NEAR * height:
            marks.append(Mark(part.box, "speck"))
        elif _is_alone(part, digits[at], height):
            is_low = below[at] > 0.2 * height
            marks.append(Mark(part.box, "decimal point or comma" if is_low else "speck"))
        else:
            rows[at].append(part)
    return marks


def _is_alone(part: Part, digits: list[Part], height: float) -> bool:
    """Whether a small part is a dot rather than a crumb of a digit beside, above or below it."""
    return part.size < DOT * height and not any(digit.overlap(part) > 0 for digit in digits)
