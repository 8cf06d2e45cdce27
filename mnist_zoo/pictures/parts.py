"""The connected parts of ink, and how much each of them looks like a digit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .paper import steps

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    from .paper import Map, Mask

    Box: TypeAlias = tuple[slice, slice]

MOST = 40  # parts that are looked at: the largest ones
HELD = 0.2  # of a frame's longer side: what is smaller inside it may be a dot in a zero
SHARP = 0.35  # of the step from paper to ink, within two pixels
HOLLOW = 0.6  # of an outline's area; a part that fills less of it is a 0 rather than a sheet
ONE_STROKE = 1.6  # of its length times its thickness; a single stroke has less ink
BAR = 0.15  # likeness of a bar to a digit
BOLDEST = 0.3  # of its height; a 1 that is an upright bar is narrower, else it is a sheet
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
        held: The longer side of the largest ink inside it, as a share of its own.
        thickness: Its thickest place, as a share of its longer side.
        sharpness: The share of its outline where light changes as much as its ink demands; 0 if
            the light was not looked at.
    """

    label: int
    box: Box
    area: int
    contrast: float
    contact: float
    squareness: float
    held: float
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

    @property
    def holds(self) -> bool:
        """Whether other ink of some size lies inside it."""
        return self.held >= HELD

    @property
    def is_slim(self) -> bool:
        """Whether its box is much longer than wide."""
        return self.side > 2.2 * min(self.height, self.width)


def parts_of(ink: Map, is_ink: Mask, light: Map | None, most: int = MOST) -> tuple[Any, list[Part]]:
    """The labels of connected pixels, and at most so many parts, the largest first.

    Without the `light`, it does not tell how sharp they are.
    """
    import numpy as np
    from scipy import ndimage

    labels, count = ndimage.label(is_ink, np.ones((3, 3)))
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    areas[0] = 0
    edges = np.concatenate((labels[0], labels[-1], labels[1:-1, 0], labels[1:-1, -1]))
    contacts = np.bincount(edges, minlength=count + 1)
    boxes = ndimage.find_objects(labels)
    sides = np.array([0] + [max(s.stop - s.start for s in box) for box in boxes])
    order = np.argsort(-(sides * (areas > 3)), kind="stable")[: min(most, count)]
    chosen = [int(label) for label in order if areas[label] > 3]
    largest = max((int(sides[label]) for label in chosen), default=0)
    found = []
    change: dict[int, Map] = {}
    for label in chosen:
        box = boxes[label - 1]
        own = labels[box] == label
        height, width = own.shape
        looks = max(height, width) > largest / 4
        squareness, held = outline(own, is_ink[box]) if looks else (0.0, 0.0)
        contrast = float(np.quantile(ink[box][own], 0.8))
        thickness = thickest(own)
        sharpness = 0.0
        if light is not None:
            reach = 2 if thickness < 12 else 4 if thickness < 30 else 8
            if reach not in change:
                change[reach] = steps(light, reach)
            sharpness = _sharpness(own, change[reach][box], contrast)
        found.append(
            Part(
                label,
                box,
                int(areas[label]),
                contrast,
                float(contacts[label] / (2 * (height + width))),
                squareness,
                held,
                float(thickness / max(height, width)),
                sharpness,
            )
        )
    return labels, found


def _sharpness(own: Mask, change: Map, contrast: float) -> float:
    """The share of a part's outline where light changes as much as ink of this contrast does."""
    import numpy as np

    edge = _edge(own, True)
    if not edge.any():  # an upright bar, which fills its box
        edge = _edge(own)
    return float((change[edge] > SHARP * -np.log(max(1 - contrast, 0.05))).mean())


def outline(own: Mask, is_ink: Mask) -> tuple[float, float]:
    """How square a part's outline is, and how long other ink inside it is, as shares."""
    import numpy as np
    from scipy import ndimage

    filled = _filled(own)
    if own.sum() < HOLLOW * filled.sum() and not (filled & is_ink & ~own).any():
        return 0.0, 0.0
    other = filled & is_ink & ~own
    held = 0.0
    if other.any():
        labels, _ = ndimage.label(other, np.ones((3, 3)))
        inside = [max(s.stop - s.start for s in box) for box in ndimage.find_objects(labels)]
        held = max(inside) / max(own.shape)
    y, x = np.nonzero(_edge(filled))
    turns = np.deg2rad(np.arange(0, 90, 5))
    along = np.outer(np.cos(turns), x) + np.outer(np.sin(turns), y)
    across = np.outer(np.cos(turns), y) - np.outer(np.sin(turns), x)
    rectangles = (np.ptp(along, 1) + 1) * (np.ptp(across, 1) + 1)
    return float(filled.sum() / rectangles.min()), held


def _filled(own: Mask) -> Mask:
    """A part together with what it encloses."""
    import numpy as np
    from scipy import ndimage

    labels, _ = ndimage.label(np.pad(~own, 1, constant_values=True))
    filled: Mask = labels[1:-1, 1:-1] != labels[0, 0]
    return filled


def _edge(own: Mask, goes_on: bool = False) -> Mask:
    """A part's pixels beside others; `goes_on` says whether it does beyond its box."""
    import numpy as np

    wide = np.pad(own, 1, constant_values=goes_on)
    inner = wide[:-2, 1:-1] & wide[2:, 1:-1] & wide[1:-1, :-2] & wide[1:-1, 2:]
    return own & ~inner


def thickest(own: Mask) -> int:
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
    if part.contact and (part.height == shape[0] or part.width == shape[1]):
        free *= 0.4  # from edge to edge: paper between lines, a shadow's edge
    like = part.side / max(shape) * central * free * (part.contrast / strongest) ** 1.5
    return like * _strokelike(part) * part.sharpness**2


def _strokelike(part: Part) -> float:
    """Less than 1 where a part is a frame, a sheet or a blot rather than strokes."""
    if part.holds:
        return 0.1 if part.squareness > 0.7 else 0.4
    if _is_bar(part):
        return BAR
    is_one = part.is_slim and part.thickness < BOLDEST
    return strokelike(part.thickness, 0 if is_one else part.squareness)


def _is_bar(part: Part) -> bool:
    """Whether a part is one straight stroke from left to right, which no digit is."""
    thickest = part.thickness * part.side + 1
    return (
        part.is_slim and part.width > part.height and part.area < ONE_STROKE * part.side * thickest
    )


def strokelike(thickness: float, squareness: float) -> float:
    """1 for thin strokes in any outline but a rectangle's, else less."""
    stroke = falling(thickness, 0.2, 0.45) * falling(squareness, 0.79, SQUARE)
    return 0.4 * stroke if thickness > 0.3 and squareness > 0.72 else stroke


def falling(value: float, start: float, stop: float) -> float:
    """1 up to `start`, falling to 0.15 at `stop`."""
    return min(1.0, max(0.15, 1 - 0.85 * (value - start) / (stop - start)))
