"""Fixtures of the tests of export; the tests leave them unchanged."""

import pytest

from mnist_zoo import load_mnist, mini_resnet
from mnist_zoo.export import export


@pytest.fixture(scope="session")
def model():
    return mini_resnet(weights="mnist").eval()


@pytest.fixture(scope="session")
def file(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "mini_resnet.onnx"
    export(model, path)
    return path


@pytest.fixture(scope="session")
def softmax_file(model, tmp_path_factory):
    """A file that gives probabilities."""
    path = tmp_path_factory.mktemp("onnx") / "softmax.onnx"
    export(model, path, softmax=True)
    return path


@pytest.fixture(scope="session")
def uint8_file(model, tmp_path_factory):
    """A file that takes images as they come."""
    path = tmp_path_factory.mktemp("onnx") / "uint8.onnx"
    export(model, path, pixels="uint8")
    return path


@pytest.fixture(scope="session")
def html(model, tmp_path_factory):
    """The page of the network, alone in its folder."""
    path = tmp_path_factory.mktemp("page") / "digits.html"
    export(model, path, "page")
    return path


@pytest.fixture(scope="session")
def digits():
    return load_mnist("test", source="sample")


@pytest.fixture(scope="session")
def calibration():
    return load_mnist("train", source="sample").split(1000)[0]
