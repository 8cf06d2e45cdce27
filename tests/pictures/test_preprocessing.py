"""Preprocessing: normalising, resizing and padding as torchvision does."""

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision import transforms
from torchvision.transforms import v2

from mnist_zoo import (
    Augmentation,
    Corruption,
    Preprocessing,
    Style,
    augment,
    corrupt,
    restyle,
)


def test_normalising_equals_torchvisions_to_the_bit(sample):
    to_input = transforms.Compose([transforms.ToTensor(), transforms.Normalize(0.1307, 0.3081)])
    theirs = torch.stack([to_input(picture[0].numpy()) for picture in sample.images[:500]])
    assert torch.equal(Preprocessing()(sample.images[:500]), theirs)
    assert torch.equal(Preprocessing()(sample.images[:500].float() / 255), theirs)


@pytest.mark.parametrize("size", [16, 32, 64])
def test_resizing_equals_torchvisions(sample, size):
    x = sample.images[:20].float() / 255
    theirs = v2.functional.resize(x, [size, size], antialias=True)
    ours = Preprocessing(mean=0, std=1, image_size=size)(sample.images[:20])
    assert torch.allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize(("size", "before"), [(32, 2), (33, 2), (29, 0)])
def test_padding_keeps_the_pixels(sample, size, before):
    x = sample.images[:5]
    padded = Preprocessing(mean=0, std=1, image_size=size, resize="pad")(x)
    inside = padded[:, :, before : before + 28, before : before + 28]
    assert torch.equal(inside, x / 255)
    assert padded.sum().isclose(inside.sum())


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"std": 0}, r"`std` \(=0\) must be between 1e-06 and 1000000"),
        ({"std": 1e-320}, r"`std` \(=1e-320\) must be between"),
        ({"std": None}, "`std`"),
        ({"std": 10**400}, "`std`"),
        ({"mean": 1e308}, "`mean`"),
        ({"mean": "1"}, "`mean`"),
        ({"mean": True}, "`mean`"),
        ({"mean": ()}, "`mean`"),
        ({"mean": (0.1, None, 0.2)}, r"`mean` \(=None\)"),
        ({"mean": [[0.1, 0.2]]}, "`mean`"),
        ({"mean": torch.tensor([0.1, torch.nan])}, "`mean`"),
        ({"mean": (0.1, 0.2), "std": (0.1, 0.2, 0.3)}, "must have a number per channel"),
        ({"image_size": 10**9}, "`image_size`"),
        ({"image_size": 28.0}, "`image_size`"),
        ({"redraw": 1}, r"`redraw` \(=1\) must be True or False"),
        ({"redraw": False, "dark_on_light": True}, r"`dark_on_light` \(=True\) needs `redraw`"),
        ({"std": math.nan}, "`std`"),
        ({"mean": math.inf}, "`mean`"),
        ({"image_size": 0}, "`image_size`"),
        ({"resize": "crop"}, r"`resize` \(='crop'\) must be one of 'bilinear', 'pad'"),
        ({"resize": None}, "`resize`"),
    ],
)
def test_impossible_values_are_refused(arguments, rule):
    with pytest.raises(ValueError, match=rule):
        Preprocessing(**arguments)


def test_padding_refuses_larger_images(sample):
    with pytest.raises(
        ValueError, match=r"`image_size` \(=20\) must be at least the images' 28×28"
    ):
        Preprocessing(image_size=20, resize="pad")(sample.images[:2])


ANY_NUMBER = st.one_of(
    st.floats(width=64),
    st.integers(-(10**300), 10**300),
    st.none(),
    st.text(max_size=3),
    st.booleans(),
    st.floats(width=32).map(np.float32),
    st.integers(-5, 5).map(np.int64),
    st.floats(0.1, 1).map(torch.tensor),
)


@settings(deadline=None, max_examples=300)
@given(mean=ANY_NUMBER | st.lists(ANY_NUMBER, max_size=4), std=ANY_NUMBER)
def test_whatever_is_accepted_gives_finite_numbers_and_survives_json(mean, std):
    try:
        made = Preprocessing(mean=mean, std=std)
    except ValueError:
        return
    assert Preprocessing(**json.loads(json.dumps(asdict(made)))) == made
    channels = len(made.mean) if isinstance(made.mean, tuple) else 1
    images = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, channels, 28, 28)
    assert made(images).isfinite().all()


def test_numbers_per_channel_equal_torchvisions(sample):
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    images = torch.cat([sample.images[:20], sample.images[20:40], sample.images[40:60]], 1)
    theirs = transforms.Normalize(mean, std)(images / 255)
    for form in (mean, list(mean), np.array(mean), torch.tensor(mean, dtype=torch.float64)):
        assert torch.equal(Preprocessing(mean=form, std=std)(images), theirs)
    shared = Preprocessing(mean=mean, std=0.5)(images)
    assert torch.allclose(shared, transforms.Normalize(mean, [0.5] * 3)(images / 255))
    grey = Preprocessing(mean=0.5, std=std)(images[:, :1])
    assert torch.equal(
        grey, transforms.Normalize([0.5] * 3, std)((images[:, :1] / 255).expand(-1, 3, -1, -1))
    )
    with pytest.raises(ValueError, match="are for 3 channels; the images have 2"):
        Preprocessing(mean=mean)(images[:, :2])


@pytest.mark.parametrize(
    "prepare",
    [
        Preprocessing(),
        Preprocessing(image_size=32, resize="pad"),
        lambda images: augment(images, Augmentation()),
        lambda images: corrupt(images, Corruption()),
        lambda images: restyle(images, torch.zeros(len(images), dtype=torch.int64), Style()),
    ],
)
def test_booleans_are_ink_and_paper(sample, prepare):
    ink = sample.images[:5] > 127
    torch.testing.assert_close(prepare(ink), prepare(ink.byte() * 255))
