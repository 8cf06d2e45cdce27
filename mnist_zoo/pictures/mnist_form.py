"""Converting any image of a single digit to MNIST's format."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .ink import EMPTY, FAINT, LINKED, ends, ink_of, one_digit, without_frames
from .preprocessing import Preprocessing
from .reading import WORKING_SIDE, PictureError, averaged, is_one_picture, read_pictures

if TYPE_CHECKING:
    from .reading import Pictures

__all__ = ["PictureTransform", "as_mnist"]

SIDE = 28  # of MNIST's pictures
INK_SIDE = 20  # the longer side of their digits
CENTRE = 14.0  # the pixel on which their centre of mass lies, within half a pixel

CHUNK = 1 << 20  # pixels worked on at a time
BRIGHT = 20  # pixels of a digit that are full


def as_mnist(pictures: Pictures) -> Tensor:
    """Makes any pictures of digits into what MNIST's are: uint8 (N, 1, 28, 28), light on black.

    Finds the ink, be it dark on light or light on dark, on paper of uneven light, at any place and
    of any size; scales its longer side to 20 pixels; puts its centre of mass in the middle.
    MNIST's own pictures come back unchanged, and their negatives as the digits that they are of.
    Numbers may be uint8, floats in 0…1, or any other range, which is then stretched; of
    transparent pictures the visible part is taken.

    Args:
        pictures: One or many: PIL's pictures; files or their content (bytes); NumPy arrays
            (H, W), (H, W, C), (N, H, W) or (N, H, W, C); tensors (H, W), (C, H, W) or
            (N, C, H, W); or a sequence of single pictures, of any kinds and sizes. C is 1, 3
            (RGB) or 4 (RGBA): of grey pictures a tensor (N, H, W) is not taken, since for three
            of them it would be one in colour.

    Raises:
        PictureError: If a picture is empty, shows several digits, holds NaN, or is no picture.
        FileNotFoundError: If a file does not exist.
        TypeError: If it is none of the above.
    """
    batches, name_of = read_pictures(pictures)
    count = sum(len(batch) for _, batch in batches)
    digits = torch.empty(count, 1, SIDE, SIDE, dtype=torch.uint8)
    problems: dict[int, str] = {}
    for places, batch in batches:
        for part, rows in _chunks(places, batch):
            values, found = _as_mnist(rows)
            digits[part, 0] = values
            problems.update({int(part[row]): why for row, why in found.items()})
    if problems:
        first = min(problems)
        more = f"; and {len(problems) - 1} more, all in this error's `problems`"
        message = f"{name_of(first)}: {problems[first]}{more if len(problems) > 1 else ''}"
        raise PictureError(message, dict(sorted(problems.items())))
    return digits


class PictureTransform(nn.Module):
    """From any pictures of digits to a network's input, as a transform in torchvision's style.

    Args:
        preprocessing: Size and normalisation that the network expects.

    Shape:
        One picture gives (1, image_size, image_size), several (N, 1, image_size, image_size).
    """

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.preprocessing = preprocessing

    def forward(self, pictures: Pictures) -> Tensor:
        """Maps what `as_mnist` takes to float32.

        Raises:
            PictureError: If a picture cannot be read as one digit.
            FileNotFoundError: If a file does not exist.
            TypeError: If it is no picture.
        """
        images = self.preprocessing(as_mnist(pictures))
        return images[0] if is_one_picture(pictures) else images

    def extra_repr(self) -> str:
        """The size and the normalisation."""
        return str(self.preprocessing)


def _chunks(places: Tensor, batch: Tensor) -> list[tuple[Tensor, Tensor]]:
    count = max(1, CHUNK // batch[0].numel()) if len(batch) else 1
    return list(zip(places.split(count), batch.split(count), strict=True))


def _as_mnist(pictures: Tensor) -> tuple[Tensor, dict[int, str]]:
    """Pictures (n, channels, H, W) of any numbers as uint8 (n, 28, 28), and those that are none."""
    pictures = averaged(pictures)
    if pictures.dtype != torch.float64:  # whose range is wider
        pictures = pictures.float()
    problems = {
        int(row): "holds NaN or infinity"
        for row in (~pictures.isfinite().flatten(1).all(1)).nonzero().squeeze(1)
    }
    grey = _grey(_stretched(pictures.nan_to_num(0, 0, 0)).float())
    negative = 255 - grey
    grey = torch.where(_in_mnist_form(negative)[:, None, None], negative, grey)
    ready = _in_mnist_form(grey)
    digits = torch.empty(len(grey), SIDE, SIDE, dtype=torch.uint8)
    if ready.any():
        digits[ready] = grey[ready].round().to(torch.uint8)
    rest = (~ready).nonzero().squeeze(1)
    if len(rest):
        digits[rest], found = _drawn_anew(grey[rest])
        for row, why in found.items():
            problems.setdefault(int(rest[row]), why)
    return digits, problems


def _stretched(values: Tensor) -> Tensor:
    """Any numbers (n, …) in 0…255: bytes and parts of 1 by their meaning, others by their range."""
    low, high = values.flatten(1).aminmax(dim=1)
    one = (-1, *[1] * (values.dim() - 1))
    low, high = low.view(one), high.view(one)
    whole = (values == values.round()).flatten(1).all(1).view(one)
    is_part = (low >= 0) & (high <= 1)
    is_byte = (low >= 0) & (high <= 255) & whole
    start = torch.where(is_part | is_byte, 0, low)
    wide = high - low
    is_constant = wide <= 1e-3 * torch.maximum(low.abs(), high.abs())  # but for rounding
    by_range = torch.where(is_constant, 0, 255 / wide.clamp(min=1e-300))
    factor = torch.where(is_part, 255, torch.where(is_byte, 1, by_range))
    return (values - start) * factor


def _grey(pictures: Tensor) -> Tensor:
    """Pictures (n, 1, 3 or 4, H, W) in 0…255 as (n, H, W): of the colours that of most contrast."""
    if pictures.shape[1] == 4:
        alpha = pictures[:, 3:] / 255
        seen = (pictures[:, :3] * alpha).sum((1, 2, 3)) / (3 * alpha.sum((1, 2, 3))).clamp(min=1)
        paper = torch.where(seen < 127.5, 255.0, 0.0).view(-1, 1, 1, 1)
        pictures = pictures[:, :3] * alpha + paper * (1 - alpha)
    if pictures.shape[1] == 1:
        return pictures[:, 0]
    colour = pictures.flatten(2).std(2, correction=0).argmax(1)
    return pictures[torch.arange(len(pictures)), colour]


def _in_mnist_form(grey: Tensor) -> Tensor:
    """Which of the pictures (n, H, W) are as MNIST's are, by size, place and range."""
    if grey.shape[1:] != (SIDE, SIDE):
        return torch.zeros(len(grey), dtype=torch.bool)
    ink = grey > 0
    longer = torch.maximum(_extent(ink.any(2)), _extent(ink.any(1)))
    off = torch.stack(_centre_of_mass(grey)).sub(CENTRE).abs().amax(0)
    brightest = grey.amax((1, 2)) >= 250
    return brightest & (longer >= INK_SIDE - 1) & (longer <= INK_SIDE) & (off < 0.55)


def _extent(marked: Tensor) -> Tensor:
    """How many places it is from the first to the last marked one of each row (n, size)."""
    first, last = ends(marked)
    return (last - first + 1) * marked.any(1)


def _centre_of_mass(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Row and column of the centre of mass of each of the pictures (n, H, W)."""
    total = weight.sum((1, 2)).clamp(min=1e-12)
    rows = torch.arange(weight.shape[1], dtype=weight.dtype)
    columns = torch.arange(weight.shape[2], dtype=weight.dtype)
    return weight.sum(2) @ rows / total, weight.sum(1) @ columns / total


def _drawn_anew(grey: Tensor) -> tuple[Tensor, dict[int, str]]:
    """Pictures (n, H, W) in 0…255 as MNIST would have them, and why some are no digit."""
    longest = max(grey.shape[1:])
    if longest > WORKING_SIDE:
        size = [max(1, round(side * WORKING_SIDE / longest)) for side in grey.shape[1:]]
        grey = F.interpolate(grey[:, None], size, mode="bilinear", antialias=True)[:, 0]
    grey = without_frames(grey)
    low, high = grey.flatten(1).aminmax(dim=1)
    problems = {int(row): EMPTY for row in (high - low < FAINT).nonzero().squeeze(1)}
    ink = ink_of(grey)
    kept, found = one_digit(ink)
    for row, why in found.items():
        problems.setdefault(row, why)
    return _placed(kept), problems


def _placed(ink: Tensor) -> Tensor:
    """Ink (n, H, W) in 0…1 as uint8 (n, 28, 28), its size and place those of MNIST's digits.

    One resampling along rows and one along columns does both.
    """
    rows, columns = ink.amax(2), ink.amax(1)
    step = torch.maximum(_length(rows), _length(columns)).clamp(min=1) / INK_SIDE
    centre = torch.stack(_centre_of_mass(ink))
    as_it_is = (step - 1).abs() < 0.03  # moved by whole pixels, strokes stay sharp
    step = torch.where(as_it_is, 1, step)
    centre = torch.where(as_it_is, centre.round(), centre)
    along_rows = _filters(centre[0], step, ink.shape[1])
    along_columns = _filters(centre[1], step, ink.shape[2])
    placed = along_rows @ ink @ along_columns.mT
    # Thin strokes of large pictures have become faint: the brightest pixels are full again.
    bright = placed.flatten(1).topk(BRIGHT).values[:, -1].clamp(min=0.05)
    return (placed / bright[:, None, None]).clamp(0, 1).mul(255).round().to(torch.uint8)


def _length(profile: Tensor) -> Tensor:
    """How long the ink in rows (n, size) of 0…1 is, the pixels at both ends counted in part."""
    first, last = ends(profile > LINKED)
    at_ends = profile.gather(1, torch.stack((first, last), 1)).sum(1)
    return last - first - 1 + at_ends


def _filters(centre: Tensor, step: Tensor, size: int) -> Tensor:
    """Weights (n, 28, size) with which new pixels, `step` old ones apart, see the old ones.

    Smaller pictures are averaged by triangles, larger ones drawn by Keys's cubic (1981), which
    keeps strokes sharp.
    """
    seen = centre[:, None] + (torch.arange(SIDE) - CENTRE) * step[:, None]
    width = step.clamp(min=1)[:, None, None]
    x = (torch.arange(size) - seen[:, :, None]).abs() / width
    weights = (1 - x).clamp(min=0) / width
    drawn_larger = step < 1
    x = x[drawn_larger]
    near, far = (1.5 * x - 2.5) * x * x + 1, ((2.5 - 0.5 * x) * x - 4) * x + 2
    weights[drawn_larger] = torch.where(x < 1, near, torch.where(x < 2, far, 0))
    return weights
