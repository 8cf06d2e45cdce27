"""From images in MNIST's format to a network's input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from .._checks import check_positive, check_range
from .._networks import unwrapped

__all__ = ["Preprocessing"]


def to_float(images: Tensor) -> Tensor:
    """Pictures as float32: uint8 ones divided by 255, float ones as they are."""
    return images.float() if images.is_floating_point() else images.float().div_(255)


@dataclass(frozen=True)
class Preprocessing:
    """Size and normalisation of the pictures that a network was trained on.

    Calling it maps pictures (N, C, H, W), uint8 or float between 0 and 1, to float32
    (N, C, image_size, image_size): first the size, then ``(picture - mean) / std``.

    Attributes:
        mean: Subtracted from every pixel; the default is the mean of MNIST's training pixels.
        std: Divides every pixel; the default is the standard deviation of the same pixels.
        image_size: Height and width that come out.
        resize: How they are reached: by antialiased ``"bilinear"`` interpolation, or by a
            ``"pad"`` of background (0) on all four sides.

    Raises:
        ValueError: If a value is impossible.
    """

    mean: float = 0.1307
    std: float = 0.3081
    image_size: int = 28
    resize: Literal["bilinear", "pad"] = "bilinear"

    def __post_init__(self) -> None:
        check_positive(image_size=self.image_size)
        check_range(mean=self.mean)
        check_range(above=0, std=self.std)
        if self.resize not in ("bilinear", "pad"):
            raise ValueError(f"`resize` (={self.resize!r}) must be 'bilinear' or 'pad'")

    def __call__(self, images: Tensor) -> Tensor:
        """Maps pictures (N, C, H, W), uint8 or float in 0…1, to what the network expects.

        Raises:
            ValueError: If pictures larger than `image_size` are to be padded.
        """
        return self._resized(to_float(images)).sub(self.mean).div_(self.std)

    def _resized(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        if height == width == self.image_size:
            return images
        if self.resize == "bilinear":
            size = (self.image_size, self.image_size)
            return F.interpolate(images, size, mode="bilinear", antialias=True)
        right, below = self.image_size - width, self.image_size - height
        if right < 0 or below < 0:
            raise ValueError(
                f"`image_size` (={self.image_size}) must be at least the pictures' "
                f"{height}×{width} where `resize` is 'pad'"
            )
        return F.pad(images, (right // 2, right - right // 2, below // 2, below - below // 2))


def preprocessing_of(model: nn.Module, size: int = 28) -> Preprocessing:
    """What the network was trained with, if it knows; else MNIST's, at its size."""
    model = unwrapped(model)
    known = getattr(model, "preprocessing", None)
    if isinstance(known, Preprocessing):
        return known
    own_size = getattr(model, "image_size", None)
    return Preprocessing(image_size=own_size if isinstance(own_size, int) else size)
