"""Measuring how well a network recognises a set of labelled images."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._checks import check_positive
from ._networks import (
    check_classes,
    check_computes,
    check_network,
    class_names,
    numbers,
    stated_classes,
)
from .data.digits import Digits, check_digits, check_labels
from .pictures.logits import check_logits, logits
from .pictures.preprocessing import Preprocessing, check_preprocessing, preprocessing_of

__all__ = ["Metrics", "Mistake", "evaluate"]

CALIBRATION_BINS = 15


@dataclass(frozen=True)
class Mistake:
    """A wrongly classified image.

    Attributes:
        index: Position of the image in the data.
        label: Its true class.
        predicted: The class that the network predicted.
        probability: The softmax probability of the predicted class.

    Example:
        >>> import torch
        >>> from mnist_zoo import Metrics
        >>> metrics = Metrics.from_logits(torch.tensor([[0.0, 9.0]]), torch.tensor([0]))
        >>> metrics.mistakes[0]
        Mistake(index=0, label=0, predicted=1, probability=0.99...)
    """

    index: int
    label: int
    predicted: int
    probability: float


@dataclass(frozen=True)
class Metrics:
    """How well a network recognises a set of images.

    Attributes:
        confusion: Number of images of each class (row) per predicted class (column).
        loss: Mean cross-entropy in nats, without label smoothing.
        calibration_error: Expected calibration error over 15 bins of equal width: the mean
            difference of confidence and accuracy, weighted by the number of images in each bin
            (Guo et al. 2017, equation 3).
        mistakes: Every mistake, the most confident one first.
        classes: Names of the classes; "0", "1" and so on where they have none.

    Example:
        >>> import torch
        >>> from mnist_zoo import Metrics
        >>> logits = torch.tensor([[9.0, 0.0], [0.0, 9.0], [0.0, 9.0]])
        >>> metrics = Metrics.from_logits(logits, torch.tensor([0, 0, 1]))
        >>> metrics.confusion
        ((1, 1), (0, 1))
        >>> print(f"{metrics.accuracy:.1%}")
        66.7%
    """

    confusion: tuple[tuple[int, ...], ...]
    loss: float
    calibration_error: float
    mistakes: tuple[Mistake, ...] = field(repr=False)
    classes: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if not self.classes:
            object.__setattr__(self, "classes", numbers(len(self.confusion)))

    @classmethod
    def from_logits(cls, logits: Tensor, labels: Tensor, classes: tuple[str, ...] = ()) -> Metrics:
        """Compares logits (N, classes) with labels (N,).

        Args:
            logits: What the network gave.
            labels: The true classes, of any integer type.
            classes: Names of the classes; none for "0", "1" and so on.

        Raises:
            ValueError: If there are none, the shapes do not match, a label is no class, or a logit
                is infinite or not a number.
        """
        logits, labels = (
            x if isinstance(x, Tensor) else torch.as_tensor(x, device="cpu")
            for x in (logits, labels)
        )
        if logits.dim() != 2 or labels.shape != logits.shape[:1] or not len(labels):
            shapes = f"{tuple(logits.shape)} and {tuple(labels.shape)}"
            raise ValueError(f"`logits` and `labels` must be (N, classes) and (N,), got {shapes}")
        if labels.is_floating_point():
            raise ValueError(f"`labels` must be whole numbers, got {labels.dtype}")
        logits, labels = logits.detach().cpu().double(), labels.cpu().long()
        count = logits.shape[1]
        if not 0 <= int(labels.min()) <= int(labels.max()) < count:
            raise ValueError(f"`labels` must be at least 0 and below {count}")
        if classes and len(classes) != count:
            raise ValueError(f"`classes` (={classes!r:.80}) must be the names of {count} classes")
        if not logits.isfinite().all():
            raise ValueError("`logits` must be finite; the network gave infinity or not a number")
        confidence, predicted = logits.softmax(1).max(1)
        wrong = (predicted != labels).nonzero().squeeze(1)
        wrong = wrong[confidence[wrong].argsort(descending=True, stable=True)]
        confusion = torch.bincount(labels * count + predicted, minlength=count**2)
        columns = (wrong, labels[wrong], predicted[wrong], confidence[wrong])
        return cls(
            confusion=tuple(map(tuple, confusion.view(count, count).tolist())),
            loss=F.cross_entropy(logits, labels).item(),
            calibration_error=_calibration_error(confidence, predicted == labels),
            mistakes=tuple(map(Mistake, *(column.tolist() for column in columns))),
            classes=tuple(classes),
        )

    @property
    def total(self) -> int:
        """Number of images."""
        return sum(map(sum, self.confusion))

    @property
    def correct(self) -> int:
        """Number of images that were recognised."""
        return sum(row[label] for label, row in enumerate(self.confusion))

    @property
    def accuracy(self) -> float:
        """Share of the images that were recognised, from 0 to 1."""
        return self.correct / self.total

    @property
    def nll(self) -> float:
        """Mean negative log-likelihood per image, in nats; the same number as `loss`."""
        return self.loss

    @property
    def accuracy_by_class(self) -> tuple[float, ...]:
        """Accuracy on the images of each class; nan for a class without images."""
        return tuple(
            row[label] / sum(row) if sum(row) else math.nan
            for label, row in enumerate(self.confusion)
        )

    def __str__(self) -> str:
        each = zip(self.classes, self.accuracy_by_class, strict=True)
        classes = "  ".join(
            f"{name}: {'–' if math.isnan(value) else f'{value:.1%}'}" for name, value in each
        )
        return (
            f"{self.accuracy:.2%} ({self.correct:,} of {self.total:,}), loss {self.loss:.4f}, "
            f"calibration error {self.calibration_error:.2%}\n{classes}"
        )


def _calibration_error(confidence: Tensor, is_right: Tensor) -> float:
    """Mean |accuracy - confidence| of the bins of confidence, weighted by their sizes."""
    bins = (confidence * CALIBRATION_BINS).ceil().long().sub(1).clamp(0, CALIBRATION_BINS - 1)
    gaps = confidence.new_zeros(CALIBRATION_BINS)
    gaps.index_add_(0, bins, confidence - is_right.to(confidence.dtype))
    return (gaps.abs().sum() / len(confidence)).item()


def evaluate(
    model: nn.Module,
    digits: Digits,
    preprocessing: Preprocessing | None = None,
    *,
    batch_size: int = 100,
) -> Metrics:
    """Measures how well a network recognises images.

    The network runs in eval mode, on its own device; its training modes are restored afterwards.
    Threads may share a network, as long as none of them trains it.

    Args:
        model: Any network from images (N, C, H, W) to logits (N, classes).
        digits: Images and their labels.
        preprocessing: The preprocessing that the network was trained with. By default its own, or
            else MNIST's mean and standard deviation at the network's size.
        batch_size: Images per forward pass.

    Returns:
        Accuracy, loss, calibration error, confusion matrix and mistakes; printed, a short report.

    Raises:
        ValueError: If there are no images, their shape, labels or names of their classes do not
            suit the network, or it gives no finite logits (N, classes), such as probabilities.
        TypeError: If `model` is no network, or `digits` is something else; the message says how
            to make `Digits` of it.

    Example:
        >>> from mnist_zoo import evaluate, lenet5, load_mnist
        >>> metrics = evaluate(lenet5(weights="mnist"), load_mnist("test", source="sample"))
        >>> metrics.total, metrics.accuracy > 0.98
        (1000, True)
    """
    check_network(model=model)
    check_computes(model=model)
    check_preprocessing(preprocessing)
    check_positive(batch_size=batch_size)
    check_digits(digits=digits)
    if not len(digits):
        raise ValueError(f"`digits` (={digits!r}) must hold at least 1 image")
    preprocessing = preprocessing or preprocessing_of(model, digits.images.shape[-1])
    names = stated_classes(model)
    if names:  # which tell before anything is computed
        check_classes(names, len(names), "`model`", digits=digits.classes)
    found = logits_of(model, digits.images, preprocessing, int(batch_size))
    check_logits(found, model)
    count = found.shape[1]
    if not names:
        check_classes(None, count, "`model`", digits=digits.classes)
    check_labels(count, digits=digits)
    return Metrics.from_logits(found, digits.labels, class_names(names or digits.classes, count))


def logits_of(
    model: nn.Module, images: Tensor, preprocessing: Preprocessing, batch_size: int
) -> Tensor:
    """Computes the logits (N, classes) of images (N, C, H, W), `batch_size` images at a time."""
    parts = [logits(model, batch, preprocessing) for batch in images.split(batch_size)]
    return torch.cat(parts)
