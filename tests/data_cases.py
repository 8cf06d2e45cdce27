"""Where the full MNIST is, for the tests of data that need it."""

import os

import pytest

FULL = os.environ.get("MNIST_ZOO_DATA")

needs_mnist = pytest.mark.skipif(not FULL, reason="MNIST_ZOO_DATA names no folder with MNIST")
