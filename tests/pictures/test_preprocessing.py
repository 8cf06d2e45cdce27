"""Preprocessing: normalising, resizing and padding as torchvision does."""

import math

import pytest
import torch
from torchvision import transforms
from torchvision.transforms import v2

from mnist_zoo import Preprocessing


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
        ({"std": 0}, r"`std` \(=0\) must be more than 0"),
        ({"std": math.nan}, "`std`"),
        ({"mean": math.inf}, "`mean`"),
        ({"image_size": 0}, "`image_size`"),
        ({"resize": "crop"}, r"`resize` \(='crop'\) must be 'bilinear' or 'pad'"),
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
