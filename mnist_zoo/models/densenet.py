"""The DenseNets: torchvision's, the paper's for small images, and one for digits."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, TypedDict

import torch
from torch import Tensor, nn
from typing_extensions import Unpack, override

from .._checks import check_positive, check_range
from .._names import check_choice, check_makers
from ..blocks.dense import DenseBlock, Transition
from ..blocks.layers import ActLayer, NormLayer, ReLU, conv
from .base import STEMS, Classifier, Stem
from .build import WeightsLike
from .options import FactoryOptions, build_variant, keywords_only

__all__ = [
    "DenseNet",
    "DenseNetOptions",
    "densenet40_12",
    "densenet121",
    "densenet161",
    "densenet169",
    "densenet201",
    "densenet_bc100_12",
    "mini_densenet",
]


class _Options(TypedDict, total=False):
    image_size: int
    growth_rate: int
    stem_channels: int
    stem: Stem
    bottleneck: bool
    compression: float
    dropout: float
    memory_efficient: bool
    norm_layer: NormLayer
    act_layer: ActLayer


class DenseNetOptions(FactoryOptions, _Options, total=False):
    """The options of every DenseNet factory; `densenet121` and `DenseNet` explain them.

    Example:
        >>> from mnist_zoo import mini_densenet
        >>> from mnist_zoo.models import DenseNetOptions
        >>> options: DenseNetOptions = {"growth_rate": 4, "num_classes": 26}
        >>> mini_densenet(**options).num_classes
        26
    """


class DenseNet(Classifier):
    """A stem, dense blocks with transitions between them, global average pooling, a linear layer.

    With three channels and 1000 classes, `densenet121` to `densenet201` have the parameter names
    of torchvision's networks and the same outputs, bit for bit. The network takes images of every
    size that leaves a pixel after each transition; for four blocks after the ``"7x7"`` stem, that
    is 29×29 or more.

    Args:
        layers: Number of layers in each dense block.
        growth_rate: Number of channels that each layer adds.
        stem_channels: Channels of the stem.
        in_channels: Channels of the input.
        num_classes: Number of logits.
        image_size: Height and width in `input_size`; it does not change the layers.
        stem: ``"7x7"``, a convolution of stride 2, norm, activation, and a 3×3 max-pool of stride
            2; ``"3x3"``, a convolution of stride 1 alone, for small images; ``"3x3-pool"``, a
            convolution of stride 1, norm, activation and the max-pool.
        bottleneck: Whether the layers have a 1×1 bottleneck (DenseNet-B).
        compression: Fraction of the channels that each transition keeps: below 1 in DenseNet-C.
        dropout: Probability of dropout at the end of each layer.
        memory_efficient: Whether training recomputes activations inside the layers for the
            backward pass instead of storing them; see `DenseBlock`.
        norm_layer: Makes a norm, given the number of channels.
        act_layer: Makes an activation.

    Shape:
        (N, in_channels, H, W) → (N, num_classes). `forward_features` gives (N, C, H', W'); H' is
        about H/32 for four blocks after the ``"7x7"`` stem, and C is 1024 in `densenet121`.

    Raises:
        ValueError: If a number is out of range, `layers` is not a sequence of numbers, `stem` is
            not one of the three, or `image_size` leaves no pixel after a transition.

    Source:
        Huang et al. 2017 (Densely Connected Convolutional Networks), table 1 and section 4.2.

    Example:
        >>> from mnist_zoo import DenseNet
        >>> DenseNet((2, 2), growth_rate=8, stem="3x3").get_classifier().in_features
        56
    """

    classifier_name = "classifier"
    any_size = True

    def __init__(
        self,
        layers: Sequence[int],
        growth_rate: int = 32,
        *,
        stem_channels: int = 64,
        in_channels: int = 1,
        num_classes: int = 10,
        image_size: int = 32,
        stem: Stem = "7x7",
        bottleneck: bool = True,
        compression: float = 0.5,
        dropout: float = 0.0,
        memory_efficient: bool = False,
        norm_layer: NormLayer = nn.BatchNorm2d,
        act_layer: ActLayer = ReLU,
    ) -> None:
        super().__init__(in_channels, num_classes, image_size)
        _check(layers, stem, image_size)
        check_positive(growth_rate=growth_rate, stem_channels=stem_channels)
        check_range(above=0, at_most=1, compression=compression)
        check_range(at_least=0, below=1, dropout=dropout)
        check_makers(norm_layer=norm_layer, act_layer=act_layer)
        kernel_size, stride, pool = STEMS[stem]
        features: OrderedDict[str, nn.Module] = OrderedDict()
        features["conv0"] = conv(in_channels, stem_channels, kernel_size, stride, mode="fan_in")
        if pool:
            features["norm0"] = norm_layer(stem_channels)
            features["relu0"] = act_layer()
            features["pool0"] = nn.MaxPool2d(3, stride=2, padding=1)
        makers: dict[str, Any] = {"norm_layer": norm_layer, "act_layer": act_layer}
        channels = stem_channels
        for number, depth in enumerate(layers, 1):
            if number > 1:
                transition = Transition(channels, compression, **makers)
                features[f"transition{number - 1}"] = transition
                channels = transition.out_channels
            features[f"denseblock{number}"] = block = DenseBlock(
                channels,
                depth,
                growth_rate,
                bottleneck=bottleneck,
                dropout=dropout,
                memory_efficient=memory_efficient,
                **makers,
            )
            channels = block.out_channels
        features["norm5"] = norm_layer(channels)  # torchvision's name, for any number of blocks
        self.features = nn.Sequential(features)
        self.relu = act_layer()
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.classifier = nn.Linear(channels, num_classes)
        nn.init.zeros_(self.classifier.bias)

    @classmethod
    def small(
        cls, depth: int, growth_rate: int = 12, *, bottleneck: bool = True, **options: Any
    ) -> DenseNet:
        """The paper's network for small images: a 3×3 stem and three blocks of equal depth.

        With bottlenecks, it is a DenseNet-BC: the stem has 2·`growth_rate` channels, and
        `compression` is 0.5. Without, the stem has 16 channels, and `compression` is 1.

        Args:
            depth: Number of layers: 6n + 4 with bottlenecks, else 3n + 4, for n layers per block.
            growth_rate: Number of channels that each layer adds.
            bottleneck: Whether the layers have a 1×1 bottleneck.
            **options: Options of `DenseNet`.

        Raises:
            ValueError: If there is no network of that depth, or an option is out of range.

        Example:
            >>> from mnist_zoo import DenseNet
            >>> len(DenseNet.small(22).features.denseblock1)
            3
        """
        check_positive(depth=depth, growth_rate=growth_rate)
        factor = 6 if bottleneck else 3  # three blocks, 2 or 1 convolutions per layer
        layers_per_block, rest = divmod(depth - 4, factor)
        if rest or layers_per_block < 1:
            raise ValueError(
                f"`depth` (={depth}) must be {factor}n + 4 for a whole n of at least 1"
            )
        settings: dict[str, Any] = {
            "stem": "3x3",
            "stem_channels": 2 * growth_rate if bottleneck else 16,
            "compression": 0.5 if bottleneck else 1.0,
            "image_size": 28,
            **options,
        }
        return cls((layers_per_block,) * 3, growth_rate, bottleneck=bottleneck, **settings)

    @override
    def forward_features(self, x: Tensor) -> Tensor:
        x = self.check_input(x)
        return self.relu(self.features(x))

    @override
    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        x = torch.flatten(self.avgpool(features), 1)
        return x if pre_logits else self.classifier(x)


def _check(layers: Sequence[int], stem: Stem, image_size: int) -> None:
    if not isinstance(layers, (tuple, list)) or not layers:
        raise ValueError(f"`layers` (={layers!r}) must be a non-empty list or tuple")
    for depth in layers:
        check_positive(layers=depth)
    check_choice(stem=(stem, STEMS))
    _, stride, pool = STEMS[stem]
    # each transition halves the size, rounded down; the stem divides it, rounded up
    needed_after_stem = 2 ** (len(layers) - 1)
    smallest = stride * (1 + pool) * (needed_after_stem - 1) + 1
    check_range(at_least=smallest, image_size=image_size)


def _build(
    name: str, make: Callable[..., DenseNet], options: DenseNetOptions, **fixed: Any
) -> DenseNet:
    known = _Options.__annotations__
    return build_variant(name, make, options, known=known, unrecorded="memory_efficient", **fixed)


@keywords_only
def densenet121(
    *,
    weights: WeightsLike = None,
    in_channels: int = 1,
    num_classes: int = 10,
    **options: Unpack[_Options],
) -> DenseNet:
    """DenseNet-121, a DenseNet-BC of growth rate 32, at 32×32: 6,957,834 parameters.

    Args:
        weights: None for random weights; ``"mnist"`` for the zoo's pretrained weights, where
            there are any (see `list_models`); ``"imagenet"`` for torchvision's weights; or a source
            that `from_torchvision` reads.
        in_channels: Channels of the input: 1 for grey images.
        num_classes: Number of logits.
        **options: Options of `DenseNet`: `image_size`, `growth_rate`, `stem_channels`, `stem`,
            `bottleneck`, `compression`, `dropout`, `memory_efficient`, `norm_layer`, `act_layer`.

    Raises:
        TypeError: If an option is unknown.
        ValueError: If an option is out of range, or there are no such weights.
        ConversionError: If `weights` do not fit the network.
        WeightsError: If the file of the weights is damaged.
        FileNotFoundError: If the file does not exist or cannot be downloaded.

    Source:
        Huang et al. 2017, table 1.

    Example:
        >>> from mnist_zoo import densenet121
        >>> densenet121(in_channels=3).input_size
        (3, 32, 32)
    """
    common = FactoryOptions(weights=weights, in_channels=in_channels, num_classes=num_classes)
    return _build(
        "densenet121", DenseNet, {**common, **options}, layers=(6, 12, 24, 16), imagenet=True
    )


@keywords_only
def densenet161(**options: Unpack[DenseNetOptions]) -> DenseNet:
    """DenseNet-161, growth rate 48, at 32×32: 26,484,682 parameters. Options: see `densenet121`.

    Example:
        >>> from mnist_zoo import densenet161
        >>> densenet161().get_classifier().in_features
        2208
    """
    width = {"growth_rate": 48, "stem_channels": 96}
    return _build("densenet161", DenseNet, options, layers=(6, 12, 36, 24), **width, imagenet=True)


@keywords_only
def densenet169(**options: Unpack[DenseNetOptions]) -> DenseNet:
    """DenseNet-169, growth rate 32, at 32×32: 12,494,858 parameters. Options: see `densenet121`.

    Example:
        >>> from mnist_zoo import densenet169
        >>> densenet169().get_classifier().in_features
        1664
    """
    return _build("densenet169", DenseNet, options, layers=(6, 12, 32, 32), imagenet=True)


@keywords_only
def densenet201(**options: Unpack[DenseNetOptions]) -> DenseNet:
    """DenseNet-201, growth rate 32, at 32×32: 18,105,866 parameters. Options: see `densenet121`.

    Example:
        >>> from mnist_zoo import densenet201
        >>> densenet201().get_classifier().in_features
        1920
    """
    return _build("densenet201", DenseNet, options, layers=(6, 12, 48, 32), imagenet=True)


@keywords_only
def densenet40_12(**options: Unpack[DenseNetOptions]) -> DenseNet:
    """The paper's DenseNet with 40 layers and growth rate 12: 1,019,434 parameters.

    Options: see `densenet121`; there are no ImageNet weights. Source: Huang et al. 2017, table 2.

    Example:
        >>> from mnist_zoo import densenet40_12
        >>> densenet40_12().get_classifier().in_features
        448
    """
    return _build("densenet40_12", DenseNet.small, options, depth=40, bottleneck=False)


@keywords_only
def densenet_bc100_12(**options: Unpack[DenseNetOptions]) -> DenseNet:
    """The paper's DenseNet-BC with 100 layers and growth rate 12: 768,730 parameters.

    Options: see `densenet121`; there are no ImageNet weights. Source: Huang et al. 2017, table 2.

    Example:
        >>> from mnist_zoo import densenet_bc100_12
        >>> densenet_bc100_12().get_classifier().in_features
        342
    """
    return _build("densenet_bc100_12", DenseNet.small, options, depth=100)


@keywords_only
def mini_densenet(**options: Unpack[DenseNetOptions]) -> DenseNet:
    """A DenseNet-BC for digits, three blocks of four layers, growth rate 8: 46,394 parameters.

    Options: see `densenet121`; there are no ImageNet weights. Source: our own, after Huang et al.
    2017.

    Example:
        >>> from mnist_zoo import mini_densenet
        >>> mini_densenet().input_size
        (1, 28, 28)
    """
    small: _Options = {"growth_rate": 8, "stem_channels": 16, "stem": "3x3-pool", "image_size": 28}
    return _build("mini_densenet", DenseNet, options, layers=(4, 4, 4), **small)
