"""From images in MNIST's format to a network's input, and to its logits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import NoneType
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._checks import check_range
from .._names import check_choice
from .._networks import first_in

__all__ = ["Preprocessing"]

MAX_SIDE = 4096  # pixels of an image, as far as a file is believed


LARGEST = 10**6  # of a mean or standard deviation; beyond it float32 loses the image
SMALLEST = 1e-6  # standard deviation
LARGEST_SIDE = 1 << 14  # pixels


@dataclass(frozen=True)
class Preprocessing:
    """How the images that a network is trained on are prepared.

    Calling it maps images (N, C, H, W), uint8 or float in 0…1, to float32
    (N, C, image_size, image_size): it resizes them, then computes ``(image - mean) / std``.
    `predict` also follows `redraw` and `dark_on_light`, which `fit` finds from its images.

    Attributes:
        mean: Subtracted from every pixel: a number, or a tuple of one per channel. The default is
            the mean of MNIST's training pixels.
        std: Divides every pixel: a number, or a tuple of one per channel. The default is the
            standard deviation of MNIST's training pixels.
        image_size: Height and width of the output.
        resize: ``"bilinear"`` for antialiased interpolation, ``"pad"`` to add background (0) on
            all four sides.
        redraw: Whether `predict` redraws images as MNIST's are, by `as_mnist`, or takes them as
            they are.
        dark_on_light: With `redraw`, whether the network was trained on dark ink on light paper;
            `predict` then inverts the redrawn images.

    Raises:
        ValueError: If a value is out of range.

    Example:
        >>> import torch
        >>> from mnist_zoo import Preprocessing
        >>> Preprocessing(image_size=32)(torch.rand(5, 1, 28, 28)).shape
        torch.Size([5, 1, 32, 32])
    """

    mean: float | tuple[float, ...] = 0.1307
    std: float | tuple[float, ...] = 0.3081
    image_size: int = 28
    resize: Literal["bilinear", "pad"] = "bilinear"
    redraw: bool = True
    dark_on_light: bool = False

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            plain = value.tolist() if hasattr(value, "tolist") else value  # NumPy's, torch's
            object.__setattr__(self, name, plain)
        check_range(at_least=1, at_most=LARGEST_SIDE, whole=True, image_size=self.image_size)
        for name, lowest in (("mean", -LARGEST), ("std", SMALLEST)):
            value = getattr(self, name)
            values = value if isinstance(value, (tuple, list)) and value else (value,)
            for number in values:
                check_range(at_least=lowest, at_most=LARGEST, **{name: number})
            numbers = tuple(map(float, values))
            object.__setattr__(self, name, numbers[0] if values[0] is value else numbers)
        check_choice(resize=(self.resize, ("bilinear", "pad")))
        for name in ("redraw", "dark_on_light"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"`{name}` (={getattr(self, name)!r}) must be True or False")
        if self.dark_on_light and not self.redraw:
            raise ValueError("`dark_on_light` (=True) needs `redraw`, which is False")
        if len({len(x) for x in (self.mean, self.std) if isinstance(x, tuple)}) > 1:
            raise ValueError(
                f"`mean` (={self.mean}) and `std` (={self.std}) must have a number per channel"
            )

    def __call__(self, images: Tensor) -> Tensor:
        """Maps images (N, C, H, W), uint8 or float in 0…1, to what the network expects.

        Grey images get three channels where `mean` or `std` has three.

        Raises:
            ValueError: If `resize` is ``"pad"`` and the images are larger than `image_size`, or
                `mean` or `std` is for another number of channels.
        """
        images = self._resized(to_float(images))
        if isinstance(self.mean, float) and isinstance(self.std, float):
            return images.sub(self.mean).div_(self.std)
        mean, std = (
            torch.tensor(values, dtype=images.dtype, device=images.device).view(-1, 1, 1)
            for values in (self.mean, self.std)
        )
        channels = max(len(mean), len(std))
        if images.shape[1] not in (1, channels):
            raise ValueError(
                f"`mean` and `std` are for {channels} channels; the images have {images.shape[1]}"
            )
        return images.sub(mean).div(std)

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
                f"`image_size` (={self.image_size}) must be at least the images' "
                f"{height}×{width} where `resize` is 'pad'"
            )
        return F.pad(images, (right // 2, right - right // 2, below // 2, below - below // 2))


def to_float(images: Tensor) -> Tensor:
    """Images as float32: uint8 values are divided by 255, floats and booleans stay as they are."""
    as_is = images.is_floating_point() or images.dtype == torch.bool
    return images.float() if as_is else images.float().div_(255)


def check_preprocessing(preprocessing: object) -> None:
    """Raises TypeError if the argument `preprocessing` is neither a `Preprocessing` nor None."""
    if not isinstance(preprocessing, (Preprocessing, NoneType)):
        kind = type(preprocessing).__name__
        raise TypeError(f"`preprocessing` must be a Preprocessing or None; its type is {kind}")


def preprocessing_of(model: nn.Module, size: int = 28) -> Preprocessing:
    """The network's own preprocessing; else MNIST's, at the network's `image_size` or `size`."""
    known = first_in(model, "preprocessing")
    if isinstance(known, Preprocessing):
        return known
    own_size = first_in(model, "image_size")
    return Preprocessing(image_size=own_size if isinstance(own_size, int) else size)


def parse_preprocessing(values: Mapping[str, Any]) -> Preprocessing:
    """The preprocessing that a file states.

    Raises:
        ValueError: If a value is out of range, or images are larger than a file is believed.
        TypeError: If it is something else.
    """
    preprocessing = Preprocessing(**values)
    if preprocessing.image_size > MAX_SIDE:
        raise ValueError(f"its images must have at most {MAX_SIDE} pixels a side")
    return preprocessing
