"""From images in MNIST's format to a network's input, and to its logits."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._checks import check_positive, check_range
from .._networks import eval_mode, unwrapped

__all__ = ["Preprocessing"]


@dataclass(frozen=True)
class Preprocessing:
    """Size and normalisation of the images that a network is trained on.

    Calling it maps images (N, C, H, W), uint8 or float in 0…1, to float32
    (N, C, image_size, image_size): it resizes them, then computes ``(image - mean) / std``.

    Attributes:
        mean: Subtracted from every pixel. The default is the mean of MNIST's training pixels.
        std: Divides every pixel. The default is the standard deviation of the same pixels.
        image_size: Height and width of the output.
        resize: ``"bilinear"`` for antialiased interpolation, ``"pad"`` to add background (0) on
            all four sides.

    Raises:
        ValueError: If a value is out of range.

    Example:
        >>> import torch
        >>> from mnist_zoo import Preprocessing
        >>> Preprocessing(image_size=32)(torch.rand(5, 1, 28, 28)).shape
        torch.Size([5, 1, 32, 32])
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
        """Maps images (N, C, H, W), uint8 or float in 0…1, to what the network expects.

        Raises:
            ValueError: If `resize` is ``"pad"`` and the images are larger than `image_size`.
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
                f"`image_size` (={self.image_size}) must be at least the images' "
                f"{height}×{width} where `resize` is 'pad'"
            )
        return F.pad(images, (right // 2, right - right // 2, below // 2, below - below // 2))


def to_float(images: Tensor) -> Tensor:
    """Images as float32: uint8 values are divided by 255, float values stay as they are."""
    return images.float() if images.is_floating_point() else images.float().div_(255)


def preprocessing_of(model: nn.Module, size: int = 28) -> Preprocessing:
    """The network's own preprocessing; else MNIST's, at the network's `image_size` or `size`."""
    model = unwrapped(model)
    known = getattr(model, "preprocessing", None)
    if isinstance(known, Preprocessing):
        return known
    own_size = getattr(model, "image_size", None)
    return Preprocessing(image_size=own_size if isinstance(own_size, int) else size)


@torch.inference_mode()
def logits(model: nn.Module, images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Float32 logits (N, classes) of images (N, C, H, W), in eval mode on the model's device."""
    none = images.new_empty(0, dtype=torch.float32)
    tensor = next(itertools.chain(model.parameters(), model.buffers()), none)
    inputs = preprocessing(images.to(tensor.device))
    size = getattr(unwrapped(model), "input_size", None)
    if isinstance(size, tuple) and len(size) == 3 and size[0] != inputs.shape[1] == 1:
        inputs = inputs.expand(-1, size[0], -1, -1)
    if tensor.is_floating_point():
        inputs = inputs.to(tensor.dtype)
    with eval_mode(model):
        return model(inputs).float()
