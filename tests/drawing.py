"""Images of digits that are not from MNIST: printed, drawn and photographed."""

from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

PAGE = (220, 240)  # width and height


@cache
def fonts():
    """matplotlib's fonts: with and without serifs, upright, slanted and bold."""
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    names = sorted(folder.glob("DejaVu*.ttf")) + sorted(folder.glob("STIXGeneral*.ttf"))
    names += [folder / "cmr10.ttf", folder / "cmss10.ttf", folder / "cmtt10.ttf"]
    return tuple(name for name in names if "Display" not in name.name)


def printed(digit, font, size, *, ink=0, paper=255, canvas=None, stroke=0, off=(0, 0)):
    """A digit in a font, `size` pixels high, in the middle of a canvas."""
    face = ImageFont.truetype(str(font), size)
    canvas = canvas or (int(1.4 * size), int(1.4 * size))
    picture = Image.new("L", canvas, paper)
    draw = ImageDraw.Draw(picture)
    left, top, right, bottom = draw.textbbox((0, 0), str(digit), font=face, stroke_width=stroke)
    x = (canvas[0] - (right - left)) / 2 - left + off[0]
    y = (canvas[1] - (bottom - top)) / 2 - top + off[1]
    draw.text((x, y), str(digit), fill=ink, font=face, stroke_width=stroke)
    return picture


# One way to write each digit: lines through points on a square of side 1.
STROKES = {
    0: [[(0.5, 0.1), (0.25, 0.25), (0.2, 0.5), (0.25, 0.75), (0.5, 0.9), (0.75, 0.75), (0.8, 0.5),
         (0.75, 0.25), (0.5, 0.1)]],
    1: [[(0.35, 0.25), (0.55, 0.1), (0.55, 0.9)]],
    2: [[(0.25, 0.3), (0.35, 0.12), (0.6, 0.1), (0.75, 0.28), (0.65, 0.5), (0.25, 0.9),
         (0.8, 0.88)]],
    3: [[(0.25, 0.18), (0.5, 0.1), (0.72, 0.25), (0.65, 0.42), (0.42, 0.48), (0.7, 0.58),
         (0.75, 0.78), (0.5, 0.9), (0.22, 0.82)]],
    4: [[(0.6, 0.1), (0.2, 0.6), (0.82, 0.6)], [(0.62, 0.35), (0.6, 0.92)]],
    5: [[(0.75, 0.1), (0.32, 0.12), (0.28, 0.45), (0.55, 0.42), (0.76, 0.6), (0.68, 0.84),
         (0.45, 0.92), (0.22, 0.82)]],
    6: [[(0.65, 0.1), (0.4, 0.28), (0.25, 0.6), (0.32, 0.86), (0.55, 0.92), (0.74, 0.76),
         (0.66, 0.57), (0.45, 0.54), (0.28, 0.68)]],
    7: [[(0.2, 0.12), (0.78, 0.1), (0.55, 0.5), (0.42, 0.92)]],
    8: [[(0.5, 0.48), (0.28, 0.32), (0.35, 0.14), (0.52, 0.1), (0.7, 0.18), (0.7, 0.34),
         (0.5, 0.48), (0.28, 0.65), (0.3, 0.86), (0.52, 0.92), (0.74, 0.82), (0.7, 0.62),
         (0.5, 0.48)]],
    9: [[(0.72, 0.32), (0.55, 0.12), (0.32, 0.18), (0.27, 0.38), (0.45, 0.52), (0.68, 0.42),
         (0.72, 0.3), (0.7, 0.6), (0.6, 0.92)]],
}  # fmt: skip


def drawn(digit, width, random, size=200):
    """A digit drawn with a round pen of this width, slightly different each time."""
    picture = Image.new("L", (size, size), 255)
    draw = ImageDraw.Draw(picture)
    bend = np.eye(2) + random.normal(0, 0.07, (2, 2))
    for line in STROKES[digit]:
        points = [
            tuple(((bend @ (np.array(p) - 0.5)) * 0.85 + 0.5 + random.normal(0, 0.008, 2)) * size)
            for p in line
        ]
        draw.line(points, fill=0, width=width, joint="curve")
        for x, y in points:
            draw.ellipse([x - width / 2, y - width / 2, x + width / 2, y + width / 2], fill=0)
    return picture


def on_page(digit, random):
    """An MNIST image (28, 28), enlarged, as dark ink somewhere on a page."""
    side = int(random.integers(60, 180))
    ink = np.asarray(Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC)) / 255
    page = np.full((240, 260), random.uniform(0.75, 1))
    y, x = int(random.integers(5, 235 - side)), int(random.integers(5, 255 - side))
    place = page[y : y + side, x : x + side]
    place[...] = place * (1 - ink) + random.uniform(0, 0.35) * ink
    return Image.fromarray((page * 255).astype("uint8"))


def photographed(picture, random):
    """A photo of it: tilted by up to 10°, in uneven light, with shadows, noise and blur."""
    paper = picture.getpixel((0, 0))
    angle = random.uniform(-10, 10)
    tilted = picture.rotate(angle, resample=Image.Resampling.BICUBIC, fillcolor=paper)
    page = np.asarray(tilted, dtype=float) / 255
    height, width = page.shape
    y, x = np.mgrid[0:height, 0:width]
    y, x = y / height - 0.5, x / width - 0.5
    turn = random.uniform(0, 2 * np.pi)
    light = 1 - random.uniform(0.2, 0.55) * (0.5 + (np.cos(turn) * x + np.sin(turn) * y) / 1.42)
    if random.random() < 0.5:  # darker corners
        light *= 1 - random.uniform(0, 0.5) * (x**2 + y**2) * 2
    if random.random() < 0.5:  # a shadow's edge, soft or sharp
        edge = np.cos(1.7 * turn) * x + np.sin(1.7 * turn) * y - random.uniform(-0.3, 0.3)
        light *= 1 - 0.4 / (1 + np.exp(-edge * random.uniform(10, 60)))
    seen = page * light * random.uniform(0.6, 1)
    seen += random.normal(0, random.uniform(0.005, 0.05), seen.shape)
    photo = Image.fromarray((seen.clip(0, 1) * 255).astype("uint8"))
    return photo.filter(ImageFilter.GaussianBlur(random.uniform(0, 1.2)))
