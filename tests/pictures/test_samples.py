"""The images that the package ships show what their documentation says."""

import numpy as np
import pytest
from example_scripts import load_example
from PIL import Image

from mnist_zoo import get_model, predict, read_digits, sample_pictures
from mnist_zoo.pictures import SamplePictures

samples = load_example("sample_pictures")


@pytest.mark.parametrize("network", ["mini_resnet", "lenet5"])
def test_networks_read_the_digits_that_the_script_writes(network):
    model = get_model(network, weights="mnist")
    result = predict(model, sample_pictures().digit, reject_unknown=True)
    assert result.digit == 7
    assert result.probability > 0.9
    reading = read_digits(model, sample_pictures().sheet)
    assert reading.text.split("\n") == [*samples.ROWS]
    assert not reading.rejected
    assert " ".join(samples.ROWS[:1]) in SamplePictures.__doc__


def test_files_are_small_images_drawn_by_the_script():
    """JPEG and SciPy may round otherwise elsewhere; no pixel differs by much."""
    random = np.random.default_rng(0)
    for path, make in zip(sample_pictures(), (samples.digit, samples.sheet), strict=True):
        assert path.stat().st_size < 25_000
        with Image.open(path) as stored:
            drawn = np.asarray(make(random), float)
            assert np.abs(np.asarray(stored, float) - drawn).mean() < 4
