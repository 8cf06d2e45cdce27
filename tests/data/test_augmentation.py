"""Augmentation: affine maps as torchvision's, elastic distortion as SciPy's."""

import json
import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torchvision.transforms import v2

from mnist_zoo import Augmentation, Corruption, Digits, Style, augment, corrupt, restyle
from mnist_zoo.data import augmentation


@pytest.fixture
def highest(monkeypatch):
    """Makes every random number 1, so that each bound is drawn."""
    monkeypatch.setattr(torch, "rand", lambda *size, **_: torch.ones(*size))


def test_default_augmentation_changes_nothing(sample):
    x = sample.images[:50]
    assert not Augmentation()
    assert torch.allclose(augment(x, Augmentation()), x / 255, atol=1e-5)


@pytest.mark.parametrize(
    ("augmentation", "affine"),
    [
        (Augmentation(shift=3), {"translate": [3, 3]}),
        (Augmentation(rotation=30), {"angle": 30.0}),
        (Augmentation(scale=0.25), {"scale": 1.25}),
        (Augmentation(shear=20), {"shear": [20.0, 0.0]}),
        (Augmentation(rotation=90, shift=2), {"angle": 90.0, "translate": [2, 2]}),
    ],
)
def test_each_bound_equals_torchvisions_affine_map(sample, highest, augmentation, affine):
    x = sample.images[:20].float() / 255
    options = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0], **affine}
    theirs = v2.functional.affine(x, **options, interpolation=v2.InterpolationMode.BILINEAR)
    assert torch.allclose(augment(x, augmentation), theirs, atol=2e-5)


def test_each_image_draws_its_own_shift(sample):
    x = sample.images[:1].expand(200, -1, -1, -1)
    moved = augment(x, Augmentation(shift=2), torch.Generator().manual_seed(0))
    columns = torch.arange(28.0)

    def centre(images):
        mass = images.float().flatten(1).sum(1)
        return (
            (images * columns).flatten(1).sum(1) / mass,
            (images.mT * columns).flatten(1).sum(1) / mass,
        )

    for there, here in zip(centre(moved), centre(x / 255), strict=True):
        distance = there - here
        assert -2.01 < distance.min() < -1.7
        assert 1.7 < distance.max() < 2.01
        assert distance.mean().abs() < 0.3


def test_elastic_noise_is_smoothed_by_a_gaussian():
    ndimage = pytest.importorskip("scipy.ndimage")
    noise = torch.rand(3, 2, 28, 28) * 2 - 1
    theirs = ndimage.gaussian_filter(noise.numpy(), sigma=(0, 0, 4, 4), mode="constant", truncate=8)
    assert np.allclose(augmentation._smoothed(noise, 4.0).numpy(), theirs, atol=1e-4)


def test_elastic_distortion_has_the_given_strength(sample, highest):
    x = sample.images[:5].float() / 255
    grid = augmentation.sampling_grid(x, 5, Augmentation(elastic=30, elastic_sigma=4), None)
    still = F.affine_grid(torch.eye(2, 3).expand(5, 2, 3), [5, 1, 28, 28], align_corners=False)
    pixels = (grid - still)[:, 14, 14] * 14
    # constant noise of 1 stays 1 in the middle, where the whole Gaussian lies inside
    assert torch.allclose(pixels, torch.full_like(pixels, 30), atol=0.05)


def test_augmentation_depends_on_its_generator_only(sample):
    x, state = sample.images[:8], torch.get_rng_state()
    augmentation = Augmentation(rotation=10, elastic=30)
    one, two = (augment(x, augmentation, torch.Generator().manual_seed(5)) for _ in range(2))
    other = augment(x, augmentation, torch.Generator().manual_seed(6))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"rotation": -1}, r"`rotation` \(=-1\) must be at least 0 and below 360"),
        ({"scale": 1.0}, "`scale`"),
        ({"shear": 90}, "`shear`"),
        ({"shift": math.nan}, "`shift`"),
        ({"elastic": math.inf}, "`elastic`"),
        ({"elastic_sigma": 0}, "`elastic_sigma`"),
        ({"rotation": "5"}, "`rotation` .* must be a finite number"),
        ({"scale": None}, "`scale` .* must be a finite number"),
        ({"shear": True}, "`shear` .* must be a finite number"),
        ({"shift": 10**400}, "`shift` .* must be between 0 and"),
        ({"elastic": 1e39}, "`elastic` .* must be between 0 and"),
        ({"rotation": np.float32("nan")}, "`rotation` .* must be a finite number"),
        ({"rotation": torch.tensor(-1.0)}, "`rotation` .* at least 0"),
        ({"rotation": np.bool_(True)}, "`rotation` .* must be a finite number"),
        ({"rotation": (-5, 5)}, "one number: images draw between minus and plus this bound"),
        ({"shift": [2, 3]}, "one number: images draw between minus and plus this bound"),
        ({"scale": np.array([0.9, 1.1])}, "one number: images draw between"),
    ],
)
def test_impossible_values_are_refused(arguments, rule):
    with pytest.raises(ValueError, match=rule):
        Augmentation(**arguments)


@pytest.mark.parametrize(
    ("change", "setting", "name"),
    [
        (augment, Augmentation(), "augmentation"),
        (corrupt, Corruption(), "corruption"),
        (lambda images, style: restyle(images, [1, 7], style), Style(), "style"),
    ],
)
def test_what_is_no_batch_or_no_setting_is_refused(change, setting, name):
    images = torch.zeros(2, 1, 28, 28, dtype=torch.uint8)
    with pytest.raises(TypeError, match=r"`images` must be a tensor .*; its type is Digits"):
        change(Digits(images, [1, 7]), setting)
    with pytest.raises(ValueError, match=r"`images` must be \(N, C, H, W\), got \(1, 28, 28\)"):
        change(images[0], setting)
    with pytest.raises(TypeError, match=rf"`{name}` \(=0.3\) must be of type {name.title()}"):
        change(images, 0.3)


def test_restyle_needs_a_label_for_each_image():
    with pytest.raises(ValueError, match=r"`labels` must be \(2,\), got \(3,\)"):
        restyle(torch.zeros(2, 1, 28, 28), [1, 7, 4], Style(flag=1))


@pytest.mark.parametrize("number", [np.float32, np.float64, np.int64, torch.tensor])
def test_scalars_of_numpy_and_torch_become_numbers(number):
    augmentation = Augmentation(rotation=number(5), shift=number(2))
    assert augmentation == Augmentation(rotation=5, shift=2)
    assert {type(value) for value in vars(augmentation).values()} <= {int, float}
    json.dumps(vars(augmentation))


@pytest.mark.parametrize("size", [1e6, 1e3, 1e-3, 1e-30])
def test_the_largest_bounds_give_images_that_are_finite(size):
    images = torch.rand(3, 1, 28, 28)
    for name in ("shift", "elastic"):
        assert augment(images, Augmentation(**{name: size})).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_the_default_dtype_changes_nothing(dtype):
    images = torch.rand(3, 1, 28, 28)

    def run():
        generator = torch.Generator().manual_seed(0)
        return augment(images, Augmentation(rotation=9, elastic=9), generator)

    expected = run()
    torch.set_default_dtype(dtype)
    try:
        assert torch.equal(run(), expected)
    finally:
        torch.set_default_dtype(torch.float32)


def test_no_images_give_no_images():
    assert augment(torch.zeros(0, 1, 28, 28), Augmentation(shift=1)).shape == (0, 1, 28, 28)
