"""Converting any image of a single digit to MNIST's format.

Values are brought to 0…255 and colours to grey; what is not in MNIST's format yet is redrawn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .ink import LINKED, TINY, ends, find_on_even_paper, is_joined, stands_free
from .looks import is_even
from .photos import NEARER, Sight, find_on_photo, reduced, shrunk
from .reading import PictureError, in_order, in_parts, read_pictures
from .reducing import averaged

if TYPE_CHECKING:
    from .looks import Look
    from .paper import Numbers
    from .reading import Batch, Pictures

__all__ = ["as_mnist"]

CHUNK = 1 << 20  # pixels converted at a time, to bound the memory
SIDE = 28  # pixels; height and width of MNIST's images
INK_SIDE = 20  # pixels; the longer side of MNIST's digits
CENTRE = 14.0  # row and column of a digit's centre of mass, to within half a pixel
OFF_CENTRE = 0.55  # the same, with room for rounding
WHITE = 250  # of 255; MNIST's digits have a pixel of at least this
FIRST_SIDE = 128  # pixels; even paper is first looked at on images of this size or a little more
UNLIKELY = 0.2  # what looks less like one digit on a photo is hardly one
BRIGHT = 20  # this many pixels of a digit are white
PLACES = torch.arange(SIDE, dtype=torch.float32, device="cpu")
OFFSETS = torch.stack(torch.meshgrid(PLACES, PLACES, indexing="ij")) - CENTRE  # (2, 28, 28)
LEANING = torch.cat((OFF_CENTRE - OFFSETS, OFF_CENTRE + OFFSETS)).flatten(1)  # (4, 784)
EACH = torch.eye(SIDE, dtype=torch.float32, device="cpu")
ROWS, COLUMNS = EACH.repeat_interleave(SIDE, 1), EACH.repeat(1, SIDE)  # (28, 784)
# pixels times it: the sums of rows and of columns; then the sum of all times `OFF_CENTRE`, less
# how far they lean to each of the four sides
SUMS = torch.cat((ROWS, COLUMNS, LEANING)).T  # (784, 60)


def as_mnist(pictures: Pictures) -> Tensor:
    """Converts any images of single digits to MNIST's format: uint8 (N, 1, 28, 28), light on black.

    Finds the ink, dark on light or light on dark, on evenly or unevenly lit paper, anywhere and at
    any size. Scales its longer side to 20 pixels and moves its centre of mass to the middle.
    MNIST images come back unchanged; inverted MNIST images are inverted back. Values are uint8,
    floats in 0…1, or in any other range, which is stretched. Transparent areas count as paper.

    Args:
        pictures: One image or several: PIL images; paths of files; files open for reading bytes,
            from where they stand; the bytes of files; NumPy arrays (H, W), (H, W, C), (N, H, W) or
            (N, H, W, C); tensors (H, W), (C, H, W), (H, W, C), (N, C, H, W) or (N, H, W, C); rows
            (N, 784) of pixels; or a sequence of single images of any kinds and sizes. C is 1
            (grey), 3 (RGB) or 4 (RGBA). A tensor of several grey images must be (N, 1, H, W):
            three images as (N, H, W) would look like one in colour.

    Raises:
        PictureError: If an image is empty, shows several digits, holds NaN, or cannot be read.
        FileNotFoundError: If a file does not exist.
        TypeError: If `pictures` is none of the above.

    Example:
        >>> from PIL import Image, ImageDraw, ImageFont
        >>> from mnist_zoo import as_mnist
        >>> page = Image.new("L", (120, 120), "white")
        >>> ImageDraw.Draw(page).text((40, 10), "7", font=ImageFont.load_default(80))
        >>> as_mnist(page).shape
        torch.Size([1, 1, 28, 28])
    """
    batches, name_of = read_pictures(pictures)
    done: list[Batch] = []
    problems: dict[int, str] = {}
    for places, batch in batches:
        most = max(1, CHUNK // batch[0].numel()) if len(batch) else 1
        for part, rows in in_parts(places, batch, most):
            digits, found = _to_mnist(rows)
            done.append((part, digits[:, None]))
            problems.update({part[row]: why for row, why in found.items()})
    check_problems(problems, name_of)
    if not done:
        return torch.empty(0, 1, SIDE, SIDE, dtype=torch.uint8, device="cpu")
    return in_order(done)


def check_problems(problems: Mapping[int, str], name_of: Callable[[int], str]) -> None:
    """Raises PictureError if there are problems with images, by their index."""
    if problems:
        first = min(problems)
        more = f"; and {len(problems) - 1} more, all in this error's `problems`"
        message = f"{name_of(first)}: {problems[first]}{more if len(problems) > 1 else ''}"
        raise PictureError(message, dict(sorted(problems.items())))


def _to_mnist(images: Tensor) -> tuple[Tensor, dict[int, str]]:
    """Converts images (n, C, H, W) of any numbers to MNIST's format.

    Returns:
        The digits, uint8 (n, 28, 28); and what is wrong with each image that does not show exactly
        one digit, by its index.
    """
    grey, problems = grey_of(images)
    grey, ready = light_on_black(grey)
    if len(ready) and ready.all():
        return grey.round().to(torch.uint8), problems
    digits = torch.empty(len(grey), SIDE, SIDE, dtype=torch.uint8, device="cpu")
    if ready.any():
        digits[ready] = grey[ready].round().to(torch.uint8)
    rest = (~ready).nonzero().squeeze(1)
    if len(rest):
        digits[rest], found, _ = redrawn(grey[rest])
        for row, why in found.items():
            problems.setdefault(int(rest[row]), why)
    return digits, problems


def light_on_black(grey: Tensor) -> tuple[Tensor, Tensor]:
    """Images (n, H, W), inverted where that brings MNIST's format; and which are in it, (n,)."""
    ready = in_mnist_form(grey)
    if ready.all() or grey.shape[1:] != (SIDE, SIDE):
        return grey, ready
    negative = 255 - grey
    is_dark = in_mnist_form(negative)
    return torch.where(is_dark[:, None, None], negative, grey), ready | is_dark


def grey_of(images: Tensor) -> tuple[Tensor, dict[int, str]]:
    """Images (n, C, H, W) of any numbers as grey ones (n, H, W) in 0…255; problems by index."""
    images = averaged(images)
    problems: dict[int, str] = {}
    if images.dtype != torch.uint8 or not (images.amax((1, 2, 3)) > 1).all():
        if images.dtype != torch.float64:  # float64 stays: its range is wider
            images = images.float()
        is_bad = ~images.isfinite().flatten(1).all(1)
        problems = {int(row): "holds NaN or infinity" for row in is_bad.nonzero().squeeze(1)}
        images = stretched(images.nan_to_num(0, 0, 0)).float()
    if images.shape[1] > 1 and images.shape[2:] == (SIDE, SIDE):
        for row in _holds_several(images.float()).nonzero().flatten().tolist():
            problems.setdefault(row, "its channels show different digits; pass images[:, None]")
    return to_grey(images), problems


def _holds_several(images: Tensor) -> Tensor:
    """Which images (n, C, H, W) are several of MNIST's, taken for the channels of one."""
    in_form = torch.stack([in_mnist_form(channel) for channel in images.unbind(1)], 1)
    low, high = images.masked_fill(~in_form[:, :, None, None], 0).sort(1).values[:, -2:].unbind(1)
    return (in_form.sum(1) > 1) & ((high - low).flatten(1).amax(1) > 127)


def stretched(values: Tensor) -> Tensor:
    """Brings values (n, …) to 0…255: bytes stay, 0…1 is multiplied, other ranges are stretched."""
    low, high = values.flatten(1).aminmax(dim=1)
    one = (-1, *[1] * (values.dim() - 1))
    low, high = low.view(one), high.view(one)
    whole = (values == values.round()).flatten(1).all(1).view(one)
    is_part = (low >= 0) & (high <= 1)
    is_byte = (low >= 0) & (high <= 255) & whole
    start = torch.where(is_part | is_byte, 0, low)
    wide = high - low
    is_constant = wide <= 1e-3 * torch.maximum(low.abs(), high.abs())  # up to rounding errors
    by_range = torch.where(is_constant, 0, 255 / wide.clamp(min=1e-300))
    factor = torch.where(is_part, 255, torch.where(is_byte, 1, by_range))
    return (values - start) * factor


def to_grey(images: Tensor) -> Tensor:
    """Converts images (n, 1, 3 or 4 channels, H, W) in 0…255 to grey float32 ones (n, H, W).

    Of the three colours, and the darkest and the lightest one of each pixel, the one with the most
    contrast is taken: pens of several colours stand out together only in the last two.
    """
    images = on_paper(images)
    if images.shape[1] == 1:
        return images[:, 0].float()
    down, aside = (1 + side // 256 for side in images.shape[2:])  # some of the pixels tell as much
    seen = _with_extremes(images[:, :, ::down, ::aside]).flatten(2).float()
    # std takes many times as long
    colour = (seen - seen.mean(2, keepdim=True)).square().mean(2).argmax(1)
    planes = zip(images, colour.tolist(), strict=True)
    return torch.stack([_plane(image, which) for image, which in planes]).float()


def _plane(image: Tensor, which: int) -> Tensor:
    """One of the channels that `_with_extremes` gives, of an image (3, H, W)."""
    if which < 3:
        return image[which]
    return image.amin(0) if which == 3 else image.amax(0)


def _with_extremes(images: Tensor) -> Tensor:
    """Images (n, 3, H, W) with two channels more: the darkest and the lightest of each pixel."""
    return torch.cat((images, images.amin(1, keepdim=True), images.amax(1, keepdim=True)), 1)


def on_paper(images: Tensor) -> Tensor:
    """Images (n, C, H, W) in 0…255, the transparent ones (C = 4) as (n, 3, H, W).

    Transparent areas become white paper under dark ink, black under light ink.
    """
    if images.shape[1] != 4:
        return images
    alpha = images[:, 3:] / 255
    seen = (images[:, :3] * alpha).sum((1, 2, 3)) / (3 * alpha.sum((1, 2, 3))).clamp(min=1)
    paper = 255 * (seen < 127.5).to(images.dtype).view(-1, 1, 1, 1)
    return images[:, :3] * alpha + paper * (1 - alpha)


def in_mnist_form(grey: Tensor) -> Tensor:
    """Which images (n, H, W) are in MNIST's format already, by size, position and range."""
    if grey.shape[1:] != (SIDE, SIDE):
        return torch.zeros(len(grey), dtype=torch.bool, device="cpu")
    import numpy as np

    pixels = grey.flatten(1).numpy()  # NumPy takes a third of torch's time for one image
    sums = pixels @ SUMS.numpy()
    first, last = ends(sums[:, : 2 * SIDE].reshape(-1, SIDE) > 0)  # of rows and of columns
    length = 1 + (last - first).reshape(-1, 2).max(1)
    in_size = np.abs(length - (INK_SIDE - 0.5)) < 1
    in_middle = sums[:, 2 * SIDE :].min(1) > 0
    return torch.from_numpy(in_size & in_middle & (pixels.max(1) >= WHITE))


def _centre_of_mass(weight: Numbers) -> Numbers:
    """Rows and columns (2, n) of the centres of mass of images (n, H, W)."""
    import numpy as np

    total = weight.sum((1, 2)).clip(1e-12)
    rows, columns = (np.arange(size, dtype=weight.dtype) for size in weight.shape[1:])
    centre: Numbers = np.stack((weight.sum(2) @ rows, weight.sum(1) @ columns)) / total
    return centre


def redrawn(grey: Tensor) -> tuple[Tensor, dict[int, str], dict[int, Sight]]:
    """Redraws images (n, H, W) in 0…255 in MNIST's format.

    Returns:
        What `_to_mnist` does, and what was seen on the images that are not clear.
    """
    factor = max(grey.shape[1:]) // FIRST_SIDE
    if factor < 2 or min(grey.shape[1:]) < TINY * factor:
        return _redrawn_closely(grey)
    ink, is_clear, problems = find_on_even_paper(shrunk(grey, factor))
    is_clear &= _is_large(ink)
    is_clear[list(problems)] = False
    if is_clear.all():
        return placed(ink), {}, {}
    rest = (~is_clear).nonzero().squeeze(1)
    digits = torch.empty(len(grey), SIDE, SIDE, dtype=torch.uint8, device="cpu")
    digits[is_clear] = placed(ink[is_clear])
    digits[rest], problems, sights = _redrawn_closely(grey[rest])
    place = rest.tolist().__getitem__
    problems = {place(row): why for row, why in problems.items()}
    return digits, problems, {place(row): sight for row, sight in sights.items()}


def _redrawn_closely(grey: Tensor) -> tuple[Tensor, dict[int, str], dict[int, Sight]]:
    """What `redrawn` does, with a look at details."""
    small = reduced(grey)
    ink, is_clear, problems = find_on_even_paper(small)
    digits = placed(ink)
    if small.shape != grey.shape:
        is_clear &= _is_large(ink)
    sights = {}
    for row in (~is_clear).nonzero().flatten().tolist():
        sight = find_on_photo(grey[row], small[row])
        is_free = row not in problems and stands_free(ink[row])
        if is_free and is_even(small[row].numpy()) and _is_doubtful(sight.look, ink[row]):
            continue
        sights[row] = sight
        problems.pop(row, None)
        digits[row] = placed(torch.from_numpy(sight.look.ink)[None])[0]
        if sight.look.problem:
            problems[row] = sight.look.problem
    return digits, problems, sights


def _is_large(ink: Tensor) -> Tensor:
    """Which ink (n, H, W) is large; a small digit is worth a look from nearer."""
    import numpy as np

    rows, columns = (ink.amax(axis).numpy() > LINKED for axis in (2, 1))
    (top, bottom), (left, right) = ends(rows), ends(columns)
    side = np.maximum(bottom - top, right - left) + 1
    return torch.from_numpy(rows.any(1) & (side > NEARER * max(ink.shape[1:])))


def _is_doubtful(look: Look, ink: Tensor) -> bool:
    """Whether a photo is better seen as even paper: unlike a digit, or parted where ink joins."""
    return is_joined(ink) if look.count > 1 else look.likeness < UNLIKELY


def placed(ink: Tensor) -> Tensor:
    """Resamples ink (n, H, W) in 0…1 to uint8 (n, 28, 28), sized and centred like MNIST's."""
    import numpy as np

    values = ink.numpy()  # which takes a third of torch's time for one image
    step = np.maximum(*(_length(ink.amax(axis).numpy()) for axis in (2, 1))).clip(1) / INK_SIDE
    centre = _centre_of_mass(values)
    as_it_is = np.abs(step - 1) < 0.03  # moved by whole pixels only, so that strokes stay sharp
    step[as_it_is] = 1
    centre[:, as_it_is] = centre[:, as_it_is].round()
    down, aside = (_filters(centre[axis], step, ink.shape[1 + axis]) for axis in (0, 1))
    small = down @ values @ aside.swapaxes(1, 2)
    # thin strokes of large images have become faint: make the brightest pixels white again
    bright = torch.from_numpy(small).flatten(1).topk(BRIGHT).values[:, -1].numpy().clip(0.05)
    grey = (small / bright[:, None, None]).clip(0, 1) * 255
    return torch.from_numpy(grey.round().astype(np.uint8))


def _length(profile: Numbers) -> Numbers:
    """The length of the ink in rows (n, size) of 0…1; the pixels at both ends count in part."""
    import numpy as np

    every = np.arange(len(profile))
    first, last = ends(profile > LINKED)
    at_ends = profile[every, first] + profile[every, last]
    return (last - first - 1 + at_ends).astype(profile.dtype)


def _filters(centre: Numbers, step: Numbers, size: int) -> Numbers:
    """Resampling weights (n, 28, size): each new pixel as a weighted mean of the old ones.

    New pixels are `step` old ones apart. To shrink, the weights are triangles; to enlarge, they
    are Keys's cubic (1981), which keeps strokes sharp.
    """
    import numpy as np

    kind = step.dtype
    seen = centre[:, None] + (np.arange(SIDE, dtype=kind) - kind.type(CENTRE)) * step[:, None]
    width = step.clip(1)[:, None, None]
    x = np.abs(np.arange(size, dtype=kind) - seen[:, :, None]) / width
    weights: Numbers = (1 - x).clip(0) / width
    is_enlarged = step < 1
    if is_enlarged.any():
        x = x[is_enlarged]
        near, far = (1.5 * x - 2.5) * x * x + 1, ((2.5 - 0.5 * x) * x - 4) * x + 2
        weights[is_enlarged] = np.where(x < 1, near, np.where(x < 2, far, 0))
    return weights
