"""Ways to see a photo, and how much the ink that each of them finds looks like one digit.

The paper is taken for even, or for uneven with wider or narrower strokes, under dark ink or under
light ink.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .choosing import digit_of
from .ink import EMPTY, SEVERAL, SPECKS
from .paper import NARROW, SMALL, WIDEST, contrast, even, light_of, smoothed
from .parts import Part, outline, parts_of, strokelike
from .strokes import PALEST, rendered, strokes_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .paper import Map, Mask

EVEN, WIDE, NEAR = "even", "uneven", "uneven, narrow"
SIMPLE = {EVEN: 1.25, WIDE: 1.0, NEAR: 0.7}  # simple explanations are preferred if about as good
CLUTTER = 30  # parts of ink; a picture with more is dotted or noisy
BLUR = 7  # pixels
CLEAR = 0.5  # quality of digits that are clearly several
SURE = 0.8  # quality of digits on a page that need not be seen in another way
DARK = 0.5  # quality of a digit in dark ink, where light ink never looks more like one
PALE_LINES = 0.2  # of the threshold between strokes and paper; lines join many digits on a page
MOSTLY_EVEN, ALL_EVEN = 0.5, 0.9  # of an image's edges, of a page's: a shadow may hide digits
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
        count: About how many digits there are.
        problem: What is wrong, or an empty text.
    """

    ink: Map
    likeness: float
    is_light: bool
    paper: str
    lines: int
    parts: tuple[Part, ...]
    clutter: int
    count: int
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
    """The way to see an image on which the ink looks most like one digit, rather a large one."""
    kinds = (False, True) if is_light is None else (is_light,)
    looks: list[Look] = []
    for kind in kinds:
        looks += _looks(image, (kind,), _papers(image))
        best = _best(looks)
        if best.quality > DARK and not best.problem and best.clutter <= CLUTTER:
            break
    if best.problem or best.clutter > CLUTTER:  # dots, noise: look with half-closed eyes
        image = smoothed(image, BLUR)
        looks += _looks(image, kinds, _papers(image))
        best = _best(looks)
    likest = _best(looks, of_any_size=True)
    if likest.count > 1 and likest.quality > CLEAR:
        return likest  # small digits, rather than the sheet or the frame around them
    specks = [one for one in looks if one.problem == SPECKS]
    return specks[0] if specks and best.quality < UNLIKE else best


def page_look(image: Map) -> Look:
    """The way to see a page on which its ink looks most like digits of any size."""
    looks = []
    papers = (EVEN, NEAR, WIDE) if is_even(image, ALL_EVEN) else (NEAR, WIDE)
    for one in _looks(image, (False, True), papers, PALE_LINES):
        if one.quality > SURE:
            return one
        looks.append(one)
    return _best(looks, of_any_size=True)


def _best(looks: list[Look], of_any_size: bool = False) -> Look:
    strongest = max(one.contrast for one in looks) or 1

    def likeness(one: Look) -> float:
        simple = SIMPLE[one.paper]
        if one.paper == EVEN and max(one.ink.shape) < SMALL:
            simple *= 2
        like = one.quality if of_any_size else one.likeness
        return simple * like * (one.contrast / strongest) ** 0.5

    return max(looks, key=likeness)


def _looks(
    image: Map, kinds: Iterable[bool], papers: Iterable[str], palest: float = PALEST
) -> Iterator[Look]:
    """An image seen with dark ink, with light ink, on each paper."""
    light = light_of(image)
    for kind in kinds:
        for paper in papers:
            yield look(contrast_on(paper, image, light, kind), light, kind, paper, palest)


def _papers(image: Map) -> tuple[str, ...]:
    """What the paper of an image may be."""
    return (EVEN, WIDE, NEAR) if is_even(image) else (WIDE, NEAR)


def is_even(image: Map, share: float = MOSTLY_EVEN) -> bool:
    """Whether the paper may be even: this share of its edges are alike."""
    import numpy as np

    border = np.concatenate((image[0], image[-1], image[:, 0], image[:, -1]))
    return bool(np.mean(np.abs(border - np.median(border)) <= 2) >= share)


def contrast_on(paper: str, image: Map, light: Map, is_light: bool) -> Map:
    """How much everything differs from the paper, if it is of this kind."""
    if paper == EVEN:
        return even(image, is_light)
    return contrast(light, is_light, WIDEST if paper == WIDE else NARROW)


def look(values: Map, light: Map, is_light: bool, paper: str, palest: float = PALEST) -> Look:
    """The digit on a map of contrast; `palest` is for `strokes_of`."""
    import numpy as np

    nothing = Look(np.zeros_like(values), 0.0, is_light, paper, 0, (), 0, 0, EMPTY)
    strokes = strokes_of(values, palest)
    if strokes is None:
        return nothing
    labels, parts = parts_of(strokes.values, strokes.linked, light)
    digit, likeness, count = digit_of(parts, values.shape)
    if not digit:
        return replace(nothing, problem=SPECKS)
    own = np.isin(labels, [part.label for part in digit])
    step = -float(np.log(1 - min(float(np.median(strokes.values[own])), 0.9)))
    is_paper = strokes.values <= strokes.low
    likeness *= _explained(light, own, is_paper, strokes.ruled, is_light, step)
    ink = rendered(strokes, own, is_light and paper != EVEN)
    problem = SEVERAL.format(count) if count > 1 else ""
    seen = (strokes.lines, tuple(digit), len(parts), count, problem)
    return Look(ink, likeness, is_light, paper, *seen)


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
    squareness, _ = outline(whole, whole) if more > 0.1 else (0.0, 0.0)
    apart = (paper & as_dark & ~whole).sum() / box
    shape = strokelike(0.0, squareness)
    return float(shape / (1 + 8 * max(0.0, more - 0.1) + apart))
