"""Fixtures for the tests of `mnist_zoo.pictures`."""

import pytest

from mnist_zoo import load_mnist


@pytest.fixture(scope="module")
def sample():
    return load_mnist(source="sample")
