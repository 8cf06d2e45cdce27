"""The committee of pretrained DigitNets: its size, its mean, and what the guide says of it."""

import os
import re
from pathlib import Path

import pytest
import torch

from mnist_zoo import digitnet_committee, evaluate, load_mnist, profile

GUIDE = Path(__file__).parents[1] / "docs" / "predict.md"
FULL = os.environ.get("MNIST_ZOO_DATA")


@pytest.fixture(scope="module")
def committee():
    return digitnet_committee().eval()


def test_the_committee_has_as_many_parameters_as_the_guide_says(committee):
    count = sum(parameter.numel() for parameter in committee.parameters())
    assert profile(committee).params == count <= 2_000_000
    assert f"four DigitNets of {count:,} parameters" in GUIDE.read_text("utf-8")


def test_it_gives_the_mean_of_its_members_probabilities(committee):
    x = torch.randn(3, 1, 28, 28)
    with torch.inference_mode():
        mean = torch.stack([model(x).softmax(1) for model in committee.models]).mean(0)
        torch.testing.assert_close(committee(x).softmax(1), mean)


@pytest.mark.slow
@pytest.mark.skipif(FULL is None, reason="needs the whole of MNIST: set MNIST_ZOO_DATA")
def test_it_recognises_as_many_test_digits_as_the_guide_says(committee):
    guide = GUIDE.read_text("utf-8")
    stated = re.search(r"`digitnet_committee\(\)`.*\s+recognises ([\d,]+) of MNIST's 10,000", guide)
    found = evaluate(committee, load_mnist("test"))
    assert int(stated[1].replace(",", "")) == found.correct
    assert found.calibration_error <= 0.005
