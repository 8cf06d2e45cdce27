"""Photos of 12 megapixels, against Pillow decoding the same JPEG file in full size, on one core."""

import io
import time

import numpy as np
import pytest
import torch
from PIL import Image
from reading_cases import sample_writers

from mnist_zoo import mini_resnet, predict, read_digits

SIZE = 4000, 3000  # pixels; 12 megapixels


def photo(rows, columns, height):
    """A sheet in uneven light with rows of digits of this height in pixels; and what they show."""
    random = np.random.default_rng(0)
    width, tall = SIZE
    page = 235 * (1 - 0.25 * np.linspace(0, 1, width)) * np.ones((tall, 1))
    lines = []
    for row in range(rows):
        writer = sample_writers()[row]
        chosen = random.integers(len(writer.labels), size=columns)
        lines.append("".join(map(str, writer.labels[chosen])))
        for column, image in enumerate(writer.images[chosen]):
            ink = Image.fromarray(image).resize((height, height), Image.Resampling.BICUBIC)
            top = int((row + 0.5) * tall / rows) - height // 2
            left = width // 2 + int((column - columns / 2) * height)
            page[top : top + height, left : left + height] *= 1 - 0.8 * np.asarray(ink) / 255
    page += random.normal(0, 3, page.shape)
    grey = Image.fromarray(page.clip(0, 255).astype(np.uint8))
    file = io.BytesIO()
    grey.convert("RGB").save(file, "JPEG", quality=90)
    return file.getvalue(), "\n".join(lines)


@pytest.fixture
def one_core():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_core")
@pytest.mark.parametrize(("rows", "columns", "at_least"), [(1, 1, 1 / 1.3), (5, 8, 0.12)])
def test_photo(race, rows, columns, at_least):
    model = mini_resnet(weights="mnist")
    jpeg, text = photo(rows, columns, height=800 if rows == 1 else 350)
    work = predict if rows == 1 else read_digits
    read = work(model, jpeg)
    assert (str(read.digit) if rows == 1 else read.text.replace(" ", "")) == text
    times = []

    def ours():
        start = time.perf_counter()
        work(model, jpeg)
        times.append(1000 * (time.perf_counter() - start))

    race(ours, lambda: Image.open(io.BytesIO(jpeg)).convert("RGB").load(), at_least=at_least)
    print(f"\n{rows * columns} digits: {np.median(times):.0f} ms, at best {min(times):.0f} ms")
