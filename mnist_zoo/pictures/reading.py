"""Reading PIL images, files, bytes, arrays, and sequences of these, as tensors."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast

import torch
from torch import Tensor

from .._files import expanded
from .reducing import LARGEST, averaged, longer_side

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    class Readable(Protocol):
        """A file that is open for reading bytes."""

        def read(self) -> bytes:
            """The bytes from where it stands to its end."""
            ...

    Content: TypeAlias = bytes | bytearray | memoryview
    """The bytes of an image file."""

    Picture: TypeAlias = (
        Image.Image | str | os.PathLike[str] | Readable | Content | np.ndarray[Any, Any] | Tensor
    )
    """One image: a PIL image, the path of a file, an open file or its content, an array (H, W) or
    (H, W, C), or a tensor (H, W), (C, H, W) or (H, W, C). C is 1 (grey), 3 (RGB) or 4 (RGBA)."""

    Pictures: TypeAlias = Picture | Sequence[Picture]
    """One image, a sequence of images, an array (N, H, W) or (N, H, W, C), a tensor (N, C, H, W)
    or (N, H, W, C), or rows (N, 784) of the pixels of 28×28 images."""

    Batch: TypeAlias = tuple[Sequence[int], Tensor]
    """Images (n, C, H, W), after their indices among all."""

__all__ = ["PictureError"]

CHANNELS = (1, 3, 4)  # grey, RGB, RGBA
CONTENTS = (bytes, bytearray, memoryview)  # of files
ROW = 784  # pixels of an MNIST image
# raster formats, by PIL's names; others may start programs (EPS starts Ghostscript)
FORMATS = (
    *("PNG", "JPEG", "MPO", "GIF", "BMP", "PPM", "DIB", "TIFF"),
    *("WEBP", "AVIF", "HEIF", "JPEG2000", "ICO", "PCX", "QOI", "TGA"),
)
HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")  # phones' photos
# pixels; JPEG files are decoded at an eighth, fourth or half, down to this: it takes less time
DRAFT_SIDE = 1000


class PictureError(ValueError):
    """An image cannot be read, or does not show what is asked for; the message says which, and why.

    Attributes:
        problems: What is wrong with each bad image, by its index among several. Empty if an image
            could not be read at all: the first such image ends the reading.

    Example:
        >>> import torch
        >>> from mnist_zoo import PictureError, as_mnist
        >>> try:
        ...     as_mnist(torch.zeros(28, 28))
        ... except PictureError as error:
        ...     print(error)
        the image: must show a digit; it is empty
    """

    def __init__(self, message: str, problems: Mapping[int, str] | None = None) -> None:
        super().__init__(message)
        self.problems = dict(problems or {})


def read_pictures(
    pictures: Pictures,
) -> tuple[list[Batch], Callable[[int], str]]:
    """Reads one image or several.

    Returns:
        Batches of one shape and dtype each, in any order; and a function from an image's index to
        its name in error messages.
    """
    if not _is_sequence(pictures):
        name = _name(pictures, None)
        batch = _tensor(_rows_as_images(pictures), name)
        alone = is_one_picture(pictures)
        return [(range(len(batch)), batch)], lambda at: name if alone else _name(None, at)
    kinds: dict[tuple[torch.Size, torch.dtype], list[int]] = {}
    given = cast("Sequence[Picture]", pictures)
    names = [_name(picture, place) for place, picture in enumerate(given)]
    read = []
    for place, picture in enumerate(given):
        one = averaged(_tensor(picture, names[place]))
        if len(one) != 1:
            raise PictureError(f"{names[place]}: must be one image; it holds {len(one)}")
        read.append(one)
        kinds.setdefault((one.shape, one.dtype), []).append(place)
    return [
        (places, torch.cat([read[place] for place in places])) for places in kinds.values()
    ], names.__getitem__


def read_picture(picture: Picture) -> tuple[Tensor, str]:
    """Reads one image, as (1, C, H, W); also gives its name in error messages.

    Two dimensions are one image, even where its rows have 784 pixels.
    """
    name = _name(picture, None)
    return averaged(_alone(picture, name)), name


def _alone(picture: Any, name: str) -> Tensor:
    """One image, as (1, C, H, W)."""
    is_flat = len(getattr(picture, "shape", ())) == 2
    if not is_flat and not is_one_picture(picture):
        raise PictureError("`picture` must be one image; read several one by one")
    values = _tensor(picture, name)
    if len(values) != 1:
        raise PictureError(f"{name}: must be one image; it holds {len(values)}")
    return values


def in_parts(places: Sequence[int], images: Tensor, most: int) -> list[Batch]:
    """A batch of images in parts of at most so many."""
    if len(images) <= most:
        return [(places, images)]
    starts = range(0, len(images), most)
    return [(places[start : start + most], images[start : start + most]) for start in starts]


def in_order(batches: Sequence[Batch]) -> Tensor:
    """All images of batches of one shape, ordered by their indices."""
    if len(batches) == 1:
        return batches[0][1]
    places = [place for own, _ in batches for place in own]
    order = torch.tensor(places, device="cpu").argsort()
    return torch.cat([images for _, images in batches])[order]


def read_page(picture: Picture) -> tuple[Tensor, int, str]:
    """Reads one image of several digits, as (1, C, H, W), very large ones reduced.

    They keep as many pixels as square images do that `averaged` reduces: strips keep their detail.

    Returns:
        The image; its longer side in pixels of the file, which is opened once; and its name in
        error messages.
    """
    from PIL import Image

    name = _name(picture, None)
    picture = _without_file(picture, name)
    if isinstance(picture, (str, os.PathLike, *CONTENTS)):
        with _opened(picture, name) as image:
            longer = max(image.size)
            factor = _page_factor(*image.size)
            if image.format == "JPEG" and factor > 1:
                least = (math.ceil(image.width / factor), math.ceil(image.height / factor))
                image.thumbnail(least, Image.Resampling.BOX, reducing_gap=1.0)  # decodes less
            values = _tensor(_pixels(image), name)
    else:
        values = _alone(picture, name)
        longer = max(values.shape[2:])
    return averaged(values, _page_factor(*values.shape[2:])), longer, name


def _page_factor(*sides: int) -> int:
    """The factor by which the sides of an image of several digits are reduced."""
    return math.isqrt(math.prod(sides)) // LARGEST


def is_one_picture(pictures: Pictures) -> bool:
    """Whether this is one image rather than several."""
    if _is_sequence(pictures):
        return False
    if _are_rows(pictures):
        return False
    if isinstance(pictures, Tensor):
        return pictures.dim() < 4
    if _is_array(pictures):
        shape = cast("np.ndarray[Any, Any]", pictures).shape
        return len(shape) < 3 or (len(shape) == 3 and shape[2] in CHANNELS)
    return True


def _is_array(pictures: Any) -> bool:
    """Whether this is an array of NumPy's kind; asked of its type, because an image would load."""
    return hasattr(type(pictures), "__array_interface__") and not hasattr(pictures, "convert")


def _are_rows(pictures: Any) -> bool:
    """Whether an array or tensor has rows of 784 pixels; 784×784 is one image."""
    has_shape = isinstance(pictures, Tensor) or _is_array(pictures)
    shape: tuple[int, ...] = getattr(pictures, "shape", ()) if has_shape else ()
    return len(shape) == 2 and shape[1] == ROW != shape[0]


def _rows_as_images(pictures: Any) -> Any:
    """Rows (N, 784) as images (N, 1, 28, 28); anything else comes back unchanged."""
    if not _are_rows(pictures):
        return pictures
    count = len(pictures)
    if ROW // 4 <= count <= 4 * ROW:  # as high as images of one digit are
        raise PictureError(
            f"the image: its shape ({count}, {ROW}) may be {count} rows of 28×28 pixels or one "
            "image; pass rows.reshape(-1, 1, 28, 28), or [image]"
        )
    return pictures.reshape(-1, 1, 28, 28)


def _is_sequence(pictures: Any) -> bool:
    return isinstance(pictures, Sequence) and not isinstance(pictures, (str, *CONTENTS))


def _name(picture: Any, place: int | None) -> str:
    which = "the image" if place is None else f"image {place}"
    return f"{which} '{picture}'" if isinstance(picture, (str, os.PathLike)) else which


def _tensor(picture: Any, name: str) -> Tensor:
    """One image, or an array or tensor of several, as a tensor (n, C, H, W) of any dtype."""
    if isinstance(picture, Tensor):
        if picture.layout != torch.strided or picture.is_meta or picture.is_quantized:
            raise PictureError(f"{name}: must be a dense tensor that holds data")
        values = _square(picture.detach().cpu())
        values = values.byte() * 255 if values.dtype == torch.bool else values
        if values.dim() > 2 and values.shape[-1] in CHANNELS and values.shape[-3] not in CHANNELS:
            values = values.movedim(-1, -3)
        values = values[(None,) * (4 - values.dim())] if 2 <= values.dim() < 4 else values
    else:
        import numpy as np
        from PIL import Image

        picture = _without_file(picture, name)
        if isinstance(picture, (str, os.PathLike, *CONTENTS)):
            picture = _open(picture, name)
        elif isinstance(picture, Image.Image):
            with _read_errors(name):
                picture = _pixels(picture)
        if not isinstance(picture, np.ndarray):
            is_data = isinstance(getattr(picture, "images", None), Tensor)  # as of Digits
            hint = "; pass its `images`" if is_data else ""
            raise TypeError(
                f"{name} must be a PIL image, a file, its bytes, a NumPy array or a tensor, or "
                f"one of a sequence of these; its type is {type(picture).__name__}{hint}"
            )
        if isinstance(picture, np.ma.MaskedArray):
            raise PictureError(f"{name}: is masked; fill it first, by its method filled()")
        if picture.dtype.kind not in "biuf":
            raise PictureError(f"{name}: must hold numbers; it has dtype {picture.dtype}")
        values = _from_array(picture)
    if values.is_complex():
        raise PictureError(f"{name}: must hold real numbers; it has dtype {values.dtype}")
    if values.dim() != 4 or values.shape[1] not in CHANNELS:
        shape = tuple(picture.shape)
        grey = "; for several grey images pass images[:, None]" if len(shape) == 3 else ""
        raise PictureError(
            f"{name}: must be grey, RGB or RGBA numbers: an array (H, W), (H, W, C), (N, H, W) or "
            f"(N, H, W, C), or a tensor (H, W), (C, H, W) or (N, C, H, W); it has shape {shape}"
            f"{grey}"
        )
    if not values.shape[2] or not values.shape[3]:
        raise PictureError(f"{name}: must have pixels; it has shape {tuple(picture.shape)}")
    return values


def _without_file(picture: Any, name: str) -> Any:
    """The bytes of an open file, from where it stands; other pictures as they are."""
    if isinstance(picture, (str, os.PathLike)) or not hasattr(picture, "read"):
        return picture
    if isinstance(picture, io.TextIOBase):
        raise PictureError(f"{name}: must be a file of bytes, as open(path, 'rb') gives it")
    with _read_errors(name):
        content = picture.read()
    if not isinstance(content, CONTENTS) or not content:
        raise PictureError(f"{name}: must be a file that holds bytes from where it stands")
    return content


def _open(source: str | os.PathLike[str] | Content, name: str) -> np.ndarray[Any, Any]:
    """The pixels of an image file or of its content."""
    with _opened(source, name) as image:
        if image.format == "JPEG":
            share = longer_side(DRAFT_SIDE, image.size) / max(image.size)
            image.draft(None, (int(image.width * share) or 1, int(image.height * share) or 1))
        if image.format == "TIFF" and (pages := getattr(image, "n_frames", 1)) > 1:
            way = "PIL.ImageSequence.all_frames(PIL.Image.open(…))"
            raise PictureError(f"has {pages} pages; pass them as a list, as {way} gives them")
        return _pixels(image)


@contextmanager
def _opened(source: str | os.PathLike[str] | Content, name: str) -> Iterator[Image.Image]:
    """An image file or its content, with the errors of reading it."""
    from PIL import Image, UnidentifiedImageError

    if isinstance(source, CONTENTS):
        content: Path | io.BytesIO = io.BytesIO(source)
    else:
        content = expanded(source)  # a name such as ~1.png stays
        if not str(source) or not os.path.exists(content):  # Path.exists raises for long names
            raise FileNotFoundError(f"{name:.200}: no such file")
        if not content.is_file():
            raise PictureError(f"{name}: must be a file")
    with _read_errors(name):
        try:
            image = Image.open(content, formats=_formats())
        except UnidentifiedImageError:
            raise PictureError(_why_unknown(content)) from None
        with image:
            yield image


def _formats() -> list[str]:
    """Those of the formats that this PIL can read."""
    from PIL import Image

    Image.init()
    return [form for form in FORMATS if form in Image.OPEN]


def _why_unknown(content: Path | io.BytesIO) -> str:
    """What is wrong with a file that PIL does not know."""
    if isinstance(content, Path):
        with content.open("rb") as file:
            head = file.read(12)
    else:
        head = content.getvalue()[:12]
    if head[4:8] == b"ftyp" and head[8:] in HEIC and "HEIF" not in _formats():
        return (
            "is a HEIC file; save it as JPEG, or pip install pillow-heif and call "
            "pillow_heif.register_heif_opener() first"
        )
    return f"must be an image file of one of the formats {', '.join(_formats())}"


@contextmanager
def _read_errors(name: str) -> Iterator[None]:
    """Raises PictureError for whatever PIL raises: damaged files give errors of many types."""
    try:
        yield
    except PictureError as error:
        raise PictureError(f"{name}: {error}") from None
    except Exception as error:
        reason = f"{error}" or type(error).__name__
        raise PictureError(f"{name}: cannot be read as an image: {reason}") from error


def _pixels(image: Image.Image) -> np.ndarray[Any, Any]:
    """A PIL image as an array (H, W) or (H, W, C), turned upright as its EXIF data says."""
    import numpy as np
    from PIL import ImageOps

    if image.format not in (None, *FORMATS):  # reading its pixels might start a program
        raise PictureError(
            f"must be of one of the formats {', '.join(_formats())}; it is {image.format} "
            "(pass a copy() of an image whose source you trust)"
        )
    image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return np.asarray(image)
    if image.mode != "L":
        image = image.convert("LA") if image.mode == "La" else image  # it converts to LA only
        clear = "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa")
        image = image.convert("L" if image.mode == "1" else "RGBA" if clear else "RGB")
    return np.asarray(image)


def _from_array(array: np.ndarray[Any, Any]) -> Tensor:
    """An array (H, W), (H, W, C), (N, H, W), (N, H, W, C) or (N, C, H, W) as (N, C, H, W)."""
    import numpy as np

    if array.dtype.kind == "f":
        kind: Any = np.float64 if array.itemsize > 4 else np.float32
    else:
        kind = np.uint8 if array.dtype in (np.uint8, np.bool_) else np.int64
    values = _square(torch.from_numpy(np.array(array, dtype=kind)))
    values = values * 255 if array.dtype == np.bool_ else values
    if values.dim() == 2:
        return values[None, None]
    if values.dim() == 3 and values.shape[2] != 2:  # grey and alpha, not images two pixels wide
        values = values[None] if values.shape[2] in CHANNELS else values[..., None]
    if values.dim() == 4 and values.shape[3] in CHANNELS:
        return values.movedim(3, 1)
    return values


def _square(values: Tensor) -> Tensor:
    """The pixels of a square image in one row, such as 784, as an image (H, H)."""
    side = math.isqrt(values.numel())
    return values.view(side, side) if values.shape == (side * side,) and side > 1 else values
