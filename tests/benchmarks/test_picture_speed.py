"""One picture through `predict`, against the network alone and against plain resizing."""

import io
import itertools
import statistics

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from mnist_zoo import load_mnist, mini_resnet, predict

COUNT = 20  # digits, in turn
PASSES = 10  # over all of them in a round
ROUNDS = 9


@pytest.fixture(autouse=True)
def one_core():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def times(seconds, work, pictures):
    """The median seconds of a call."""
    turns = itertools.chain.from_iterable(itertools.repeat(pictures, PASSES))
    return statistics.median(seconds(lambda p=picture: work(p)) for picture in turns)


def network_input(grey):
    return torch.from_numpy(grey)[None, None].float().div_(255).sub_(0.1307).div_(0.3081)


def test_predict_of_an_mnist_image_adds_at_most_300_microseconds(report, seconds):
    model = mini_resnet(weights="mnist").eval()
    arrays = [image[0].numpy() for image in load_mnist("test", source="sample").images[:COUNT]]
    inputs = [network_input(array) for array in arrays]
    shares = []
    for _ in range(1 + ROUNDS):
        with torch.inference_mode():
            bare = times(seconds, model, inputs)
        added = times(seconds, lambda array: predict(model, array), arrays) - bare
        shares.append(0.0003 / added)
    report(shares[1:], at_least=1.0)


def drawn_large(image):
    """A digit of MNIST as a PNG file of 280×280 pixels, dark on white."""
    large = Image.fromarray(255 - image).resize((280, 280), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    large.save(file, "PNG")
    return file.getvalue()


def test_predict_of_a_png_against_grey_invert_resize(report, seconds):
    model = mini_resnet(weights="mnist").eval()
    digits = load_mnist("test", source="sample").images[:COUNT, 0].numpy()
    files = [drawn_large(image) for image in digits]

    @torch.inference_mode()
    def theirs(file):
        grey = ImageOps.invert(Image.open(io.BytesIO(file)).convert("L")).resize((28, 28))
        return model(network_input(np.array(grey))).argmax(1).item()

    ratios = []
    for _ in range(1 + ROUNDS):
        plain = times(seconds, theirs, files)
        ratios.append(plain / times(seconds, lambda file: predict(model, file), files))
    report(ratios[1:], at_least=1 / 1.5)
