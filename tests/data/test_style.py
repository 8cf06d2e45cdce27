"""Styles of writing, drawn into digits: where the new ink lies, and what stays."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from mnist_zoo import Style, restyle
from mnist_zoo.data.style import STYLES

EVERY = dict.fromkeys(STYLES, 1.0)


def drawn(name, images, seed=0):
    return STYLES[name][1](images, torch.Generator().manual_seed(seed))


def stems(count=40):
    """Vertical 1s of different widths, heights and places."""
    images = torch.zeros(count, 1, 28, 28)
    for i, image in enumerate(images):
        left = 10 + i % 7
        image[0, 3 + i % 5 : 20 + i % 6, left : left + 2 + i % 3] = 1
    return images


def of(sample, digit, count=60):
    return sample.images[sample.labels == digit][:count].float() / 255


def places(images):
    """Rows and columns of the ink of each image."""
    return [image[0].gt(0.5).nonzero() for image in images]


def test_styles_have_a_share_each_and_none_is_the_default(sample):
    assert [*vars(Style())] == [*STYLES]
    assert not Style()
    assert all(Style(**{name: 0.1}) for name in STYLES)
    images = sample.images[:20]
    assert torch.equal(restyle(images, sample.labels[:20], Style()), images / 255)


def test_flag_goes_from_the_top_down_to_the_left():
    before = stems()
    added = drawn("flag", before) - before
    assert added.min() >= 0
    for old, new in zip(places(before), places(added), strict=True):
        top, left = old.min(0).values
        assert new[:, 0].min() >= top - 1
        assert new[:, 0].max() < (old[:, 0].min() + old[:, 0].max()) / 2 + 4
        assert new[:, 1].min() < left
        assert new[:, 1].max() <= old[:, 1].max() + 1


def test_foot_is_level_and_lies_at_the_bottom():
    before = stems()
    added = drawn("foot", before) - before
    for old, new in zip(places(before), places(added), strict=True):
        assert (new[:, 0] - old[:, 0].max()).abs().max() <= 3
        assert new[:, 1].min() < old[:, 1].min()
        assert new[:, 1].max() > old[:, 1].max()


def test_bar_crosses_the_stem_at_half_height():
    before = stems()
    added = drawn("bar", before) - before
    for old, new in zip(places(before), places(added), strict=True):
        middle = old[:, 0].float().mean()
        assert (new[:, 0] - middle).abs().max() <= 7
        assert new[:, 1].min() < old[:, 1].min()
        assert new[:, 1].max() > old[:, 1].max()


def holes(image):
    """How many regions of paper ink encloses."""
    return ndimage.label((image[0] < 0.4).numpy())[1] - 1


def test_closing_an_open_four_makes_a_hole_and_opening_undoes_it(sample):
    fours = of(sample, 4)
    open_fours = torch.stack([image for image in fours if holes(image) == 0])
    closed = drawn("closed", open_fours)
    has_hole = torch.tensor([holes(image) >= 1 for image in closed])
    assert len(open_fours) > 30
    assert has_hole.float().mean() > 0.8
    reopened = drawn("opened", closed[has_hole])
    still = sum(holes(image) >= 1 for image in reopened) / len(reopened)
    assert still < 0.5


def test_narrow_digits_keep_their_height(sample):
    before = of(sample, 0)
    for old, new in zip(places(before), places(drawn("narrow", before)), strict=True):
        height, width = (old.max(0).values - old.min(0).values + 1).tolist()
        new_height, new_width = (new.max(0).values - new.min(0).values + 1).tolist()
        assert abs(new_height - height) <= 2
        assert 0.45 * width - 2 <= new_width <= 0.9 * width + 2


@pytest.mark.parametrize(("name", "most"), [("slab", 3), ("heavy", 1)])
def test_wider_strokes_contain_the_old_ones_and_stay_near(sample, name, most):
    before = of(sample, 1)
    after = drawn(name, before)
    assert (after >= before).all()
    far = ndimage.grey_dilation(before.numpy(), size=(1, 1, 2 * most + 1, 2 * most + 1))
    assert (after <= torch.tensor(far) + 1e-6).all()
    assert (after - before).sum() > 0.3 * before.sum()


@pytest.mark.parametrize("name", STYLES)
def test_share_and_digit_decide_which_images_change(sample, name):
    images, labels = sample.images, sample.labels
    after = restyle(images, labels, Style(**{name: 0.4}), torch.Generator().manual_seed(1))
    changed = (after != images / 255).flatten(1).any(1)
    digit = STYLES[name][0]
    meant = labels == digit if digit is not None else torch.ones_like(changed)
    assert not changed[~meant].any()
    # a 4 may be open already, and then there is nothing to cut
    assert 0.32 < changed[meant].float().mean() < 0.48 or name == "opened"


@given(seed=st.integers(0, 2**32), channels=st.integers(1, 3), side=st.integers(8, 40))
@settings(deadline=None, max_examples=25)
def test_any_image_gives_pixels_from_0_to_1(seed, channels, side):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(10, channels, side, side + 3, generator=generator).round()
    images[0] = 0
    after = restyle(images, torch.arange(10), Style(**EVERY), generator)
    assert after.shape == images.shape
    assert after.min() >= 0
    assert after.max() <= 1 + 1e-6


def test_style_depends_on_its_generator_only(sample):
    images, labels = sample.images[:100], sample.labels[:100]

    def once(seed):
        return restyle(images, labels, Style(**EVERY), torch.Generator().manual_seed(seed))

    before = images.clone()
    assert torch.equal(once(1), once(1))
    assert not torch.equal(once(1), once(2))
    assert torch.equal(images, before)


@pytest.mark.parametrize("name", STYLES)
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), "1", None, True])
def test_impossible_shares_are_refused(name, value):
    with pytest.raises(ValueError, match=f"`{name}`"):
        Style(**{name: value})


def test_numbers_of_other_libraries_become_pythons():
    assert json.dumps(vars(Style(flag=torch.tensor(0.5), bar=torch.tensor(1))))


@pytest.mark.parametrize("kind", [list, np.array])
def test_labels_of_any_kind_are_digits(kind):
    one = torch.zeros(2, 1, 28, 28)
    one[..., 4:24, 13:15] = 1
    drawn = restyle(one, kind([7, 1]), Style(flag=1))
    assert torch.equal(drawn[0], one[0])
    assert not torch.equal(drawn[1], one[1])
