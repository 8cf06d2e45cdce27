"""Recognising the digit on an image, with one network or an ensemble of several."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import torch
from torch import Tensor, nn
from typing_extensions import Never

from ._checks import check_positive, check_range
from ._networks import (
    channels_of,
    check_computes,
    check_network,
    class_names,
    float_type,
    stated_classes,
    unwrapped,
)
from .pictures.as_trained import as_trained
from .pictures.logits import as_logits, check_logits, logits
from .pictures.outputs import gives_familiarity, logits_and_familiarity, with_familiarity
from .pictures.preprocessing import Preprocessing, check_preprocessing, preprocessing_of
from .pictures.reading import in_parts, is_one_picture

if TYPE_CHECKING:
    import os

    import numpy as np
    from PIL import Image

    from .pictures.reading import Content, Picture, Pictures, Readable

    Flat: TypeAlias = np.ndarray[tuple[int, int], Any]

__all__ = ["Ensemble", "Prediction", "ensemble", "predict"]


@dataclass(frozen=True)
class Prediction:
    """The class that a network recognises on an image.

    Attributes:
        digit: Number of the most probable class; None if its probability is below `reject_below`,
            or if `reject_unknown` is set and the image is of another kind.
        probability: The softmax probability of the most probable class.
        probabilities: The probabilities of all classes, in their order.
        top: The most probable classes and their probabilities, the most probable one first.
        classes: Names of all classes, in their order.
        familiarity: How much the image looks like those that the network learnt: 1 for a typical
            one, negative for one of another kind; None if the network has no `Familiarity`.

    Example:
        >>> from mnist_zoo import Prediction
        >>> print(Prediction(1, 0.75, (0.25, 0.75), ((1, 0.75), (0, 0.25))))
        1 (75.0 %)
    """

    digit: int | None
    probability: float
    probabilities: tuple[float, ...] = field(repr=False)
    top: tuple[tuple[int, float], ...]
    classes: tuple[str, ...] = field(default=(), repr=False)
    familiarity: float | None = field(default=None, repr=False)

    @property
    def is_digit(self) -> bool | None:
        """Whether the image is of the kind that the network learnt; None if it cannot tell."""
        return None if self.familiarity is None else self.familiarity >= 0

    @property
    def label(self) -> str | None:
        """Name of the class `digit`, which is its number where it has no name; None if rejected."""
        if self.digit is None:
            return None
        return self.classes[self.digit] if self.classes else str(self.digit)

    def __str__(self) -> str:
        """The label, or none, and the highest probability, such as ``7 (99.8 %)``."""
        return f"{self.label or 'none'} ({self.probability * 100:.1f} %)"


@overload
def predict(
    model: nn.Module,
    pictures: Image.Image | str | os.PathLike[str] | Readable | Content | Flat,
    *,
    top: int = ...,
    reject_below: float = ...,
    reject_unknown: bool = ...,
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
    reject_unknown: bool = ...,
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
    reject_unknown: bool = ...,
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
    reject_unknown: bool = False,
    shift: int = 0,
    preprocessing: Preprocessing | None = None,
    batch_size: int = 100,
) -> Prediction | list[Prediction]:
    """Recognises the digit on an image, or on each of several.

    A network that learnt digits in MNIST's form, such as the pretrained ones, gets each image
    redrawn in that form by `as_mnist`. A network that `fit` trained on other images gets it as it
    is, in the network's size and channels: values uint8, or float in 0…1. Its
    `Preprocessing.redraw` says which.

    The network runs in eval mode, on its own device and in its own precision; its training modes
    are restored afterwards. Threads may share a network, as long as none of them trains it.

    Args:
        model: A network from images (N, C, H, W) to logits (N, classes).
        pictures: One image or several, of any kind and size, as for `as_mnist`.
        top: Number of classes in `Prediction.top`; all classes if there are fewer.
        reject_below: Smallest probability at which a digit is given rather than None.
        reject_unknown: Whether None is given for an image of another kind, such as a letter, too;
            the pretrained networks can tell, and others after `fit_familiarity`.
        shift: Pixels by which the image is moved up, down, left and right; the probabilities are
            averaged over these four positions and the original one. 0 for no moves.
        preprocessing: The preprocessing that the network was trained with. By default its own, or
            else MNIST's mean and standard deviation at the network's size.
        batch_size: Images per forward pass.

    Returns:
        A `Prediction`, or a list of them if `pictures` are several.

    Raises:
        PictureError: If an image cannot be read as one digit.
        FileNotFoundError: If a file does not exist.
        TypeError: If `model` is no network, `pictures` holds something that is no image, or
            `preprocessing` is something else.
        ValueError: If another argument is out of range, the network cannot tell images of another
            kind, or it gives no finite logits (N, classes), such as probabilities.

    Example:
        >>> from PIL import Image, ImageDraw, ImageFont
        >>> from mnist_zoo import mini_resnet, predict
        >>> page = Image.new("L", (120, 120), "white")
        >>> ImageDraw.Draw(page).text((40, 10), "7", font=ImageFont.load_default(80))
        >>> predict(mini_resnet(weights="mnist"), page).digit
        7
    """
    check_network(model=model)
    check_computes(model=model)
    check_preprocessing(preprocessing)
    check_positive(top=top, batch_size=batch_size)
    check_range(at_least=0, at_most=1, reject_below=reject_below)
    check_range(at_least=0, at_most=4, whole=True, shift=shift)
    if reject_unknown and not gives_familiarity(model):
        raise ValueError(
            "`reject_unknown` (=True) needs a network with a record of familiarity: call "
            "fit_familiarity(model, digits) with training digits, and export files again"
        )
    preprocessing = preprocessing or preprocessing_of(model)
    found: dict[int, Prediction] = {}
    size = int(batch_size)
    with torch.inference_mode():
        for places, images in as_trained(pictures, preprocessing, channels_of(model)):
            for rows, batch in in_parts(places, images, size):
                probabilities, familiarity = _read(model, batch, preprocessing, shift)
                names = class_names(stated_classes(model), probabilities.shape[1])
                known = [None] * len(batch) if familiarity is None else familiarity.tolist()
                predictions = _predictions(
                    probabilities, known, names, top, reject_below, reject_unknown
                )
                found.update(zip(rows, predictions, strict=True))
    return found[0] if is_one_picture(pictures) else [found[place] for place in sorted(found)]


def _read(
    model: nn.Module, images: Tensor, preprocessing: Preprocessing, shift: int
) -> tuple[Tensor, Tensor | None]:
    """Probabilities (N, classes) of images, averaged over the moves, and their familiarity (N,)."""
    values, familiarity = logits_and_familiarity(model, images, preprocessing)
    check_logits(values, model)
    probabilities = values.softmax(1)
    if not shift:
        return probabilities, familiarity
    moves = [(shift, 0), (-shift, 0), (0, shift), (0, -shift)]
    moved = [logits(model, _moved(images, x, y), preprocessing).softmax(1) for x, y in moves]
    return torch.stack([probabilities, *moved]).mean(0), familiarity


def _moved(images: Tensor, x: int, y: int) -> Tensor:
    """Images moved to the right and down; the pixels at the edges are repeated."""
    for axis, step in ((3, x), (2, y)):
        if step:
            size = images.shape[axis]
            places = torch.arange(size, device=images.device) - step
            images = images.index_select(axis, places.clamp(0, size - 1))
    return images


def _predictions(
    probabilities: Tensor,
    familiarity: Sequence[float | None],
    names: tuple[str, ...],
    top: int,
    reject_below: float,
    reject_unknown: bool,
) -> Iterator[Prediction]:
    """One prediction per row of probabilities (N, classes)."""
    best, classes = probabilities.topk(min(top, probabilities.shape[1]))
    rows = zip(probabilities.tolist(), best.tolist(), classes.tolist(), familiarity, strict=True)
    for row, values, digits, known in rows:
        unknown = reject_unknown and known is not None and known < 0
        digit = None if unknown or values[0] < reject_below else digits[0]
        ranked = tuple(zip(digits, values, strict=True))
        yield Prediction(digit, values[0], tuple(row), ranked, names, known)


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
        self.classes = stated_classes(models[0])
        self.input_size = getattr(unwrapped(models[0]), "input_size", None)

    def forward(self, x: Tensor) -> Tensor:
        """Maps images (N, C, H, W) to the logarithm of the mean probability of each class."""
        return _mean([_checked(model, model(_copied(x)), x) for model in self.models])

    def with_familiarity(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Also gives the mean familiarity (N,) of images (N, C, H, W)."""
        pairs = [with_familiarity(model, _copied(x)) for model in self.models]
        told = [familiarity for _, familiarity in pairs if familiarity is not None]
        values = [_checked(own, each, x) for own, (each, _) in zip(self.models, pairs, strict=True)]
        return _mean(values), torch.stack(told).mean(0)

    def gives_familiarity(self) -> bool:
        """Whether all of the networks tell the familiarity of images."""
        return all(map(gives_familiarity, self.models))


def _copied(x: Tensor) -> Tensor:
    """A copy of the images for each network: some change their input."""
    return x.clone() if isinstance(x, Tensor) else x


def _checked(model: nn.Module, values: Tensor, x: Tensor) -> Tensor:
    """Returns what a network gives for images x, which must be no probabilities.

    Neither traces nor training are held up for it; infinite logits show in the mean.
    """
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or torch._C._is_tracing():
        return values
    if isinstance(x, Tensor) and not x.is_meta:
        check_logits(as_logits(values, len(x), model, "models"), model, "models", finite=False)
    return values


def _mean(values: Sequence[Tensor]) -> Tensor:
    """The logarithm of the mean probabilities (N, classes) of several logits."""
    counts = [logits.shape[-1] for logits in values]
    if any(count != counts[0] for count in counts):
        raise ValueError(f"`models` must have the same number of classes; they give {counts}")
    log_probabilities = torch.stack([logits.float().log_softmax(1) for logits in values])
    return log_probabilities.logsumexp(0) - math.log(len(values))


def ensemble(models: Iterable[nn.Module], *others: Never) -> Ensemble:
    """Combines several networks into one, which `predict` and `evaluate` take like any other.

    Args:
        models: Networks with the same classes and the same input.
        *others: Not allowed; pass the networks as one list.

    Returns:
        A network that gives the mean of their probabilities.

    Raises:
        TypeError: If `models` are no networks, or are not in a list.
        ValueError: If `models` is empty, or their preprocessing, channels, type of parameters, or
            the number or names of their classes differ.

    Example:
        >>> from PIL import Image, ImageDraw, ImageFont
        >>> from mnist_zoo import ensemble, lenet5, mini_resnet, predict
        >>> page = Image.new("L", (120, 120), "white")
        >>> ImageDraw.Draw(page).text((40, 10), "7", font=ImageFont.load_default(80))
        >>> both = ensemble([mini_resnet(weights="mnist"), lenet5(weights="mnist")])
        >>> predict(both, page).digit
        7
    """
    if others or isinstance(models, (nn.Module, str)):
        raise TypeError("`models` must be a list of networks, such as [mini_resnet(), lenet5()]")
    models = list(models)
    if not models:
        raise ValueError("`models` must be at least one network")
    for model in models:
        check_network(models=model)
    expected = [preprocessing_of(model) for model in models]
    if len(set(expected)) > 1:
        raise ValueError(f"`models` must have the same preprocessing; they have {expected}")
    names = [stated_classes(model) for model in models]
    if len(set(names)) > 1:
        raise ValueError(f"`models` must have the same classes; they have {names}")
    inside = [unwrapped(model) for model in models]
    types = [float_type(model) for model in models]
    if len(set(types)) > 1:
        raise ValueError(f"`models` must have parameters of the same type; they have {types}")
    stated = [model for model in inside if hasattr(model, "input_size")]
    for name in ("in_channels", "num_classes"):
        values = [getattr(model, name) for model in stated if hasattr(model, name)]
        if len(set(values)) > 1:
            raise ValueError(f"`models` must have the same {name}; they have {values}")
    return Ensemble(models, expected[0])
