"""What several tests of data share."""

import os

import pytest

FULL = os.environ.get("MNIST_ZOO_DATA")

needs_mnist = pytest.mark.skipif(not FULL, reason="MNIST_ZOO_DATA names no folder with MNIST")
