"""Reduces large images before anything is looked for in them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

WORKING_SIDE = 256  # pixels; larger images are reduced to it before the ink is looked for
SLIM = 8  # an image is a strip if its longer side is more than so many times the shorter one
LONGER = 32  # strips keep a longer side, up to so many times longer
LARGEST = 4 * WORKING_SIDE  # pixels; larger images are first reduced by a whole factor, near this


def longer_side(side: int, shape: Sequence[int]) -> float:
    """The longer side that an image of this shape is reduced to: `side`, or more for a strip."""
    return side * min(max(1.0, max(shape) / min(shape) / SLIM), LONGER)


def averaged(pictures: Tensor, factor: int | None = None) -> Tensor:
    """Very large images (n, C, H, W), reduced by a whole factor; range and dtype stay.

    By default, the longer side becomes less than twice `LARGEST`, or longer for a slim image. Works
    in strips: all of a uint8 image as float32 would take four times its memory.
    """
    if factor is None:
        factor = int(max(pictures.shape[2:]) / longer_side(LARGEST, pictures.shape[2:]))
    if factor < 2:
        return pictures
    if pictures.dtype == torch.uint8 and pictures.shape[1] in (1, 3):
        return torch.cat([_averaged_bytes(picture, factor) for picture in pictures])
    strips = [
        F.avg_pool2d(strip.float(), factor, ceil_mode=True)
        for strip in pictures.split(64 * factor, 2)
    ]
    small = torch.cat(strips, 2)
    return small if pictures.is_floating_point() else small.round().to(pictures.dtype)


def _averaged_bytes(picture: Tensor, factor: int) -> Tensor:
    """An image (C, H, W) of bytes, reduced as (1, C, H, W) by PIL: five times faster."""
    import numpy as np
    from PIL import Image

    pixels = picture.movedim(0, 2).squeeze(2).contiguous().numpy()
    small = torch.from_numpy(np.array(Image.fromarray(pixels).reduce(factor)))
    return small.movedim(2, 0)[None] if small.dim() == 3 else small[None, None]
