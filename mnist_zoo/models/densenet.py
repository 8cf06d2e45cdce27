"""The DenseNets: torchvision's, the paper's for small pictures, and one for digits."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypedDict

import torch
from torch import Tensor, nn
from typing_extensions import Unpack, override

from .._checks import check_choice, check_compression, check_dropout, check_makers, check_positive
from ..blocks.dense import DenseBlock, Transition
from ..blocks.layers import ActLayer, NormLayer, ReLU, conv
from .base import STEMS, Classifier, Stem
from .build import WeightsLike, build

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


class DenseNetOptions(TypedDict, total=False):
    """The options of every DenseNet factory; `DenseNet` says what they mean."""

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


class DenseNet(Classifier):
    """A stem, dense blocks with transitions between them, global average pooling, a linear layer.

    With three channels, 1000 classes and no option `densenet121` and its like are torchvision's,
    name for name and bit for bit. It takes pictures of every size from the smallest that
    leaves a pixel behind each transition: 29 for four blocks behind the ``"7x7"`` stem.

    Args:
        layers: Number of layers in each dense block.
        growth_rate: Channels that each layer adds.
        stem_channels: Channels of the stem.
        in_channels: Channels of the input.
        num_classes: Number of logits.
        image_size: Height and width that `input_size` states; no tensor depends on it.
        stem: ``"7x7"``, a convolution of stride 2, norm, activation, and a 3×3 max-pool of stride
            2; ``"3x3"``, a convolution of stride 1 alone, for small pictures; ``"3x3-pool"``, a
            convolution of stride 1, norm, activation and the max-pool.
        bottleneck: Whether the layers have a 1×1 bottleneck (DenseNet-B).
        compression: Part of the channels that each transition leaves: below 1 in DenseNet-C.
        dropout: Probability of dropout at the end of each layer.
        memory_efficient: Whether training computes the inside of the layers again for the
            backward pass instead of keeping it; see `DenseBlock`.
        norm_layer: Makes the norm for a number of channels.
        act_layer: Makes the activation.

    Shape:
        (N, in_channels, H, W) → (N, num_classes); `forward_features` gives (N, C, H', W') with
        about H/32 for four blocks behind the ``"7x7"`` stem, and C = 1024 in `densenet121`.

    Raises:
        ValueError: If a number is out of range, `layers` is no sequence of them, `stem` is none
            of these, or `image_size` leaves no pixel.

    Source:
        Huang et al. 2017 (Densely Connected Convolutional Networks), table 1 and section 4.2.
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
        check_compression(compression)
        check_dropout(dropout)
        check_makers(norm_layer=norm_layer, act_layer=act_layer)
        kernel_size, stride, pool = STEMS[stem]
        features: OrderedDict[str, nn.Module] = OrderedDict()
        features["conv0"] = conv(in_channels, stem_channels, kernel_size, stride, mode="fan_in")
        if pool:
            features["norm0"] = norm_layer(stem_channels)
            features["relu0"] = act_layer()
            features["pool0"] = nn.MaxPool2d(3, stride=2, padding=1)
        channels = stem_channels
        for number, depth in enumerate(layers, 1):
            if number > 1:
                transition = Transition(
                    channels, compression, norm_layer=norm_layer, act_layer=act_layer
                )
                features[f"transition{number - 1}"] = transition
                channels = transition.out_channels
            block = DenseBlock(
                channels,
                depth,
                growth_rate,
                bottleneck=bottleneck,
                dropout=dropout,
                memory_efficient=memory_efficient,
                norm_layer=norm_layer,
                act_layer=act_layer,
            )
            features[f"denseblock{number}"] = block
            channels = block.out_channels
        features["norm5"] = norm_layer(channels)  # torchvision's name, whatever the blocks
        self.features = nn.Sequential(features)
        self.relu = act_layer()
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.classifier = nn.Linear(channels, num_classes)
        nn.init.zeros_(self.classifier.bias)

    @classmethod
    def small(
        cls, depth: int, growth_rate: int = 12, *, bottleneck: bool = True, **options: Any
    ) -> DenseNet:
        """The paper's network for small pictures: a 3×3 stem and three blocks of equal depth.

        With bottlenecks it is a DenseNet-BC: a stem of twice the growth rate, compression 0.5.
        Without, the stem has 16 channels and the transitions leave all.

        Args:
            depth: Number of its layers: 3n + 4, or with bottlenecks 6n + 4, for n layers a block.
            growth_rate: Channels that each layer adds.
            bottleneck: Whether the layers have a 1×1 bottleneck.
            **options: Those of `DenseNet`.

        Raises:
            ValueError: If there is no network of that depth, or an option is out of range.
        """
        check_positive(depth=depth, growth_rate=growth_rate)
        convs = 6 if bottleneck else 3
        layers, rest = divmod(depth - 4, convs)
        if rest or layers < 1:
            raise ValueError(f"`depth` (={depth}) must be {convs}n + 4 for a whole n of at least 1")
        settings: dict[str, Any] = {
            "stem": "3x3",
            "stem_channels": 2 * growth_rate if bottleneck else 16,
            "compression": 0.5 if bottleneck else 1.0,
            "image_size": 28,
            **options,
        }
        return cls((layers,) * 3, growth_rate, bottleneck=bottleneck, **settings)

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
        raise ValueError(f"`layers` (={layers!r}) must be numbers of at least 1")
    for depth in layers:
        check_positive(layers=depth)
    check_choice(stem=(stem, STEMS))
    _, stride, pool = STEMS[stem]
    smallest = stride * (1 + pool) * (2 ** (len(layers) - 1) - 1) + 1
    if image_size < smallest:
        raise ValueError(f"`image_size` (={image_size}) must be at least {smallest}")


def _build(
    name: str,
    make: Callable[..., DenseNet],
    weights: WeightsLike,
    sizes: tuple[int, int],
    options: DenseNetOptions,
    *,
    imagenet: bool = False,
) -> DenseNet:
    """The DenseNet of that name."""
    in_channels, num_classes = sizes
    # It says what training keeps, not what the network is: files and records leave it out.
    memory_efficient = options.pop("memory_efficient", False)
    return build(
        name,
        partial(make, memory_efficient=memory_efficient),
        weights,
        imagenet=imagenet,
        known=DenseNetOptions.__annotations__,
        in_channels=in_channels,
        num_classes=num_classes,
        **options,
    )


def densenet121(
    *,
    weights: WeightsLike = None,
    in_channels: int = 1,
    num_classes: int = 10,
    **options: Unpack[DenseNetOptions],
) -> DenseNet:
    """DenseNet-121, a DenseNet-BC of growth rate 32, at 32×32: 6,957,834 parameters.

    Args:
        weights: None for random ones, ``"mnist"`` for ours where they ship (see `list_models`),
            ``"imagenet"`` for torchvision's, or a source that `from_torchvision` reads.
        in_channels: Channels of the input: 1 for grey pictures.
        num_classes: Number of logits.
        **options: Those of `DenseNet`.

    Raises:
        ValueError: If an option is out of range.
        ConversionError: If `weights` do not fit.

    Source:
        Huang et al. 2017, table 1.
    """
    return _build(
        "densenet121",
        partial(DenseNet, (6, 12, 24, 16)),
        weights,
        (in_channels, num_classes),
        options,
        imagenet=True,
    )


def densenet161(
    *,
    weights: WeightsLike = None,
    in_channels: int = 1,
    num_classes: int = 10,
    **options: Unpack[DenseNetOptions],
) -> DenseNet:
    """DenseNet-161, a DenseNet-BC of growth rate 48, at 32×32: 26,484,682 parameters.

    Arguments, errors and source are those of `densenet121`.
    """
    return _build(
        "densenet161",
        partial(DenseNet, (6, 12, 36, 24), growth_rate=48, stem_channels=96),
        weights,
        (in_channels, num_classes),
        options,
        imagenet=True,
    )


def densenet169(
    *,
    weights: WeightsLike = None,
    in_channels: int = 1,
    num_classes: int = 10,
    **options: Unpack[DenseNetOptions],
) -> DenseNet:
    """DenseNet-169, a DenseNet-BC of growth rate 32, at 32×32: 12,494,858 parameters.

    Arguments, errors and source are those of `densenet121`.
    """
    return _build(
        "densenet169",
        partial(DenseNet, (6, 12, 32, 32)),
        weights,
        (in_channels, num_classes),
        options,
        imagenet=True,
    )


def densenet201(
    *,
    weights: WeightsLike = None,
    in_channels: int = 1,
    num_classes: int = 10,
    **options: Unpack[DenseNetOptions],
) -> DenseNet:
    """DenseNet-201, a DenseNet-BC of growth rate 32, at 32×32: 18,105,866 parameters.

    Arguments, errors and source are those of `densenet121`.
    """
    return _build(
        "densenet201",
        partial(DenseNet, (6, 12, 48, 32)),
        weights,
        (in_channels, num_classes),
        options,
        imagenet=True,
    )


def densenet40_12(
    *,
    weights: WeightsLike = None,
    in_channels: int = 1,
    num_classes: int = 10,
    **options: Unpack[DenseNetOptions],
) -> DenseNet:
    """The paper's DenseNet of 40 layers and growth rate 12: 1,019,434 parameters.

    Arguments and errors are those of `densenet121`; there are no ImageNet weights.

    Source:
        Huang et al. 2017, table 2.
    """
    return _build(
        "densenet40_12",
        partial(DenseNet.small, 40, bottleneck=False),
        weights,
        (in_channels, num_classes),
        options,
    )


def densenet_bc100_12(
    *,
    weights: WeightsLike = None,
    in_channels: int = 1,
    num_classes: int = 10,
    **options: Unpack[DenseNetOptions],
) -> DenseNet:
    """The paper's DenseNet-BC of 100 layers and growth rate 12: 768,730 parameters.

    Arguments and errors are those of `densenet121`; there are no ImageNet weights.

    Source:
        Huang et al. 2017, table 2.
    """
    return _build(
        "densenet_bc100_12",
        partial(DenseNet.small, 100),
        weights,
        (in_channels, num_classes),
        options,
    )


def mini_densenet(
    *,
    weights: WeightsLike = None,
    in_channels: int = 1,
    num_classes: int = 10,
    **options: Unpack[DenseNetOptions],
) -> DenseNet:
    """A DenseNet-BC for digits, three blocks of four layers, growth rate 8: 46,394 parameters.

    Arguments and errors are those of `densenet121`; there are no ImageNet weights.

    Source:
        Ours, after Huang et al. 2017.
    """
    return _build(
        "mini_densenet",
        partial(
            DenseNet,
            (4, 4, 4),
            growth_rate=8,
            stem_channels=16,
            stem="3x3-pool",
            image_size=28,
        ),
        weights,
        (in_channels, num_classes),
        options,
    )
