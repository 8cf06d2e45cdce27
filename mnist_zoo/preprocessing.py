"""From any picture of a digit to the tensor that a network expects.

Pictures become what MNIST's are, by the steps by which those were made (LeCun et al. 1998,
section III.A): the ink, light on black; its longer side 20 pixels; its centre of mass in the
middle of 28×28 pixels. Pictures that are so already stay as they are.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._checks import check_positive
from ._networks import unwrapped

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    Picture: TypeAlias = (
        Image.Image | str | os.PathLike[str] | bytes | np.ndarray[Any, Any] | Tensor
    )
    """One picture: of PIL, a file or its content, an array (H, W) or (H, W, C), a tensor (H, W) or
    (C, H, W); C is 1 (grey), 3 (RGB) or 4 (RGBA)."""

    Pictures: TypeAlias = Picture | Sequence[Picture]
    """One picture, a sequence of them, an array (N, H, W) or (N, H, W, C), or a tensor
    (N, C, H, W)."""

__all__ = ["PictureError", "PictureTransform", "Preprocessing", "as_mnist"]

SIDE = 28  # of MNIST's pictures
INK_SIDE = 20  # the longer side of their digits
CENTRE = 14.0  # the pixel on which their centre of mass lies, within half a pixel

CHUNK = 1 << 20  # pixels worked on at a time
WORKING_SIDE = 256  # larger pictures are reduced to it first
PAPER_SIDE = 64  # the paper's light is seen on a picture of this size
SMALLEST_PHOTO = 24  # pixels; on smaller pictures the paper is taken to be even
DIM = 16.0  # of 255: light below which differences are noise
FAINT = 5.0  # of 255: pictures with less contrast are empty
NOISE = 5.0  # and so are those whose ink is not this many deviations of the paper's noise
PALE = 0.015  # part of the light that ink takes at least
FRAME = 0.9  # of an outline that is no digit's
LINKED = 0.2  # ink that connects parts
SPECK = 0.03  # smallest part of a digit, of all its ink
BRIGHT = 20  # pixels of a digit that are full

EMPTY = "must show a digit; it is empty"
SEVERAL = "must show one digit; it shows several"


class PictureError(ValueError):
    """A picture cannot be read as one digit; the message says which picture, and why.

    Attributes:
        problems: What is wrong with each picture of several, by its place among them; empty where
            the first error ended the reading.
    """

    def __init__(self, message: str, problems: Mapping[int, str] | None = None) -> None:
        super().__init__(message)
        self.problems = dict(problems or {})


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
        for name, value in (("mean", self.mean), ("std", self.std)):
            if isinstance(value, bool) or not abs(value) < math.inf:
                raise ValueError(f"`{name}` (={value!r}) must be a finite number")
        if not self.std > 0:
            raise ValueError(f"`std` (={self.std!r}) must be more than 0")
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
    batches, name_of = _read(pictures)
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


def is_one_picture(pictures: Pictures) -> bool:
    """Whether this is one picture, rather than several."""
    if _is_sequence(pictures):
        return False
    if isinstance(pictures, Tensor):
        return pictures.dim() < 4
    if hasattr(pictures, "__array_interface__") and not hasattr(pictures, "convert"):
        shape = cast("np.ndarray[Any, Any]", pictures).shape
        return len(shape) < 3 or (len(shape) == 3 and shape[2] in (1, 3, 4))
    return True


def _is_sequence(pictures: Any) -> bool:
    return isinstance(pictures, Sequence) and not isinstance(pictures, (str, bytes))


# --- Reading: whatever it is becomes numbers (n, channels, H, W), one batch a size -----------


def _read(pictures: Pictures) -> tuple[list[tuple[Tensor, Tensor]], Callable[[int], str]]:
    """Batches of one shape each, with the places of their pictures; and how each is called."""
    if not _is_sequence(pictures):
        name = _name(pictures, None)
        batch = _tensor(pictures, name)
        alone = is_one_picture(pictures)
        return [(torch.arange(len(batch)), batch)], lambda at: name if alone else _name(None, at)
    shapes: dict[tuple[int, ...], list[int]] = {}
    given = cast("Sequence[Picture]", pictures)
    names = [_name(picture, place) for place, picture in enumerate(given)]
    read = []
    for place, picture in enumerate(given):
        one = _averaged(_tensor(picture, names[place]))
        if len(one) != 1:
            raise PictureError(f"{names[place]}: must be one picture; it holds {len(one)}")
        read.append(one)
        shapes.setdefault(tuple(one.shape), []).append(place)
    return [
        (torch.tensor(places), torch.cat([read[place] for place in places]))
        for places in shapes.values()
    ], names.__getitem__


def _name(picture: Any, place: int | None) -> str:
    which = "the picture" if place is None else f"picture {place}"
    return f"{which} '{picture}'" if isinstance(picture, (str, os.PathLike)) else which


def _tensor(picture: Any, name: str) -> Tensor:
    """One picture, or an array of many, as a tensor (n, channels, H, W) of any type."""
    if isinstance(picture, Tensor):
        if picture.layout != torch.strided or picture.is_meta or picture.is_quantized:
            raise PictureError(f"{name}: must be a dense tensor that holds data")
        values = picture.detach().cpu()
        values = values[(None,) * (4 - values.dim())] if 2 <= values.dim() < 4 else values
    else:
        import numpy as np
        from PIL import Image

        if isinstance(picture, (str, os.PathLike, bytes)):
            picture = _open(picture, name)
        elif isinstance(picture, Image.Image):
            picture = _pixels(picture)
        if not isinstance(picture, np.ndarray):
            raise TypeError(
                f"{name} must be a PIL picture, a file, its bytes, a NumPy array or a tensor, or "
                f"one of a sequence of these; it is a {type(picture).__name__}"
            )
        if picture.dtype.kind not in "biuf":
            raise PictureError(f"{name}: must hold numbers, it has dtype {picture.dtype}")
        values = _from_array(picture)
    if values.dim() != 4 or values.shape[1] not in (1, 3, 4) or values.is_complex():
        shape = tuple(picture.shape)
        raise PictureError(
            f"{name}: must be grey, RGB or RGBA numbers: an array (H, W), (H, W, C), (N, H, W) or "
            f"(N, H, W, C), or a tensor (H, W), (C, H, W) or (N, C, H, W); it has shape {shape}"
        )
    if not values.shape[2] or not values.shape[3]:
        raise PictureError(f"{name}: has no pixels, shape {tuple(picture.shape)}")
    return values


def _from_array(array: np.ndarray[Any, Any]) -> Tensor:
    """An array (H, W), (H, W, C), (N, H, W), (N, H, W, C) or (N, C, H, W) as (N, C, H, W)."""
    import numpy as np

    if array.dtype.kind == "f":
        kind: Any = np.float64 if array.itemsize > 4 else np.float32
    else:
        kind = np.uint8 if array.dtype in (np.uint8, np.bool_) else np.int64
    values = torch.from_numpy(np.array(array, dtype=kind))
    if values.dim() == 2:
        return values[None, None]
    if values.dim() == 3:
        values = values[None] if values.shape[2] in (1, 3, 4) else values[..., None]
    if values.dim() == 4 and values.shape[3] in (1, 3, 4):
        return values.movedim(3, 1)
    return values


def _open(source: str | os.PathLike[str] | bytes, name: str) -> np.ndarray[Any, Any]:
    from PIL import Image, UnidentifiedImageError

    if isinstance(source, bytes):
        content: Path | io.BytesIO = io.BytesIO(source)
    else:
        content = Path(source).expanduser()
        if not str(source) or not os.path.exists(content):  # Path.exists raises for long names
            raise FileNotFoundError(f"{name:.200}: no such file")
        if not content.is_file():
            raise PictureError(f"{name}: must be a file")
    try:
        with Image.open(content) as image:
            return _pixels(image)
    except UnidentifiedImageError as error:
        raise PictureError(f"{name}: its content is not that of a picture") from error
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise PictureError(f"{name}: cannot be read as a picture: {error}") from error


def _pixels(image: Image.Image) -> np.ndarray[Any, Any]:
    """PIL's picture as an array (H, W) or (H, W, C), the way up that its camera meant."""
    import numpy as np
    from PIL import ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return np.asarray(image)
    if image.mode != "L":
        image = image.convert("LA") if image.mode == "La" else image  # the only way out of it
        clear = "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa")
        image = image.convert("L" if image.mode == "1" else "RGBA" if clear else "RGB")
    return np.asarray(image)


# --- From numbers to MNIST's form ------------------------------------------------------------


def _chunks(places: Tensor, batch: Tensor) -> list[tuple[Tensor, Tensor]]:
    count = max(1, CHUNK // batch[0].numel()) if len(batch) else 1
    return list(zip(places.split(count), batch.split(count), strict=True))


def _averaged(pictures: Tensor) -> Tensor:
    """Pictures (n, channels, H, W) of a whole factor less, where they are very large.

    In strips, since the whole as float32 would be many times as large as its bytes; the range and
    the kind of the numbers stay.
    """
    factor = max(pictures.shape[2:]) // (4 * WORKING_SIDE)
    if factor < 2:
        return pictures
    strips = [
        F.avg_pool2d(strip.float(), factor, ceil_mode=True)
        for strip in pictures.split(64 * factor, 2)
    ]
    small = torch.cat(strips, 2)
    return small if pictures.is_floating_point() else small.round().to(pictures.dtype)


def _as_mnist(pictures: Tensor) -> tuple[Tensor, dict[int, str]]:
    """Pictures (n, channels, H, W) of any numbers as uint8 (n, 28, 28), and those that are none."""
    pictures = _averaged(pictures)
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
    first, last = _ends(marked)
    return (last - first + 1) * marked.any(1)


def _ends(marked: Tensor) -> tuple[Tensor, Tensor]:
    """The first and the last marked place of each row (n, size)."""
    marked = marked.byte()
    return marked.argmax(1), marked.shape[1] - 1 - marked.flip(1).argmax(1)


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
    grey = _without_frames(grey)
    low, high = grey.flatten(1).aminmax(dim=1)
    problems = {int(row): EMPTY for row in (high - low < FAINT).nonzero().squeeze(1)}
    ink = _ink(grey)
    kept, found = _one_digit(ink)
    for row, why in found.items():
        problems.setdefault(row, why)
    return _placed(kept), problems


def _without_frames(grey: Tensor) -> Tensor:
    """The pictures (n, H, W), those of a sheet on a table or of a form's box cut to its inside."""
    framed = (_outline(grey)[1] > FRAME).nonzero().squeeze(1).tolist()
    if framed:
        grey = grey.clone()
    for row in framed:
        grey[row] = _inside_frame(grey[row])
    return grey


def _outline(grey: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
    """The box of what differs from the border of each picture, and how much of its outline does.

    The box is its first and last row, and its first and last column.
    """
    change = (grey - _border(grey).median(1).values[:, None, None]).abs()
    differs = change > (change.amax((1, 2), keepdim=True) / 4).clamp(min=FAINT)
    rows, columns = differs.sum(2), differs.sum(1)
    box = (*_ends(rows > 0), *_ends(columns > 0))
    top, bottom, left, right = box
    filled = rows.gather(1, torch.stack((top, bottom), 1)).sum(1)
    filled = filled + columns.gather(1, torch.stack((left, right), 1)).sum(1)
    share = filled / (2 * (bottom - top + right - left + 2)) * differs.flatten(1).any(1)
    return box, share


def _inside_frame(picture: Tensor) -> Tensor:
    """What a frame or a sheet (H, W) shows, if that keeps clear of it; else the picture as it is.

    A solid 1 and a square 0 fill their outline, too, but have nothing inside.
    """
    inner = picture
    while min(inner.shape) >= 8:
        box, share = _outline(inner[None])
        top, bottom, left, right = (int(end) for end in box)
        height, width = inner.shape
        if share <= FRAME:
            clear = top > 0 and left > 0 and bottom < height - 1 and right < width - 1
            if not (clear and share > 0 and bottom - top + 1 >= height / 4):
                return picture
            alone = _border(inner[None]).median().expand_as(picture).clone()
            alone[:height, :width] = inner
            return alone
        if (bottom - top + 1, right - left + 1) == (height, width):
            return picture
        soft = min(2, min(height, width) // 8)  # the frame's edge
        inner = inner[top + soft : bottom + 1 - soft, left + soft : right + 1 - soft]
    return picture


def _border(grey: Tensor) -> Tensor:
    """The outermost pixels (n, 2·H + 2·W) of the pictures (n, H, W)."""
    return torch.cat((grey[:, 0], grey[:, -1], grey[:, :, 0], grey[:, :, -1]), 1)


def _ink(grey: Tensor) -> Tensor:
    """How much ink there is at each pixel of the pictures (n, H, W): 0 on paper, 1 in strokes."""
    border = _border(grey)
    paper = border.median(1, keepdim=True).values
    even = (border - paper).abs().le(2).float().mean(1) >= 0.5
    even |= min(grey.shape[1:]) < SMALLEST_PHOTO
    change = grey - paper[:, :, None]
    ink = change * change.pow(3).mean((1, 2), keepdim=True).sign()
    if not even.all():
        ink[~even] = _ink_on_uneven_paper(grey[~even])
    return _stretched_ink(ink.clamp(min=0), even[:, None])


def _ink_on_uneven_paper(grey: Tensor) -> Tensor:
    """The same, before stretching, where light and shadow change the paper from place to place.

    Light multiplies, so logarithms are compared: what is narrow and darker than all around it.
    """
    page = F.avg_pool2d(grey[:, None], 3, 1, 1, count_include_pad=False).add(DIM).log()
    # the median of half a picture is paper still, and strokes are where it is missed most
    small = _reduced(page, PAPER_SIDE // 2)
    reach = max(1, max(small.shape[2:]) // 4)
    around = F.unfold(F.pad(small, [reach] * 4, mode="replicate"), 2 * reach + 1).median(1).values
    is_light = (small.flatten(1) - around).pow(3).mean(1) > 0
    sign = torch.where(is_light, -1.0, 1.0).view(-1, 1, 1, 1)
    paper = _without_narrow(sign * _reduced(page, PAPER_SIDE))
    paper = F.interpolate(paper, page.shape[2:], mode="bilinear")
    return (sign * (1 - (page - sign * paper).exp())).clamp(min=0)[:, 0]


def _reduced(page: Tensor, side: int) -> Tensor:
    """The pictures (n, 1, H, W) with a longer side of this many pixels, if it is more."""
    shape = page.shape[2:]
    size = [min(pixels, max(1, round(pixels * side / max(shape)))) for pixels in shape]
    return F.interpolate(page, size, mode="area")


def _without_narrow(page: Tensor) -> Tensor:
    """Each picture without what is darker than all around it and narrow: its closing."""
    height, width = page.shape[2:]
    reach = max(1, min(max(height, width) // 8, (min(height, width) - 1) // 2))
    beyond = [2 * reach] * 4  # light falls on as it did up to the edge
    page = 2 * F.pad(page, beyond, mode="replicate") - F.pad(page, beyond, mode="reflect")
    higher = F.max_pool2d(page, 2 * reach + 1, 1)
    return -F.max_pool2d(-higher, 2 * reach + 1, 1)


def _stretched_ink(ink: Tensor, even: Tensor) -> Tensor:
    """Ink (n, H, W) from the paper's own noise, which becomes 0, to that of the strokes, 1.

    Where it does not stand out there is none: on even paper (n, 1) by `FAINT`, else by the noise.
    """
    values = ink.flatten(1)
    most = values.amax(1, keepdim=True)
    is_ink = values > most * _otsu(values / most.clamp(min=1e-12))[:, None]
    level, noise = _level_and_noise(values, ~is_ink)
    high = values.masked_fill(~is_ink, math.nan).nanmedian(1, keepdim=True).values
    stands_out = high - level > torch.where(even, FAINT, (NOISE * noise).clamp(min=PALE))
    low = level + 3 * noise
    stretched = ((values - low) / (high - low).clamp(min=1e-3 * most)).clamp(0, 1)
    return torch.where(stands_out, stretched, 0).nan_to_num(0).view_as(ink)


def _level_and_noise(values: Tensor, is_paper: Tensor) -> tuple[Tensor, Tensor]:
    """The median (n, 1) of each row's paper, and its deviation as noise would have it."""
    level, noise = values.new_zeros(2, len(values), 1)
    # clean paper is 0 for the most part, and then so are both medians
    rest = ((values == 0) & is_paper).sum(1) * 2 <= is_paper.sum(1)
    paper = values[rest].masked_fill(~is_paper[rest], math.nan)
    level[rest] = paper.nanmedian(1, keepdim=True).values
    noise[rest] = 1.4826 * (paper - level[rest]).abs().nanmedian(1, keepdim=True).values
    return level, noise


def _otsu(values: Tensor) -> Tensor:
    """The threshold in 0…1 that parts each row's values best (Otsu 1979)."""
    bins = 64
    counts = torch.zeros(len(values), bins)
    places = (values * (bins - 1)).round().long()
    counts.scatter_add_(1, places, torch.ones_like(values))
    below = counts.cumsum(1)
    sums = (counts * torch.arange(bins)).cumsum(1)
    above = below[:, -1:] - below
    distance = sums / below.clamp(min=1) - (sums[:, -1:] - sums) / above.clamp(min=1)
    between = below * above * distance.square()
    return (between.argmax(1) + 0.5) / (bins - 1)


def _one_digit(ink: Tensor) -> tuple[Tensor, dict[int, str]]:
    """The ink (n, H, W) of the digit alone, without specks and what reaches in from the edges."""
    import numpy as np
    from scipy import ndimage

    touching = np.zeros((3, 3, 3), dtype=bool)
    touching[1] = True  # neighbours in a picture, none between pictures
    kept = ink.numpy() > LINKED
    labels, _ = ndimage.label(kept, structure=touching)
    last = np.maximum.accumulate(labels.max((1, 2)))  # they are counted picture by picture
    parts = np.diff(last, prepend=0)
    problems = dict.fromkeys(np.flatnonzero(parts == 0).tolist(), EMPTY)
    for picture in np.flatnonzero(parts > 1).tolist():
        own = np.maximum(labels[picture] - (last[picture] - parts[picture]), 0)
        boxes, areas = ndimage.find_objects(own), np.bincount(own.ravel())
        chosen = _digit_of(range(1, len(areas)), boxes, areas, own.shape)
        if _several([boxes[label - 1] for label in chosen]):
            problems[picture] = SEVERAL
        kept[picture] = np.isin(np.arange(len(areas)), chosen)[own]
    return ink * _grown(torch.from_numpy(kept)), problems


def _grown(marked: Tensor) -> Tensor:
    """What is marked (n, H, W) and all that touches it, such as the faint edges of strokes."""
    wide = marked.clone()
    wide[:, :, 1:] |= marked[:, :, :-1]
    wide[:, :, :-1] |= marked[:, :, 1:]
    grown = wide.clone()
    grown[:, 1:] |= wide[:, :-1]
    grown[:, :-1] |= wide[:, 1:]
    return grown


def _digit_of(
    labels: Sequence[int], boxes: Sequence[Any], areas: Any, shape: Sequence[int]
) -> list[int]:
    """Those of a picture's connected parts that are neither specks nor come from its edges."""
    inside = [label for label in labels if not _at_edge(boxes[label - 1], shape)]
    total = sum(areas[label] for label in labels)
    if sum(areas[label] for label in inside) > total / 5:
        labels = inside
    total = sum(areas[label] for label in labels)
    return [label for label in labels if areas[label] >= SPECK * total]


def _at_edge(box: Any, shape: Sequence[int]) -> bool:
    return any(part.start == 0 or part.stop == size for part, size in zip(box, shape, strict=True))


def _several(boxes: list[Any]) -> bool:
    """Whether some parts stand beside or below each other as only digits do."""
    rows, columns = [box[0] for box in boxes], [box[1] for box in boxes]
    height = max(row.stop for row in rows) - min(row.start for row in rows)
    width = max(column.stop for column in columns) - min(column.start for column in columns)
    tall = sorted(
        (column for row, column in zip(rows, columns, strict=True) if _long(row) >= 0.6 * height),
        key=lambda column: column.start,
    )
    if any(a.stop <= b.start and not _bridged(a, b, columns) for a, b in pairwise(tall)):
        return True
    wide = sorted(
        (
            row
            for row, column in zip(rows, columns, strict=True)
            if _long(row) >= 0.3 * height
            and _long(column) >= 0.4 * width
            and _long(row) <= 2.5 * _long(column)
        ),
        key=lambda row: row.start,
    )
    return height > 1.8 * width and any(a.stop <= b.start for a, b in pairwise(wide))


def _long(extent: slice) -> int:
    return int(extent.stop - extent.start)


def _bridged(left: slice, right: slice, columns: list[slice]) -> bool:
    """Whether another part reaches from one to the other, as in a digit made of dots."""
    return any(part.start <= left.stop and part.stop >= right.start for part in columns)


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
    first, last = _ends(profile > LINKED)
    ends = profile.gather(1, torch.stack((first, last), 1)).sum(1)
    return last - first - 1 + ends


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
