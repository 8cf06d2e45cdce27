"""The pretrained weights in the package, and what was measured of them."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor

from .._names import did_you_mean
from ..pictures.preprocessing import Preprocessing
from ..pictures.transform import PictureTransform
from .files import WeightsError, read_safetensors

__all__ = ["Weights", "get_weights"]

CHECKPOINTS = Path(__file__).parent / "checkpoints"


@dataclass(frozen=True, kw_only=True)
class Weights:
    """The record of pretrained weights: where they come from, and what was measured of them.

    Attributes:
        name: Name of the network and of the data it was trained on: ``"mini_resnet.mnist"``.
        network: Name of the network.
        options: Options of its factory.
        file: Name of the file.
        sha256: The file's checksum.
        size: Size of the file in bytes.
        recipe: Name of the recipe that trained it, one of `list_recipes`.
        seed: Seed of the training.
        preprocessing: Size and normalisation of the images.
        correct: How many of MNIST's 10,000 test digits this file recognises.
        accuracies: Test accuracy per seed, from 0 to 1, before rounding to half precision; this
            file's seed comes first.
        nll: Mean negative log-likelihood of this file per test digit, in nats.
        calibration_error: Expected calibration error of this file on the test digits, over 15 bins.
        refused: How many of the test digits the file takes for images of another kind.
        params: Number of parameters.
        macs: Multiply-accumulates per image.
        training_seconds: Time that training took, without evaluation.
        machine: The machine that trained it.

    Example:
        >>> from mnist_zoo import get_weights, mini_resnet
        >>> weights = get_weights("mini_resnet")
        >>> weights.name, weights.size, weights.params
        ('mini_resnet.mnist', 115124, 41514)
        >>> weights.accuracy > 0.995
        True
        >>> model = mini_resnet(weights=weights)
    """

    name: str
    network: str
    options: Mapping[str, Any] = field(hash=False)
    file: str
    sha256: str
    size: int
    recipe: str
    seed: int
    preprocessing: Preprocessing
    correct: int
    accuracies: tuple[float, ...]
    nll: float
    calibration_error: float
    refused: int
    params: int
    macs: int
    training_seconds: float
    machine: str

    @property
    def path(self) -> Path:
        """Path of the file."""
        return CHECKPOINTS / self.file

    @property
    def accuracy(self) -> float:
        """Accuracy of this file on MNIST's test digits, from 0 to 1."""
        return self.correct / 10_000

    @property
    def accuracy_mean(self) -> float:
        """Mean test accuracy over the seeds."""
        return sum(self.accuracies) / len(self.accuracies)

    @property
    def accuracy_sd(self) -> float:
        """Standard deviation of the test accuracy over the seeds (with n - 1); NaN for one seed."""
        return statistics.stdev(self.accuracies) if len(self.accuracies) > 1 else math.nan

    def transforms(self) -> PictureTransform:
        """The transform from any images of digits to the network's input, as torchvision's are."""
        return PictureTransform(self.preprocessing)

    def state_dict(self) -> dict[str, Tensor]:
        """The tensors of the file, after a check of its checksum.

        Raises:
            WeightsError: If the file was changed since it was measured.
            FileNotFoundError: If it does not exist.
        """
        return dict(read_safetensors(self.path, self.sha256).state)


@cache
def manifest() -> dict[str, Weights]:
    """The records of all pretrained weights, by name."""
    try:
        records = json.loads((CHECKPOINTS / "manifest.json").read_text("utf-8"))
    except NotADirectoryError as error:
        reason = "the package is inside a zip archive, which must be unpacked to read its weights"
        raise WeightsError(f"{CHECKPOINTS}: {reason}") from error
    return {record["name"]: _from_record(record) for record in records}


def _from_record(record: dict[str, Any]) -> Weights:
    preprocessing = Preprocessing(**record["preprocessing"])
    accuracies = tuple(record["accuracies"])
    return Weights(**{**record, "preprocessing": preprocessing, "accuracies": accuracies})


def get_weights(name: str) -> Weights:
    """The record of pretrained weights.

    Args:
        name: Their name, such as ``"mini_resnet.mnist"``; the network's name alone stands for its
            weights for MNIST.

    Returns:
        The record: file, recipe, preprocessing and measured figures.

    Raises:
        ValueError: If no weights have that name; the message lists all names.
        WeightsError: If the package is inside a zip archive.

    Example:
        >>> from mnist_zoo import get_weights
        >>> get_weights("lenet5").file
        'lenet5.safetensors'
    """
    found = manifest().get(name) or manifest().get(f"{name}.mnist")
    if found is None:
        known = ", ".join(manifest())
        hint = did_you_mean(name, manifest()) or f"there are {known}"
        raise ValueError(f"`name` (={name!r}) must be the name of pretrained weights; {hint}")
    return found
