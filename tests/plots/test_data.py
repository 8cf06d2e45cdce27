"""Augmented images, read from the figure."""

import numpy as np
import pytest
import torch
from plots_cases import drawn, labels_of, numpy, shown

from mnist_zoo.data import Augmentation, augment
from mnist_zoo.plots.data import augmented


def test_augmented_shows_the_original_and_its_variants(digits):
    augmentation = Augmentation(rotation=20, shift=2, scale=0.1, elastic=34)
    state = torch.get_rng_state()
    figure = drawn(augmented(digits, augmentation, rows=3, columns=4, seed=5))
    assert torch.get_rng_state().equal(state)
    chosen = digits.images[[0, 499, 999]]
    generator = torch.Generator().manual_seed(5)
    variants = augment(chosen.repeat_interleave(3, 0), augmentation, generator).view(3, 3, 28, 28)
    expected = torch.cat((chosen.float().div(255), variants), 1)
    assert np.allclose(shown(figure), numpy(expected.flatten(0, 1)))
    assert figure.axes[0].get_title() == "rotation ±20°, shift ±2 px, scale ±10%, elastic 34"
    assert labels_of(figure.axes[0].get_xticklabels()) == ["original"]


def test_augmented_of_fewer_images_than_rows(digits):
    figure = augmented(digits[:2], Augmentation(), rows=6, columns=2)
    assert len(shown(figure)) == 4
    assert figure.axes[0].get_title() == "no augmentation"
    assert len(shown(augmented(digits, Augmentation(), rows=1, columns=3))) == 3


def test_augmented_errors(digits):
    with pytest.raises(ValueError, match=r"`digits` .* must hold at least one"):
        augmented(digits[:0], Augmentation())
    with pytest.raises(ValueError, match=r"`columns` \(=1\) must be at least 2"):
        augmented(digits, Augmentation(), columns=1)
    with pytest.raises(ValueError, match=r"`rows` \(=0\)"):
        augmented(digits, Augmentation(), rows=0)
