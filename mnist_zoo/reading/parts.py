"""The connected parts of a page's ink: which may be digits, and which are marks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .lines import Array, without_lines
from .page import LINKED
from .result import Box

STRONG = 0.6  # of a stroke's ink; a part without any such ink is a shadow or a stain
OUTLINE = 0.8  # a frame's ink covers at least this share of each side of its box


@dataclass(frozen=True)
class Part:
    """Connected ink: its number among the labels, its box and its number of pixels."""

    label: int
    box: Box
    area: int

    @property
    def width(self) -> int:
        """Columns of the box."""
        return self.box[2] - self.box[0]

    @property
    def height(self) -> int:
        """Rows of the box."""
        return self.box[3] - self.box[1]

    @property
    def size(self) -> int:
        """The longer side of the box."""
        return max(self.width, self.height)

    @property
    def centre(self) -> tuple[float, float]:
        """Column and row of the middle of the box."""
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2

    def middle(self) -> float:
        """Column of the middle of the box."""
        return self.centre[0]

    def level(self, slope: float) -> float:
        """Row of the middle of the box, where rows of this slope meet column 0."""
        return self.centre[1] - slope * self.centre[0]

    def overlap(self, other: Part) -> int:
        """The number of columns that both boxes have."""
        return min(self.box[2], other.box[2]) - max(self.box[0], other.box[0])


def find_parts(ink: Array) -> tuple[Array, list[Part]]:
    """Labels (H, W) of connected ink, and its parts by label."""
    from scipy import ndimage

    labels, count = ndimage.label(ink > LINKED, structure=np.ones((3, 3)))
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    strong = np.bincount(labels.ravel(), (ink > STRONG).ravel(), count + 1)
    boxes = ndimage.find_objects(labels)
    return labels, [
        Part(number, (x.start, y.start, x.stop, y.stop), int(areas[number]))
        for number, (y, x) in enumerate(boxes, 1)
        if strong[number]
    ]


def without_frames(ink: Array) -> tuple[Array, list[Box]]:
    """Ink without the boxes and grids that are drawn around other parts; and their boxes."""
    from scipy import ndimage

    frames: list[Box] = []
    for _ in range(3):  # a sheet on a table may hold a form with boxes
        labels, parts = find_parts(ink)
        large = [part for part in parts if part.size >= 8]
        around = [part for part in large if _is_frame(part, labels, large)]
        if not around:
            break
        ink = ink.copy()
        for part in around:
            left, top, right, bottom = part.box
            window, own = ink[top:bottom, left:right], labels[top:bottom, left:right]
            alone = np.where(own == part.label, window, 0)
            inside = _without_large(without_lines(alone, round(0.7 * min(own.shape))))
            grown = ndimage.binary_dilation(own == part.label, iterations=1)
            window[grown] = np.where(own == part.label, inside, 0)[grown]
            frames.append(part.box)
    return ink, frames


def _without_large(ink: Array) -> Array:
    """Ink without parts that are about as wide or high as all of it, such as tilted lines."""
    from scipy import ndimage

    labels, _ = ndimage.label(ink > LINKED, structure=np.ones((3, 3)))
    large = [
        number
        for number, place in enumerate(ndimage.find_objects(labels), 1)
        if any(2 * (x.stop - x.start) > size for x, size in zip(place, ink.shape, strict=True))
    ]
    return np.where(np.isin(labels, large), 0, ink) if large else ink


def _is_frame(part: Part, labels: Array, parts: list[Part]) -> bool:
    left, top, right, bottom = part.box
    nested = any(
        other.box[0] > left
        and other.box[1] > top
        and other.box[2] < right
        and other.box[3] < bottom
        and other.height >= 0.15 * part.height / max(1, part.height // 60)
        for other in parts
    )
    if not nested:
        return False
    own = labels[top:bottom, left:right] == part.label
    soft = max(1, min(own.shape) // 12)
    sides = (own[:soft].any(0), own[-soft:].any(0), own[:, :soft].any(1), own[:, -soft:].any(1))
    return all(side.mean() >= OUTLINE for side in sides)


def usual_height(parts: list[Part]) -> float:
    """The height of the digits: the median over their parts, the larger ones counting more."""
    heights = np.array([max(part.height, part.width / 2) for part in parts], float)
    heights = np.sort(heights[heights >= 0.2 * heights.max()])
    weights = heights.cumsum()
    return float(heights[np.searchsorted(weights, weights[-1] / 2)])
