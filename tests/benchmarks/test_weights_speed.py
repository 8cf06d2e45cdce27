"""Loading pretrained weights, and making images into network input, against the usual way."""

import hashlib

import pytest
import torch
import torchvision
from PIL import Image
from torchvision.transforms import v2

from mnist_zoo import (
    as_mnist,
    get_weights,
    load_mnist,
    load_model,
    mini_resnet,
    resnet18,
    resnet50,
    save_model,
)
from mnist_zoo.blocks.layers import no_random_init


@pytest.mark.question("build")
def test_mini_resnet_loads_in_twice_the_time_of_reading_and_building(race):
    """reading the file of `mini_resnet`, and building it: `weights='mnist'`"""
    path = get_weights("mini_resnet").path

    def read_and_build():
        path.read_bytes()
        return mini_resnet()

    race(lambda: mini_resnet(weights="mnist"), read_and_build, at_least=0.5, rounds=99, warmup=5)


@pytest.mark.question("build")
def test_resnet18_loads_faster_than_torchvisions(race, tmp_path):
    """torchvision's `resnet18`, loaded from a file: `weights='mnist'`"""
    file = tmp_path / "resnet18.pth"
    torch.save(torchvision.models.resnet18().state_dict(), file)

    def theirs():
        model = torchvision.models.resnet18()
        model.load_state_dict(torch.load(file, weights_only=True))
        return model

    race(lambda: resnet18(weights="mnist"), theirs, at_least=3.0)


@pytest.mark.question("build")
def test_load_model_takes_little_more_than_reading_hashing_and_building(race, tmp_path):
    """reading, hashing and building `resnet50`: `load_model`"""
    path = tmp_path / "resnet50.safetensors"
    save_model(resnet50(), path)

    def read_hash_and_build():
        hashlib.sha256(path.read_bytes()).hexdigest()
        with no_random_init():
            return resnet50()

    race(lambda: load_model(path), read_hash_and_build, at_least=1 / 1.3, rounds=9, warmup=2)


@pytest.mark.question("pictures")
def test_ten_thousand_pictures(race):
    """torchvision's transforms of 10,000 images, normalised only: `as_mnist`, which finds the ink

    Ours finds the ink of digits moved and inverted and places it; theirs only normalises.
    """
    digits = load_mnist("train", source="sample").images.repeat(3, 1, 1, 1)[:10_000]
    pictures = [Image.fromarray(digit) for digit in digits[:, 0].numpy()]
    usual = v2.Compose(
        [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.1307], [0.3081])]
    )
    moved = 255 - digits.roll((2, -1), (2, 3))
    race(lambda: as_mnist(moved), lambda: [usual(p) for p in pictures], at_least=1.0, rounds=9)
