"""The kit that ports check themselves with, read as another language would."""

import json
import struct

import numpy as np
import pytest
import torch
from kit import conformance

from mnist_zoo import get_model, list_models


def test_the_kit_holds_what_its_index_states(tmp_path):
    names = list_models(pretrained=True, max_params=400_000)
    conformance.write(tmp_path, names)
    index = json.loads((tmp_path / "index.json").read_text())
    count, _, height, width = index["images"]["shape"]
    pixels = (tmp_path / index["images"]["file"]).read_bytes()
    assert (count, len(pixels)) == (100, count * height * width)
    for name in names:
        stated = index["networks"][name]
        content = (tmp_path / stated["file"]).read_bytes()
        logits = np.array(struct.unpack("<1000f", content)).reshape(stated["shape"])
        image = np.frombuffer(pixels, np.uint8)[:784].reshape(1, 1, height, width)
        x = (image / 255 - stated["mean"]) / stated["std"]
        with torch.no_grad():
            wanted = get_model(name, weights="mnist").eval()(torch.tensor(x).float()).numpy()
        assert np.abs(logits[0] - wanted).max() < index["tolerance"]
    classes = logits.argmax(1)
    assert np.bincount(classes, minlength=10) == pytest.approx(10, abs=1)  # ten of each digit


@pytest.mark.slow
def test_the_whole_kit_is_small(tmp_path):
    conformance.write(tmp_path, list_models(pretrained=True))
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 200_000
