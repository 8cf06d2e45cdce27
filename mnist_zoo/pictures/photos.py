"""Finding the ink of one digit on a photo: on any paper, in any light, with other things around.

Of several ways to see it, the one on which the ink looks most like one digit is taken. A small
digit is looked at again, from nearer.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from .looks import Look, best_look
from .reducing import WORKING_SIDE, longer_side

if TYPE_CHECKING:
    from .parts import Box

NEARER = 0.35  # of the longer side; smaller digits are looked at again
ROOM = 0.6  # of the digit's longer side: what is seen around it from nearer


@dataclass(frozen=True, eq=False)
class Sight:
    """What was found on a photo.

    Attributes:
        look: The way in which it was seen.
        place: The rows and columns of the photo that were looked at.
    """

    look: Look
    place: Box


def find_on_photo(image: Tensor, small: Tensor) -> Sight:
    """Finds the ink of the digit on a photo (H, W) in 0…255; `small` is what `reduced` gives."""
    first = best_look(small.numpy())
    whole = Sight(first, (slice(0, image.shape[0]), slice(0, image.shape[1])))
    if first.problem or not first.parts:
        return whole
    scale = max(image.shape) / max(first.ink.shape)
    side = max(part.side for part in first.parts)
    if side > NEARER * max(first.ink.shape):
        return whole
    rows, columns = _place(first, scale, tuple(image.shape))
    second = best_look(reduced(image[None, rows, columns])[0].numpy(), first.is_light)
    return whole if second.problem else Sight(second, (rows, columns))


def _place(look: Look, scale: float, shape: tuple[int, ...]) -> Box:
    """Where the digit is on the whole image, with some room around it."""
    ends = []
    room = ROOM * max(part.side for part in look.parts)
    for axis in (0, 1):
        start = min(part.box[axis].start for part in look.parts) - room
        stop = max(part.box[axis].stop for part in look.parts) + room
        ends.append(slice(max(0, int(start * scale)), min(shape[axis], int(stop * scale) + 1)))
    return ends[0], ends[1]


def reduced(images: Tensor, most: float | None = None) -> Tensor:
    """Images (n, H, W) with a longer side of at most so many pixels; by default, to find ink on."""
    most = most or longer_side(WORKING_SIDE, images.shape[1:])
    longest = max(images.shape[1:])
    if longest <= most:
        return images
    size = [max(1, round(side * most / longest)) for side in images.shape[1:]]
    return F.interpolate(images[:, None], size, mode="bilinear", antialias=True)[:, 0]


def shrunk(images: Tensor, factor: int) -> Tensor:
    """Images (n, H, W), reduced by a whole factor; what is left at the right and below is cut."""
    height, width = (side // factor * factor for side in images.shape[1:])
    starts = range(factor)  # sums of slices take a quarter of avg_pool2d's time
    rows = reduce(torch.add, [images[:, start:height:factor, :width] for start in starts])
    return reduce(torch.add, [rows[:, :, start::factor] for start in starts]) / factor**2
