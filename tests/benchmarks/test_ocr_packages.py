"""Engines that read any text, told that there are digits only, beside `read_digits`.

Needs ``apt-get install tesseract-ocr``, and ``pip install rapidocr-onnxruntime`` in this
environment or in another one whose Python is ``$OCR_PYTHON``; and all of MNIST with its writers.
With ``--write`` the result goes to ``docs/ocr_packages.json``.

Each engine gets the same image files: strings, rows and grids that `reading_cases` composes of
MNIST's test digits. An image is right if all of its digits are read, in order; spaces and line
ends do not count, nor does what RapidOCR reads besides digits. Each engine reads all images in two
ways, as pages and as lines of text; the better way counts.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from data_cases import needs_mnist
from PIL import Image
from reading_cases import KINDS, ONE_LINE, compose, writers

from mnist_zoo import get_weights, mini_resnet, read_digits

FILE = Path(__file__).parents[2] / "docs" / "ocr_packages.json"
PICTURES = {kind: 12 if kind in ONE_LINE else 4 for kind in KINDS}
PYTHON = os.environ.get("OCR_PYTHON", sys.executable)
RAPIDOCR = """
import json, sys
from importlib.metadata import version
import cv2
from rapidocr_onnxruntime import RapidOCR
engine, found = RapidOCR(), {"version": version("rapidocr-onnxruntime"), "whole": [], "line": []}
for path in json.load(sys.stdin):
    image = cv2.imread(path)
    boxes = engine(image)[0] or []
    found["whole"].append("".join(text for _, text, _ in boxes))
    found["line"].append("".join(text for text, *_ in engine(image, use_det=False)[0] or []))
print(json.dumps(found))
"""


def digits_of(text):
    return re.sub("[^0-9]", "", text)


def rapidocr(paths):
    done = subprocess.run(
        [PYTHON, "-c", RAPIDOCR], input=json.dumps(paths), capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"{PYTHON} has no rapidocr-onnxruntime; pip install it, or set OCR_PYTHON")
    found = json.loads(done.stdout.splitlines()[-1])
    return found["version"], [found["whole"], found["line"]]


def tesseract(paths):
    if shutil.which("tesseract") is None:
        pytest.skip("needs Tesseract: apt-get install tesseract-ocr")
    digits = ["-c", "tessedit_char_whitelist=0123456789"]
    ways = []
    for way in ("6", "7"):  # a block of text; one line
        command = ["tesseract", "stdin", "stdout", "--psm", way, *digits]
        listed = subprocess.run(
            command, input="\n".join(paths), capture_output=True, text=True, check=True
        )
        ways.append(listed.stdout.split("\f")[: len(paths)])
    version = subprocess.run(["tesseract", "--version"], capture_output=True, text=True)
    return re.search(r"tesseract (\S+)", version.stdout + version.stderr)[1], ways


@needs_mnist
def test_three_times_fewer_wrong_images_than_text_engines(request, tmp_path):
    random, everyone = np.random.default_rng(20), writers("test")
    kinds, truth, paths = [], [], []
    for kind, count in PICTURES.items():
        for _ in range(count):
            case = compose(kind, random, everyone[int(random.integers(len(everyone)))])
            paths.append(str(tmp_path / f"{len(paths)}.png"))
            Image.fromarray(case.picture).save(paths[-1])
            kinds.append(kind)
            truth.append(digits_of(case.text))

    def wrong(read):
        assert len(read) == len(truth)
        return [digits_of(a) != b for a, b in zip(read, truth, strict=True)]

    model = mini_resnet(weights="mnist")
    ours = wrong([read_digits(model, path).text for path in paths])
    rows = [("mnist-zoo", None, ours)]
    for name, engine in (("rapidocr-onnxruntime", rapidocr), ("tesseract", tesseract)):
        version, ways = engine(paths)
        rows.append((name, version, min(map(wrong, ways), key=sum)))
    found = {
        "weights": get_weights("mini_resnet").sha256,
        "images": PICTURES,
        "engines": [
            {
                "engine": name,
                "version": version,
                "wrong": {
                    kind: sum(bad for bad, own in zip(wrongs, kinds, strict=True) if own == kind)
                    for kind in PICTURES
                },
            }
            for name, version, wrongs in rows
        ],
    }
    if request.config.getoption("--write"):
        FILE.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))
    for _, _, theirs in rows[1:]:
        assert sum(theirs) >= 3 * sum(ours)
