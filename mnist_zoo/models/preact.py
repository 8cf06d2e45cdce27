"""Pre-activation ResNets, and the other orders and shortcuts of the same paper."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypedDict

import torch
from torch import Tensor, nn
from typing_extensions import Unpack, override

from .._checks import check_positive
from .._names import check_choice, check_makers
from ..blocks.layers import ActLayer, NormLayer, ReLU, conv
from ..blocks.units import Order, ResidualUnit, Shortcut, layers_in_order, leading_kinds
from .base import STEMS, Classifier, Stem
from .build import WeightsLike
from .options import FactoryOptions, build_variant, keywords_only

__all__ = [
    "PreActResNet",
    "PreActResNetOptions",
    "preact_resnet18",
    "preact_resnet20",
    "preact_resnet34",
    "preact_resnet50",
    "preact_resnet110",
    "preact_resnet164",
]


class _Options(TypedDict, total=False):
    image_size: int
    stem: Stem
    order: Order
    shortcut: Shortcut
    norm_layer: NormLayer
    act_layer: ActLayer


class PreActResNetOptions(FactoryOptions, _Options, total=False):
    """The options of every factory here; `preact_resnet18` and `PreActResNet` explain them.

    Example:
        >>> from mnist_zoo import preact_resnet20
        >>> from mnist_zoo.models import PreActResNetOptions
        >>> options: PreActResNetOptions = {"order": "original", "num_classes": 26}
        >>> preact_resnet20(**options).num_classes
        26
    """


class PreActResNet(Classifier):
    """A stem, stages of `ResidualUnit`, global average pooling, one linear layer.

    The stem ends with an activation, which both paths of the first unit share. The layers that an
    order puts before the first convolution of each unit also follow the last unit. The network
    takes images of every size.

    Args:
        layers: Number of units in each stage.
        widths: The `planes` of each stage; the first is also the number of channels of the stem.
            Each stage except the first halves height and width.
        bottleneck: Whether the units are bottlenecks, whose outputs have 4·`planes` channels.
        in_channels: Channels of the input.
        num_classes: Number of logits.
        image_size: Height and width in `input_size`; it does not change the layers.
        stem: ``"7x7"``, a convolution of stride 2 and a 3×3 max-pool of stride 2; ``"3x3"``,
            a convolution of stride 1 alone, for small images; ``"3x3-pool"``, a convolution
            of stride 1 and the max-pool.
        order: Order of the layers in each unit; see `ResidualUnit`.
        shortcut: Kind of shortcut in each unit; see `ResidualUnit`.
        norm_layer: Makes a norm, given the number of channels.
        act_layer: Makes an activation.

    Shape:
        (N, in_channels, H, W) → (N, num_classes). `forward_features` gives (N, C, H', W') with
        the C channels of the last stage; H' = ⌈H/32⌉ and W' = ⌈W/32⌉ for four stages after the
        ``"7x7"`` stem.

    Raises:
        ValueError: If a number is out of range, `layers` and `widths` differ in length, or
            `stem`, `order` or `shortcut` is unknown.

    Source:
        He et al. 2016 (Identity Mappings in Deep Residual Networks); its appendix describes the
        first and the last unit. The stride of a bottleneck is in its 3×3 convolution.

    Example:
        >>> from mnist_zoo import PreActResNet
        >>> PreActResNet((1, 1), (8, 16), stem="3x3").fc.in_features
        16
    """

    any_size = True

    def __init__(
        self,
        layers: Sequence[int],
        widths: Sequence[int] = (64, 128, 256, 512),
        *,
        bottleneck: bool = False,
        in_channels: int = 1,
        num_classes: int = 10,
        image_size: int = 28,
        stem: Stem = "7x7",
        order: Order = "preactivation",
        shortcut: Shortcut = "identity",
        norm_layer: NormLayer = nn.BatchNorm2d,
        act_layer: ActLayer = ReLU,
    ) -> None:
        super().__init__(in_channels, num_classes, image_size)
        _check(layers, widths)
        check_choice(stem=(stem, STEMS))
        check_makers(norm_layer=norm_layer, act_layer=act_layer)
        make_layers = partial(layers_in_order, norm_layer=norm_layer, act_layer=act_layer)
        kernel_size, stride, pool = STEMS[stem]
        channels = widths[0]
        first_conv = conv(in_channels, channels, kernel_size, stride)
        stem_layers = make_layers("conv norm act", in_channels, first_conv)
        if pool:
            stem_layers["pool"] = nn.MaxPool2d(3, stride=2, padding=1)
        self.stem = nn.Sequential(stem_layers)

        make_unit = partial(
            ResidualUnit,
            bottleneck=bottleneck,
            order=order,
            shortcut=shortcut,
            norm_layer=norm_layer,
            act_layer=act_layer,
        )
        stages: OrderedDict[str, nn.Module] = OrderedDict()
        for number, (width, depth) in enumerate(zip(widths, layers, strict=True), 1):
            after_stem = number == 1
            stride = 1 if after_stem else 2
            units = [make_unit(channels, width, stride, activated=after_stem)]
            channels = units[0].out_channels
            units += [make_unit(channels, width) for _ in range(depth - 1)]
            stages[f"stage{number}"] = nn.Sequential(*units)
        self.stages = nn.Sequential(stages)
        self.last = nn.Sequential(make_layers(leading_kinds(order), channels))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(channels, num_classes)

    @classmethod
    def small(
        cls,
        depth: int,
        *,
        bottleneck: bool = False,
        widths: Sequence[int] = (16, 32, 64),
        **options: Any,
    ) -> PreActResNet:
        """The paper's network for small images: a 3×3 stem and three stages of equal depth.

        Args:
            depth: Number of layers: 9n + 2 with bottlenecks, else 6n + 2, for n units per stage.
            bottleneck: Whether the units are bottlenecks.
            widths: The `planes` of the three stages.
            **options: Options of `PreActResNet`.

        Raises:
            ValueError: If there is no network of that depth, or an option is out of range.

        Example:
            >>> from mnist_zoo import PreActResNet
            >>> [len(stage) for stage in PreActResNet.small(14).stages]
            [2, 2, 2]
        """
        check_positive(depth=depth)
        factor = 9 if bottleneck else 6  # three stages, 3 or 2 convolutions per unit
        units_per_stage, rest = divmod(depth - 2, factor)
        if rest or units_per_stage < 1:
            raise ValueError(
                f"`depth` (={depth}) must be {factor}n + 2 for a whole n of at least 1"
            )
        settings: dict[str, Any] = {"stem": "3x3", **options}
        return cls((units_per_stage,) * 3, widths, bottleneck=bottleneck, **settings)

    @override
    def forward_features(self, x: Tensor) -> Tensor:
        x = self.check_input(x)
        return self.last(self.stages(self.stem(x)))

    @override
    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        x = torch.flatten(self.avgpool(features), 1)
        return x if pre_logits else self.fc(x)


def _check(layers: Sequence[int], widths: Sequence[int]) -> None:
    for name, numbers in (("layers", layers), ("widths", widths)):
        if not isinstance(numbers, (tuple, list)) or not numbers:
            raise ValueError(f"`{name}` (={numbers!r}) must be a non-empty list or tuple")
        for number in numbers:
            check_positive(**{name: number})
    if len(layers) != len(widths):
        raise ValueError(f"`layers` (={layers!r}) must be as long as `widths` (={widths!r})")


def _build(
    name: str, make: Callable[..., PreActResNet], options: PreActResNetOptions, **fixed: Any
) -> PreActResNet:
    return build_variant(name, make, options, known=_Options.__annotations__, **fixed)


@keywords_only
def preact_resnet18(
    *,
    weights: WeightsLike = None,
    in_channels: int = 1,
    num_classes: int = 10,
    **options: Unpack[_Options],
) -> PreActResNet:
    """ResNet-18 with full pre-activation: 11,173,578 parameters.

    Args:
        weights: None for random weights; ``"mnist"`` for the zoo's pretrained weights, where
            there are any (see `list_models`); or a source that `from_torchvision` reads.
        in_channels: Channels of the input: 1 for grey images.
        num_classes: Number of logits.
        **options: Options of `PreActResNet`: `image_size`, `stem`, `order`, `shortcut`,
            `norm_layer`, `act_layer`.

    Raises:
        TypeError: If an option is unknown.
        ValueError: If an option is out of range, or there are no such weights.
        ConversionError: If `weights` do not fit the network.
        WeightsError: If the file of the weights is damaged.
        FileNotFoundError: If the file does not exist or cannot be downloaded.

    Source:
        He et al. 2016, with the layers of He et al. 2015, table 1.

    Example:
        >>> from mnist_zoo import preact_resnet18
        >>> preact_resnet18(shortcut="conv").input_size
        (1, 28, 28)
    """
    common = FactoryOptions(weights=weights, in_channels=in_channels, num_classes=num_classes)
    return _build("preact_resnet18", PreActResNet, {**common, **options}, layers=(2, 2, 2, 2))


@keywords_only
def preact_resnet34(**options: Unpack[PreActResNetOptions]) -> PreActResNet:
    """ResNet-34 with full pre-activation: 21,281,738 parameters. Options: see `preact_resnet18`.

    Example:
        >>> from mnist_zoo import preact_resnet34
        >>> [len(stage) for stage in preact_resnet34().stages]
        [3, 4, 6, 3]
    """
    return _build("preact_resnet34", PreActResNet, options, layers=(3, 4, 6, 3))


@keywords_only
def preact_resnet50(**options: Unpack[PreActResNetOptions]) -> PreActResNet:
    """ResNet-50 with full pre-activation: 23,514,570 parameters. Options: see `preact_resnet18`.

    Example:
        >>> from mnist_zoo import preact_resnet50
        >>> preact_resnet50().fc.in_features
        2048
    """
    return _build("preact_resnet50", PreActResNet, options, layers=(3, 4, 6, 3), bottleneck=True)


@keywords_only
def preact_resnet20(**options: Unpack[PreActResNetOptions]) -> PreActResNet:
    """The smallest of the paper's family for small images, at 28×28: 271,994 parameters.

    Options: see `preact_resnet18`. Source: He et al. 2016, with the 20 layers of He et al. 2015,
    section 4.2.

    Example:
        >>> from mnist_zoo import preact_resnet20
        >>> [len(stage) for stage in preact_resnet20().stages]
        [3, 3, 3]
    """
    return _build("preact_resnet20", PreActResNet.small, options, depth=20)


@keywords_only
def preact_resnet110(**options: Unpack[PreActResNetOptions]) -> PreActResNet:
    """The paper's ResNet-110 for small images, with full pre-activation: 1,730,234 parameters.

    Options: see `preact_resnet18`. Source: He et al. 2016, tables 1 and 2; where the number of
    channels changes, the shortcut has a 1×1 convolution.

    Example:
        >>> from mnist_zoo import preact_resnet110
        >>> [len(stage) for stage in preact_resnet110().stages]
        [18, 18, 18]
    """
    return _build("preact_resnet110", PreActResNet.small, options, depth=110)


@keywords_only
def preact_resnet164(**options: Unpack[PreActResNetOptions]) -> PreActResNet:
    """The paper's ResNet-164 for small images, with full pre-activation: 1,702,970 parameters.

    Options: see `preact_resnet18`. Source: He et al. 2016, table 2 and appendix.

    Example:
        >>> from mnist_zoo import preact_resnet164
        >>> preact_resnet164().fc.in_features
        256
    """
    return _build("preact_resnet164", PreActResNet.small, options, depth=164, bottleneck=True)
