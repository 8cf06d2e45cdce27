"""The connected parts of ink, and which of them make the digit."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import TYPE_CHECKING, Any

from .paper import steps

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np

    from .paper import Map

    Box = tuple[slice, slice]

MOST = 40  # parts that are looked at: the largest ones
SPECK = 0.03  # a part with a smaller share of the digit's pixels is a speck
PALER = 0.55  # of the digit's contrast; paler parts are print of the other side, dirt, shadow
NEAR = 0.3  # of the digit's longer side; strokes of one digit are at most this far apart
HELD = 0.2  # of a frame's longer side: what is smaller inside it may be a dot in a zero
AT_EDGE = 0.1  # of a box's outline at the map's edges: more of it is ground, a shadow, a margin
SHARP = 0.35  # of the step from paper to ink, within two pixels
HOLLOW = 0.6  # of an outline's area; a part that fills less of it is a 0 rather than a sheet
SQUARE = 0.86  # of the tightest rectangle's area; what fills more may be a sheet or a frame


@dataclass(frozen=True, eq=False)
class Part:
    """A connected part of ink on a map.

    Attributes:
        label: Its number on the map of labels.
        box: Its rows and columns.
        area: Number of its pixels.
        contrast: How strong its strongest ink is.
        contact: Pixels at the map's edges, as a share of its box's outline.
        squareness: The area of its outline, as a share of the tightest rectangle's around it.
        holds: Whether other ink lies inside it.
        thickness: Its thickest place, as a share of its longer side.
        sharpness: The share of its outline where light changes as much as its ink demands.
    """

    label: int
    box: Box
    area: int
    contrast: float
    contact: float
    squareness: float
    holds: bool
    thickness: float
    sharpness: float

    @property
    def height(self) -> int:
        """Rows of its box."""
        return int(self.box[0].stop - self.box[0].start)

    @property
    def width(self) -> int:
        """Columns of its box."""
        return int(self.box[1].stop - self.box[1].start)

    @property
    def side(self) -> int:
        """The longer side of its box."""
        return max(self.height, self.width)


def parts_of(
    ink: Map, is_ink: np.ndarray[Any, Any], image: Map
) -> tuple[np.ndarray[Any, Any], list[Part]]:
    """The labels of connected pixels, and the largest parts, the largest first."""
    import numpy as np
    from scipy import ndimage

    labels, count = ndimage.label(is_ink, np.ones((3, 3)))
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    areas[0] = 0
    edges = np.concatenate((labels[0], labels[-1], labels[1:-1, 0], labels[1:-1, -1]))
    contacts = np.bincount(edges, minlength=count + 1)
    boxes = ndimage.find_objects(labels)
    sides = np.array([0] + [max(s.stop - s.start for s in box) for box in boxes])
    order = np.argsort(-(sides * (areas > 3)), kind="stable")[: min(MOST, count)]
    chosen = [int(label) for label in order if areas[label] > 3]
    largest = max((int(sides[label]) for label in chosen), default=0)
    found = []
    change: dict[int, Map] = {}
    for label in chosen:
        box = boxes[label - 1]
        own = labels[box] == label
        height, width = own.shape
        looks = max(height, width) > largest / 4
        squareness, holds = outline(own, is_ink[box]) if looks else (0.0, False)
        contrast = float(np.quantile(ink[box][own], 0.8))
        thickness = thickest(own)
        edge = own & ~ndimage.binary_erosion(own, border_value=1)
        reach = 2 if thickness < 12 else 4 if thickness < 30 else 8
        if reach not in change:
            change[reach] = steps(image, reach)
        sharp = change[reach][box][edge] > SHARP * -np.log(max(1 - contrast, 0.05))
        found.append(
            Part(
                label,
                box,
                int(areas[label]),
                contrast,
                float(contacts[label] / (2 * (height + width))),
                squareness,
                holds,
                float(thickness / max(height, width)),
                float(sharp.mean()) if sharp.size else 0.0,
            )
        )
    return labels, found


def outline(own: np.ndarray[Any, Any], is_ink: np.ndarray[Any, Any]) -> tuple[float, bool]:
    """How square a part's outline is, and whether it holds other ink of some size."""
    import numpy as np
    from scipy import ndimage

    filled = ndimage.binary_fill_holes(own)
    if own.sum() < HOLLOW * filled.sum() and not (filled & is_ink & ~own).any():
        return 0.0, False
    other = filled & is_ink & ~own
    holds = False
    if other.any():
        labels, _ = ndimage.label(other, np.ones((3, 3)))
        inside = [max(s.stop - s.start for s in box) for box in ndimage.find_objects(labels)]
        holds = max(inside) >= HELD * max(own.shape)
    edge = filled & ~ndimage.binary_erosion(filled)
    y, x = np.nonzero(edge)
    turns = np.deg2rad(np.arange(0, 90, 5))
    along = np.outer(np.cos(turns), x) + np.outer(np.sin(turns), y)
    across = np.outer(np.cos(turns), y) - np.outer(np.sin(turns), x)
    rectangles = (np.ptp(along, 1) + 1) * (np.ptp(across, 1) + 1)
    return float(filled.sum() / rectangles.min()), holds


def thickest(own: np.ndarray[Any, Any]) -> int:
    """The side of the largest square inside a part."""
    import numpy as np
    from scipy import ndimage

    return int(2 * ndimage.distance_transform_cdt(np.pad(own, 1)).max() - 1)


def weight(part: Part, shape: Sequence[int], strongest: float) -> float:
    """How much a part looks like the digit that a picture is about, above 0."""
    centre = [
        (side.start + side.stop) / 2 / size - 0.5
        for side, size in zip(part.box, shape, strict=True)
    ]
    central = 1 - 0.5 * min(1.0, (centre[0] ** 2 + centre[1] ** 2) ** 0.5 / 0.7)
    free = max(0.02, 1 - 6 * part.contact)
    like = part.side / max(shape) * central * free * (part.contrast / strongest) ** 1.5
    return like * _strokelike(part) * part.sharpness**2


def _strokelike(part: Part) -> float:
    """Less than 1 where a part is a frame, a sheet or a blot rather than strokes."""
    if part.holds:
        return 0.1 if part.squareness > 0.7 else 0.4
    return strokelike(part.thickness, 0 if _is_slim(part) else part.squareness)


def strokelike(thickness: float, squareness: float) -> float:
    """1 for thin strokes in any outline but a rectangle's, else less."""
    return falling(thickness, 0.2, 0.55) * falling(squareness, 0.79, SQUARE)


def falling(value: float, start: float, stop: float) -> float:
    """1 up to `start`, falling to 0.15 at `stop`."""
    return min(1.0, max(0.15, 1 - 0.85 * (value - start) / (stop - start)))


def digit_of(parts: Sequence[Part], shape: Sequence[int]) -> tuple[list[Part], float, bool]:
    """The parts of one digit, how much they look like it, and whether more digits stand there."""
    free = [part for part in parts if part.contact < AT_EDGE]
    strongest = max((part.contrast for part in free or parts), default=1.0)
    ranked = sorted(parts, key=lambda part: -weight(part, shape, strongest))
    if not ranked:
        return [], 0.0, False
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
    if not digit or share < SPECK:
        return [], 0.0, False
    others = [part for part in (*digit, *rest) if part is not main and _is_like(part, main)]
    several = are_digits([main, *others]) or are_several([part.box for part in digit])
    likeness = weight(main, shape, strongest)
    if several:
        return (
            digit,
            likeness * max(map(_span, _around(part.box for part in (main, *others)))) / main.side,
            True,
        )
    return digit, likeness * share**0.5, False


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
    return _away(part, box) < (0.05 if part.contact else NEAR) * main.side


def _away(part: Part, box: Box) -> int:
    """The distance between two boxes; negative where they overlap."""
    return max(_apart(own, side) for own, side in zip(part.box, box, strict=True))


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
        and (part.squareness < SQUARE or _is_slim(part))
        and part.thickness < 0.6
        and part.sharpness > 0.6
    )


def are_digits(parts: Sequence[Part]) -> bool:
    """Whether parts of about one size stand apart, as digits do, rather than strokes of one."""
    if len(parts) < 2 or parts[0].thickness > 0.6:
        return False
    if len(parts) > 2:
        bars = [part for part in parts if _is_bar(part)]
        in_segments = len(bars) == len(parts) and any(part.width > part.height for part in bars)
        apart = all(_away(a, b.box) >= 0 for a, b in combinations(parts, 2))
        return apart and not in_segments
    one, two = parts
    rows, columns = _around(part.box for part in parts)
    gap = _away(one, two.box)
    if gap < 0:
        return False
    if _apart(one.box[1], two.box[1]) >= 0:
        return min(one.height, two.height) > 0.6 * _span(rows) or gap > 0.1 * one.side
    return _span(rows) > 1.8 * _span(columns) or gap > 0.12 * one.side


def _is_bar(part: Part) -> bool:
    return _is_slim(part) and part.squareness > 0.75


def _is_slim(part: Part) -> bool:
    return part.side > 2.2 * min(part.height, part.width)


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
