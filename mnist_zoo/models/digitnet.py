"""DigitNets: the most accurate network of digits that we found at each number of parameters."""

# annotations are no strings here: torch.fx writes those of a forward into the code of its graph
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import Unpack, override

from .._checks import check_positive, check_range
from ..blocks.layers import conv
from .base import Classifier
from .options import SmallOptions, build_small, keywords_only

__all__ = [
    "DigitNet",
    "digitnet_1k",
    "digitnet_2k",
    "digitnet_6k",
    "digitnet_20k",
    "digitnet_50k",
    "digitnet_150k",
    "digitnet_400k",
]


class Layer(nn.Module):
    """A 3×3 convolution, BatchNorm and ReLU, once or several times with the same convolution.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        separable: Whether the convolution is a depthwise one followed by one of 1×1.
        shortcut: Whether the input is added before the ReLU.
        repeats: How often the convolution is applied; each time has a norm of its own.

    Shape:
        (N, in_channels, H, W) → (N, out_channels, H, W).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        separable: bool,
        shortcut: bool,
        repeats: int,
    ) -> None:
        super().__init__()
        self.conv: nn.Module
        if separable:
            depthwise = conv(in_channels, in_channels, 3, groups=in_channels)
            self.conv = nn.Sequential(depthwise, conv(in_channels, out_channels, 1))
        else:
            self.conv = conv(in_channels, out_channels, 3)
        self.norms = nn.ModuleList(nn.BatchNorm2d(out_channels) for _ in range(repeats))
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Maps feature maps (N, C, H, W) to the shape that the class states."""
        for norm in self.norms:
            out = norm(self.conv(x))
            x = F.relu(out + x if self.shortcut else out)
        return x


class DigitNet(Classifier):
    """Stages of 3×3 convolutions with max-pooling between them, the mean of each map, one layer.

    Weights are few because each is used often: at every pixel, at a high resolution, and in
    `repeats` layers in a row. A layer with as many channels as the one before it in its stage has a
    shortcut.

    Args:
        stages: Numbers of channels of the layers, one sequence per stage.
        separable: Whether all convolutions but the first are depthwise separable.
        repeats: How often each convolution with a shortcut is applied in a row.
        in_channels: Channels of the input.
        num_classes: Number of logits.
        image_size: Height and width in `input_size`; it does not change the layers.

    Shape:
        (N, in_channels, H, W) → (N, num_classes); `forward_features` gives (N, C, H', W') with the
        channels C of the last layer, and H' = 7 for three stages and H = 28.

    Raises:
        ValueError: If a number is too small, or `stages` holds no sequences of numbers.

    Source:
        Ours. Shortcuts: He et al. 2015. Separable convolutions: Howard et al. 2017 (MobileNets).
        The mean of each map: Lin et al. 2013 (Network in Network). Repeated layers in the smallest
        networks: https://github.com/ruslangrimov/mnist-minimal-model.

    Example:
        >>> import torch
        >>> from mnist_zoo import DigitNet
        >>> model = DigitNet([(8, 8), (16,)])
        >>> model(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """

    any_size = True

    def __init__(
        self,
        stages: Sequence[Sequence[int]],
        *,
        separable: bool = False,
        repeats: int = 1,
        in_channels: int = 1,
        num_classes: int = 10,
        image_size: int = 28,
    ) -> None:
        super().__init__(in_channels, num_classes, image_size)
        _check_stages(stages)
        check_positive(repeats=repeats)
        check_range(at_least=2 ** (len(stages) - 1), image_size=image_size)
        features: OrderedDict[str, nn.Module] = OrderedDict()
        channels = in_channels
        for number, widths in enumerate(stages, 1):
            if number > 1:
                features[f"pool{number - 1}"] = nn.MaxPool2d(2)
            layers: list[nn.Module] = []
            for width in widths:
                is_first = not (features or layers)
                shortcut = bool(layers) and width == channels
                layer = Layer(
                    channels,
                    width,
                    separable=separable and not is_first,
                    shortcut=shortcut,
                    repeats=repeats if shortcut else 1,
                )
                layers.append(layer)
                channels = width
            features[f"stage{number}"] = nn.Sequential(*layers)
        self.features = nn.Sequential(features)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(channels, num_classes)

    @override
    def forward_features(self, x: Tensor) -> Tensor:
        x = self.check_input(x)  # (N, 1, 28, 28)
        return self.features(x)  # (N, C, 7, 7)

    @override
    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        x = torch.flatten(self.avgpool(features), 1)  # (N, C)
        return x if pre_logits else self.fc(x)  # (N, 10)


def _check_stages(stages: object) -> None:
    if not isinstance(stages, (tuple, list)) or not stages:
        raise ValueError(f"`stages` (={stages!r}) must be a non-empty list or tuple")
    for widths in stages:
        if not isinstance(widths, (tuple, list)) or not widths:
            raise ValueError(
                f"`stages` (={stages!r}) must hold non-empty lists or tuples of channels"
            )
        for width in widths:
            check_positive(stages=width)


def _digitnet(name: str, options: SmallOptions, *stages: Sequence[int], **fixed: Any) -> DigitNet:
    return build_small(name, DigitNet, options, stages=stages, **fixed)


@keywords_only
def digitnet_1k(**options: Unpack[SmallOptions]) -> DigitNet:
    """The DigitNet for a budget of 1,000: 986 parameters, 409,424 MACs.

    Options: see `mini_googlenet`; here `image_size` only sets `input_size`.

    Example:
        >>> from mnist_zoo import digitnet_1k
        >>> digitnet_1k().get_classifier().in_features
        16
    """
    return _digitnet("digitnet_1k", options, (8,), (16, 16), separable=True, repeats=3)


@keywords_only
def digitnet_2k(**options: Unpack[SmallOptions]) -> DigitNet:
    """The DigitNet for a budget of 2,000: 1,990 parameters, 1,067,332 MACs.

    Options: see `digitnet_1k`.

    Example:
        >>> from mnist_zoo import digitnet_2k
        >>> digitnet_2k().get_classifier().in_features
        28
    """
    return _digitnet("digitnet_2k", options, (8,), (28, 28), separable=True, repeats=4)


@keywords_only
def digitnet_6k(**options: Unpack[SmallOptions]) -> DigitNet:
    """The DigitNet for a budget of 6,000: 5,986 parameters, 3,451,784 MACs.

    Options: see `digitnet_1k`.

    Example:
        >>> from mnist_zoo import digitnet_6k
        >>> digitnet_6k().get_classifier().in_features
        56
    """
    return _digitnet("digitnet_6k", options, (16,), (56, 56), separable=True, repeats=4)


@keywords_only
def digitnet_20k(**options: Unpack[SmallOptions]) -> DigitNet:
    """The DigitNet for a budget of 20,000: 18,554 parameters, 4,097,536 MACs.

    Options: see `digitnet_1k`.

    Example:
        >>> from mnist_zoo import digitnet_20k
        >>> digitnet_20k().get_classifier().in_features
        32
    """
    return _digitnet("digitnet_20k", options, (16, 16), (24, 24), (32,))


@keywords_only
def digitnet_50k(**options: Unpack[SmallOptions]) -> DigitNet:
    """The DigitNet for a budget of 50,000: 48,154 parameters, 6,323,008 MACs.

    Options: see `digitnet_1k`.

    Example:
        >>> from mnist_zoo import digitnet_50k
        >>> digitnet_50k().get_classifier().in_features
        40
    """
    return _digitnet("digitnet_50k", options, (16, 16), (32, 32), (48, 40))


@keywords_only
def digitnet_150k(**options: Unpack[SmallOptions]) -> DigitNet:
    """The DigitNet for a budget of 150,000: 132,762 parameters, 12,522,752 MACs.

    Options: see `digitnet_1k`.

    Example:
        >>> from mnist_zoo import digitnet_150k
        >>> digitnet_150k().get_classifier().in_features
        64
    """
    return _digitnet("digitnet_150k", options, (16, 16), (48, 48), (64, 64, 64))


@keywords_only
def digitnet_400k(**options: Unpack[SmallOptions]) -> DigitNet:
    """The DigitNet for a budget of 400,000: 387,290 parameters, 12,570,112 MACs.

    Options: see `digitnet_1k`.

    Example:
        >>> from mnist_zoo import digitnet_400k
        >>> digitnet_400k().get_classifier().in_features
        128
    """
    return _digitnet("digitnet_400k", options, (16, 16), (32, 32), (96, 96), (128, 128))
