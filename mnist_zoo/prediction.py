"""What digit a picture shows."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, overload

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._checks import check_positive, check_range
from ._networks import eval_mode, unwrapped
from .pictures.mnist_form import as_mnist
from .pictures.preprocessing import Preprocessing, preprocessing_of
from .pictures.reading import is_one_picture

if TYPE_CHECKING:
    import os

    from PIL import Image

    from .pictures.reading import Picture, Pictures

__all__ = ["Ensemble", "Prediction", "ensemble", "predict"]


@dataclass(frozen=True)
class Prediction:
    """What a network takes a picture for.

    Attributes:
        digit: The most probable class; None where its probability is below `reject_below`.
        probability: The softmax probability of the most probable class.
        probabilities: Those of all classes, in their order.
        top: The most probable classes with their probabilities, the first one first.
    """

    digit: int | None
    probability: float
    probabilities: tuple[float, ...] = field(repr=False)
    top: tuple[tuple[int, float], ...]

    def __str__(self) -> str:
        """The digit and its probability, such as ``7 (99.8 %)``; or that none is probable."""
        what = "none" if self.digit is None else self.digit
        return f"{what} ({self.probability:.1%})".replace("%", " %")


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
    """Recognises the digit on a picture, or on each of several.

    ``predict(mini_resnet(weights="mnist"), "photo.png").digit``

    The network runs in eval mode on its own device, in its own precision; its modes are put back.

    Args:
        model: A network from pictures (N, C, H, W) to logits (N, classes).
        pictures: One picture or many, of any kind and size that `as_mnist` takes.
        top: How many classes `Prediction.top` names, or all where there are fewer.
        reject_below: Least probability at which a class is given rather than None.
        shift: Pixels by which the digit is moved up, down, left and right to average the
            probabilities over the five places; 0 for none.
        preprocessing: What the network was trained with; None for what its weights say, or else
            MNIST's mean and standard deviation at the network's own size.
        batch_size: Pictures a forward pass.

    Returns:
        A `Prediction`; a list of them where `pictures` are several.

    Raises:
        PictureError: If a picture cannot be read as one digit.
        FileNotFoundError: If a file does not exist.
        TypeError: If it is no picture, or `model` no network.
        ValueError: If another argument is out of range.
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
    """Probabilities (N, classes) of pictures (N, 1, 28, 28), averaged over the shifts."""
    moves = [(0, 0), (shift, 0), (-shift, 0), (0, shift), (0, -shift)] if shift else [(0, 0)]
    return torch.stack(
        [logits(model, F.pad(digits, (x, -x, y, -y)), preprocessing).softmax(1) for x, y in moves]
    ).mean(0)


def _predictions(probabilities: Tensor, top: int, reject_below: float) -> Iterator[Prediction]:
    best, classes = probabilities.topk(min(top, probabilities.shape[1]))
    rows = zip(probabilities.tolist(), best.tolist(), classes.tolist(), strict=True)
    for row, values, digits in rows:
        digit = digits[0] if values[0] >= reject_below else None
        yield Prediction(digit, values[0], tuple(row), tuple(zip(digits, values, strict=True)))


@torch.inference_mode()
def logits(model: nn.Module, images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Float32 logits (N, classes) of pictures (N, C, H, W), in eval mode on the model's device."""
    tensor = next(itertools.chain(model.parameters(), model.buffers()), torch.empty(0))
    inputs = preprocessing(images.to(tensor.device))
    size = getattr(unwrapped(model), "input_size", None)
    if isinstance(size, tuple) and len(size) == 3 and size[0] != inputs.shape[1] == 1:
        inputs = inputs.expand(-1, size[0], -1, -1)
    if tensor.is_floating_point():
        inputs = inputs.to(tensor.dtype)
    with eval_mode(model):
        return model(inputs).float()


class Ensemble(nn.Module):
    """Several networks as one, whose probabilities are the mean of theirs; `ensemble` makes it.

    Args:
        models: The networks.
        preprocessing: What all of them expect.

    Shape:
        (N, C, H, W) → (N, classes): the logarithms of the probabilities, to be used as logits.
    """

    def __init__(self, models: Sequence[nn.Module], preprocessing: Preprocessing) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)
        self.preprocessing = preprocessing

    def forward(self, x: Tensor) -> Tensor:
        """Maps pictures (N, C, H, W) to the logarithm of the mean probability of each class."""
        shares = torch.stack([model(x).float().log_softmax(1) for model in self.models])
        return shares.logsumexp(0) - math.log(len(self.models))


def ensemble(models: Iterable[nn.Module]) -> Ensemble:
    """One network of several: ``predict(ensemble([mini_resnet(…), resnet18(…)]), picture)``.

    Args:
        models: Networks of the same classes that expect the same input.

    Returns:
        A network whose probabilities are the mean of theirs.

    Raises:
        ValueError: If there are none, or they expect different preprocessing or inputs.
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
