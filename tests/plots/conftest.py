"""Fixtures for the tests of plots."""

import pytest

from mnist_zoo.data import load_mnist
from mnist_zoo.pictures.preprocessing import Preprocessing


@pytest.fixture(scope="module")
def digits():
    return load_mnist("test", source="sample")


@pytest.fixture
def picture(digits):
    return Preprocessing()(digits.images[:1])[0]
