"""LeNet-5 with ReLU, and with one residual module in either of two places."""

from __future__ import annotations

from functools import partial
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from ..blocks.residual import BasicBlock
from .base import Classifier, size_after_two_convs
from .build import WeightsLike, build

__all__ = ["LeNet5", "lenet5", "lenet5_conv_residual", "lenet5_fc_residual"]


def _module(channels: int) -> BasicBlock:
    """The residual module, its weights drawn as PyTorch does: with He's the report is not met."""
    module = BasicBlock(channels, channels)
    module.conv1.reset_parameters()
    module.conv2.reset_parameters()
    return module


class LeNet5(Classifier):
    """Two 5×5 convolutions with ReLU and pooling, three linear layers, perhaps a residual module.

    Args:
        in_channels: Channels of the input.
        num_classes: Number of logits.
        image_size: Height and width of the input, at least 16.
        residual: Where a residual module of two 3×3 convolutions with BatchNorm stands:
            ``"conv"``, on the 16 feature maps before the first linear layer; ``"fc"``, on
            the 120 numbers after it, taken as feature maps of one pixel; None, nowhere.

    Shape:
        (N, in_channels, image_size, image_size) → (N, num_classes); `forward_features` gives
        (N, 16, 4, 4) at 28.

    Raises:
        ValueError: If a number is too small or `residual` is none of these.

    Source:
        LeCun et al. 1998, figure 2, as the report builds it: ReLU, max-pooling, no padding;
        the module is a `BasicBlock` (He et al. 2015).
    """

    # with these TorchScript leaves out the residual module where there is none
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
        x = self.check_input(x)
        x = self.pool(F.relu(self.conv1(x)))
        x = self.pool(F.relu(self.conv2(x)))
        if self.on_maps:
            x = self.resnet_block(x)
        return x

    @override
    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        x = F.relu(self.fc1(torch.flatten(features, 1)))
        if self.on_numbers:
            x = torch.flatten(self.resnet_block(x[:, :, None, None]), 1)
        x = F.relu(self.fc2(x))
        return x if pre_logits else self.fc3(x)


def lenet5(
    *,
    weights: WeightsLike = None,
    in_channels: int = 1,
    num_classes: int = 10,
    image_size: int = 28,
) -> LeNet5:
    """LeNet-5 with ReLU, without a residual module: the report's baseline, 44,426 parameters.

    Args:
        weights: None for random ones, ``"mnist"`` for ours where they ship (see `list_models`),
            or a source that `from_torchvision` reads.
        in_channels: Channels of the input: 1 for grey pictures.
        num_classes: Number of logits.
        image_size: Height and width of the input, at least 16.

    Raises:
        ValueError: If a number is too small, or there are no such weights.
        ConversionError: If `weights` do not fit.
        WeightsError: If their file is damaged.
        FileNotFoundError: If their file does not exist, or cannot be downloaded.
    """
    return build(
        "lenet5",
        LeNet5,
        weights,
        in_channels=in_channels,
        num_classes=num_classes,
        image_size=image_size,
    )


def lenet5_conv_residual(
    *,
    weights: WeightsLike = None,
    in_channels: int = 1,
    num_classes: int = 10,
    image_size: int = 28,
) -> LeNet5:
    """LeNet-5 with a residual module before the first linear layer: 49,098 parameters.

    The report's network 1. Arguments and errors are those of `lenet5`.
    """
    return build(
        "lenet5_conv_residual",
        partial(LeNet5, residual="conv"),
        weights,
        in_channels=in_channels,
        num_classes=num_classes,
        image_size=image_size,
    )


def lenet5_fc_residual(
    *,
    weights: WeightsLike = None,
    in_channels: int = 1,
    num_classes: int = 10,
    image_size: int = 28,
) -> LeNet5:
    """LeNet-5 with a residual module after the first linear layer: 304,106 parameters.

    The report's network 2. Arguments and errors are those of `lenet5`.
    """
    return build(
        "lenet5_fc_residual",
        partial(LeNet5, residual="fc"),
        weights,
        in_channels=in_channels,
        num_classes=num_classes,
        image_size=image_size,
    )
