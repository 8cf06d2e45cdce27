"""Random geometric changes of training images: affine maps and elastic distortion."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from .._checks import check_range, plain
from ..pictures.preprocessing import to_float

__all__ = ["Augmentation", "augment"]

MOST_PIXELS = 1_000_000  # far larger bounds overflow float32


@dataclass(frozen=True)
class Augmentation:
    """The largest random changes of an image; 0 switches a change off.

    Each image draws its own values, uniformly between minus and plus the bound.

    Attributes:
        rotation: Largest rotation, in degrees.
        shift: Largest shift in each direction, in pixels.
        scale: Largest relative change of size: 0.1 draws factors from 0.9 to 1.1.
        shear: Largest angle by which vertical lines lean, in degrees.
        elastic: Strength of the elastic distortion: the largest random displacement, in pixels,
            before smoothing.
        elastic_sigma: Smoothness of the elastic distortion: standard deviation, in pixels, of the
            Gaussian that smooths the random displacements.

    Raises:
        ValueError: If a value is out of range.

    Example:
        >>> from mnist_zoo import Augmentation
        >>> Augmentation(rotation=10, shift=2)
        Augmentation(rotation=10, shift=2, scale=0.0, shear=0.0, elastic=0.0, elastic_sigma=4.0)

    Source:
        Elastic distortion: Simard, Steinkraus, Platt, "Best practices for convolutional neural
        networks applied to visual document analysis", 2003, section 2 (34 and 4).
    """

    rotation: float = 0.0
    shift: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    elastic: float = 0.0
    elastic_sigma: float = 4.0

    def __post_init__(self) -> None:
        for entry in fields(self):
            object.__setattr__(self, entry.name, plain(getattr(self, entry.name)))
        _check_bounds(**vars(self))
        check_range(at_least=0, below=360, rotation=self.rotation)
        check_range(at_least=0, at_most=MOST_PIXELS, shift=self.shift, elastic=self.elastic)
        check_range(at_least=0, below=1, scale=self.scale)
        check_range(at_least=0, below=90, shear=self.shear)
        check_range(above=0, at_most=MOST_PIXELS, elastic_sigma=self.elastic_sigma)

    def __bool__(self) -> bool:
        """Whether it changes anything."""
        return any((self.rotation, self.shift, self.scale, self.shear, self.elastic))


def _check_bounds(**values: object) -> None:
    """Raises ValueError for the first value that is several: a range, one per axis, an array."""
    for name, value in values.items():
        if hasattr(value, "__len__") and not isinstance(value, str):
            rule = "must be one number: images draw between minus and plus this bound"
            raise ValueError(f"`{name}` (={value!r}) {rule}")


def augment(
    images: Tensor, augmentation: Augmentation, generator: torch.Generator | None = None
) -> Tensor:
    """Moves and distorts each image at random, in a single bilinear resampling.

    Args:
        images: Images (N, C, H, W), uint8 or float; areas from outside the image are 0.
        augmentation: Which changes to make, and how large they may be.
        generator: Random number generator on the images' device; None for torch's default one.

    Returns:
        float32 images of the same shape; uint8 values are divided by 255.

    Raises:
        TypeError: If `images` is no tensor, or `augmentation` is something else.
        ValueError: If the images are not (N, C, H, W).

    Example:
        >>> import torch
        >>> from mnist_zoo import Augmentation, augment
        >>> augment(torch.rand(8, 1, 28, 28), Augmentation(rotation=10, shift=2)).shape
        torch.Size([8, 1, 28, 28])
    """
    images = float_batch(images, augmentation=(augmentation, Augmentation))
    if not len(images):
        return images
    with torch.autocast(images.device.type, enabled=False):
        return resample(images, sampling_grid(images, len(images), augmentation, generator))


def float_batch(images: Tensor, **settings: tuple[object, type]) -> Tensor:
    """Checks images and settings, each with the type that it must have; the images as float32.

    Raises:
        TypeError: If `images` is no tensor, or a setting is of another type.
        ValueError: If the images are not (N, C, H, W).
    """
    for name, (value, kind) in settings.items():
        if not isinstance(value, kind):
            raise TypeError(f"`{name}` (={value!r:.80}) must be of type {kind.__name__}")
    if not isinstance(images, Tensor):
        rule = "must be a tensor (N, C, H, W), such as `Digits.images`"
        raise TypeError(f"`images` {rule}; its type is {type(images).__name__}")
    if images.dim() != 4:
        raise ValueError(f"`images` must be (N, C, H, W), got {tuple(images.shape)}")
    return to_float(images)


def random_like(images: Tensor, shape: Sequence[int], generator: torch.Generator | None) -> Tensor:
    """Numbers from 0 to 1, in the images' type and on their device, whatever torch's defaults."""
    return torch.rand(shape, generator=generator, dtype=images.dtype, device=images.device)


def resample(images: Tensor, grid: Tensor) -> Tensor:
    """Samples each image at the points (N, H, W, 2) of its grid; 0 outside."""
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def sampling_grid(
    images: Tensor, count: int, augmentation: Augmentation, generator: torch.Generator | None
) -> Tensor:
    """Draws points (count, H, W, 2) in -1…1, at which to sample `count` images of this size."""
    height, width = images.shape[-2:]

    def draw(bound: float) -> Tensor:
        return random_like(images, (count,), generator).mul_(2 * bound).sub_(bound)

    angle, lean = draw(math.radians(augmentation.rotation)), draw(math.radians(augmentation.shear))
    size = 1 + draw(augmentation.scale)
    right, down = draw(2 * augmentation.shift / width), draw(2 * augmentation.shift / height)
    # the inverse map, from a point of the new image to its point in the old one, in complex
    # numbers: x + iy, both from -1 to 1 whatever the image's height and width
    cos, sin, tan = angle.cos() / size, angle.sin() / size, lean.tan()
    flat = height / width
    per_x = torch.complex(cos, -sin / flat)[:, None, None]
    per_y = torch.complex((sin + cos * tan) * flat, cos - sin * tan)[:, None, None]
    x, y = _middles(images)
    points = per_x * (x - right[:, None, None]) + per_y * (y - down[:, None, None])
    if augmentation.elastic:
        noise = random_like(images, (count, 2, height, width), generator)
        pixels = _smoothed(noise.mul_(2).sub_(1), augmentation.elastic_sigma)
        pixels = pixels.mul_(augmentation.elastic)
        points += torch.complex(pixels[:, 0] * (2 / width), pixels[:, 1] * (2 / height))
    return torch.view_as_real(points)


def _middles(images: Tensor) -> tuple[Tensor, Tensor]:
    """Where the pixels lie, from -1 to 1: x (W), and y (H, 1)."""

    def middles(size: int) -> Tensor:
        places = torch.arange(size, dtype=images.dtype, device=images.device)
        return (2 * places + 1) / size - 1

    return middles(images.shape[-1]), middles(images.shape[-2])[:, None]


def _smoothed(fields: Tensor, sigma: float) -> Tensor:
    """Convolves fields (…, H, W), 0 outside, with a Gaussian: a product with two band matrices."""

    def band(size: int) -> Tensor:
        place = torch.arange(size, dtype=fields.dtype, device=fields.device)
        weights = (place[:, None] - place).div(sigma).square().mul(-0.5).exp()
        return weights / (sigma * math.sqrt(2 * math.pi))

    return band(fields.shape[-2]) @ fields @ band(fields.shape[-1])
