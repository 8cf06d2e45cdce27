"""Reading image files: only raster formats, and damaged, foreign or speckled images are told."""

import io
import tempfile
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import EpsImagePlugin, Image

from mnist_zoo import PictureError, as_mnist
from mnist_zoo.pictures.reading import FORMATS, is_one_picture
from mnist_zoo.pictures.reducing import LARGEST, LONGER, averaged

PAGE = np.full((32, 24, 3), 255, np.uint8)
PAGE[6:26, 10:14] = 0
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 50 50\n%%EndComments\nshowpage\n%%EOF\n"


def saved(form, page=PAGE):
    content = io.BytesIO()
    Image.fromarray(page).save(content, form)
    return content.getvalue()


def is_written(form):
    try:
        return bool(saved(form))
    except (KeyError, OSError, ValueError):  # this PIL has no such format, or does not write it
        return False


WHOLE = {form: saved(form) for form in FORMATS if is_written(form)}


def read(picture):
    """Reads an image that may be damaged: PictureError is the one error there may be."""
    try:
        assert as_mnist(picture).shape[1:] == (1, 28, 28)
    except PictureError as error:
        return str(error)
    return "read"


@pytest.mark.parametrize("form", WHOLE)
def test_every_format_is_read_from_bytes_files_and_pil(form, tmp_path):
    path = tmp_path / "no_ending"
    path.write_bytes(WHOLE[form])
    with Image.open(path) as image:
        expected = as_mnist(image)
    assert as_mnist(path).equal(expected)
    assert as_mnist(WHOLE[form]).equal(expected)


def test_open_files_and_other_bytes_are_read(tmp_path):
    content = WHOLE["PNG"]
    path = tmp_path / "a.png"
    path.write_bytes(content)
    expected = as_mnist(content)
    for picture in (bytearray(content), memoryview(content), io.BytesIO(content)):
        assert is_one_picture(picture)
        assert as_mnist(picture).equal(expected)
    files = io.BytesIO(b"head" + content), io.BytesIO(content)
    files[0].seek(4)
    with path.open("rb") as file, tempfile.NamedTemporaryFile() as temporary:
        temporary.write(content)
        temporary.seek(0)
        pictures = [file, *files, temporary, bytearray(content)]
        assert as_mnist(pictures).equal(expected.expand(5, -1, -1, -1))
        assert not file.closed
        with pytest.raises(PictureError, match="the image: must be a file that holds bytes from"):
            as_mnist(file)  # which stands at its end
    with pytest.raises(PictureError, match=r"the image: cannot be read .*: read of closed file"):
        as_mnist(file)
    with path.open() as file, pytest.raises(PictureError, match="image 0: must be a file of bytes"):
        as_mnist([file])
    with tempfile.NamedTemporaryFile("w+") as text:  # whose content is no name of a file to open
        text.write(str(path))
        text.seek(0)
        with pytest.raises(PictureError, match="the image: must be a file that holds bytes"):
            as_mnist(text)
    with pytest.raises(PictureError, match="must be an image file of one of the formats"):
        as_mnist(bytearray(b"no image"))


@pytest.mark.parametrize("brand", [b"heic", b"mif1"])
def test_photos_of_iphones_are_told(brand, tmp_path, monkeypatch):
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)  # as without pillow-heif
    content = b"\0\0\0\x18ftyp" + brand + bytes(4) + b"mif1heic" + bytes(40)
    path = tmp_path / "IMG_0001.HEIC"
    path.write_bytes(content)
    for picture in (path, content):
        with pytest.raises(PictureError, match=r"is a HEIC file; save it as JPEG, or pip install"):
            as_mnist(picture)


def test_errors_list_formats_that_this_pil_reads(monkeypatch):
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    monkeypatch.delitem(Image.OPEN, "WEBP", raising=False)
    with pytest.raises(PictureError, match="one of the formats PNG, JPEG") as error:
        as_mnist(b"no image")
    assert "HEIF" not in str(error.value)
    assert "WEBP" not in str(error.value)


@pytest.fixture
def no_ghostscript(monkeypatch):
    """Fails the test where EPS content reaches Ghostscript."""

    def start(*_args, **_kwargs):
        pytest.fail("Ghostscript would have started")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", start)


@pytest.mark.usefixtures("no_ghostscript")
@pytest.mark.parametrize("name", ["a.eps", "a.png", "a.jpg", "a"])
def test_eps_never_reaches_ghostscript(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(EPS)
    for picture in (path, str(path), EPS, [PAGE, path]):
        with pytest.raises(PictureError, match="must be an image file of one of the formats PNG"):
            as_mnist(picture)
    with Image.open(path) as image:
        with pytest.raises(PictureError, match=r"the image: must be of one of .*; it is EPS"):
            as_mnist(image)
        with pytest.raises(PictureError, match=r"image 1: must be of one of .*; it is EPS"):
            as_mnist([PAGE, image])


@pytest.mark.usefixtures("no_ghostscript")
def test_formats_that_open_other_formats_are_refused():
    def field(record, number, value):
        return bytes((0x1C, record, number)) + len(value).to_bytes(2, "big") + value

    iptc = b"".join(
        field(*parts)
        for parts in ((3, 20, b"\0\40"), (3, 30, b"\0\40"), (3, 60, b"\1\0"), (3, 120, b"\1"))
    )
    for foreign in (iptc + field(8, 10, EPS), b"\x89HDF\r\n\x1a\n", b"SIMPLE  =", b"8BPS\0\1"):
        with pytest.raises(PictureError):
            as_mnist(foreign)


def test_images_made_of_loaded_ones_are_read_whatever_they_were():
    foreign = Image.open(io.BytesIO(saved("SGI")))
    with pytest.raises(PictureError, match="it is SGI"):
        as_mnist(foreign)
    assert as_mnist(foreign.copy()).equal(as_mnist(PAGE))


@settings(deadline=None, max_examples=150)
@given(
    form=st.sampled_from(sorted(WHOLE)),
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=6),
    keep=st.one_of(st.just(1.0), st.floats(0, 1)),
    strict=st.booleans(),
)
def test_damaged_files_are_read_or_refused(form, changes, keep, strict):
    content = bytearray(WHOLE[form])
    for place, value in changes:
        content[int(place * (len(content) - 1))] = value
    content = bytes(content[: int(keep * len(content))])
    with warnings.catch_warnings():
        warnings.simplefilter("error" if strict else "ignore")
        read(content)
        try:
            image = Image.open(io.BytesIO(content))
        except Exception:
            return
        read(image)


@pytest.mark.parametrize("form", WHOLE)
def test_changing_any_byte_of_a_header_is_read_or_refused(form):
    for place in range(min(len(WHOLE[form]), 50)):
        content = bytearray(WHOLE[form])
        content[place] ^= 255
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read(bytes(content))


def test_images_opened_by_pil_but_not_read_yet_are_told():
    assert "truncated" in read(Image.open(io.BytesIO(saved("JPEG")[:-40])))
    closed = Image.open(io.BytesIO(saved("PNG")))
    closed.close()
    with pytest.raises(PictureError, match=r"image 1: cannot be read as an image: .*closed"):
        as_mnist([PAGE, closed])


def test_huge_images_are_told_where_warnings_are_errors():
    size = (10_000).to_bytes(4, "big") + (9_500).to_bytes(4, "big")
    header = b"IHDR" + size + bytes((1, 0, 0, 0, 0))
    png = b"\x89PNG\r\n\x1a\n" + (13).to_bytes(4, "big") + header
    png += zlib.crc32(header).to_bytes(4, "big") + b"\0\0\0\0IDAT"
    with pytest.raises(PictureError, match="cannot be read as an image: Image size"):
        as_mnist(png)


def test_names_with_a_tilde_are_names_unless_they_are_homes(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in ("page.png", "~page.png"):
        (tmp_path / name).write_bytes(saved("PNG"))
    for path in ("~/page.png", "~page.png"):
        assert as_mnist(path).equal(as_mnist(PAGE))
    with pytest.raises(FileNotFoundError, match="no such file"):
        as_mnist("~no-such-user/page.png")


def dots(height, width, step, size):
    page = np.full((height, width), 255, np.uint8)
    for row in range(step, height - step, step):
        for column in range(step, width - step, step):
            page[row : row + size, column : column + size] = 0
    return page


@settings(deadline=None, max_examples=40)
@given(
    height=st.integers(1, 120),
    width=st.integers(1, 120),
    step=st.integers(2, 30),
    size=st.integers(1, 8),
    noise=st.sampled_from([0, 3, 40, 255]),
    seed=st.integers(0, 99),
)
def test_dotted_and_noisy_images_are_read_or_refused(height, width, step, size, noise, seed):
    random = np.random.default_rng(seed)
    page = dots(height, width, step, size) + random.uniform(-noise, noise, (height, width))
    bad = page.clip(0, 255).astype(np.uint8)
    if read(bad) != "read":
        with pytest.raises(PictureError) as caught:
            as_mnist([PAGE, bad, PAGE])
        assert list(caught.value.problems) == [1]


def test_many_small_parts_are_no_digit():
    with pytest.raises(PictureError, match="must show one digit; it shows small specks only"):
        as_mnist(dots(100, 100, 8, 2))


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_the_default_dtype_and_device_change_nothing(device):
    uneven = np.linspace(150, 250, 100)[None] * np.ones((100, 1))
    uneven[20:80, 45:52] = 20
    clear = np.zeros((30, 30, 4), np.uint8)
    clear[5:25, 12:17, 3] = 255
    pictures = [PAGE, uneven, clear]
    expected = [as_mnist(pictures), as_mnist(uneven)]
    torch.set_default_device(device)
    torch.set_default_dtype(torch.float64)
    try:
        found = [as_mnist(pictures), as_mnist(uneven)]
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)
    assert all(map(torch.equal, found, expected))


def test_the_limit_of_pixels_that_security_names_is_kept(monkeypatch):
    text = (Path(__file__).parents[2] / "SECURITY.md").read_text(encoding="utf-8")
    assert f"limit of {2 * Image.MAX_IMAGE_PIXELS:,}" in text
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", PAGE.shape[0] * PAGE.shape[1] // 2 - 1)
    with pytest.raises(PictureError, match="exceeds limit"):
        as_mnist(WHOLE["PNG"])


def test_very_long_strips_are_reduced():
    for shape in ((4, 400_000), (400_000, 4)):
        small = averaged(torch.zeros(1, 1, *shape, dtype=torch.uint8))
        assert max(small.shape) <= 2 * LONGER * LARGEST
