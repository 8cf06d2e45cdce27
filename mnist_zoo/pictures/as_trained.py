"""Images in the form in which a network was trained on them: redrawn as MNIST's, or as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .mnist_form import as_mnist, check_problems
from .preprocessing import Preprocessing
from .reading import PictureError, read_pictures

if TYPE_CHECKING:
    from .reading import Batch, Pictures

LUMINANCE = (0.299, 0.587, 0.114)  # of red, green and blue, as PIL converts to grey


def as_trained(
    pictures: Pictures, preprocessing: Preprocessing, channels: int | None
) -> list[Batch]:
    """Reads images for a network; `channels` is the number that it takes, None if unknown.

    Returns:
        Batches of one shape each, uint8 or float in 0…1.

    Raises:
        PictureError: If an image cannot be brought to that form.
    """
    if preprocessing.redraw:
        digits = as_mnist(pictures)
        digits = 255 - digits if preprocessing.dark_on_light else digits
        return [(range(len(digits)), digits)]
    shape = tuple(pictures.shape) if isinstance(pictures, Tensor) else ()
    if len(shape) == 3 and shape[0] in (3, 4) and channels == 1:
        raise PictureError(
            f"the image: its shape {shape} may be one in colour or several grey ones; pass "
            "[image] for one, or images[:, None] for several"
        )
    batches, name_of = read_pictures(pictures)
    problems: dict[int, str] = {}
    read: list[Batch] = []
    for places, batch in batches:
        images, found = _as_they_are(batch, channels)
        problems |= {places[row]: why for row, why in found.items()}
        read.append((places, images))
    check_problems(problems, name_of)
    return read


def _as_they_are(images: Tensor, channels: int | None) -> tuple[Tensor, dict[int, str]]:
    """Images (n, C, H, W) as uint8 or float in 0…1; what is wrong with each bad one, by index."""
    problems: dict[int, str] = {}
    highest = 1 if images.is_floating_point() else 255
    if images.dtype != torch.uint8:
        is_good = ((images >= -1e-3) & (images <= highest + 1e-3)).flatten(1).all(1)  # not NaN
        rule = "must hold integers in 0…255, or floating-point numbers in 0…1"
        problems = dict.fromkeys((~is_good).nonzero().flatten().tolist(), rule)
        images = images.float() if highest == 1 else images.to(torch.uint8)
    if highest == 255:
        is_binary = images.amax((1, 2, 3)) <= 1  # as `Digits.from_arrays` reads 0 and 1
        if is_binary.any():
            images = torch.where(is_binary.view(-1, 1, 1, 1), images * 255, images)
    if images.shape[1] == 4 != channels:
        is_clear = (images[:, 3] < highest).flatten(1).any(1)
        rule = "must be opaque; draw it on a background first"
        problems |= dict.fromkeys(is_clear.nonzero().flatten().tolist(), rule)
        images = images[:, :3]
    if images.shape[1] == 3 and channels == 1:
        weights = torch.tensor(LUMINANCE, dtype=torch.float32, device=images.device)
        grey = (images.float() * weights.view(-1, 1, 1)).sum(1, keepdim=True)
        images = grey if highest == 1 else grey.round().to(torch.uint8)
    return images, problems
