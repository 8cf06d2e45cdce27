"""Fixtures for the tests of `mnist_zoo.data`."""

import pytest

from mnist_zoo import load_mnist


@pytest.fixture(scope="module")
def sample():
    return load_mnist(source="sample")
