"""The zoo in half a minute, offline: a table, a recognised digit, parity, a trained network.

Run it with ``pip install ".[examples]" && python examples/quickstart.py``; it writes
``mistakes.png`` into the current directory.
"""

import time

import torch
from PIL import Image, ImageDraw, ImageFont

from mnist_zoo import (
    Recipe,
    evaluate,
    fit,
    load_mnist,
    mini_resnet,
    plots,
    predict,
    profile,
    resnet18,
    summary,
    to_torchvision,
)


def show_table_and_cost() -> None:
    """Prints the table of mini_resnet's layers, and the cost of one image."""
    model = mini_resnet()
    summary(model)
    macs, params = profile(model)
    print(f"mini_resnet: {params:,} parameters, {macs:,} multiply-accumulates per image\n")


def recognise_a_digit() -> None:
    """Classifies an image that MNIST does not contain, with the pretrained weights."""
    image = Image.new("L", (120, 120), "white")
    ImageDraw.Draw(image).text((40, 10), "7", font=ImageFont.load_default(80))
    result = predict(mini_resnet(weights="mnist"), image)
    print(f"a printed 7 is recognised as {result.digit}, probability {result.probability:.1%}\n")


@torch.inference_mode()
def compare_with_torchvision() -> None:
    """Copies random weights from torchvision's ResNet-18 to ours and back; compares the outputs."""
    import torchvision  # takes as long to import as torch

    images = torch.randn(2, 3, 64, 64)
    theirs = torchvision.models.resnet18().eval()
    ours = resnet18(weights=theirs, in_channels=3, num_classes=1000).eval()
    there = (ours(images) - theirs(images)).abs().max()
    theirs.load_state_dict(to_torchvision(ours))
    back = (ours(images) - theirs(images)).abs().max()
    print(f"resnet18 and torchvision's with the same weights: outputs differ by {there + back:g}\n")


def train_a_network() -> None:
    """Trains on 4,000 MNIST digits, tests on 1,000 others, and saves a picture of the mistakes."""
    train, test = (load_mnist(split, source="sample") for split in ("train", "test"))
    recipe = Recipe(
        network="mini_resnet",
        optimizer="adamw",
        lr=0.01,
        schedule="onecycle",
        batch_size=50,
        epochs=6,
    )
    model = fit(recipe, train).model
    metrics = evaluate(model, test)
    print(f"\naccuracy on the other 1,000 digits: {metrics.accuracy:.1%}")
    plots.mistakes(test, metrics).savefig("mistakes.png", dpi=110)


def main() -> None:
    """Runs all four parts."""
    start = time.perf_counter()
    torch.manual_seed(0)
    show_table_and_cost()
    recognise_a_digit()
    compare_with_torchvision()
    train_a_network()
    print(f"{time.perf_counter() - start:.0f} s in all; now open mistakes.png: what it got wrong")


if __name__ == "__main__":
    main()
