"""Pre-activation ResNets, and those of the other orders and shortcuts of the same paper."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import Any, TypedDict

import torch
from torch import Tensor, nn
from typing_extensions import Unpack, override

from .._checks import check_choice, check_makers, check_positive
from ..blocks.layers import ActLayer, NormLayer, ReLU, conv
from ..blocks.units import Order, ResidualUnit, Shortcut, layers_in_order, preactivation
from .base import STEMS, Classifier, Stem
from .build import WeightsLike, build

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


class PreActResNetOptions(TypedDict, total=False):
    """The options of every factory here; `PreActResNet` says what they mean."""

    image_size: int
    stem: Stem
    order: Order
    shortcut: Shortcut
    norm_layer: NormLayer
    act_layer: ActLayer


class PreActResNet(Classifier):
    """A stem, stages of `ResidualUnit`, global average pooling, one linear layer.

    The stem ends in the first activation, before the first unit splits into two paths. What an
    order puts before the first convolution of each unit follows the last one, too. It takes
    pictures of every size.

    Args:
        layers: Number of units in each stage.
        widths: The `planes` of each stage, the first one's also the channels of the stem; each
            stage but the first halves the picture.
        bottleneck: Whether the units are bottlenecks, with four times as many channels outside.
        in_channels: Channels of the input.
        num_classes: Number of logits.
        image_size: Height and width that `input_size` states; no tensor depends on it.
        stem: ``"7x7"``, a convolution of stride 2 and a 3×3 max-pool of stride 2; ``"3x3"``,
            a convolution of stride 1 alone, for small pictures; ``"3x3-pool"``, a
            convolution of stride 1 and the max-pool.
        order: Of the layers in each unit; see `ResidualUnit`.
        shortcut: Of each unit; see `ResidualUnit`.
        norm_layer: Makes the norm for a number of channels.
        act_layer: Makes the activation.

    Shape:
        (N, in_channels, H, W) → (N, num_classes); `forward_features` gives the last stage's
        channels, at ⌈H/32⌉ × ⌈W/32⌉ for four stages behind the ``"7x7"`` stem.

    Raises:
        ValueError: If a number is out of range, there are not as many `layers` as `widths`, or
            `stem`, `order` or `shortcut` is none of these.

    Source:
        He et al. 2016 (Identity Mappings in Deep Residual Networks), with its appendix on the
        first and the last unit. The stride of a bottleneck sits on its 3×3 convolution.
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
        make = partial(layers_in_order, norm_layer=norm_layer, act_layer=act_layer)
        kernel_size, stride, pool = STEMS[stem]
        channels = widths[0]
        first = make("conv norm act", in_channels, conv(in_channels, channels, kernel_size, stride))
        if pool:
            first["pool"] = nn.MaxPool2d(3, stride=2, padding=1)
        self.stem = nn.Sequential(first)

        unit = partial(
            ResidualUnit,
            bottleneck=bottleneck,
            order=order,
            shortcut=shortcut,
            norm_layer=norm_layer,
            act_layer=act_layer,
        )
        stages: OrderedDict[str, nn.Module] = OrderedDict()
        for number, (width, depth) in enumerate(zip(widths, layers, strict=True), 1):
            units = [unit(channels, width, 1 if number == 1 else 2, activated=number == 1)]
            channels = units[0].out_channels
            units += [unit(channels, width) for _ in range(depth - 1)]
            stages[f"stage{number}"] = nn.Sequential(*units)
        self.stages = nn.Sequential(stages)
        self.last = nn.Sequential(make(preactivation(order), channels))
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
        """The paper's network for small pictures: a 3×3 stem and three stages of equal depth.

        Args:
            depth: Number of its layers: 6n + 2, or with bottlenecks 9n + 2, for n units a stage.
            bottleneck: Whether the units are bottlenecks.
            widths: The `planes` of the three stages.
            **options: Those of `PreActResNet`.

        Raises:
            ValueError: If there is no network of that depth, or an option is out of range.
        """
        check_positive(depth=depth)
        layers = 9 if bottleneck else 6
        units, rest = divmod(depth - 2, layers)
        if rest or units < 1:
            raise ValueError(
                f"`depth` (={depth}) must be {layers}n + 2 for a whole n of at least 1"
            )
        settings: dict[str, Any] = {"stem": "3x3", **options}
        return cls((units,) * 3, widths, bottleneck=bottleneck, **settings)

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
            raise ValueError(f"`{name}` (={numbers!r}) must be numbers of at least 1")
        for number in numbers:
            check_positive(**{name: number})
    if len(layers) != len(widths):
        raise ValueError(f"`layers` (={layers!r}) must be as many as `widths` (={widths!r})")


def preact_resnet18(
    *,
    weights: WeightsLike = None,
    in_channels: int = 1,
    num_classes: int = 10,
    **options: Unpack[PreActResNetOptions],
) -> PreActResNet:
    """ResNet-18 with full pre-activation: 11,173,578 parameters.

    Args:
        weights: None for random ones, ``"mnist"`` for ours where they ship (see `list_models`),
            or a source that `from_torchvision` reads.
        in_channels: Channels of the input: 1 for grey pictures.
        num_classes: Number of logits.
        **options: Those of `PreActResNet`.

    Raises:
        ValueError: If an option is out of range.
        ConversionError: If `weights` do not fit.

    Source:
        He et al. 2016, with the layers of He et al. 2015, table 1.
    """
    return build(
        "preact_resnet18",
        partial(PreActResNet, (2, 2, 2, 2)),
        weights,
        known=PreActResNetOptions.__annotations__,
        in_channels=in_channels,
        num_classes=num_classes,
        **options,
    )


def preact_resnet34(
    *,
    weights: WeightsLike = None,
    in_channels: int = 1,
    num_classes: int = 10,
    **options: Unpack[PreActResNetOptions],
) -> PreActResNet:
    """ResNet-34 with full pre-activation: 21,281,738 parameters.

    Arguments, errors and source are those of `preact_resnet18`.
    """
    return build(
        "preact_resnet34",
        partial(PreActResNet, (3, 4, 6, 3)),
        weights,
        known=PreActResNetOptions.__annotations__,
        in_channels=in_channels,
        num_classes=num_classes,
        **options,
    )


def preact_resnet50(
    *,
    weights: WeightsLike = None,
    in_channels: int = 1,
    num_classes: int = 10,
    **options: Unpack[PreActResNetOptions],
) -> PreActResNet:
    """ResNet-50 with full pre-activation: 23,514,570 parameters.

    Arguments, errors and source are those of `preact_resnet18`.
    """
    return build(
        "preact_resnet50",
        partial(PreActResNet, (3, 4, 6, 3), bottleneck=True),
        weights,
        known=PreActResNetOptions.__annotations__,
        in_channels=in_channels,
        num_classes=num_classes,
        **options,
    )


def preact_resnet20(
    *,
    weights: WeightsLike = None,
    in_channels: int = 1,
    num_classes: int = 10,
    **options: Unpack[PreActResNetOptions],
) -> PreActResNet:
    """The smallest of the paper's family for small pictures, at 28×28: 271,994 parameters.

    Arguments and errors are those of `preact_resnet18`.

    Source:
        He et al. 2016, with the 20 layers of He et al. 2015, section 4.2.
    """
    return build(
        "preact_resnet20",
        partial(PreActResNet.small, 20),
        weights,
        known=PreActResNetOptions.__annotations__,
        in_channels=in_channels,
        num_classes=num_classes,
        **options,
    )


def preact_resnet110(
    *,
    weights: WeightsLike = None,
    in_channels: int = 1,
    num_classes: int = 10,
    **options: Unpack[PreActResNetOptions],
) -> PreActResNet:
    """The paper's ResNet-110 for small pictures, with full pre-activation: 1,730,234 parameters.

    Arguments and errors are those of `preact_resnet18`.

    Source:
        He et al. 2016, tables 1 and 2; where the channels change, a 1×1 convolution is on the
        shortcut.
    """
    return build(
        "preact_resnet110",
        partial(PreActResNet.small, 110),
        weights,
        known=PreActResNetOptions.__annotations__,
        in_channels=in_channels,
        num_classes=num_classes,
        **options,
    )


def preact_resnet164(
    *,
    weights: WeightsLike = None,
    in_channels: int = 1,
    num_classes: int = 10,
    **options: Unpack[PreActResNetOptions],
) -> PreActResNet:
    """The paper's ResNet-164 for small pictures, with full pre-activation: 1,702,970 parameters.

    Arguments and errors are those of `preact_resnet18`.

    Source:
        He et al. 2016, table 2 and appendix.
    """
    return build(
        "preact_resnet164",
        partial(PreActResNet.small, 164, bottleneck=True),
        weights,
        known=PreActResNetOptions.__annotations__,
        in_channels=in_channels,
        num_classes=num_classes,
        **options,
    )
