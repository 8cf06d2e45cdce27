"""The history of a training run."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from .._files import check_no_device, check_place, expanded, written_whole
from .._names import printable
from .recipe import Recipe

__all__ = ["EpochRecord", "History", "ValidationPoint"]


@dataclass
class History:
    """The losses, accuracies and evaluations of a training run.

    Attributes:
        recipe: The recipe.
        steps_per_epoch: Number of steps in an epoch.
        loss: Training loss of each step, with the recipe's label smoothing, class weights and
            distillation.
        accuracy: Training accuracy of each step's batch, from 0 to 1.
        lr: Learning rate of each step.
        evaluations: The validation curve, in order; includes the evaluations after each epoch.
        seconds: Time spent in training steps, without evaluations and checkpoints. If the run was
            resumed, the time of all its parts.
        evaluated: What the evaluations were made on: ``"validation"`` images, or, where a recipe
            that keeps none loaded its own data, the ``"test"`` set.
        stopped: Why training ended before its last epoch; "" if it did not.

    Example:
        >>> from mnist_zoo import History, fit, get_recipe, load_mnist
        >>> digits = load_mnist("test", source="sample")[:200]
        >>> recipe = get_recipe("lenet5_report", epochs=2)
        >>> history = fit(recipe, digits, digits[:50], progress=False)
        >>> history.step, history.steps_per_epoch
        (8, 4)
        >>> [point.step for point in history.evaluations]
        [4, 8]
        >>> history.save("history.json")
        >>> History.load("history.json").loss == history.loss
        True
    """

    recipe: Recipe
    steps_per_epoch: int
    loss: list[float] = field(default_factory=list, repr=False)
    accuracy: list[float] = field(default_factory=list, repr=False)
    lr: list[float] = field(default_factory=list, repr=False)
    evaluations: list[ValidationPoint] = field(default_factory=list, repr=False)
    seconds: float = 0.0
    stopped: str = ""
    evaluated: str = "validation"
    _model: nn.Module | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def model(self) -> nn.Module:
        """The trained network, in eval mode.

        Raises:
            ValueError: If the history was read from a file, which holds no network.
        """
        if self._model is None:
            raise ValueError("a history from a file has no network; load_model reads a saved one")
        return self._model

    @model.setter
    def model(self, model: nn.Module) -> None:
        self._model = model

    @property
    def step(self) -> int:
        """Number of steps made."""
        return len(self.loss)

    @property
    def best(self) -> ValidationPoint | None:
        """The evaluation with the highest accuracy, the earliest in a tie; None without any."""
        return max(self.evaluations, key=lambda e: e.accuracy, default=None)

    @property
    def epochs(self) -> list[EpochRecord]:
        """A record of each completed epoch."""
        point_at = {point.step: point for point in self.evaluations}
        records = []
        for first in range(0, self.step - self.steps_per_epoch + 1, self.steps_per_epoch):
            end = first + self.steps_per_epoch
            point = point_at.get(end)
            records.append(
                EpochRecord(
                    epoch=end // self.steps_per_epoch,
                    train_loss=sum(self.loss[first:end]) / self.steps_per_epoch,
                    train_accuracy=sum(self.accuracy[first:end]) / self.steps_per_epoch,
                    loss=point.loss if point else None,
                    accuracy=point.accuracy if point else None,
                )
            )
        return records

    def to_dict(self) -> dict[str, Any]:
        """Returns everything except the network, as plain JSON values."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        values.pop("_model")
        values["recipe"] = self.recipe.to_dict()
        values["evaluations"] = [dataclasses.asdict(point) for point in self.evaluations]
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> History:
        """Builds a history, without a network, from what `to_dict` returned."""
        evaluations = [ValidationPoint(**point) for point in values["evaluations"]]
        recipe = Recipe.from_dict(values["recipe"])
        return cls(**{**values, "recipe": recipe, "evaluations": evaluations})

    def save(self, path: str | Path) -> None:
        """Writes everything except the network as JSON; the file is whole, or stays as it was."""
        content = json.dumps(self.to_dict()).encode()
        place = expanded(path)
        check_place(place)
        with written_whole(place) as file:
            file.write(content)

    @classmethod
    def load(cls, path: str | Path) -> History:
        """Reads what `save` wrote.

        Raises:
            ValueError: If the file holds anything else.
            FileNotFoundError: If there is none.
        """
        place = expanded(path)
        check_no_device(place)
        content = place.read_bytes()
        try:
            return cls.from_dict(json.loads(content))
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            reason = printable(f"{error!s:.200}")
            raise ValueError(f"'{place}' must be a file of History.save: {reason}") from error


@dataclass(frozen=True)
class ValidationPoint:
    """A point of the validation curve: one evaluation on the validation images.

    Attributes:
        step: Number of steps made before it.
        epoch: The same in epochs: 1.0 after the first epoch.
        loss: Mean cross-entropy per image, in nats.
        accuracy: Fraction of images classified correctly, from 0 to 1.

    Example:
        >>> from mnist_zoo import ValidationPoint
        >>> point = ValidationPoint(step=938, epoch=1.0, loss=0.0812, accuracy=0.9743)
        >>> f"after epoch {point.epoch:.0f}: {point.accuracy:.1%}"
        'after epoch 1: 97.4%'
    """

    step: int
    epoch: float
    loss: float
    accuracy: float


@dataclass(frozen=True)
class EpochRecord:
    """One epoch: means over its training steps, and the evaluation after it.

    Attributes:
        epoch: Number of the epoch, from 1.
        train_loss: Mean training loss, with the recipe's label smoothing, class weights and
            distillation.
        train_accuracy: Mean accuracy of the batches, each before its update, from 0 to 1.
        loss: Loss on the validation images; None without any.
        accuracy: Accuracy on the validation images, from 0 to 1; None without any.

    Example:
        >>> from mnist_zoo import History, get_recipe
        >>> recipe = get_recipe("lenet5_report")
        >>> history = History(recipe, steps_per_epoch=2, loss=[0.75, 0.25], accuracy=[0.5, 1.0])
        >>> history.epochs
        [EpochRecord(epoch=1, train_loss=0.5, train_accuracy=0.75, loss=None, accuracy=None)]
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    loss: float | None
    accuracy: float | None
