"""Random changes of images beyond geometry: strokes, blur, noise, light, bands, sampling."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from .._checks import check_range, plain
from .augmentation import float_batch, random_like

__all__ = ["Corruption", "corrupt"]

Kind = Callable[[Tensor, Tensor, torch.Generator | None], Tensor]
KINDS_PER_IMAGE = 2  # on average, if there are more


@dataclass(frozen=True)
class Corruption:
    """The largest random changes of an image beyond geometry; 0 switches a kind off.

    Each corrupted image gets each kind at random, two kinds on average; the kinds follow each other
    in the order of the attributes. Each image draws its own strength, uniformly between 0 and the
    bound. Ink is 1 and paper 0.

    Attributes:
        share: Share of the images that are corrupted, from 0 to 1.
        thickness: Largest growth of the strokes on both sides, in pixels, at most 1; or as much
            thinning.
        blur: Largest standard deviation of a Gaussian blur, in pixels.
        coarse: Largest size of coarser pixels, in pixels of the image: 3.5 leaves 8×8 of 28×28.
            Half of the coarse images turn black and white, and half are drawn smoothly again.
        bands: Largest width of two straight bands, dotted or solid, of ink or of paper, in pixels.
        inversion: Largest half width of a band in which ink and paper are swapped, as a fraction of
            the image's size; it lies anywhere, so it may also cover one side.
        contrast: Largest loss of contrast, as a fraction of the range from paper to ink.
        light: Largest darkening of the paper by a smooth shadow, and fading of the ink by another.
        grain: Largest strength of smooth noise, with blotches of about 3 pixels.
        noise: Largest standard deviation of Gaussian noise.
        specks: Largest fraction of pixels that become ink or paper.

    Raises:
        ValueError: If a value is out of range.

    Source:
        The idea of a fixed set of corruptions is that of Mu and Gilmer 2019 (MNIST-C), after
        Hendrycks and Dietterich 2019. The kinds here are our own.

    Example:
        >>> from mnist_zoo import Corruption
        >>> bool(Corruption(share=0.3, noise=0.3)), bool(Corruption(share=0.3))
        (True, False)
    """

    share: float = 0.0
    thickness: float = 0.0
    blur: float = 0.0
    coarse: float = 0.0
    bands: float = 0.0
    inversion: float = 0.0
    contrast: float = 0.0
    light: float = 0.0
    grain: float = 0.0
    noise: float = 0.0
    specks: float = 0.0

    def __post_init__(self) -> None:
        for entry in fields(self):
            object.__setattr__(self, entry.name, plain(getattr(self, entry.name)))
        for name in ("share", "thickness", "inversion", "contrast", "light", "specks"):
            check_range(at_least=0, at_most=1, **{name: getattr(self, name)})
        for name in ("blur", "coarse", "bands", "grain", "noise"):
            check_range(at_least=0, at_most=1000, **{name: getattr(self, name)})

    def __bool__(self) -> bool:
        """Whether it changes anything."""
        return bool(self.share and self.strengths)

    @property
    def strengths(self) -> dict[str, float]:
        """The bounds of the kinds that are switched on."""
        return {name: bound for name in KINDS if (bound := getattr(self, name))}


def corrupt(
    images: Tensor, corruption: Corruption, generator: torch.Generator | None = None
) -> Tensor:
    """Changes some of the images at random.

    Args:
        images: Images (N, C, H, W), uint8 or float from 0 to 1, with bright ink on dark paper.
        corruption: Which changes to make, and how large they may be.
        generator: Random number generator on the images' device; None for torch's default one.

    Returns:
        float32 images of the same shape from 0 to 1; uint8 values are divided by 255.

    Raises:
        TypeError: If `images` is no tensor, or `corruption` is something else.
        ValueError: If the images are not (N, C, H, W).

    Example:
        >>> import torch
        >>> from mnist_zoo import Corruption, corrupt
        >>> corrupt(torch.rand(8, 1, 28, 28), Corruption(share=0.5, noise=0.3)).shape
        torch.Size([8, 1, 28, 28])
    """
    images = float_batch(images, corruption=(corruption, Corruption))
    if not corruption:
        return images
    count, strengths = round(corruption.share * len(images)), corruption.strengths
    device = images.device
    chosen = torch.randperm(len(images), generator=generator, device=device)[:count]
    changed = images.index_select(0, chosen)
    each = round(count * min(1, KINDS_PER_IMAGE / len(strengths)))
    with torch.autocast(device.type, enabled=False):
        for name, bound in strengths.items():
            rows = torch.randperm(count, generator=generator, device=device)[:each]
            strength = bound * random_like(images, (each,), generator)
            drawn = KINDS[name](changed.index_select(0, rows), strength, generator)
            changed.index_copy_(0, rows, drawn.clamp(0, 1))
    return images.index_copy(0, chosen, changed)


# --- The kinds: images (N, C, H, W) and a strength per image (N,) give images --------------------


def thicken(images: Tensor, strength: Tensor, generator: torch.Generator | None) -> Tensor:
    """Grows the strokes of half of the images, and thins those of the others."""
    thinner = _draw(images, generator) < 0.5
    signed = torch.where(thinner, -images, images)
    widened = F.max_pool2d(signed, 3, stride=1, padding=1)
    return torch.lerp(signed, widened, _column(strength)) * (1 - 2 * thinner.to(images.dtype))


def blurred(images: Tensor, strength: Tensor, generator: torch.Generator | None) -> Tensor:
    """Blurs with a Gaussian of that standard deviation; outside is paper."""

    def matrix(size: int) -> Tensor:
        place = torch.arange(1 - size, size, dtype=images.dtype, device=images.device)
        kernel = (-0.5 * (place / strength.clamp(min=0.05)[:, None]).square()).exp()
        kernel = kernel / kernel.sum(1, keepdim=True)
        from_to = torch.arange(size, device=images.device)
        return kernel[:, from_to[:, None] - from_to + size - 1]

    return _both_axes(images, matrix)


def coarser(images: Tensor, strength: Tensor, generator: torch.Generator | None) -> Tensor:
    """Averages over larger pixels, half of the time in black and white, and draws them again."""
    size = strength.clamp(min=1)[:, None, None]  # of a new pixel
    sharp = _draw(images, generator) < 0.5

    def down(length: int) -> Tensor:
        place = torch.arange(length, dtype=images.dtype, device=images.device)
        inside = (((place + 0.5) / size).floor() == place[:, None]).to(images.dtype)
        return inside / inside.sum(2, keepdim=True).clamp(min=1)

    def up(length: int) -> Tensor:
        place = torch.arange(length, dtype=images.dtype, device=images.device)
        position = (place[:, None] + 0.5) / size - 0.5
        used = place < (length / size).ceil()
        nearest = ((position.round() == place) & used).to(images.dtype)
        near = (1 - (position - place).abs()).clamp(min=0) * used + 1e-6 * nearest
        weights = torch.where(sharp[:, 0], nearest, near)
        return weights / weights.sum(2, keepdim=True).clamp(min=1e-6)

    small = _both_axes(images, down)
    highest = small.amax((1, 2, 3), keepdim=True)
    binary = (small > highest / 2).to(small.dtype)
    black = (_draw(images, generator) < 0.5) & (_column(strength) > 1)
    return _both_axes(torch.where(black, binary, small), up)


def banded(images: Tensor, strength: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draws two straight bands of at most that width, one of ink and one of paper or ink."""
    width = _column(strength)
    for _ in range(2):
        distance = _distance_from_line(images, generator)
        band = (width / 2 + 0.5 - distance).clamp(min=0).minimum(width.clamp(max=1))
        dots = random_like(images, images.shape, generator)
        band = band * (dots < 0.4 + 0.8 * _draw(images, generator))
        ink = (_draw(images, generator) < 0.7).to(images.dtype)
        images = torch.lerp(images, ink, band)
    return images


def inverted(images: Tensor, strength: Tensor, generator: torch.Generator | None) -> Tensor:
    """Swaps ink and paper in a band of that half width, as a fraction of the image's size."""
    reach = _column(strength) * max(images.shape[-2:])
    inside = (reach + 0.5 - _distance_from_line(images, generator)).clamp(0, 1)
    return torch.lerp(images, 1 - images, inside * (reach > 0))


def faded(images: Tensor, strength: Tensor, generator: torch.Generator | None) -> Tensor:
    """Takes that fraction of the contrast, from the ink and from the paper."""
    lost = _column(strength)
    return images * (1 - lost) + lost * _draw(images, generator)


def shaded(images: Tensor, strength: Tensor, generator: torch.Generator | None) -> Tensor:
    """Darkens the paper by a smooth shadow, and fades the ink by another."""
    shadow, fading = (_field(images, (3, 3), generator) for _ in range(2))
    images = images * (1 - 0.8 * _column(strength) * fading)
    return images + (1 - images) * _column(strength) * shadow


def grained(images: Tensor, strength: Tensor, generator: torch.Generator | None) -> Tensor:
    """Adds smooth noise between minus and plus that strength."""
    height, width = images.shape[-2:]
    coarse = (-(-height // 3), -(-width // 3))
    return images + _column(strength) * (2 * _field(images, coarse, generator) - 1)


def noisy(images: Tensor, strength: Tensor, generator: torch.Generator | None) -> Tensor:
    """Adds Gaussian noise of that standard deviation."""
    noise = torch.randn(images.shape, generator=generator, dtype=images.dtype, device=images.device)
    return images + _column(strength) * noise


def speckled(images: Tensor, strength: Tensor, generator: torch.Generator | None) -> Tensor:
    """Makes that fraction of the pixels ink or paper."""
    drawn = random_like(images, images.shape, generator)
    half = _column(strength) / 2
    return torch.where(drawn < half, 0.0, torch.where(drawn > 1 - half, 1.0, images))


KINDS: dict[str, Kind] = {
    "thickness": thicken,
    "blur": blurred,
    "coarse": coarser,
    "bands": banded,
    "inversion": inverted,
    "contrast": faded,
    "light": shaded,
    "grain": grained,
    "noise": noisy,
    "specks": speckled,
}


# --- What they share -----------------------------------------------------------------------------


def _column(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)


def _draw(images: Tensor, generator: torch.Generator | None) -> Tensor:
    """One number per image, from 0 to 1: (N, 1, 1, 1)."""
    return _column(random_like(images, (len(images),), generator))


def _field(images: Tensor, size: tuple[int, int], generator: torch.Generator | None) -> Tensor:
    """A smooth random field per image from 0 to 1, of so many independent values."""
    values = random_like(images, (len(images), 1, *size), generator)
    return F.interpolate(values, images.shape[-2:], mode="bilinear", align_corners=True)


def _distance_from_line(images: Tensor, generator: torch.Generator | None) -> Tensor:
    """The distance of each pixel from a random line through the image: (N, 1, H, W)."""
    height, width = images.shape[-2:]
    rows, columns = (
        torch.arange(size, dtype=images.dtype, device=images.device) - (size - 1) / 2
        for size in (height, width)
    )
    angle = math.pi * _draw(images, generator)
    offset = (_draw(images, generator) - 0.5) * min(height, width)
    return (columns * angle.cos() + rows[:, None] * angle.sin() - offset).abs()


def _both_axes(images: Tensor, matrix: Callable[[int], Tensor]) -> Tensor:
    """Multiplies rows and columns of each image by its matrix (N, to, from) for their length."""
    height, width = images.shape[-2:]
    return matrix(height)[:, None] @ images @ matrix(width)[:, None].mT
