"""Corruptions: each kind against an independent computation, shares, strengths, and limits."""

import json
from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from mnist_zoo import Corruption, corrupt
from mnist_zoo.data.corruption import KINDS

HARD = {
    "thickness": 0.7,
    "blur": 1.5,
    "coarse": 3.5,
    "bands": 2.5,
    "inversion": 0.5,
    "contrast": 0.7,
    "light": 0.8,
    "grain": 0.5,
    "noise": 0.35,
    "specks": 0.2,
}


def made(name, images, strength, seed=0):
    strengths = torch.full((len(images),), float(strength))
    return KINDS[name](images, strengths, torch.Generator().manual_seed(seed))


@pytest.fixture
def images(sample):
    return sample.images[:200].float() / 255


def test_kinds_have_a_bound_each_and_none_is_the_default(images):
    assert [entry.name for entry in fields(Corruption)] == ["share", *KINDS]
    assert [*HARD] == [*KINDS]
    assert not Corruption()
    assert not Corruption(share=0.5)
    assert not Corruption(noise=0.5)
    assert torch.equal(corrupt(images, Corruption(noise=0.5)), images)


@pytest.mark.parametrize("name", KINDS)
def test_strength_zero_changes_nothing(images, name):
    assert torch.allclose(made(name, images, 0).clamp(0, 1), images, atol=1e-5)


def test_blur_equals_scipys(images):
    for sigma in (0.5, 1.3):
        theirs = ndimage.gaussian_filter(
            images.numpy(), (0, 0, sigma, sigma), mode="constant", truncate=40
        )
        assert np.allclose(made("blur", images, sigma).numpy(), theirs, atol=1e-4)


def test_thickness_lies_between_erosion_and_dilation(images):
    after = made("thickness", images, 1).numpy()
    low, high = (
        f(images.numpy(), size=(1, 1, 3, 3), mode="nearest")
        for f in (ndimage.grey_erosion, ndimage.grey_dilation)
    )
    thin = np.isclose(after, low, atol=1e-6).all((1, 2, 3))
    thick = np.isclose(after, high, atol=1e-6).all((1, 2, 3))
    assert (thin | thick).all()
    assert 0.35 < thin.mean() < 0.65


def test_coarse_pixels_of_whole_size_are_means_of_blocks(images):
    after = made("coarse", images, 4)
    blocks = images.unfold(2, 4, 4).unfold(3, 4, 4).mean((4, 5))
    small = [blocks, (blocks > blocks.amax((2, 3), keepdim=True) / 2).float()]
    sharp = [s.repeat_interleave(4, 2).repeat_interleave(4, 3) for s in small]
    smooth = [
        torch.nn.functional.interpolate(s, (28, 28), mode="bilinear", align_corners=False)
        for s in small
    ]
    near = torch.stack([(after - each).abs().amax((1, 2, 3)) for each in (*sharp, *smooth)])
    assert near.amin(0).max() < 1e-4
    assert near.argmin(0).unique().tolist() == [0, 1, 2, 3]


def test_inversion_swaps_ink_and_paper_on_one_band(images):
    after = made("inversion", images, 0.25)
    swapped = torch.isclose(after, 1 - images, atol=1e-6)
    kept = torch.isclose(after, images, atol=1e-6)
    # the rest is the edges of the band, which are smooth
    assert 0.9 < (swapped | kept).float().mean() <= 1
    assert 0.1 < swapped.float().mean() < 0.6
    assert made("inversion", images, 10).equal(1 - images)


def test_contrast_is_lost_by_the_given_fraction(images):
    after = made("contrast", images, 0.7)
    ranges = after.amax((1, 2, 3)) - after.amin((1, 2, 3))
    before = images.amax((1, 2, 3)) - images.amin((1, 2, 3))
    assert torch.allclose(ranges, 0.3 * before, atol=1e-5)


def test_light_darkens_paper_smoothly_and_keeps_ink_above_it(images):
    after = made("light", images, 0.8)
    paper = made("light", torch.zeros_like(images), 0.8)
    assert (after - paper).min() > -1e-6
    steps = paper.diff(dim=2).abs().max()
    assert 0.3 < paper.max() <= 0.8
    assert steps < 0.1


@pytest.mark.parametrize(("name", "spread"), [("noise", 0.3), ("grain", 0.3)])
def test_noise_has_its_strength(name, spread):
    added = made(name, torch.zeros(300, 1, 28, 28), spread)
    assert abs(added.mean()) < 0.01
    if name == "noise":
        assert abs(added.std() - spread) < 0.01
    else:
        assert 0.8 * spread < added.abs().max() <= spread


def test_specks_change_their_fraction_of_the_pixels():
    grey = torch.full((300, 1, 28, 28), 0.5)
    after = made("specks", grey, 0.2)
    assert abs((after == 0).float().mean() - 0.1) < 0.01
    assert abs((after == 1).float().mean() - 0.1) < 0.01
    assert ((after == 0) | (after == 1) | (after == 0.5)).all()


def test_bands_are_ink_or_paper_and_straight():
    grey = torch.full((300, 1, 28, 28), 0.5)
    after = made("bands", grey, 2)
    assert (after > 0.9).flatten(1).any(1).float().mean() > 0.6
    assert (after < 0.1).flatten(1).any(1).float().mean() > 0.3
    assert 0.02 < (after != 0.5).float().mean() < 0.3


def test_share_and_number_of_kinds_decide_how_many_images_change(images):
    one = corrupt(images, Corruption(share=0.3, noise=0.3), torch.Generator().manual_seed(0))
    assert (one != images).flatten(1).any(1).sum() == 60
    kinds = {"noise": 0.3, "contrast": 0.5, "grain": 0.5, "specks": 0.3}
    many = corrupt(images, Corruption(share=1, **kinds), torch.Generator().manual_seed(0))
    changed = (many != images).flatten(1).any(1).float().mean()
    assert 0.88 < changed < 0.99  # each kind has half of the images: 1/16 have none


@given(
    seed=st.integers(0, 2**32),
    channels=st.integers(1, 3),
    height=st.integers(2, 40),
    width=st.integers(2, 40),
    factor=st.floats(0, 1),
)
@settings(deadline=None, max_examples=40)
def test_any_image_gives_pixels_from_0_to_1(seed, channels, height, width, factor):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(9, channels, height, width, generator=generator)
    images[0], images[1] = 0, 1
    before = images.clone()
    corruption = Corruption(share=1, **{k: factor * v for k, v in HARD.items()})
    after = corrupt(images, corruption, generator)
    assert after.shape == images.shape
    assert after.isfinite().all()
    assert after.min() >= 0
    assert after.max() <= 1
    assert torch.equal(images, before)


def test_corruption_depends_on_its_generator_only(images):
    def once(seed):
        corruption = Corruption(share=0.5, **HARD)
        return corrupt(images, corruption, torch.Generator().manual_seed(seed))

    assert torch.equal(once(1), once(1))
    assert not torch.equal(once(1), once(2))


@pytest.mark.parametrize("name", ["share", *KINDS])
@pytest.mark.parametrize("value", [-0.1, 1e9, float("nan"), "1", None, True])
def test_impossible_values_are_refused(name, value):
    with pytest.raises(ValueError, match=f"`{name}`"):
        Corruption(**{name: value})


def test_numbers_of_other_libraries_become_pythons():
    assert json.dumps(vars(Corruption(share=torch.tensor(0.5), noise=np.float32(0.5))))
