"""LeNet-5 with ReLU, and with one residual module in either of two places."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import Unpack, override

from ..blocks.residual import BasicBlock
from .base import Classifier, size_after_two_convs
from .build import WeightsLike, build
from .options import SmallOptions, build_small, keywords_only

__all__ = ["LeNet5", "lenet5", "lenet5_conv_residual", "lenet5_fc_residual"]


def _module(channels: int) -> BasicBlock:
    """The residual module with PyTorch's initialisation: He's misses the report's losses."""
    module = BasicBlock(channels, channels)
    module.conv1.reset_parameters()
    module.conv2.reset_parameters()
    return module


class LeNet5(Classifier):
    """Two 5×5 convolutions with ReLU and pooling, three linear layers, an optional residual module.

    Args:
        in_channels: Channels of the input.
        num_classes: Number of logits.
        image_size: Height and width of the input, at least 16.
        residual: Place of a residual module of two 3×3 convolutions with BatchNorm: ``"conv"``,
            on the 16 feature maps before the first linear layer; ``"fc"``, on the 120 numbers
            after that layer, taken as feature maps of one pixel; None for no module.

    Shape:
        (N, in_channels, image_size, image_size) → (N, num_classes); `forward_features` gives
        (N, 16, 4, 4) for an `image_size` of 28.

    Raises:
        ValueError: If a number is too small, or `residual` is not one of the three.

    Source:
        LeCun et al. 1998, figure 2, as the report builds it: ReLU, max-pooling, no padding;
        the module is a `BasicBlock` (He et al. 2015).

    Example:
        >>> from mnist_zoo import LeNet5
        >>> LeNet5(residual="conv").resnet_block.out_channels
        16
    """

    # these let TorchScript leave out a residual module that does not exist
    __constants__: ClassVar[list[str]] = [*Classifier.__constants__, "on_maps", "on_numbers"]

    classifier_name = "fc3"

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 10,
        image_size: int = 28,
        residual: Literal["conv", "fc"] | None = None,
    ) -> None:
        super().__init__(in_channels, num_classes, image_size)
        if residual not in ("conv", "fc", None):
            raise ValueError(f"`residual` (={residual!r}) must be 'conv', 'fc' or None")
        flat = 16 * size_after_two_convs(image_size) ** 2
        self.on_maps = residual == "conv"
        self.on_numbers = residual == "fc"
        self.conv1 = nn.Conv2d(in_channels, 6, 5)
        self.pool = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        if self.on_maps:
            self.resnet_block = _module(16)
        self.fc1 = nn.Linear(flat, 120)
        if self.on_numbers:
            self.resnet_block = _module(120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, num_classes)

    @override
    def forward_features(self, x: Tensor) -> Tensor:
        x = self.check_input(x)  # (N, 1, 28, 28)
        x = self.pool(F.relu(self.conv1(x)))  # (N, 6, 12, 12)
        x = self.pool(F.relu(self.conv2(x)))  # (N, 16, 4, 4)
        if self.on_maps:
            x = self.resnet_block(x)  # (N, 16, 4, 4)
        return x

    @override
    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        x = torch.flatten(features, 1)  # (N, 256)
        x = F.relu(self.fc1(x))  # (N, 120)
        if self.on_numbers:
            x = self.resnet_block(x[:, :, None, None])  # (N, 120, 1, 1)
            x = torch.flatten(x, 1)  # (N, 120)
        x = F.relu(self.fc2(x))  # (N, 84)
        return x if pre_logits else self.fc3(x)  # (N, 10)


@keywords_only
def lenet5(
    *,
    weights: WeightsLike = None,
    in_channels: int = 1,
    num_classes: int = 10,
    image_size: int = 28,
) -> LeNet5:
    """LeNet-5 with ReLU, without a residual module: the report's baseline, 44,426 parameters.

    Args:
        weights: None for random weights; ``"mnist"`` for the zoo's pretrained weights, where
            there are any (see `list_models`); or a source that `from_torchvision` reads.
        in_channels: Channels of the input: 1 for grey images.
        num_classes: Number of logits.
        image_size: Height and width of the input, at least 16.

    Raises:
        ValueError: If a number is too small, or there are no such weights.
        ConversionError: If `weights` do not fit.
        WeightsError: If the file of the weights is damaged.
        FileNotFoundError: If the file does not exist or cannot be downloaded.

    Example:
        >>> from mnist_zoo import lenet5
        >>> lenet5(num_classes=26).input_size
        (1, 28, 28)
    """
    return build(
        "lenet5",
        LeNet5,
        weights,
        in_channels=in_channels,
        num_classes=num_classes,
        image_size=image_size,
    )


@keywords_only
def lenet5_conv_residual(**options: Unpack[SmallOptions]) -> LeNet5:
    """LeNet-5 with a residual module before the first linear layer: 49,098 parameters.

    The report's network 1. Options: see `lenet5`.

    Example:
        >>> from mnist_zoo import lenet5_conv_residual
        >>> lenet5_conv_residual().resnet_block.out_channels
        16
    """
    return build_small("lenet5_conv_residual", LeNet5, options, residual="conv")


@keywords_only
def lenet5_fc_residual(**options: Unpack[SmallOptions]) -> LeNet5:
    """LeNet-5 with a residual module after the first linear layer: 304,106 parameters.

    The report's network 2. Options: see `lenet5`.

    Example:
        >>> from mnist_zoo import lenet5_fc_residual
        >>> lenet5_fc_residual().resnet_block.out_channels
        120
    """
    return build_small("lenet5_fc_residual", LeNet5, options, residual="fc")
