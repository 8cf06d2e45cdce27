"""
Read a sheet of numbers
=======================

`read_digits` reads all digits on an image. Here a sheet of numbers is composed of real digits from
MNIST's sample; a photo of your own sheet works as well.
"""
# sphinx_gallery_thumbnail_number = 2

import numpy as np
from PIL import Image

from mnist_zoo import load_mnist, mini_resnet, read_digits

digits = load_mnist(source="sample")
LINES = ("2017 35", "94 0861", "-5.73 1")


def sheet(lines: tuple[str, ...], pitch: int = 22) -> Image.Image:
    """Numbers on ruled paper in the light of a lamp."""
    random = np.random.default_rng(4)
    ink = np.zeros((40 * len(lines) + 16, 28 + pitch * max(map(len, lines))))
    for row, line in enumerate(lines):
        for column, character in enumerate(line):
            y, x = 8 + 40 * row, 10 + pitch * column
            if character == "-":
                ink[y + 14 : y + 16, x + 8 : x + 20] = 255
            elif character == ".":
                ink[y + 21 : y + 24, x + 12 : x + 15] = 255
            elif character.isdigit():
                own = np.flatnonzero(digits.labels.numpy() == int(character))
                image = digits.images[int(random.choice(own)), 0].numpy()
                window = ink[y : y + 28, x : x + 28]
                np.maximum(window, image, out=window)
    height, width = ink.shape
    paper = np.full(ink.shape, 235.0)
    paper[35::40] = 190
    light = 1 - 0.35 * np.linspace(0, 1, width) - 0.15 * np.linspace(0, 1, height)[:, None]
    page = (paper * (1 - ink / 255) + 40 * ink / 255) * light
    large = Image.fromarray(page.round().astype(np.uint8)).resize((3 * width, 3 * height))
    return large.convert("RGB")


page = sheet(LINES)
page.save("sheet.png")

# %%
# The text has a line for each row, and spaces at wide gaps.

reading = read_digits(mini_resnet(weights="mnist"), page)
print(reading)

# %%
# Every digit has its box and its probabilities. Minus signs and decimal points are no digits: they
# are among the rejected marks, drawn in red.

reading.draw().save("sheet_read.png")
for number in reading.numbers:
    print(f"{number.text:>6} {number.probability:7.1%} {number.box}")
for mark in reading.rejected:
    print(mark.why, mark.box)

# %%
# Where the number of rows or of digits in each is known, an image that does not show so many is an
# error rather than a guess.

print(read_digits(mini_resnet(weights="mnist"), page, rows=3).numbers[0])
