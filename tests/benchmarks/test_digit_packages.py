"""Packages on PyPI that recognise digits, with weights of their own, beside ours.

Needs ``pip install digit-recognizer-py==0.1.0 ccexam==1.0.0`` and all of MNIST. With ``--write``
the result goes to ``docs/digit_packages.json``, from which ``examples/catalogue.py`` writes the
table in ``docs/comparison.md``.

Each package gets the same PIL images, as its README calls it: MNIST's 10,000 test digits, and
photos of single digits that `paper_cases` draws. An error counts as a wrong answer.
"""

import json
import os
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import paper_cases
import pytest
from PIL import Image

from mnist_zoo import PictureError, get_weights, load_mnist, mini_resnet, predict

FILE = Path(__file__).parents[2] / "docs" / "digit_packages.json"
SEEDS = range(2000, 2020)  # per kind; the photos' own tests have others
KINDS = [kind for kind in paper_cases.KINDS if kind != "several"]


def ours():
    model = mini_resnet(weights="mnist")

    def read(picture):
        try:
            return predict(model, picture).digit
        except PictureError:
            return None

    return model, read


def digit_recognizer():
    package = pytest.importorskip("digit_recognizer")
    recognizer = package.DigitRecognizer(device="cpu")
    return recognizer.model, recognizer.predict


def ccexam():
    inference = pytest.importorskip("ccexam.inference")
    made = inference.InferenceFactory.create("mnist", device="cpu")
    return made.model, made.predict


PACKAGES = {"mnist-zoo": ours, "digit-recognizer-py": digit_recognizer, "ccexam": ccexam}


@pytest.fixture
def photos(monkeypatch):
    """Photos of each kind, and their digits; the strokes are not chosen by whether we read them."""
    anything = SimpleNamespace(digit=mock.ANY)
    monkeypatch.setattr(paper_cases, "predict", lambda *_: anything)
    return [paper_cases.photo(kind, seed, "mnist") for kind in KINDS for seed in SEEDS]


@pytest.mark.skipif(not os.environ.get("MNIST_ZOO_DATA"), reason="needs all of MNIST")
@pytest.mark.filterwarnings("ignore")
def test_digits_that_each_package_recognises(request, photos):
    readers = {name: make() for name, make in PACKAGES.items()}
    test = load_mnist("test")
    digits = [Image.fromarray(image.numpy()) for image in test.images[:, 0]]
    mnist = list(zip(digits, test.labels.tolist(), strict=True))
    rows = []
    for name, (network, read) in readers.items():
        row = {"package": name, "version": version(name)}
        row["parameters"] = sum(parameter.numel() for parameter in network.parameters())
        for which, images in (("mnist", mnist), ("photos", photos)):
            row[which] = sum(read(image) == digit for image, digit in images)
        rows.append(row)
    counts = {"mnist": len(mnist), "photos": len(photos), "kinds": len(KINDS)}
    found = {"weights": get_weights("mini_resnet").sha256, "images": counts, "packages": rows}
    if request.config.getoption("--write"):
        FILE.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))
    assert rows[0]["mnist"] > max(row["mnist"] for row in rows[1:])
    assert rows[0]["photos"] > max(row["photos"] for row in rows[1:])
