"""What every classifier here offers, and how a factory builds one."""

from __future__ import annotations

import os
import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from .._checks import check_known, check_positive
from ..blocks import no_random_init
from ..conversion import ConversionError, Source, from_torchvision
from ..preprocessing import Preprocessing
from ..weights import Origin, Weights, is_safetensors, manifest, origin

WeightsLike: TypeAlias = Source | Literal["mnist", "imagenet"] | None
"""A factory's ``weights``: None (random), ``"mnist"`` (ours), ``"imagenet"`` (torchvision's), or
any source of a conversion."""

Stem: TypeAlias = Literal["7x7", "3x3", "3x3-pool"]

# stem: kernel size and stride of its convolution, and whether a max-pool follows
STEMS: dict[Stem, tuple[int, int, bool]] = {
    "7x7": (7, 2, True),
    "3x3": (3, 1, False),
    "3x3-pool": (3, 1, True),
}

SIZES = ("in_channels", "num_classes", "image_size")  # weights adapt to them, or do not fit


@torch.fx.wrap  # one node of a symbolic trace, whose check still runs
@torch.jit.script_if_tracing  # a jit trace keeps the check, too
def check_input(x: Tensor, channels: int, size: int) -> Tensor:
    """Returns x, a batch (N, channels, size, size) of floats; size 0 stands for any.

    Raises:
        ValueError: If x has another rank, channel count or size, or holds no floats.
    """
    wrong_size = size > 0 and x.dim() == 4 and (x.size(2) != size or x.size(3) != size)
    if x.dim() != 4 or x.size(1) != channels or wrong_size:
        expected = f"{channels}, {size}, {size}" if size > 0 else f"{channels}, H, W"
        got = str(x.size()).replace("torch.Size(", "").replace(")", "")  # TorchScript has a list
        got = got.replace("[", "(").replace("]", ")")
        raise ValueError(f"expected an input of shape (N, {expected}), got {got}")
    if not x.is_floating_point():
        raise ValueError(
            f"expected an input of floating-point numbers, got {x.dtype}; predict() and "
            "Preprocessing make them of pictures"
        )
    return x


def size_after_two_convs(image_size: int) -> int:
    """The height left by two rounds of 5×5 convolution without padding and 2×2 pooling.

    Raises:
        ValueError: If nothing is left.
    """
    size = ((image_size - 4) // 2 - 4) // 2
    if size < 1:
        raise ValueError(f"`image_size` (={image_size!r}) must be at least 16")
    return size


class Classifier(nn.Module, ABC):
    """A network that maps a batch of pictures to one logit a class.

    ``forward`` is `forward_features` and `forward_head` in a row.

    Attributes:
        in_channels: Channels of the input: 1 for grey pictures, 3 for colour.
        num_classes: Number of logits.
        image_size: Height and width of the input.
        factory: Name of the function that made it with plain options; None for a network made
            otherwise.
        options: That function's options; `num_classes` may have been reset since.
        preprocessing: How its pictures are to be normalised, where its weights say so.

    Shape:
        (N, in_channels, image_size, image_size) → (N, num_classes).

    Raises:
        ValueError: If a number is less than 1.
    """

    __constants__: ClassVar[list[str]] = ["any_size"]  # TorchScript reads it

    classifier_name: ClassVar[str] = "fc"
    """Name of the last linear layer, the one that gives the logits."""
    any_size: ClassVar[bool] = False
    """Whether the network takes pictures of every size, not of `image_size` alone."""

    def __init__(self, in_channels: int, num_classes: int, image_size: int) -> None:
        super().__init__()
        check_positive(in_channels=in_channels, num_classes=num_classes, image_size=image_size)
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.image_size = image_size
        self.factory: str | None = None
        self.options: Mapping[str, Any] = {}
        self.preprocessing: Preprocessing | None = None

    @property
    def input_size(self) -> tuple[int, int, int]:
        """The shape (C, H, W) of one input."""
        return (self.in_channels, self.image_size, self.image_size)

    @abstractmethod
    def forward_features(self, x: Tensor) -> Tensor:
        """Maps pictures (N, C, H, W) to the last feature maps.

        Raises:
            ValueError: If x has another rank, channel count or size than the network expects.
        """

    @abstractmethod
    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Maps the feature maps of `forward_features` to logits (N, num_classes).

        With ``pre_logits``, to what the last linear layer would see: (N, features).
        """

    def forward(self, x: Tensor) -> Tensor:
        """Maps pictures (N, C, H, W) to logits (N, num_classes)."""
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Linear:
        """The last linear layer, the one that gives the logits.

        Raises:
            TypeError: If something else was put in its place.
        """
        classifier = self.get_submodule(self.classifier_name)
        if not isinstance(classifier, nn.Linear):
            kind = type(classifier).__name__
            raise TypeError(f"`{self.classifier_name}` must be an nn.Linear; it is a {kind}")
        return classifier

    def reset_classifier(self, num_classes: int) -> None:
        """Replaces the last linear layer by a new, random one of `num_classes` outputs.

        Its device, dtype and training mode are the old one's.

        Raises:
            ValueError: If `num_classes` is less than 1.
            TypeError: If the last layer is no linear layer any more.
        """
        check_positive(num_classes=num_classes)
        old = self.get_classifier()
        new = nn.Linear(
            old.in_features, num_classes, device=old.weight.device, dtype=old.weight.dtype
        )
        setattr(self, self.classifier_name, new.train(old.training))
        self.num_classes = num_classes

    def check_input(self, x: Tensor) -> Tensor:
        """Returns x, or raises ValueError naming what was expected and what came."""
        return check_input(x, self.in_channels, 0 if self.any_size else self.image_size)


def _levels_to_the_user() -> int:
    """How many frames above the caller the first one outside this package is."""
    package, level = __name__.partition(".")[0], 1
    frame = sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] == package:
        frame, level = frame.f_back, level + 1
    return level


Network = TypeVar("Network", bound=Classifier)


def build(
    name: str,
    make: Callable[..., Network],
    weights: WeightsLike,
    *,
    imagenet: bool = False,
    known: Iterable[str] = (),
    **options: Any,
) -> Network:
    """Makes a network, random or with the given weights, which are then its only initialisation.

    Args:
        name: Of the factory.
        make: Makes the network from the options.
        weights: None, ``"mnist"``, ``"imagenet"``, or a source of `mnist_zoo.from_torchvision`.
        imagenet: Whether torchvision has a network of the same name and architecture.
        known: Names of the options that the factory takes as ``**options``; none where Python
            checks them against its signature.
        **options: Those of the factory.

    Raises:
        TypeError: If the factory has no such option.
        ValueError: If `weights` is ``"mnist"`` or ``"imagenet"``, and there are none.
        ConversionError: If the weights do not fit the network.
        WeightsError: If `weights` is a file that is damaged.
        FileNotFoundError: If `weights` is a file that does not exist.
    """
    if known:
        taken = ("weights", "in_channels", "num_classes", *known)
        check_known(f"{name} has no option", options, taken)
    if weights is None:
        model = make(**options)
    else:
        source, preprocessing = _source(name, weights, imagenet, options)
        with no_random_init():
            model = make(**options)
        report = from_torchvision(model, source)
        changed = {*report.adapted, *report.skipped} & {*model.state_dict()}
        if changed and not isinstance(source, Enum):
            told = f"`weights` were adapted to {type(model).__name__}: {report}"
            warnings.warn(told, stacklevel=_levels_to_the_user())
        model.preprocessing = preprocessing
    if all(isinstance(value, bool | int | float | str) for value in options.values()):
        model.factory, model.options = name, options
    return model


def _source(
    name: str, weights: Source | str, imagenet: bool, options: Mapping[str, Any]
) -> tuple[Source, Preprocessing | None]:
    """What to convert for the network of that name, and the preprocessing that goes with it."""
    if isinstance(weights, str) and weights == "mnist":
        record = manifest().get(f"{name}.mnist")
        if record is None:
            known = ", ".join(shipped.network for shipped in manifest().values())
            raise ValueError(f"`weights` (='mnist') ship for {known}; not for {name}")
        return record, record.preprocessing
    if isinstance(weights, str) and weights == "imagenet":
        if not imagenet:
            raise ValueError("`weights` (='imagenet') is for torchvision's ResNets and DenseNets")
        from torchvision.models import get_model_weights

        return get_model_weights(name)["DEFAULT"], None
    if isinstance(weights, Classifier):
        return weights, weights.preprocessing
    if isinstance(weights, Weights):
        made, what = Origin(weights.network, weights.options, weights.preprocessing), weights.name
    elif isinstance(weights, (str, os.PathLike)) and is_safetensors(Path(weights)):
        made, what = origin(Path(weights).expanduser()), str(weights)
    else:
        return weights, None
    if made.network not in (name, None):
        told = f"'{what}' is of {made.network!r:.80}"
        raise ConversionError(f"`weights` must be those of {name}; {told}")
    for option, value in made.options.items():
        if option not in SIZES and options.get(option) != value:
            told = f"'{what}' was made with `{option}` (={value!r:.80})"
            raise ConversionError(f"`weights` must be of the same options; {told}")
    return weights, made.preprocessing
