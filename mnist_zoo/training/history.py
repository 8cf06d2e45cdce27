"""What happened in a training run."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from .recipe import Recipe

__all__ = ["EpochRecord", "History", "ValidationPoint"]


@dataclass(frozen=True)
class ValidationPoint:
    """A look at the validation pictures.

    Attributes:
        step: Steps made by then.
        epoch: The same in epochs, 1.0 after the first.
        loss: Mean cross-entropy, in nats.
        accuracy: From 0 to 1.
    """

    step: int
    epoch: float
    loss: float
    accuracy: float


@dataclass(frozen=True)
class EpochRecord:
    """One epoch: means over its training steps, and the evaluation at its end.

    Attributes:
        epoch: Its number, from 1.
        train_loss: Mean training loss, with label smoothing where the recipe has it.
        train_accuracy: From 0 to 1, of each batch before it was learnt from.
        loss: On the validation pictures; None without.
        accuracy: On the validation pictures, from 0 to 1; None without.
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    loss: float | None
    accuracy: float | None


@dataclass
class History:
    """What happened in a training run, step by step.

    Attributes:
        recipe: The recipe.
        loss: Training loss of each step.
        accuracy: Training accuracy of each step's batch, from 0 to 1.
        lr: Learning rate of each step.
        evaluations: In order, those at the ends of epochs among them.
        steps_per_epoch: Steps of one epoch.
        seconds: Time spent in training steps, without evaluations and checkpoints, over all the
            runs that were needed.
        stopped: Why training ended before its last epoch; "" if it did not.
        model: The trained network, in eval mode; None in a history read from a file.
    """

    recipe: Recipe
    steps_per_epoch: int
    loss: list[float] = field(default_factory=list, repr=False)
    accuracy: list[float] = field(default_factory=list, repr=False)
    lr: list[float] = field(default_factory=list, repr=False)
    evaluations: list[ValidationPoint] = field(default_factory=list, repr=False)
    seconds: float = 0.0
    stopped: str = ""
    model: nn.Module | None = field(default=None, repr=False, compare=False)

    @property
    def step(self) -> int:
        """Steps made."""
        return len(self.loss)

    @property
    def best(self) -> ValidationPoint | None:
        """The evaluation with the highest accuracy, the earlier of two equals."""
        return max(self.evaluations, key=lambda e: e.accuracy, default=None)

    @property
    def epochs(self) -> list[EpochRecord]:
        """The whole epochs."""
        ends = {evaluation.step: evaluation for evaluation in self.evaluations}
        records = []
        for first in range(0, self.step - self.steps_per_epoch + 1, self.steps_per_epoch):
            last = first + self.steps_per_epoch
            evaluation = ends.get(last)
            records.append(
                EpochRecord(
                    epoch=last // self.steps_per_epoch,
                    train_loss=sum(self.loss[first:last]) / self.steps_per_epoch,
                    train_accuracy=sum(self.accuracy[first:last]) / self.steps_per_epoch,
                    loss=evaluation.loss if evaluation else None,
                    accuracy=evaluation.accuracy if evaluation else None,
                )
            )
        return records

    def to_dict(self) -> dict[str, Any]:
        """Everything but the network, as plain values."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        values.pop("model")
        values["recipe"] = self.recipe.to_dict()
        values["evaluations"] = [dataclasses.asdict(e) for e in self.evaluations]
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> History:
        """The history that `to_dict` gave, without a network."""
        evaluations = [ValidationPoint(**entry) for entry in values["evaluations"]]
        recipe = Recipe.from_dict(values["recipe"])
        return cls(**{**values, "recipe": recipe, "evaluations": evaluations})

    def save(self, path: str | Path) -> None:
        """Writes everything but the network as JSON."""
        Path(path).write_text(json.dumps(self.to_dict()), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> History:
        """Reads what `save` wrote."""
        return cls.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))
