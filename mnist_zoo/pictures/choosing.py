"""Which connected parts of ink make one digit, and whether they are several."""

from __future__ import annotations

from itertools import combinations, pairwise
from typing import TYPE_CHECKING

from .parts import SQUARE, Part, weight

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .parts import Box

SPECK = 0.03  # a part with a smaller share of the digit's pixels is a speck
PALER = 0.55  # of the digit's contrast; paler parts are print of the other side, dirt, shadow
NEAR = 0.15  # of the digit's longer side; strokes of one digit are at most this far apart
ALIKE = 0.45  # of the highest digit's height; lower parts are not counted as digits
AT_EDGE = 0.1  # of a box's outline at the map's edges: more of it is ground, a shadow, a margin


def digit_of(parts: Sequence[Part], shape: Sequence[int]) -> tuple[list[Part], float, int]:
    """The parts of one digit, how much they look like it, and how many digits stand there."""
    free = [part for part in parts if part.contact < AT_EDGE]
    strongest = max((part.contrast for part in free or parts), default=1.0)
    ranked = sorted(parts, key=lambda part: -weight(part, shape, strongest))
    if not ranked:
        return [], 0.0, 0
    main, rest = ranked[0], ranked[1:]
    digit, added = [main], True
    while added:
        box = _around(part.box for part in digit)
        near = [part for part in rest if _belongs(part, main, digit, box)]
        added = bool(near)
        digit += near
        rest = [part for part in rest if part not in near]
    total = sum(part.area for part in digit)
    digit = [part for part in digit if part.area >= SPECK * total]
    rivals = [part for part in free if part.contrast > PALER * main.contrast]
    share = total / sum(part.area for part in {*rivals, *digit, main})
    others = [part for part in (*digit, *rest) if part is not main and _is_like(part, main)]
    several = are_digits([main, *others], digit) or (
        bool(digit) and are_several([part.box for part in digit])
    )
    if not digit or (share < SPECK and not several):
        return [], 0.0, 0
    likeness = weight(main, shape, strongest)
    if several:
        together = max(map(_span, _around(part.box for part in (main, *others))))
        count = count_digits([part.box for part in {*digit, main, *others}])
        return digit, likeness * min(2.0, together / main.side), count
    return digit, likeness * share**0.5, 1


def count_digits(boxes: Sequence[Box]) -> int:
    """About how many digits parts of several are: small parts, and those that overlap, join."""
    least = ALIKE * max(_span(rows) for rows, _ in boxes)
    found: list[Box] = []
    for own in (box for box in boxes if _span(box[0]) >= least):
        joined = own
        for other in list(found):
            if distance(joined, other) < 0:
                found.remove(other)
                joined = _around((joined, other))
        found.append(joined)
    return max(2, len(found))


def _around(boxes: Iterable[Box]) -> Box:
    rows, columns = zip(*boxes, strict=True)
    return (
        slice(min(row.start for row in rows), max(row.stop for row in rows)),
        slice(min(column.start for column in columns), max(column.stop for column in columns)),
    )


def _belongs(part: Part, main: Part, digit: Sequence[Part], box: Box) -> bool:
    """Whether a part is a stroke of the digit."""
    if part.contrast < PALER * main.contrast or part.area < SPECK * main.area or part.holds:
        return False
    if part.contact > 0.03 or part.side > 1.5 * main.side:
        return False
    if part.contact:
        return distance(part.box, box) < 0.05 * main.side
    return distance(part.box, box) < max(NEAR * max(map(_span, box)), main.thickness * main.side)


def distance(box: Box, other: Box) -> int:
    """The distance between two boxes; negative where they overlap."""
    return max(_apart(own, side) for own, side in zip(box, other, strict=True))


def _apart(one: slice, two: slice) -> int:
    return int(max(one.start - two.stop, two.start - one.stop))


def _is_like(part: Part, main: Part) -> bool:
    """Whether a part beside the digit is another digit."""
    return (
        part.contrast > PALER * main.contrast
        and part.contact == 0
        and not part.holds
        and 0.55 * main.height < part.height < 1.8 * main.height
        and part.area > 0.3 * main.area
        and (part.squareness < SQUARE or part.is_slim)
        and part.thickness < 0.6
        and part.sharpness > 0.85
    )


def are_digits(parts: Sequence[Part], digit: Sequence[Part]) -> bool:
    """Whether parts of about one size stand apart, as digits do, rather than strokes of a digit."""
    if len(parts) < 2 or parts[0].thickness > 0.6:
        return False
    if len(parts) > 2:
        in_segments = all(map(_is_bar, parts)) and any(part.width > part.height for part in digit)
        apart = all(distance(a.box, b.box) >= 0 for a, b in combinations(parts, 2))
        return apart and not in_segments
    one, two = parts
    rows, columns = _around(part.box for part in parts)
    gap = distance(one.box, two.box)
    if gap < 0:
        return False
    if _apart(one.box[1], two.box[1]) >= 0:
        return min(one.height, two.height) > 0.6 * _span(rows) or gap > 0.1 * one.side
    return _span(rows) > 1.8 * _span(columns) or gap > 0.12 * one.side


def _is_bar(part: Part) -> bool:
    return part.is_slim and part.squareness > 0.75


def are_several(boxes: Sequence[Box]) -> bool:
    """Whether parts stand beside or below each other as only separate digits do."""
    height, width = map(_span, _around(boxes))
    tall = sorted((x for y, x in boxes if _span(y) >= 0.6 * height), key=lambda x: x.start)
    across = [x for _, x in boxes]
    if any(a.stop <= b.start and not _is_bridged(a, b, across) for a, b in pairwise(tall)):
        return True
    wide = [
        y
        for y, x in boxes
        if _span(y) >= 0.3 * height and _span(x) >= 0.4 * width and _span(y) <= 2.5 * _span(x)
    ]
    wide.sort(key=lambda y: y.start)
    return height > 1.8 * width and any(a.stop <= b.start for a, b in pairwise(wide))


def _span(extent: slice) -> int:
    return int(extent.stop - extent.start)


def _is_bridged(left: slice, right: slice, columns: Sequence[slice]) -> bool:
    """Whether a part reaches from the left one to the right one, as in a digit made of dots."""
    return any(part.start <= left.stop and part.stop >= right.start for part in columns)
