"""Images that show no digit: letters, scribbles, textures and photos; none is used in fitting."""

import string
from pathlib import Path

import drawing
import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter

from mnist_zoo import PictureError, predict

LOOK_ALIKES = "OoIliZzSsBbgq"  # in many fonts the same shapes as 0, 1, 2, 5, 6, 8 and 9
LETTERS = [letter for letter in string.ascii_letters if letter not in LOOK_ALIKES]
# of scikit-image's samples: no drawings, scans of text or textures
PHOTOS = (
    *("astronaut", "camera", "cell", "chelsea", "clock_motion", "coffee", "coins"),
    *("hubble_deep_field", "ihc", "microaneurysms", "moon", "motorcycle_left"),
    *("motorcycle_right", "retina", "rocket"),
)
TEXTURES = ("brick", "grass", "gravel")


def letters(fonts=None, size=90):
    return [drawing.printed(x, font, size) for font in fonts or drawing.fonts() for x in LETTERS]


def line(points, width, size=200):
    """A line through points on a square of side 1, drawn with a round pen."""
    picture = Image.new("L", (size, size), 255)
    draw = ImageDraw.Draw(picture)
    points = [(x * size, y * size) for x, y in points]
    draw.line(points, fill=0, width=width, joint="curve")
    for x, y in points:
        draw.ellipse([x - width / 2, y - width / 2, x + width / 2, y + width / 2], fill=0)
    return picture


def scribble(random):
    """A wild curve, a zigzag, a spiral, a row of loops, or straight strokes to and fro."""
    kind, width = random.integers(5), int(random.integers(4, 20))
    if kind == 0:
        count = int(random.integers(6, 14))
        curve = CubicSpline(range(count), random.uniform(0.12, 0.88, (count, 2)))
        return line(curve(np.linspace(0, count - 1, 20 * count)).clip(0.05, 0.95), width)
    if kind == 1:
        count = int(random.integers(5, 10))
        y = 0.5 + random.uniform(0.2, 0.38) * (-1.0) ** np.arange(count)
        return line(np.stack([np.linspace(0.12, 0.88, count), y], 1), width)
    if kind == 2:
        turn = np.linspace(0, random.uniform(3, 5) * 2 * np.pi, 300)
        radius = 0.38 * turn / turn[-1]
        return line(
            np.stack([0.5 + radius * np.cos(turn), 0.5 + radius * np.sin(turn)], 1), min(width, 10)
        )
    if kind == 3:
        turn = np.linspace(0, random.uniform(2.5, 6) * 2 * np.pi, 300)
        x = 0.12 + 0.7 * turn / turn[-1] + 0.1 * np.cos(turn)
        return line(np.stack([x, 0.5 + 0.25 * np.sin(turn)], 1), min(width, 10))
    return line(random.uniform(0.1, 0.9, (int(random.integers(5, 9)), 2)), width)


def scribbles(count):
    random = np.random.default_rng(0)
    return [scribble(random) for _ in range(count)]


def texture(random, size=128):
    """Noise, stripes, a chessboard, clouds, or a sprinkling of dots."""
    y, x = np.mgrid[0:size, 0:size]
    kind = random.integers(5)
    if kind == 0:
        values = random.random((size, size))
    elif kind == 1:
        turn = random.uniform(0, np.pi)
        wave = (x * np.cos(turn) + y * np.sin(turn)) / random.uniform(6, 40)
        values = 0.5 + 0.5 * np.sin(2 * np.pi * wave)
    elif kind == 2:
        side = int(random.integers(6, 32))
        values = (x // side + y // side) % 2
    elif kind == 3:
        clouds = gaussian_filter(random.random((size, size)), random.uniform(2, 8))
        values = (clouds - clouds.min()) / np.ptp(clouds)
    else:
        values = random.random((size, size)) < 0.02
    return Image.fromarray((values * 255).astype("uint8"))


def textures(count):
    random = np.random.default_rng(0)
    return [texture(random) for _ in range(count)] + crops(TEXTURES, count // 4)


def photos(each=15):
    return crops(PHOTOS, each)


def crops(names, each):
    """Samples of scikit-image, whole and in square parts of at least half their height."""
    skimage = pytest.importorskip("skimage", reason="scikit-image's samples are not installed")
    random = np.random.default_rng(0)
    pictures = []
    for name in names:
        (path,) = Path(skimage.__file__).parent.glob(f"data/{name}.*g")
        picture = Image.open(path).convert("RGB")
        picture.thumbnail((512, 512))
        pictures.append(picture)
        for _ in range(each):
            side = int(random.uniform(0.5, 1) * min(picture.size))
            x, y = (int(random.integers(0, length - side + 1)) for length in picture.size)
            pictures.append(picture.crop((x, y, x + side, y + side)))
    return pictures


def familiarities(model, pictures):
    """The familiarity of each picture; minus infinity where it cannot even be read as one digit."""
    found = np.full(len(pictures), -np.inf)
    left = list(range(len(pictures)))
    while left:
        try:
            predictions = predict(model, [pictures[place] for place in left])
        except PictureError as error:
            left = [place for row, place in enumerate(left) if row not in error.problems]
            continue
        found[left] = [prediction.familiarity for prediction in predictions]
        break
    return found


def auroc(known, others):
    """How often one of the known is more familiar than one of the others; a tie counts half."""
    known, others = np.asarray(known)[:, None], np.sort(others)
    below = np.searchsorted(others, known, "left") + np.searchsorted(others, known, "right")
    return float(below.mean() / 2 / len(others))
