"""The ResNets: deep residual networks, their plain twins, and the reports' variants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias, TypedDict

import torch
from torch import Tensor, nn
from typing_extensions import Unpack, override

from .._checks import check_positive, check_range
from .._names import check_choice, check_makers
from ..blocks.layers import ActLayer, NormLayer, ReLU, conv
from ..blocks.residual import BasicBlock, Bottleneck, SeparableBottleneck
from .base import STEMS, Classifier, Stem
from .build import WeightsLike
from .options import FactoryOptions, build_variant, keywords_only

__all__ = [
    "ResNet",
    "ResNetOptions",
    "plain18",
    "plain34",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet50_separable",
    "resnet101",
    "resnet152",
    "resnet_cnn",
    "resnet_cnn_norm",
]

Block: TypeAlias = type[BasicBlock] | type[Bottleneck]


class _Options(TypedDict, total=False):
    image_size: int
    block: Block
    stem: Stem
    residual: bool
    conv_bias: bool
    block_norm: bool
    dropout: float
    zero_init_residual: bool
    norm_layer: NormLayer
    act_layer: ActLayer
    stem_act_layer: ActLayer | None


class ResNetOptions(FactoryOptions, _Options, total=False):
    """The options of every ResNet factory; `resnet18` and `ResNet` explain them.

    Example:
        >>> from mnist_zoo import resnet18
        >>> from mnist_zoo.models import ResNetOptions
        >>> options: ResNetOptions = {"stem": "3x3", "num_classes": 26}
        >>> resnet18(**options).num_classes
        26
    """


_RESNET_CNN: _Options = {
    "stem": "3x3-pool",
    "dropout": 0.3,
    "stem_act_layer": partial(nn.LeakyReLU, 0.01, inplace=True),
}
_PLAIN: _Options = {"residual": False, "image_size": 32}


class ResNet(Classifier):
    """A stem, four stages of residual blocks, global average pooling, one linear layer.

    With three channels, 1000 classes and no other option, it is torchvision's ResNet: the same
    parameter names and the same outputs, bit for bit. It takes images of every size.

    Args:
        block: `BasicBlock`, `Bottleneck`, `SeparableBottleneck`, or a subclass of these.
        layers: Number of blocks in each of the four stages.
        in_channels: Channels of the input.
        num_classes: Number of logits.
        image_size: Height and width in `input_size`; no tensor depends on it.
        stem: ``"7x7"``, a convolution of stride 2 and a 3×3 max-pool of stride 2; ``"3x3"``,
            a convolution of stride 1 alone, for small images; ``"3x3-pool"``, a convolution
            of stride 1 and the max-pool.
        residual: Whether the blocks add their shortcut. If False, the same layers run as a plain
            network, and the layers on the shortcuts are frozen and unused.
        conv_bias: Whether the convolutions have a bias.
        block_norm: Whether a norm follows every block except the first of each stage.
        dropout: Probability of dropout before the linear layer.
        zero_init_residual: Whether the last norm of each block starts at zero, so that each
            block starts as its shortcut; deep networks then learn faster at first
            (Goyal et al. 2017, section 5.1).
        norm_layer: Makes a norm, given the number of channels.
        act_layer: Makes an activation.
        stem_act_layer: Makes the activation of the stem; None for `act_layer`.

    Shape:
        (N, in_channels, H, W) → (N, num_classes); `forward_features` gives
        (N, 512·expansion, ⌈H/32⌉, ⌈W/32⌉); 2 or 4 times as high and wide with the other stems.

    Raises:
        ValueError: If a number is out of range, `stem`, `block` or a layer has another value than
            those above, there are not four stages, or `zero_init_residual` is set for blocks
            without a shortcut or a norm without weights.

    Source:
        He et al. 2015, table 1; the stem ``"3x3"`` comes from its section 4.2.

    Example:
        >>> from mnist_zoo import BasicBlock, ResNet
        >>> ResNet(BasicBlock, (1, 1, 1, 1), stem="3x3").input_size
        (1, 28, 28)
    """

    any_size = True

    def __init__(
        self,
        block: Block,
        layers: Sequence[int],
        *,
        in_channels: int = 1,
        num_classes: int = 10,
        image_size: int = 28,
        stem: Stem = "7x7",
        residual: bool = True,
        conv_bias: bool = False,
        block_norm: bool = False,
        dropout: float = 0.0,
        zero_init_residual: bool = False,
        norm_layer: NormLayer = nn.BatchNorm2d,
        act_layer: ActLayer = ReLU,
        stem_act_layer: ActLayer | None = None,
    ) -> None:
        super().__init__(in_channels, num_classes, image_size)
        _check(block, layers, stem)
        check_range(at_least=0, below=1, dropout=dropout)
        stem_act_layer = act_layer if stem_act_layer is None else stem_act_layer
        check_makers(norm_layer=norm_layer, act_layer=act_layer, stem_act_layer=stem_act_layer)
        kernel_size, stride, pool = STEMS[stem]
        self.conv1 = conv(in_channels, 64, kernel_size, stride, bias=conv_bias)
        self.bn1 = norm_layer(64)
        self.relu = stem_act_layer()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if pool else nn.Identity()

        make_block = partial(
            block,
            residual=residual,
            conv_bias=conv_bias,
            norm_layer=norm_layer,
            act_layer=act_layer,
        )
        widths = [64 * block.expansion * 2**stage for stage in range(4)]
        norm = norm_layer if block_norm else None
        self.layer1 = _stage(make_block, 64, 64, layers[0], stride=1, norm=norm)
        self.layer2 = _stage(make_block, widths[0], 128, layers[1], stride=2, norm=norm)
        self.layer3 = _stage(make_block, widths[1], 256, layers[2], stride=2, norm=norm)
        self.layer4 = _stage(make_block, widths[2], 512, layers[3], stride=2, norm=norm)

        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.dropout = nn.Dropout(dropout) if dropout else None
        self.fc = nn.Linear(widths[3], num_classes)
        if zero_init_residual:
            _zero_last_norms(self, residual)

    @override
    def forward_features(self, x: Tensor) -> Tensor:
        x = self.check_input(x)
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))

    @override
    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        x = torch.flatten(self.avgpool(features), 1)
        if self.dropout is not None:
            x = self.dropout(x)
        return x if pre_logits else self.fc(x)


def _stage(
    make_block: Callable[..., BasicBlock | Bottleneck],
    inplanes: int,
    planes: int,
    depth: int,
    *,
    stride: int,
    norm: NormLayer | None,
) -> nn.Sequential:
    """Blocks of one width: the first has the stride, and the norm follows each of the others."""
    first = make_block(inplanes, planes, stride)
    modules: list[nn.Module] = [first]
    for _ in range(depth - 1):
        modules.append(make_block(first.out_channels, planes))
        if norm is not None:
            modules.append(norm(first.out_channels))
    return nn.Sequential(*modules)


def _zero_last_norms(network: nn.Module, residual: bool) -> None:
    if not residual:
        raise ValueError("`zero_init_residual` (=True) needs `residual` (=False) to be True")
    for block in network.modules():
        if isinstance(block, (BasicBlock, Bottleneck)):
            norm = block.bn3 if isinstance(block, Bottleneck) else block.bn2
            weight = getattr(norm, "weight", None)
            if not isinstance(weight, nn.Parameter):
                raise ValueError(
                    "`zero_init_residual` (=True) needs a `norm_layer` with weights; "
                    f"{type(norm).__name__} has none"
                )
            nn.init.zeros_(weight)


def _check(block: Block, layers: Sequence[int], stem: str) -> None:
    if not (isinstance(block, type) and issubclass(block, (BasicBlock, Bottleneck))):
        raise ValueError(f"`block` (={block!r}) must be BasicBlock, Bottleneck or a subclass")
    if not isinstance(layers, (tuple, list)) or len(layers) != 4:
        raise ValueError(f"`layers` (={layers!r}) must be four numbers of at least 1")
    for depth in layers:
        check_positive(layers=depth)
    check_choice(stem=(stem, STEMS))


def _build(name: str, options: ResNetOptions, **fixed: Any) -> ResNet:
    known, unrecorded = _Options.__annotations__, "zero_init_residual"
    return build_variant(name, ResNet, options, known=known, unrecorded=unrecorded, **fixed)


@keywords_only
def resnet18(
    *,
    weights: WeightsLike = None,
    in_channels: int = 1,
    num_classes: int = 10,
    **options: Unpack[_Options],
) -> ResNet:
    """ResNet-18 on `BasicBlock`: 11,175,370 parameters.

    Args:
        weights: None for random weights; ``"mnist"`` for the zoo's pretrained weights, where
            there are any (see `list_models`); ``"imagenet"`` for torchvision's; or a source that
            `from_torchvision` reads.
        in_channels: Channels of the input: 1 for grey images.
        num_classes: Number of logits.
        **options: Options of `ResNet`: `image_size`, `block`, `stem`, `residual`, `conv_bias`,
            `block_norm`, `dropout`, `zero_init_residual`, `norm_layer`, `act_layer`,
            `stem_act_layer`.

    Raises:
        TypeError: If an option is unknown.
        ValueError: If an option is out of range, or there are no such weights.
        ConversionError: If `weights` do not fit.
        WeightsError: If the file of the weights is damaged.
        FileNotFoundError: If the file does not exist or cannot be downloaded.

    Source:
        He et al. 2015, table 1.

    Example:
        >>> from mnist_zoo import resnet18
        >>> resnet18(stem="3x3", num_classes=26).num_classes
        26
    """
    sizes = FactoryOptions(weights=weights, in_channels=in_channels, num_classes=num_classes)
    return _build(
        "resnet18", {**sizes, **options}, block=BasicBlock, layers=(2, 2, 2, 2), imagenet=True
    )


@keywords_only
def resnet34(**options: Unpack[ResNetOptions]) -> ResNet:
    """ResNet-34 on `BasicBlock`: 21,283,530 parameters. Options: see `resnet18`.

    Example:
        >>> from mnist_zoo import resnet34
        >>> len(resnet34().layer3)
        6
    """
    return _build("resnet34", options, block=BasicBlock, layers=(3, 4, 6, 3), imagenet=True)


@keywords_only
def resnet50(**options: Unpack[ResNetOptions]) -> ResNet:
    """ResNet-50 on `Bottleneck`: 23,522,250 parameters. Options: see `resnet18`.

    Example:
        >>> from mnist_zoo import resnet50
        >>> resnet50().fc.in_features
        2048
    """
    return _build("resnet50", options, block=Bottleneck, layers=(3, 4, 6, 3), imagenet=True)


@keywords_only
def resnet101(**options: Unpack[ResNetOptions]) -> ResNet:
    """ResNet-101 on `Bottleneck`: 42,514,378 parameters. Options: see `resnet18`.

    Example:
        >>> from mnist_zoo import resnet101
        >>> len(resnet101().layer3)
        23
    """
    return _build("resnet101", options, block=Bottleneck, layers=(3, 4, 23, 3), imagenet=True)


@keywords_only
def resnet152(**options: Unpack[ResNetOptions]) -> ResNet:
    """ResNet-152 on `Bottleneck`: 58,158,026 parameters. Options: see `resnet18`.

    Example:
        >>> from mnist_zoo import resnet152
        >>> len(resnet152().layer3)
        36
    """
    return _build("resnet152", options, block=Bottleneck, layers=(3, 8, 36, 3), imagenet=True)


@keywords_only
def resnet50_separable(**options: Unpack[ResNetOptions]) -> ResNet:
    """ResNet-50 on `SeparableBottleneck`, as described in its report: 12,238,986 parameters.

    Options: see `resnet18`; there are no ImageNet weights.

    Example:
        >>> from mnist_zoo import resnet50_separable
        >>> resnet50_separable().layer1[0].conv2.groups
        64
    """
    return _build("resnet50_separable", options, block=SeparableBottleneck, layers=(3, 4, 6, 3))


@keywords_only
def resnet_cnn(**options: Unpack[ResNetOptions]) -> ResNet:
    """The 34-layer ResNet with a 3×3 stem and dropout 0.3: 21,280,970 parameters.

    The activation of the stem is LeakyReLU(0.01), those of the blocks are ReLU.

    Options: see `resnet18`; there are no ImageNet weights.

    Source:
        The report on ResNet_CNN; He et al. 2015, table 1.

    Example:
        >>> from mnist_zoo import resnet_cnn
        >>> resnet_cnn().relu
        LeakyReLU(negative_slope=0.01, inplace=True)
    """
    return _build("resnet_cnn", options, block=BasicBlock, layers=(3, 4, 6, 3), **_RESNET_CNN)


@keywords_only
def resnet_cnn_norm(**options: Unpack[ResNetOptions]) -> ResNet:
    """`resnet_cnn` with a BatchNorm after the later blocks of each stage: 21,286,602 parameters.

    Options and source: see `resnet_cnn`.

    Example:
        >>> from mnist_zoo import resnet_cnn_norm
        >>> [type(module).__name__ for module in resnet_cnn_norm().layer1]
        ['BasicBlock', 'BasicBlock', 'BatchNorm2d', 'BasicBlock', 'BatchNorm2d']
    """
    fixed: _Options = {**_RESNET_CNN, "block_norm": True}
    return _build("resnet_cnn_norm", options, block=BasicBlock, layers=(3, 4, 6, 3), **fixed)


@keywords_only
def plain18(**options: Unpack[ResNetOptions]) -> ResNet:
    """`resnet18` without its residual sums, at 32×32: 11,175,370 parameters, 173,824 of them idle.

    Options: see `resnet18`; there are no ImageNet weights.

    Source:
        He et al. 2015, figure 4 (left).

    Example:
        >>> from mnist_zoo import plain18
        >>> plain18().input_size
        (1, 32, 32)
    """
    return _build("plain18", options, block=BasicBlock, layers=(2, 2, 2, 2), **_PLAIN)


@keywords_only
def plain34(**options: Unpack[ResNetOptions]) -> ResNet:
    """`resnet34` without its residual sums, at 32×32: 21,283,530 parameters, 173,824 of them idle.

    Options and source: see `plain18`.

    Example:
        >>> from mnist_zoo import plain34
        >>> plain34().layer1[0].residual
        False
    """
    return _build("plain34", options, block=BasicBlock, layers=(3, 4, 6, 3), **_PLAIN)
