"""The base class of every network."""

# annotations are no strings here: torch.fx writes those of a forward into the code of its graph
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, TypeAlias

import torch
from torch import Tensor, nn

from .._checks import check_positive, check_range
from ..pictures.familiarity import Familiarity
from ..pictures.preprocessing import Preprocessing
from .inputs import check_input

__all__ = ["Classifier"]

Stem: TypeAlias = Literal["7x7", "3x3", "3x3-pool"]

# by stem: kernel size and stride of its convolution, and whether a max-pool follows
STEMS: dict[Stem, tuple[int, int, bool]] = {
    "7x7": (7, 2, True),
    "3x3": (3, 1, False),
    "3x3-pool": (3, 1, True),
}

torch.fx.wrap("check_input")  # one node in a symbolic trace, so that the check still runs there


def size_after_two_convs(image_size: int) -> int:
    """The height after two rounds of 5×5 convolution without padding and 2×2 pooling.

    Raises:
        ValueError: If no pixel is left.
    """
    check_range(at_least=16, image_size=image_size)
    return ((image_size - 4) // 2 - 4) // 2


class Classifier(nn.Module, ABC):
    """A network that maps a batch of images to one logit per class: the base of every network.

    ``forward`` calls `forward_features`, then `forward_head`.

    Attributes:
        in_channels: Channels of the input: 1 for grey images, 3 for colour.
        num_classes: Number of logits.
        image_size: Height and width of the input.
        factory: Name of the function that made the network with plain options; None for a
            network made in another way.
        options: Options of that function; `num_classes` may have been reset since.
        preprocessing: How to prepare images for its weights; None if unknown. `fit` sets it.
        classes: Names of the classes; None for "0", "1" and so on. `fit` sets them to its data's.
        familiarity: Tells images of the kind that it learnt from others; None if unknown.
            `fit_familiarity` sets it, and training clears it.

    Shape:
        (N, in_channels, image_size, image_size) → (N, num_classes).

    Raises:
        ValueError: If a number is less than 1.

    Example:
        >>> import torch
        >>> from mnist_zoo import mini_resnet
        >>> model = mini_resnet()  # a Classifier, like every network of the zoo
        >>> features = model.forward_features(torch.zeros(2, *model.input_size))
        >>> features.shape, model.forward_head(features).shape
        (torch.Size([2, 32, 4, 4]), torch.Size([2, 10]))
    """

    __constants__: ClassVar[list[str]] = ["any_size"]  # for TorchScript

    classifier_name: ClassVar[str] = "fc"
    """Name of the last linear layer, which gives the logits."""
    any_size: ClassVar[bool] = False
    """Whether the network takes images of every size, not only of `image_size`."""

    def __init__(self, in_channels: int, num_classes: int, image_size: int) -> None:
        super().__init__()
        check_positive(in_channels=in_channels, num_classes=num_classes, image_size=image_size)
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.image_size = image_size
        self.factory: str | None = None
        self.options: Mapping[str, Any] = {}
        self.preprocessing: Preprocessing | None = None
        self.classes: tuple[str, ...] | None = None
        self.familiarity: Familiarity | None = None

    @property
    def input_size(self) -> tuple[int, int, int]:
        """The shape (C, H, W) of one input."""
        return (self.in_channels, self.image_size, self.image_size)

    @abstractmethod
    def forward_features(self, x: Tensor) -> Tensor:
        """Maps images (N, C, H, W) to the last feature maps.

        Raises:
            TypeError: If x is no tensor.
            ValueError: If x has another rank, number of channels, size or type than the network
                expects.
        """

    @abstractmethod
    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Maps the feature maps of `forward_features` to logits (N, num_classes).

        If `pre_logits` is true, returns the input of the last linear layer instead: (N, features).
        """

    def forward(self, x: Tensor) -> Tensor:
        """Maps images (N, C, H, W) to logits (N, num_classes)."""
        return self.forward_head(self.forward_features(x))

    def with_familiarity(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Maps images (N, C, H, W) to logits and, with a record of it, their familiarity (N,)."""
        features = self.forward_features(x)
        logits = self.forward_head(features)
        record = self.familiarity
        return logits, None if record is None else record(x, features, logits)

    def gives_familiarity(self) -> bool:
        """Whether the network has a record of the familiarity of images."""
        return self.familiarity is not None

    def get_classifier(self) -> nn.Linear:
        """The last linear layer, which gives the logits.

        Raises:
            TypeError: If it was replaced by another kind of layer.
        """
        classifier = self.get_submodule(self.classifier_name)
        if not isinstance(classifier, nn.Linear):
            kind = type(classifier).__name__
            raise TypeError(f"`{self.classifier_name}` must be an nn.Linear; it is a {kind}")
        return classifier

    def reset_classifier(self, num_classes: int) -> None:
        """Replaces the last linear layer by a randomly initialised one with `num_classes` outputs.

        The new layer keeps the device, dtype and training mode of the old one. The classes lose
        their names, and `familiarity` is cleared.

        Raises:
            ValueError: If `num_classes` is less than 1.
            TypeError: If the last layer was replaced by another kind of layer.

        Example:
            >>> from mnist_zoo import mini_resnet
            >>> model = mini_resnet()
            >>> model.reset_classifier(26)
            >>> model.fc
            Linear(in_features=512, out_features=26, bias=True)
        """
        check_positive(num_classes=num_classes)
        old = self.get_classifier()
        new = nn.Linear(
            old.in_features, num_classes, device=old.weight.device, dtype=old.weight.dtype
        )
        setattr(self, self.classifier_name, new.train(old.training))
        self.num_classes = num_classes
        self.classes = None
        self.familiarity = None

    def check_input(self, x: Tensor) -> Tensor:
        """Returns x, or raises a ValueError with the expected and the actual shape."""
        return check_input(x, self.in_channels, 0 if self.any_size else self.image_size)
