"""Finding the ink of one digit on a photo: on any paper, in any light, with other things around.

The paper is taken for even, or for uneven with wider or narrower strokes, under dark ink or under
light ink. Each of these gives ink; the ink that looks most like one digit is taken. A small digit
is looked at again, from nearer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch.nn.functional as F
from torch import Tensor

from .ink import EMPTY, LINKED, SEVERAL, SPECKS
from .lines import without_lines
from .paper import NARROW, WIDEST, contrast, even, light_of, noise, otsu, smoothed
from .parts import Part, digit_of, outline, parts_of, strokelike
from .reading import WORKING_SIDE

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from .paper import Map

NOISE = 5.0  # strokes stand out by this many standard deviations of the paper's noise
PALE = 0.015  # and absorb at least this share of the light
EVEN = "even"
SIMPLE = 1.25  # even paper is the simplest explanation: preferred if about as good
CLUTTER = 30  # parts of ink; a picture with more is dotted or noisy
BLUR = 7  # pixels
UNLIKE = 0.2  # quality of what is no digit at all, where another look shows specks
NEARER = 0.35  # of the longer side; smaller digits are looked at again
ROOM = 0.6  # of the digit's longer side: what is seen around it from nearer


@dataclass(frozen=True, eq=False)
class Look:
    """One way to see a picture.

    Attributes:
        ink: Map (H, W) of the digit's ink, from 0 on paper to 1 in strokes.
        likeness: How much it looks like one digit.
        is_light: Whether the ink is lighter than the paper.
        paper: What the paper was taken for.
        lines: Number of lines that were taken out.
        parts: The digit's parts.
        clutter: Number of all parts of ink.
        problem: What is wrong, or an empty text.
    """

    ink: Map
    likeness: float
    is_light: bool
    paper: str
    lines: int
    parts: tuple[Part, ...]
    clutter: int
    problem: str

    @property
    def quality(self) -> float:
        """How much its ink looks like a digit, whatever its size."""
        side = max((part.side for part in self.parts), default=1)
        return self.likeness * max(self.ink.shape) / side

    @property
    def contrast(self) -> float:
        """The share of light that the strokes take away."""
        return max((part.contrast for part in self.parts), default=0.0)


def find_on_photo(image: Tensor) -> Look:
    """Finds the ink of the digit on a photo (H, W) in 0…255."""
    first = best_look(reduced(image[None])[0].numpy())
    if first.problem or not first.parts:
        return first
    scale = max(image.shape) / max(first.ink.shape)
    side = max(part.side for part in first.parts)
    if side > NEARER * max(first.ink.shape):
        return first
    rows, columns = _place(first, scale, tuple(image.shape))
    second = best_look(reduced(image[None, rows, columns])[0].numpy(), first.is_light)
    return first if second.problem else second


def _place(look: Look, scale: float, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Where the digit is on the whole image, with some room around it."""
    ends = []
    room = ROOM * max(part.side for part in look.parts)
    for axis in (0, 1):
        start = min(part.box[axis].start for part in look.parts) - room
        stop = max(part.box[axis].stop for part in look.parts) + room
        ends.append(slice(max(0, int(start * scale)), min(shape[axis], int(stop * scale) + 1)))
    return ends[0], ends[1]


def reduced(images: Tensor) -> Tensor:
    """Images (n, H, W) with a longer side of at most `WORKING_SIDE` pixels."""
    longest = max(images.shape[1:])
    if longest <= WORKING_SIDE:
        return images
    size = [max(1, round(side * WORKING_SIDE / longest)) for side in images.shape[1:]]
    return F.interpolate(images[:, None], size, mode="bilinear", antialias=True)[:, 0]


def best_look(image: Map, is_light: bool | None = None) -> Look:
    """The way to see an image on which the ink looks most like one digit."""
    looks = _looks(image, is_light)
    best = _best(looks)
    if best.problem or best.clutter > CLUTTER:  # dots, noise: look with half-closed eyes
        looks += _looks(smoothed(image, BLUR), is_light)
        best = _best(looks)
    specks = [one for one in looks if one.problem == SPECKS]
    return specks[0] if specks and best.quality < UNLIKE else best


def _best(looks: list[Look]) -> Look:
    strongest = max(one.contrast for one in looks) or 1

    def likeness(one: Look) -> float:
        simple = SIMPLE if one.paper == EVEN else 1.0
        return simple * one.likeness * (one.contrast / strongest) ** 0.5

    return max(looks, key=likeness)


def _looks(image: Map, is_light: bool | None) -> list[Look]:
    return [
        look(values, image, light, paper)
        for values, light, paper in _papers(image)
        if is_light in (None, light)
    ]


def _papers(image: Map) -> Iterator[tuple[Map, bool, str]]:
    """Each way to see the paper: the contrast on it, whether the ink is light, and a name."""
    import numpy as np

    border = np.concatenate((image[0], image[-1], image[:, 0], image[:, -1]))
    paper = np.median(border)
    if np.mean(np.abs(border - paper) <= 2) >= 0.5:
        for light in (False, True):
            yield even(image, light), light, EVEN
    for width, name in ((WIDEST, "uneven"), (NARROW, "uneven, narrow")):
        for light in (False, True):
            yield contrast(image, light, width), light, name


def look(values: Map, image: Map, is_light: bool, paper: str) -> Look:
    """The digit on a map of contrast."""
    import numpy as np

    most = float(values.max(initial=0))
    nothing = Look(np.zeros_like(values), 0.0, is_light, paper, 0, (), 0, EMPTY)
    if most <= 0:
        return nothing
    threshold = most * otsu(values / most)
    level, spread = noise(values[values <= threshold])
    values, lines = without_lines(values, max(level + 3 * spread, threshold / 2))
    strong = values > threshold
    if not strong.any():
        return nothing
    high = float(np.median(values[strong]))
    low = level + 3 * spread
    if high - level <= max(NOISE * spread, PALE) or high <= low:
        return nothing
    labels, parts = parts_of(values, values > low + LINKED * (high - low), image)
    digit, likeness, several = digit_of(parts, values.shape)
    if not digit:
        return replace(nothing, problem=SPECKS)
    own = np.isin(labels, [part.label for part in digit])
    likeness *= _explained(image, own, values <= low, is_light)
    if (
        is_light and paper != EVEN
    ):  # the share of light that ink adds, which is as even as the strokes are
        values, low, threshold = (x / (1 - np.minimum(x, 0.999)) for x in (values, low, threshold))
    strong = values[own & (values > threshold)]
    high = float(np.median(strong)) if strong.size else float(values[own].max())
    ink = ((values - low) / max(high - low, 1e-6)).clip(0, 1) * _grown(own)
    return Look(
        ink.astype(np.float32),
        likeness,
        is_light,
        paper,
        lines,
        tuple(digit),
        len(parts),
        SEVERAL if several else "",
    )


def _explained(
    image: Map, ink: np.ndarray[Any, Any], paper: np.ndarray[Any, Any], is_light: bool
) -> float:
    """1 where all that is as dark as the ink, in and around it, is ink; else less.

    Where light paper is taken for ink, there is more of it outside.
    """
    import numpy as np
    from scipy import ndimage

    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    room = 2 + max(np.ptp(rows), np.ptp(columns)) // 4
    place = tuple(slice(max(0, ends[0] - room), ends[-1] + room + 1) for ends in (rows, columns))
    page = light_of(image, is_light)[place]
    ink, paper = ink[place], paper[place]
    if not paper.any():
        return 0.1
    middle = (np.median(page[ink]) + np.median(page[paper])) / 2
    labels, count = ndimage.label((page < middle) | ink)
    own = np.zeros(count + 1, dtype=bool)
    own[labels[ink]] = True
    whole = own[labels]
    more = whole.sum() / ink.sum() - 1
    squareness, _ = outline(whole, whole) if more > 0.1 else (0.0, False)
    apart = (paper & (page < middle) & ~whole).sum() / ink.sum()
    shape = strokelike(0.0, squareness)
    return float(shape / (1 + 8 * max(0.0, more - 0.1) + apart))


def _grown(marked: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The marked pixels and their neighbours, which hold the faint edges of strokes."""
    import numpy as np
    from scipy import ndimage

    return ndimage.binary_dilation(marked, np.ones((3, 3)))
