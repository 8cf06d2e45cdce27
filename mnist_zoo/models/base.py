"""What every classifier of the zoo offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, TypeAlias

import torch
from torch import Tensor, nn

from .._checks import check_positive
from ..pictures.preprocessing import Preprocessing

__all__ = ["Classifier"]

Stem: TypeAlias = Literal["7x7", "3x3", "3x3-pool"]

# stem: kernel size and stride of its convolution, and whether a max-pool follows
STEMS: dict[Stem, tuple[int, int, bool]] = {
    "7x7": (7, 2, True),
    "3x3": (3, 1, False),
    "3x3-pool": (3, 1, True),
}


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
