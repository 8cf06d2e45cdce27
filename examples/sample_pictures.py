"""Draws the two images that the package ships: see `mnist_zoo.sample_pictures`.

``python examples/sample_pictures.py`` writes them into the package. All of it is drawn in code: the
strokes of a pen on paper, the light of a lamp, and what a camera adds.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from scipy.interpolate import make_interp_spline

FOLDER = Path(__file__).parent.parent / "mnist_zoo" / "pictures"
ROWS = ("27182 81828", "45904 52353", "60287 47135")
PITCH, LINE = 52, 104  # pixels from digit to digit, and from row to row
# one way to write each digit: lines through points on a square of side 1, "/" where the pen lifts
STROKES = {
    "0": "50,10 25,27 20,52 30,80 52,90 74,76 80,48 70,20 48,10",
    "1": "36,28 55,10/55,10 54,50 52,90",
    "2": "24,30 36,12 62,12 72,30 58,56 24,88/24,88 50,84 80,88",
    "3": "24,18 50,10 71,25 62,42 44,48/44,48 70,56 74,78 50,91 22,82",
    "4": "58,10 40,36 20,62/20,62 50,60 82,61/62,36 60,64 60,92",
    "5": "34,12 32,30 29,46/29,46 52,40 74,56 70,82 46,92 22,82/34,12 54,13 76,10",
    "6": "66,10 42,28 26,58 31,84 54,92 73,77 66,59 46,55 29,70",
    "7": "20,13 50,14 78,10/78,10 58,48 42,92",
    "8": "68,18 50,10 32,18 36,36 62,56 74,76 52,92 28,78 34,60 62,40 68,18",
    "9": "70,30 54,12 33,19 29,39 46,50 66,42 71,27/71,27 70,58 60,92",
}


def write(
    ink: ImageDraw.ImageDraw, digit: str, box: tuple[float, float, float], pen: float
) -> None:
    """Writes a digit into a box (left, top, height), with a round pen, in white on black."""
    left, top, height = box
    for stroke in STROKES[digit].split("/"):
        points = np.array([point.split(",") for point in stroke.split()], float) / 100
        times = np.linspace(0, 1, len(points))
        curve = make_interp_spline(times, points, k=min(3, len(points) - 1))(np.linspace(0, 1, 90))
        for x, y in curve * height + (left, top):
            ink.ellipse([x - pen, y - pen, x + pen, y + pen], 255)


def photographed(ink: Image.Image, random: np.random.Generator, rules: int = 0) -> Image.Image:
    """Blue ink on paper, ruled every `rules` pixels, in a lamp's light, as a camera sees it."""
    dark = np.asarray(ink.filter(ImageFilter.GaussianBlur(1)), float)[..., None] / 255
    height, width = ink.height, ink.width
    page = np.full((height, width, 3), (236.0, 232.0, 222.0))
    if rules:
        page[rules - 8 :: rules] = (190, 200, 215)
    page = page * (1 - dark) + np.array((40.0, 45.0, 95.0)) * dark
    y, x = np.mgrid[:height, :width]
    light = 1.02 - 0.45 * np.hypot(x / width - 0.3, y / height - 0.2)
    seen = page * light[..., None] + random.normal(0, 3, page.shape)
    return Image.fromarray(seen.clip(0, 255).astype("uint8"))


def digit(random: np.random.Generator) -> Image.Image:
    """A photo of a seven."""
    ink = Image.new("L", (480, 400))
    write(ImageDraw.Draw(ink), "7", (130, 70, 250), 8)
    return photographed(ink.rotate(4, Image.Resampling.BICUBIC), random)


def sheet(random: np.random.Generator) -> Image.Image:
    """A sheet of numbers."""
    ink = Image.new("L", (PITCH * len(ROWS[0]) + 60, LINE * len(ROWS) + 40))
    draw = ImageDraw.Draw(ink)
    for row, text in enumerate(ROWS):
        for column, character in enumerate(text):
            if character != " ":
                x, y = random.normal((30 + PITCH * column, 30 + LINE * row), 2)
                write(draw, character, (x, y, random.uniform(50, 58)), 3)
    return photographed(ink, random, LINE)


def main() -> None:
    """Writes both."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    random = np.random.default_rng(0)
    for make in (digit, sheet):
        make(random).save(FOLDER / f"sample_{make.__name__}.jpg", quality=60)


if __name__ == "__main__":
    main()
