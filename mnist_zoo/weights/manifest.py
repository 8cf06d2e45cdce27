"""The pretrained weights that ship in the package."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .._checks import did_you_mean
from ..pictures.mnist_form import PictureTransform
from ..pictures.preprocessing import Preprocessing
from .files import read_safetensors

__all__ = ["Weights", "get_weights"]

CHECKPOINTS = Path(__file__).parent / "checkpoints"


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Weights that ship with the library: what they are, and what was measured of them.

    Attributes:
        name: The network's name and what it was trained on: ``"mini_resnet.mnist"``.
        network: Name of the network.
        options: Options of its factory.
        file: Name of the file.
        sha256: The file's checksum.
        size: Bytes of the file.
        recipe: Name of the recipe that trained it, one of `list_recipes`.
        seed: The recipe's seed.
        preprocessing: Size and normalisation of the pictures.
        correct: How many of MNIST's 10,000 test digits this very file recognises.
        accuracies: Test accuracy of each seed's network, before its rounding to half precision,
            from 0 to 1; this file's seed comes first.
        nll: Negative log-likelihood a test digit, in nats, of this file.
        calibration_error: Expected calibration error over 15 bins on the test digits.
        params: Number of parameters.
        macs: Multiply-accumulates of one picture.
        training_seconds: Time that training took, without evaluation.
        machine: The machine that trained it.
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
    params: int
    macs: int
    training_seconds: float
    machine: str

    @property
    def path(self) -> Path:
        """Where the file lies."""
        return CHECKPOINTS / self.file

    @property
    def accuracy(self) -> float:
        """Part of MNIST's test digits that this file recognises, from 0 to 1."""
        return self.correct / 10_000

    @property
    def accuracy_mean(self) -> float:
        """Mean test accuracy over the seeds."""
        return sum(self.accuracies) / len(self.accuracies)

    @property
    def accuracy_sd(self) -> float:
        """Standard deviation of the test accuracy over the seeds (with n - 1)."""
        return torch.tensor(self.accuracies, dtype=torch.float64).std().item()

    def transforms(self) -> PictureTransform:
        """From any pictures of digits to the network's input; a torchvision-style transform."""
        return PictureTransform(self.preprocessing)

    def state_dict(self) -> dict[str, Tensor]:
        """The tensors of the file, whose checksum is checked.

        Raises:
            WeightsError: If the file is not what it was when it was measured.
            FileNotFoundError: If it does not exist.
        """
        return dict(read_safetensors(self.path, self.sha256).state)


@cache
def manifest() -> dict[str, Weights]:
    """The weights that ship, by name."""
    records = json.loads((CHECKPOINTS / "manifest.json").read_text("utf-8"))
    return {record["name"]: _from_record(record) for record in records}


def _from_record(record: dict[str, Any]) -> Weights:
    preprocessing = Preprocessing(**record["preprocessing"])
    accuracies = tuple(record["accuracies"])
    return Weights(**{**record, "preprocessing": preprocessing, "accuracies": accuracies})


def get_weights(name: str) -> Weights:
    """The record of weights that ship.

    Args:
        name: ``"mini_resnet.mnist"``, or the network's name alone for its ``.mnist``.

    Returns:
        The record: file, recipe, preprocessing and measured figures.

    Raises:
        ValueError: If there are none of that name; the message names those that there are.
    """
    found = manifest().get(name) or manifest().get(f"{name}.mnist")
    if found is None:
        known = ", ".join(manifest())
        hint = did_you_mean(name, manifest()) or f"there are {known}"
        raise ValueError(f"`name` (={name!r}) must be the name of weights that ship; {hint}")
    return found
