"""Ways to see a photo, and how much the ink that each of them finds looks like one digit.

The paper is taken for even, or for uneven with wider or narrower strokes, under dark ink or under
light ink.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .choosing import digit_of
from .ink import EMPTY, LINKED, SEVERAL, SPECKS
from .lines import without_lines
from .paper import NARROW, SMALL, WIDEST, contrast, even, light_of, noise, otsu, smoothed
from .parts import Part, outline, parts_of, strokelike

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .paper import Map, Mask

NOISE = 5.0  # strokes stand out by this many standard deviations of the paper's noise
PALE = 0.015  # and absorb at least this share of the light
EVEN, WIDE, NEAR = "even", "uneven", "uneven, narrow"
SIMPLE = {EVEN: 1.25, WIDE: 1.0, NEAR: 0.7}  # simple explanations are preferred if about as good
CLUTTER = 30  # parts of ink; a picture with more is dotted or noisy
BLUR = 7  # pixels
UNLIKE = 0.2  # quality of what is no digit at all, where another look shows specks


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
        simple = SIMPLE[one.paper]
        if one.paper == EVEN and max(one.ink.shape) < SMALL:
            simple *= 2
        return simple * one.likeness * (one.contrast / strongest) ** 0.5

    return max(looks, key=likeness)


def _looks(image: Map, is_light: bool | None) -> list[Look]:
    light = light_of(image)
    kinds = (False, True) if is_light is None else (is_light,)
    return [
        look(values, light, kind, paper)
        for kind in kinds
        for values, paper in _papers(image, light, kind)
    ]


def _papers(image: Map, light: Map, is_light: bool) -> Iterator[tuple[Map, str]]:
    """Each way to see the paper: how much everything differs from it, and its name."""
    import numpy as np

    border = np.concatenate((image[0], image[-1], image[:, 0], image[:, -1]))
    if np.mean(np.abs(border - np.median(border)) <= 2) >= 0.5:
        yield even(image, is_light), EVEN
    yield contrast(light, is_light, WIDEST), WIDE
    yield contrast(light, is_light, NARROW), NEAR


def look(values: Map, light: Map, is_light: bool, paper: str) -> Look:
    """The digit on a map of contrast."""
    import numpy as np

    most = float(values.max(initial=0))
    nothing = Look(np.zeros_like(values), 0.0, is_light, paper, 0, (), 0, EMPTY)
    if most <= 0:
        return nothing
    threshold = most * otsu(values / most)
    level, spread = noise(values[values <= threshold])
    ruled, (values, lines) = values, without_lines(values, max(level + 3 * spread, threshold / 2))
    strong = values > threshold
    if not strong.any():
        return nothing
    high = float(np.median(values[strong]))
    low = level + 3 * spread
    if high - level <= max(NOISE * spread, PALE) or high <= low:
        return nothing
    labels, parts = parts_of(values, values > low + LINKED * (high - low), light)
    digit, likeness, several = digit_of(parts, values.shape)
    if not digit:
        return replace(nothing, problem=SPECKS)
    own = np.isin(labels, [part.label for part in digit])
    step = -float(np.log(1 - min(float(np.median(values[own])), 0.9)))
    likeness *= _explained(light, own, values <= low, ruled > values, is_light, step)
    ink = _rendered(values, own, low, threshold, is_light and paper != EVEN)
    problem = SEVERAL if several else ""
    return Look(ink, likeness, is_light, paper, lines, tuple(digit), len(parts), problem)


def _rendered(values: Map, own: Mask, low: float, threshold: float, adds_light: bool) -> Map:
    """Ink from 0 on paper to 1 in strokes; beyond the digit's `own` pixels there is none."""
    import numpy as np

    if adds_light:  # ink's colours mix in the light that it adds, not in the share that it takes
        values = values / (1 - np.minimum(values, 0.999))
        low, threshold = low / (1 - min(low, 0.999)), threshold / (1 - min(threshold, 0.999))
    strong = values[own & (values > threshold)]
    high = float(np.median(strong)) if strong.size else float(values[own].max())
    ink = ((values - low) / max(high - low, 1e-6)).clip(0, 1) * _grown(own)
    return ink.astype(np.float32)


def _explained(
    light: Map, ink: Mask, paper: Mask, lines: Mask, is_light: bool, step: float
) -> float:
    """1 where all that is as dark as the ink, in and around it, is ink; else less.

    Where light paper is taken for ink, there is more of it outside.
    """
    import numpy as np
    from scipy import ndimage

    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    height, width = int(rows[-1] - rows[0] + 1), int(columns[-1] - columns[0] + 1)
    room, box = 2 + max(height, width) // 4, height * width
    place = tuple(slice(max(0, ends[0] - room), ends[-1] + room + 1) for ends in (rows, columns))
    page = -light[place] if is_light else light[place]
    ink, paper, lines = ink[place], paper[place], lines[place]
    if not paper.any():
        return 0.1
    dark, bright = np.median(page[ink]), np.median(page[paper])
    if bright - dark < 0.4 * step:  # the paper next to the ink is as dark as the ink
        return 0.1
    middle = (dark + bright) / 2
    as_dark = (page < middle) & ~lines
    labels, count = ndimage.label(as_dark | ink)
    own = np.zeros(count + 1, dtype=bool)
    own[labels[ink]] = True
    whole = own[labels]
    more = whole.sum() / ink.sum() - 1
    squareness, _ = outline(whole, whole) if more > 0.1 else (0.0, False)
    apart = (paper & as_dark & ~whole).sum() / box
    shape = strokelike(0.0, squareness)
    return float(shape / (1 + 8 * max(0.0, more - 0.1) + apart))


def _grown(marked: Mask) -> Mask:
    """The marked pixels and their neighbours, which hold the faint edges of strokes."""
    import numpy as np
    from scipy import ndimage

    return ndimage.binary_dilation(marked, np.ones((3, 3)))
