"""The ink of a whole page of digits, without the lines and boxes printed on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch

from ..pictures.choosing import AT_EDGE
from ..pictures.lines import without_lines
from ..pictures.looks import EVEN, NEAR, PALE_LINES, WIDE, contrast_on, page_look
from ..pictures.paper import light_of
from ..pictures.parts import SQUARE, Part, parts_of
from ..pictures.photos import reduced
from ..pictures.reducing import WORKING_SIDE
from ..pictures.strokes import rendered, strokes_of

if TYPE_CHECKING:
    from .result import Box

Array: TypeAlias = "np.ndarray[Any, Any]"

MOST = 1000  # parts of a page: the largest ones
HELD = 0.03  # of a box's longer side, at least, are the digits in it
GROUND = 2.0  # of the digits' side; larger parts at the edges are the ground
PALER = 0.5  # of the strongest part's contrast; paler parts are print of the other side, dirt
THIN = 0.02  # of its longer side; a part that is thinner is what is left of a line
LARGE = 0.5  # of a box's sides; what is as large inside it is a part of the box


@dataclass(frozen=True, eq=False)
class Page:
    """What stands on a page.

    Attributes:
        ink: Map (H, W), from 0 on paper to 1 in strokes.
        labels: The number of the connected part that each pixel belongs to, (H, W).
        parts: These parts.
        frames: The boxes and grids that were taken out, as left, top, right and bottom.
        unseen: Size in pixels of the largest part beyond `MOST`; 0 if there is none.
    """

    ink: Array
    labels: Array
    parts: list[Part]
    frames: list[Box]
    unseen: int = 0


def see_page(grey: Array) -> Page:
    """Finds the ink on a page (H, W) in 0…255, seen in the way in which digits stand out best."""
    nothing = Page(np.zeros_like(grey), np.zeros(grey.shape, np.intp), [], [])
    long, short = max(grey.shape), min(grey.shape)
    side = WORKING_SIDE * (long / short) ** 0.5  # as many pixels as of a square image
    first = page_look(reduced(torch.from_numpy(grey)[None], side)[0].numpy())
    light = light_of(grey)
    for paper in dict.fromkeys((first.paper, NEAR, WIDE)):  # there is more noise in full size
        strokes = strokes_of(contrast_on(paper, grey, light, first.is_light), PALE_LINES)
        if strokes is not None:
            break
    if strokes is None or not first.parts:
        return nothing
    labels, parts, frames = _without_frames(strokes.values, strokes.linked)
    last = {part.label for part in parts[MOST:]}
    usual = max(part.side for part in first.parts) * long / max(first.ink.shape)
    parts = [
        part
        for part in parts
        if part.contact < (AT_EDGE if part.side < GROUND * usual else AT_EDGE / 10)
    ]
    strongest = max((part.contrast for part in parts), default=0.0)
    parts = [p for p in parts if p.contrast > PALER * strongest and p.thickness > THIN]
    if not parts:
        return nothing
    own = np.isin(labels, [part.label for part in parts])
    ink = rendered(strokes, own, first.is_light and paper != EVEN)
    unseen = sum(part.side for part in parts if part.label in last)
    return Page(ink, labels, parts, frames, unseen)


def box_of(part: Part) -> Box:
    """Left, top, right and bottom of a part."""
    rows, columns = part.box
    return columns.start, rows.start, columns.stop, rows.stop


def _without_frames(values: Array, linked: Array) -> tuple[Array, list[Part], list[Box]]:
    """The labels and parts of a page without the boxes around other parts; where these were."""
    frames: list[Box] = []
    for _ in range(3):  # a sheet on a table may hold a form with boxes
        labels, parts = parts_of(values, linked, None, MOST + 1)
        around = [part for part in parts if part.held > HELD and part.squareness > SQUARE]
        if not around:
            return labels, parts, frames
        values, linked = values.copy(), linked.copy()
        for part in around:
            own = labels[part.box] == part.label
            inside = _inside(np.where(own, values[part.box], 0), own)
            values[part.box][own] = inside[own]
            linked[part.box][own] = inside[own] > 0
            frames.append(box_of(part))
    return *parts_of(values, linked, None, MOST + 1), frames


def _inside(alone: Array, own: Array) -> Array:
    """What is drawn on a frame, such as a digit that touches it."""
    from scipy import ndimage

    rest = without_lines(alone, 0.0)[0] * own
    labels, _ = ndimage.label(rest > 0, np.ones((3, 3)))
    large = [
        number
        for number, place in enumerate(ndimage.find_objects(labels), 1)
        if any(x.stop - x.start > LARGE * size for x, size in zip(place, own.shape, strict=True))
    ]
    return np.where(np.isin(labels, large), 0, rest)
