"""Three small networks: a simple GoogLeNet, a simple ResNet, and one made for speed."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import Unpack, override

from .._checks import check_positive
from ..blocks.inception import InceptionA
from ..blocks.residual import ResidualBlock
from .base import Classifier, size_after_two_convs
from .build import WeightsLike, build
from .options import SmallOptions, build_small, build_variant, keywords_only

__all__ = [
    "MiniConvNet",
    "MiniGoogLeNet",
    "MiniResNet",
    "mini_convnet",
    "mini_googlenet",
    "mini_resnet",
]


class ConvNetOptions(SmallOptions, total=False):
    """The options of `mini_convnet`."""

    width: int


class MiniGoogLeNet(Classifier):
    """Two rounds of 5×5 convolution, pooling, ReLU and `InceptionA`, and one linear layer.

    Args:
        in_channels: Channels of the input.
        num_classes: Number of logits.
        image_size: Height and width of the input, at least 16.

    Shape:
        (N, in_channels, image_size, image_size) → (N, num_classes); `forward_features` gives
        (N, 88, 4, 4) for an `image_size` of 28.

    Raises:
        ValueError: If a number is too small.

    Source:
        The report's simple GoogLeNet.

    Example:
        >>> from mnist_zoo import MiniGoogLeNet
        >>> MiniGoogLeNet(image_size=32).input_size
        (1, 32, 32)
    """

    def __init__(self, in_channels: int = 1, num_classes: int = 10, image_size: int = 28) -> None:
        super().__init__(in_channels, num_classes, image_size)
        size = size_after_two_convs(image_size)
        self.conv1 = nn.Conv2d(in_channels, 10, 5)
        self.incep1 = InceptionA(10)
        self.conv2 = nn.Conv2d(self.incep1.out_channels, 20, 5)
        self.incep2 = InceptionA(20)
        self.mp = nn.MaxPool2d(2)
        self.fc = nn.Linear(self.incep2.out_channels * size**2, num_classes)

    @override
    def forward_features(self, x: Tensor) -> Tensor:
        x = self.check_input(x)  # (N, 1, 28, 28)
        x = F.relu(self.mp(self.conv1(x)))  # (N, 10, 12, 12)
        x = self.incep1(x)  # (N, 88, 12, 12)
        x = F.relu(self.mp(self.conv2(x)))  # (N, 20, 4, 4)
        return self.incep2(x)  # (N, 88, 4, 4)

    @override
    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        x = torch.flatten(features, 1)  # (N, 1408)
        return x if pre_logits else self.fc(x)  # (N, 10)


class MiniResNet(Classifier):
    """Two rounds of 5×5 convolution, pooling, ReLU and `ResidualBlock`, and one linear layer.

    Args:
        in_channels: Channels of the input.
        num_classes: Number of logits.
        image_size: Height and width of the input, at least 16.

    Shape:
        (N, in_channels, image_size, image_size) → (N, num_classes); `forward_features` gives
        (N, 32, 4, 4) for an `image_size` of 28.

    Raises:
        ValueError: If a number is too small.

    Source:
        The report's simple ResNet.

    Example:
        >>> from mnist_zoo import MiniResNet
        >>> MiniResNet(image_size=32).input_size
        (1, 32, 32)
    """

    def __init__(self, in_channels: int = 1, num_classes: int = 10, image_size: int = 28) -> None:
        super().__init__(in_channels, num_classes, image_size)
        size = size_after_two_convs(image_size)
        self.conv1 = nn.Conv2d(in_channels, 16, 5)
        self.rblock1 = ResidualBlock(16)
        self.conv2 = nn.Conv2d(16, 32, 5)
        self.rblock2 = ResidualBlock(32)
        self.mp = nn.MaxPool2d(2)
        self.fc = nn.Linear(32 * size**2, num_classes)

    @override
    def forward_features(self, x: Tensor) -> Tensor:
        x = self.check_input(x)  # (N, 1, 28, 28)
        # The report has ReLU before pooling: the same values and gradients, at four times the cost.
        x = F.relu(self.mp(self.conv1(x)))  # (N, 16, 12, 12)
        x = self.rblock1(x)  # (N, 16, 12, 12)
        x = F.relu(self.mp(self.conv2(x)))  # (N, 32, 4, 4)
        return self.rblock2(x)  # (N, 32, 4, 4)

    @override
    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        x = torch.flatten(features, 1)  # (N, 512)
        return x if pre_logits else self.fc(x)  # (N, 10)


class MiniConvNet(Classifier):
    """Two rounds of 3×3 convolution, pooling, BatchNorm and ReLU, and two linear layers.

    Layers with many pixels and few channels are slow on a CPU, so the network avoids them: every
    2×2 pixels first become four channels, the first convolution has no padding, and pooling comes
    before BatchNorm.

    Args:
        in_channels: Channels of the input.
        num_classes: Number of logits.
        image_size: Height and width of the input, even and at least 12.
        width: Channels of the first convolution; the second has three times as many, and the
            first linear layer four times as many outputs.

    Shape:
        (N, in_channels, image_size, image_size) → (N, num_classes); `forward_features` gives
        (N, 3 · width, 3, 3) for an `image_size` of 28.

    Raises:
        ValueError: If a number is too small, or `image_size` is odd.

    Source:
        Ours, for the recipe ``ninety_nine`` and, with a `width` of 32, for that of 99.5 %.

    Example:
        >>> from mnist_zoo.models import MiniConvNet
        >>> MiniConvNet(image_size=32).input_size
        (1, 32, 32)
    """

    classifier_name = "fc2"

    def __init__(
        self, in_channels: int = 1, num_classes: int = 10, image_size: int = 28, width: int = 16
    ) -> None:
        super().__init__(in_channels, num_classes, image_size)
        check_positive(width=width)
        size = (image_size // 2 - 2) // 4
        if image_size % 2 or size < 1:
            raise ValueError(f"`image_size` (={image_size!r}) must be even and at least 12")
        self.unshuffle = nn.PixelUnshuffle(2)
        self.conv1 = nn.Conv2d(4 * in_channels, width, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, 3 * width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(3 * width)
        self.mp = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(3 * width * size**2, 4 * width, bias=False)
        self.bn3 = nn.BatchNorm1d(4 * width)
        self.fc2 = nn.Linear(4 * width, num_classes)

    @override
    def forward_features(self, x: Tensor) -> Tensor:
        x = self.check_input(x)  # (N, 1, 28, 28)
        x = self.unshuffle(x)  # (N, 4, 14, 14)
        x = F.relu(self.bn1(self.mp(self.conv1(x))))  # (N, width, 6, 6)
        return F.relu(self.bn2(self.mp(self.conv2(x))))  # (N, 3 · width, 3, 3)

    @override
    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        x = torch.flatten(features, 1)  # (N, 27 · width)
        x = F.relu(self.bn3(self.fc1(x)))  # (N, 4 · width)
        return x if pre_logits else self.fc2(x)  # (N, 10)


@keywords_only
def mini_googlenet(
    *,
    weights: WeightsLike = None,
    in_channels: int = 1,
    num_classes: int = 10,
    image_size: int = 28,
) -> MiniGoogLeNet:
    """A simple GoogLeNet: 97,298 parameters, 6,019,200 MACs.

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
        >>> from mnist_zoo import mini_googlenet
        >>> mini_googlenet().fc.in_features
        1408
    """
    return build(
        "mini_googlenet",
        MiniGoogLeNet,
        weights,
        in_channels=in_channels,
        num_classes=num_classes,
        image_size=image_size,
    )


@keywords_only
def mini_resnet(**options: Unpack[SmallOptions]) -> MiniResNet:
    """A simple ResNet without BatchNorm: 41,514 parameters, 2,013,184 MACs.

    Options: see `mini_googlenet`.

    Example:
        >>> from mnist_zoo import mini_resnet
        >>> mini_resnet(in_channels=3).input_size
        (3, 28, 28)
    """
    return build_small("mini_resnet", MiniResNet, options)


@keywords_only
def mini_convnet(**options: Unpack[ConvNetOptions]) -> MiniConvNet:
    """A small network for fast training: 36,042 parameters, 364,352 MACs.

    Options: see `mini_googlenet`, and `MiniConvNet` for `width`; here `image_size` must be even
    and at least 12.

    Example:
        >>> from mnist_zoo import mini_convnet
        >>> mini_convnet(image_size=12).input_size
        (1, 12, 12)
    """
    given: ConvNetOptions = {"image_size": 28, **options}
    return build_variant("mini_convnet", MiniConvNet, given, known=("image_size", "width"))
