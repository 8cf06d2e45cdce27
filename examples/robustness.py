"""Measures pretrained weights on digits that MNIST lacks: other styles of writing, and corruptions.

``python examples/robustness.py mini_resnet runs/mine/weights.safetensors`` prints a Markdown table
of accuracies: on the test digits as they are, on those of a style's digit in that style, and on all
of them with each corruption at full strength. Names are those of pretrained networks.

It needs the whole of MNIST (12 MB, downloaded once), or ``--source sample``.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch

from mnist_zoo import Digits, evaluate, get_model, get_recipe, list_models, load_mnist, load_model
from mnist_zoo.data.corruption import KINDS
from mnist_zoo.data.style import STYLES

HARD = get_recipe("digitnet_50k_mnist").corruption.strengths


def drawn_sets(digits: Digits) -> Iterator[tuple[str, Digits]]:
    """The digits as they are, in each style, and with each corruption at full strength."""
    yield "as they are", digits
    for name, (digit, draw) in STYLES.items():
        chosen = digits if digit is None else digits[digits.labels == digit]
        yield name, redrawn(chosen, draw(floats(chosen), generator()))
    for name, bound in HARD.items():
        strength = torch.full((len(digits),), bound)
        yield (
            f"{name} {bound:g}",
            redrawn(digits, KINDS[name](floats(digits), strength, generator())),
        )


def generator() -> torch.Generator:
    """The generator of every set: each draws the same each time."""
    return torch.Generator().manual_seed(0)


def floats(digits: Digits) -> torch.Tensor:
    """The images from 0 to 1."""
    return digits.images.float() / 255


def redrawn(digits: Digits, images: torch.Tensor) -> Digits:
    """The digits with other images, from 0 to 1."""
    return Digits(images.clamp(0, 1).mul(255).round().byte(), digits.labels)


def main() -> None:
    """Prints the table of the networks on the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("networks", nargs="*", default=list_models(pretrained=True))
    parser.add_argument("--source", default="mnist", help="data set, one of those of load_mnist")
    parser.add_argument("--data", type=Path, help="folder of the data sets")
    arguments = parser.parse_args()
    models = [
        get_model(name, weights="mnist") if name in list_models() else load_model(name)
        for name in arguments.networks
    ]
    names = [Path(name).parent.name if "." in name else name for name in arguments.networks]
    print(f"| digits | {' | '.join(names)} |\n|---|{'---:|' * len(names)}")
    for label, digits in drawn_sets(load_mnist("test", arguments.data, source=arguments.source)):
        cells = [f"{100 * evaluate(model, digits).accuracy:.2f}" for model in models]
        print(f"| {label} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
