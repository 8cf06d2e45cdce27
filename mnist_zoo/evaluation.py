"""How well a network recognises a set of images."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._checks import check_positive
from .data.digits import Digits
from .pictures.preprocessing import Preprocessing, preprocessing_of
from .prediction import logits

__all__ = ["Metrics", "Mistake", "evaluate"]

CALIBRATION_BINS = 15


@dataclass(frozen=True)
class Mistake:
    """A picture that was taken for another digit.

    Attributes:
        index: Its place in the data.
        label: What it is.
        predicted: What it was taken for.
        probability: The softmax probability of `predicted`.
    """

    index: int
    label: int
    predicted: int
    probability: float


@dataclass(frozen=True)
class Metrics:
    """How well a network does on a set of pictures.

    Attributes:
        confusion: Row by row, how many pictures of each class were taken for each class.
        loss: Mean cross-entropy in nats, without label smoothing: the negative log-likelihood.
        calibration_error: Expected calibration error over 15 bins of equal width: the mean
            distance of confidence and accuracy, weighted by the pictures in each bin
            (Guo et al. 2017, equation 3).
        mistakes: Every mistake, the most confident one first.
    """

    confusion: tuple[tuple[int, ...], ...]
    loss: float
    calibration_error: float
    mistakes: tuple[Mistake, ...] = field(repr=False)

    @classmethod
    def from_logits(cls, logits: Tensor, labels: Tensor) -> Metrics:
        """Measures logits (N, classes) against the labels (N,).

        Raises:
            ValueError: If there are none, or the shapes do not fit.
        """
        if logits.dim() != 2 or labels.shape != logits.shape[:1] or not len(labels):
            shapes = f"{tuple(logits.shape)} and {tuple(labels.shape)}"
            raise ValueError(f"`logits` and `labels` must be (N, classes) and (N,), got {shapes}")
        logits, labels = logits.detach().cpu().double(), labels.cpu()
        classes = logits.shape[1]
        if not 0 <= int(labels.min()) <= int(labels.max()) < classes:
            raise ValueError(f"`labels` must be at least 0 and below {classes}")
        confidence, predicted = logits.softmax(1).max(1)
        wrong = (predicted != labels).nonzero().squeeze(1)
        wrong = wrong[confidence[wrong].argsort(descending=True, stable=True)]
        confusion = torch.bincount(labels * classes + predicted, minlength=classes**2)
        columns = (wrong, labels[wrong], predicted[wrong], confidence[wrong])
        return cls(
            confusion=tuple(map(tuple, confusion.view(classes, classes).tolist())),
            loss=F.cross_entropy(logits, labels).item(),
            calibration_error=_calibration_error(confidence, predicted == labels),
            mistakes=tuple(map(Mistake, *(column.tolist() for column in columns))),
        )

    @property
    def total(self) -> int:
        """How many pictures there were."""
        return sum(map(sum, self.confusion))

    @property
    def correct(self) -> int:
        """How many were recognised."""
        return sum(row[label] for label, row in enumerate(self.confusion))

    @property
    def accuracy(self) -> float:
        """Part of the pictures that were recognised, from 0 to 1."""
        return self.correct / self.total

    @property
    def nll(self) -> float:
        """The negative log-likelihood a picture, in nats: `loss` by its other name."""
        return self.loss

    @property
    def accuracy_by_class(self) -> tuple[float, ...]:
        """For each class, the part that was recognised; nan where there is none."""
        return tuple(
            row[label] / sum(row) if sum(row) else math.nan
            for label, row in enumerate(self.confusion)
        )

    def __str__(self) -> str:
        classes = "  ".join(f"{i}: {value:.1%}" for i, value in enumerate(self.accuracy_by_class))
        return (
            f"{self.accuracy:.2%} ({self.correct:,} of {self.total:,}), loss {self.loss:.4f}, "
            f"calibration error {self.calibration_error:.2%}\n{classes}"
        )


def _calibration_error(confidence: Tensor, right: Tensor) -> float:
    bins = (confidence * CALIBRATION_BINS).ceil().long().sub(1).clamp(0, CALIBRATION_BINS - 1)
    gaps = torch.zeros(CALIBRATION_BINS, dtype=confidence.dtype)
    gaps.index_add_(0, bins, confidence - right.to(confidence.dtype))
    return (gaps.abs().sum() / len(confidence)).item()


def evaluate(
    model: nn.Module,
    digits: Digits,
    preprocessing: Preprocessing | None = None,
    *,
    batch_size: int = 1000,
) -> Metrics:
    """Measures a network, in eval mode, on its device; its modes stay as they were.

    Args:
        model: Any network from pictures (N, C, H, W) to logits (N, classes).
        digits: The pictures and what they are.
        preprocessing: What the network was trained with; None for what its weights say, or else
            MNIST's mean and standard deviation at the network's own size.
        batch_size: Pictures a forward pass.

    Raises:
        ValueError: If there are no pictures, or their shape does not suit the network.
    """
    check_positive(batch_size=batch_size)
    preprocessing = preprocessing or preprocessing_of(model, digits.images.shape[-1])
    found = logits_of(model, digits.images, preprocessing, batch_size)
    return Metrics.from_logits(found, digits.labels)


def logits_of(
    model: nn.Module, images: Tensor, preprocessing: Preprocessing, batch_size: int
) -> Tensor:
    """Logits (N, classes) of any number of images (N, C, H, W), a batch at a time."""
    parts = [logits(model, batch, preprocessing) for batch in images.split(batch_size)]
    return torch.cat(parts)
