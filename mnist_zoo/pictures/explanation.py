"""What `as_mnist` sees on an image, step by step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .ink import find_on_even_paper
from .looks import EVEN
from .mnist_form import grey_of, light_on_black, redrawn
from .photos import Sight, reduced
from .reading import PictureError, read_picture

if TYPE_CHECKING:
    from .reading import Picture


@dataclass(frozen=True, eq=False)
class Explanation:
    """What `as_mnist` makes of an image.

    Attributes:
        grey: The image (H, W) in 0…255.
        place: First and last row, first and last column that were looked at.
        ink: The ink (h, w) that was found there, in 0…1.
        digit: The image (28, 28) that a network gets, uint8.
        steps: What was decided, in words.
        problem: Why the image is refused; empty if it is not.
    """

    grey: Tensor
    place: tuple[int, int, int, int]
    ink: Tensor
    digit: Tensor
    steps: tuple[str, ...]
    problem: str


def explain(picture: Picture) -> Explanation:
    """What `as_mnist` makes of one image.

    Raises:
        PictureError: If it cannot be read at all, or there are several.
    """
    image, name = read_picture(picture)
    grey, problems = grey_of(image)
    if problems:
        raise PictureError(f"{name}: {problems[0]}", problems)
    height, width = grey.shape[1:]
    place = (0, height - 1, 0, width - 1)
    form, ready = light_on_black(grey)
    if ready.all():
        digit = form[0].round().to(torch.uint8)
        as_it_is = ("in MNIST's format already",)
        return Explanation(grey[0], place, digit / 255, digit, as_it_is, "")
    digits, problems, sights = redrawn(grey)
    problem = problems.get(0, "")
    if sights:
        sight = sights[0]
        rows, columns = sight.place
        place = (rows.start, rows.stop - 1, columns.start, columns.stop - 1)
        ink, steps = torch.from_numpy(sight.look.ink), _steps(sight, height, width)
    else:
        ink = find_on_even_paper(reduced(grey))[0][0]
        steps = ("even paper with nothing else on it",) if not problem else ()
    return Explanation(grey[0], place, ink, digits[0], steps, problem)


def _steps(sight: Sight, height: int, width: int) -> tuple[str, ...]:
    """What was decided on a photo, in words."""
    look = sight.look
    rows, columns = sight.place
    kind = "even paper" if look.paper == EVEN else "uneven paper: what is wide is left out"
    others = look.clutter - len(look.parts)
    steps = {
        f"{kind}": True,
        f"{'light ink on darker' if look.is_light else 'dark ink on lighter'} paper": look.parts,
        f"lines taken out: {look.lines}": look.lines,
        f"other marks left out: {others}": others > 0,
        "a small digit: looked at again, from nearer": (
            (rows.stop - rows.start, columns.stop - columns.start) != (height, width)
        ),
    }
    return tuple(step for step, is_true in steps.items() if is_true)
