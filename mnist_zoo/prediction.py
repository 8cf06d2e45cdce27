"""Recognising the digit on an image, with one network or an ensemble of several."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, overload

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._checks import check_positive, check_range
from .pictures.mnist_form import as_mnist
from .pictures.preprocessing import Preprocessing, logits, preprocessing_of
from .pictures.reading import is_one_picture

if TYPE_CHECKING:
    import os

    from PIL import Image

    from .pictures.reading import Picture, Pictures

__all__ = ["Ensemble", "Prediction", "ensemble", "predict"]


@dataclass(frozen=True)
class Prediction:
    """The digit that a network recognises on an image.

    Attributes:
        digit: The most probable class; None if its probability is below `reject_below`.
        probability: The softmax probability of the most probable class.
        probabilities: The probabilities of all classes, in their order.
        top: The most probable classes and their probabilities, the most probable one first.

    Example:
        >>> from mnist_zoo import Prediction
        >>> print(Prediction(1, 0.75, (0.25, 0.75), ((1, 0.75), (0, 0.25))))
        1 (75.0 %)
    """

    digit: int | None
    probability: float
    probabilities: tuple[float, ...] = field(repr=False)
    top: tuple[tuple[int, float], ...]

    def __str__(self) -> str:
        """The digit, or none, and the highest probability, such as ``7 (99.8 %)``."""
        digit = "none" if self.digit is None else self.digit
        return f"{digit} ({self.probability:.1%})".replace("%", " %")


@overload
def predict(
    model: nn.Module,
    pictures: Image.Image | str | os.PathLike[str] | bytes,
    *,
    top: int = ...,
    reject_below: float = ...,
    shift: int = ...,
    preprocessing: Preprocessing | None = ...,
    batch_size: int = ...,
) -> Prediction: ...
@overload
def predict(
    model: nn.Module,
    pictures: list[Picture] | tuple[Picture, ...],
    *,
    top: int = ...,
    reject_below: float = ...,
    shift: int = ...,
    preprocessing: Preprocessing | None = ...,
    batch_size: int = ...,
) -> list[Prediction]: ...
@overload
def predict(
    model: nn.Module,
    pictures: Pictures,
    *,
    top: int = ...,
    reject_below: float = ...,
    shift: int = ...,
    preprocessing: Preprocessing | None = ...,
    batch_size: int = ...,
) -> Prediction | list[Prediction]: ...
def predict(
    model: nn.Module,
    pictures: Pictures,
    *,
    top: int = 3,
    reject_below: float = 0.0,
    shift: int = 0,
    preprocessing: Preprocessing | None = None,
    batch_size: int = 1000,
) -> Prediction | list[Prediction]:
    """Recognises the digit on an image, or on each of several.

    The network runs in eval mode, on its own device and in its own precision; its training modes
    are restored afterwards.

    Args:
        model: A network from images (N, C, H, W) to logits (N, classes).
        pictures: One image or several, of any kind and size that `as_mnist` takes.
        top: Number of classes in `Prediction.top`; all classes if there are fewer.
        reject_below: Smallest probability at which a digit is given rather than None.
        shift: Pixels by which the digit is moved up, down, left and right; the probabilities are
            averaged over these four positions and the original one. 0 for no moves.
        preprocessing: The preprocessing that the network was trained with. By default its own, or
            else MNIST's mean and standard deviation at the network's size.
        batch_size: Images per forward pass.

    Returns:
        A `Prediction`, or a list of them if `pictures` are several.

    Raises:
        PictureError: If an image cannot be read as one digit.
        FileNotFoundError: If a file does not exist.
        TypeError: If `model` is no network, or `pictures` holds something that is no image.
        ValueError: If another argument is out of range.

    Example:
        >>> from PIL import Image, ImageDraw, ImageFont
        >>> from mnist_zoo import mini_resnet, predict
        >>> page = Image.new("L", (120, 120), "white")
        >>> ImageDraw.Draw(page).text((40, 10), "7", font=ImageFont.load_default(80))
        >>> predict(mini_resnet(weights="mnist"), page).digit
        7
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"`model` (={model!r:.80}) must be a network, such as get_model gives")
    check_positive(top=top, batch_size=batch_size)
    check_range(at_least=0, at_most=1, reject_below=reject_below)
    check_range(at_least=0, at_most=4, whole=True, shift=shift)
    digits = as_mnist(pictures)
    preprocessing = preprocessing or preprocessing_of(model)
    parts = [
        _probabilities(model, batch, preprocessing, shift) for batch in digits.split(batch_size)
    ]
    predictions = [
        prediction for part in parts for prediction in _predictions(part, top, reject_below)
    ]
    return predictions[0] if is_one_picture(pictures) else predictions


def _probabilities(
    model: nn.Module, digits: Tensor, preprocessing: Preprocessing, shift: int
) -> Tensor:
    """Probabilities (N, classes) of images (N, 1, 28, 28), averaged over the moves."""
    moves = [(0, 0), (shift, 0), (-shift, 0), (0, shift), (0, -shift)] if shift else [(0, 0)]
    return torch.stack(
        [logits(model, F.pad(digits, (x, -x, y, -y)), preprocessing).softmax(1) for x, y in moves]
    ).mean(0)


def _predictions(probabilities: Tensor, top: int, reject_below: float) -> Iterator[Prediction]:
    """One prediction per row of probabilities (N, classes)."""
    best, classes = probabilities.topk(min(top, probabilities.shape[1]))
    rows = zip(probabilities.tolist(), best.tolist(), classes.tolist(), strict=True)
    for row, values, digits in rows:
        digit = digits[0] if values[0] >= reject_below else None
        yield Prediction(digit, values[0], tuple(row), tuple(zip(digits, values, strict=True)))


class Ensemble(nn.Module):
    """Several networks as one, which gives the mean of their probabilities; see `ensemble`.

    Args:
        models: The networks.
        preprocessing: The preprocessing of all of them.

    Shape:
        (N, C, H, W) → (N, classes): logarithms of probabilities, which serve as logits.

    Example:
        >>> from mnist_zoo import Preprocessing, lenet5
        >>> from mnist_zoo.prediction import Ensemble
        >>> len(Ensemble([lenet5(), lenet5()], Preprocessing()).models)
        2
    """

    def __init__(self, models: Sequence[nn.Module], preprocessing: Preprocessing) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)
        self.preprocessing = preprocessing

    def forward(self, x: Tensor) -> Tensor:
        """Maps images (N, C, H, W) to the logarithm of the mean probability of each class."""
        log_probabilities = torch.stack([model(x).float().log_softmax(1) for model in self.models])
        return log_probabilities.logsumexp(0) - math.log(len(self.models))


def ensemble(models: Iterable[nn.Module]) -> Ensemble:
    """Combines several networks into one, which `predict` and `evaluate` take like any other.

    Args:
        models: Networks with the same classes and the same input.

    Returns:
        A network that gives the mean of their probabilities.

    Raises:
        ValueError: If `models` is empty, or their preprocessing, channels or classes differ.

    Example:
        >>> from PIL import Image, ImageDraw, ImageFont
        >>> from mnist_zoo import ensemble, lenet5, mini_resnet, predict
        >>> page = Image.new("L", (120, 120), "white")
        >>> ImageDraw.Draw(page).text((40, 10), "7", font=ImageFont.load_default(80))
        >>> both = ensemble([mini_resnet(weights="mnist"), lenet5(weights="mnist")])
        >>> predict(both, page).digit
        7
    """
    models = list(models)
    if not models:
        raise ValueError("`models` must be at least one network")
    expected = [preprocessing_of(model) for model in models]
    if len(set(expected)) > 1:
        raise ValueError(f"`models` must have the same preprocessing; they have {expected}")
    stated = [model for model in models if hasattr(model, "input_size")]
    for name in ("in_channels", "num_classes"):
        values = [getattr(model, name) for model in stated if hasattr(model, name)]
        if len(set(values)) > 1:
            raise ValueError(f"`models` must have the same {name}; they have {values}")
    return Ensemble(models, expected[0])
