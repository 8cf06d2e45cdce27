"""What `read_digits` finds on an image: `Reading`, with its numbers, digits and marks."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from torch import Tensor

from ..prediction import Prediction

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["FoundDigit", "Mark", "Number", "Reading"]

Box: TypeAlias = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels of the image; the last two lie beyond the ink."""

BLUE, RED = (0, 90, 200), (200, 40, 30)


@dataclass(frozen=True)
class FoundDigit(Prediction):
    """A digit on an image: a `Prediction` that knows its place.

    Attributes:
        box: Left, top, right and bottom in pixels of the image.

    Example:
        >>> from mnist_zoo.reading import FoundDigit
        >>> print(FoundDigit(1, 0.75, (0.25, 0.75), ((1, 0.75), (0, 0.25)), box=(3, 4, 9, 24)))
        1 (75.0 %)
    """

    box: Box = (0, 0, 0, 0)


@dataclass(frozen=True)
class Number:
    """Digits beside each other without a wide gap.

    Attributes:
        digits: The digits, left to right.

    Example:
        >>> from mnist_zoo.reading import FoundDigit, Number
        >>> one = FoundDigit(1, 0.75, (0.25, 0.75), ((1, 0.75),), box=(3, 4, 9, 24))
        >>> two = FoundDigit(1, 0.5, (0.5, 0.5), ((1, 0.5),), box=(14, 2, 20, 22))
        >>> number = Number((one, two))
        >>> number.text, number.probability, number.box
        ('11', 0.375, (3, 2, 20, 24))
    """

    digits: tuple[FoundDigit, ...]

    @property
    def text(self) -> str:
        """The labels of its digits, one after another."""
        return "".join(digit.label or "" for digit in self.digits)

    @property
    def probability(self) -> float:
        """The product of its digits' probabilities."""
        return math.prod(digit.probability for digit in self.digits)

    @property
    def box(self) -> Box:
        """The box around its digits."""
        lefts, tops, rights, bottoms = zip(*(digit.box for digit in self.digits), strict=True)
        return min(lefts), min(tops), max(rights), max(bottoms)

    def __str__(self) -> str:
        """The text."""
        return self.text


@dataclass(frozen=True)
class Mark:
    """Ink on an image that is no digit.

    Attributes:
        box: Left, top, right and bottom in pixels of the image.
        why: What it is taken for, such as "decimal point or comma".

    Example:
        >>> from mnist_zoo.reading import Mark
        >>> Mark((3, 4, 9, 24), "line").why
        'line'
    """

    box: Box
    why: str


@dataclass(frozen=True, repr=False)
class Reading:
    """The digits that a network reads on an image; `read_digits` gives it.

    Attributes:
        rows: The numbers of each row, from the top; left to right. With the argument `rows`, a row
            that is not read is empty; else it is left out.
        rejected: Ink that is no digit, from the top.

    Example:
        >>> from PIL import Image, ImageDraw, ImageFont
        >>> from mnist_zoo import mini_resnet, read_digits
        >>> page = Image.new("L", (300, 160), "white")
        >>> pen, font = ImageDraw.Draw(page), ImageFont.load_default(60)
        >>> pen.text((20, 10), "20", font=font)
        >>> pen.text((220, 10), "7", font=font)
        >>> pen.text((20, 80), "405", font=font)
        >>> reading = read_digits(mini_resnet(weights="mnist"), page)
        >>> print(reading)
        20 7
        405
        >>> [number.text for number in reading.numbers]
        ['20', '7', '405']
        >>> reading.draw().size
        (300, 160)
    """

    rows: tuple[tuple[Number, ...], ...]
    rejected: tuple[Mark, ...] = ()
    _page: Tensor | None = field(default=None, repr=False, compare=False)
    _scale: float = field(default=1.0, repr=False, compare=False)

    @property
    def text(self) -> str:
        """The numbers, with spaces between them and a line for each row."""
        return "\n".join(" ".join(number.text for number in row) for row in self.rows)

    @property
    def numbers(self) -> tuple[Number, ...]:
        """All numbers, row by row."""
        return tuple(number for row in self.rows for number in row)

    @property
    def digits(self) -> tuple[FoundDigit, ...]:
        """All digits, row by row."""
        return tuple(digit for number in self.numbers for digit in number.digits)

    def __str__(self) -> str:
        """The text."""
        return self.text

    def __repr__(self) -> str:
        """The text and the number of rejected marks, on one line."""
        return f"Reading({self.text!r}, {len(self.rejected)} rejected)"

    def draw(self) -> Image.Image:
        """The image with a box and a label for each digit, and a red box for each mark.

        Very large images are drawn smaller, with at most about four million pixels.

        Raises:
            ValueError: If `read_digits` did not give this reading.
        """
        from PIL import Image, ImageDraw, ImageFont

        if self._page is None:
            raise ValueError("only a Reading that read_digits gave has an image to draw on")
        picture = Image.fromarray(self._page.numpy()).convert("RGB")
        pen = ImageDraw.Draw(picture)
        for mark in self.rejected:
            pen.rectangle(self._drawn(mark.box), outline=RED)
        for digit in self.digits:
            left, top, right, bottom = self._drawn(digit.box)
            size = max(8, (bottom - top) // 3)
            pen.rectangle((left, top, right, bottom), outline=BLUE)
            place, anchor = ((left, top), "lb") if top >= size else ((left + 2, top + 1), "lt")
            font = ImageFont.load_default(size)
            pen.text(place, digit.label or "", fill=BLUE, font=font, anchor=anchor)
        return picture

    def _drawn(self, box: Box) -> Box:
        left, top, right, bottom = (round(end / self._scale) for end in box)
        return left - 1, top - 1, max(left, right), max(top, bottom)
