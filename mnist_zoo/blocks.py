"""Composable building blocks: residual units, dense blocks, and the Inception module.

Every block maps a batch of feature maps ``(N, C, H, W)`` to another, and knows
its ``out_channels``, so that blocks chain::

    nn.Sequential(ResidualBlock(16), ResidualBlock(16, 32, stride=2), InceptionA(32))
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar, Literal, TypeAlias, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint

from ._checks import check_choice, check_compression, check_dropout, check_positive

__all__ = [
    "BasicBlock",
    "Bottleneck",
    "DenseBlock",
    "DenseLayer",
    "InceptionA",
    "ResidualBlock",
    "ResidualUnit",
    "SeparableBottleneck",
    "Transition",
]

NormLayer = Callable[[int], nn.Module]
ActLayer = Callable[[], nn.Module]
ReLU: ActLayer = partial(nn.ReLU, inplace=True)


# Every random initialisation ends in one of the first two, or is dispatched before it gets there.
_RANDOM_INIT = frozenset(
    [
        Tensor.normal_,
        Tensor.uniform_,
        nn.init.normal_,
        nn.init.uniform_,
        nn.init.kaiming_normal_,
        nn.init.kaiming_uniform_,
    ]
)


class no_random_init(TorchFunctionMode):  # noqa: N801  (a context manager, named like torch's)
    """Builds modules without drawing random weights, for those about to be overwritten.

    Constant initialisation (BatchNorm's ones and zeros) still happens.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in _RANDOM_INIT:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def conv(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    stride: int = 1,
    *,
    groups: int = 1,
    dilation: int = 1,
    bias: bool = False,
    mode: Literal["fan_in", "fan_out"] = "fan_out",
) -> nn.Conv2d:
    """A convolution that keeps the size (but for its stride), with He et al. 2015's weights.

    The weights are torchvision's: normal, gain of ReLU, fan out in its ResNets and fan in in
    its DenseNets; drawn once, where ``nn.Conv2d`` followed by ``kaiming_normal_`` draws twice.
    A bias starts at zero.
    """
    with no_random_init():
        layer = nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding=dilation * (kernel_size // 2),
            dilation=dilation,
            groups=groups,
            bias=bias,
        )
    nn.init.kaiming_normal_(layer.weight, mode=mode, nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions with bias and no norm: ``relu(conv2(relu(conv1(x))) + shortcut(x))``.

    The shortcut is the identity; where the shape changes it is a 1×1 convolution
    (He et al. 2015, section 3.3, option B).

    Args:
        in_channels: Channels C of the input.
        out_channels: Channels of the output; by default those of the input.
        stride: Stride of the first convolution and of the shortcut.

    Shape:
        (N, C, H, W) → (N, out_channels, ⌈H/stride⌉, ⌈W/stride⌉).

    Raises:
        ValueError: If a channel count or the stride is less than 1.

    Source:
        The residual block of the report's simple ResNet; He et al. 2015, figure 2.
    """

    def __init__(self, in_channels: int, out_channels: int | None = None, stride: int = 1) -> None:
        super().__init__()
        out_channels = in_channels if out_channels is None else out_channels
        check_positive(in_channels=in_channels, out_channels=out_channels, stride=stride)
        self.out_channels = out_channels
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Conv2d(in_channels, out_channels, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Maps feature maps (N, C, H, W) to others; the class tells their shape."""
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.conv2(F.relu(self.conv1(x)))
        return F.relu(out + shortcut)


def _downsample(
    in_channels: int,
    out_channels: int,
    stride: int,
    *,
    residual: bool,
    conv_bias: bool,
    norm_layer: NormLayer,
) -> nn.Sequential | None:
    """The 1×1 projection on the shortcut where the shape changes, else None (the identity).

    A plain block (``residual=False``) has it too, so that both forms of a network
    share one checkpoint layout, but never runs it: it is frozen, or optimisers would
    decay it and DistributedDataParallel would wait for its gradient.
    """
    if stride == 1 and in_channels == out_channels:
        return None
    projection = nn.Sequential(
        conv(in_channels, out_channels, 1, stride, bias=conv_bias), norm_layer(out_channels)
    )
    return projection.requires_grad_(bool(residual))


class BasicBlock(nn.Module):
    """Two 3×3 convolutions, each with a norm, and a residual sum: torchvision's, name for name.

    Args:
        inplanes: Channels C of the input.
        planes: Channels of the output.
        stride: Stride of the first convolution and of the shortcut.
        residual: Whether the shortcut is added. Without it the same layers run as a
            plain network; the shortcut's layers exist, frozen and unused.
        conv_bias: Whether the convolutions have a bias.
        norm_layer: Makes the norm for a number of channels.
        act_layer: Makes the activation.

    Shape:
        (N, inplanes, H, W) → (N, planes, ⌈H/stride⌉, ⌈W/stride⌉).

    Raises:
        ValueError: If a channel count or the stride is less than 1.

    Source:
        He et al. 2015, figure 5 (left); ``torchvision.models.resnet.BasicBlock``.
    """

    expansion: ClassVar[int] = 1

    def __init__(
        self,
        inplanes: int,
        planes: int,
        stride: int = 1,
        *,
        residual: bool = True,
        conv_bias: bool = False,
        norm_layer: NormLayer = nn.BatchNorm2d,
        act_layer: ActLayer = ReLU,
    ) -> None:
        super().__init__()
        check_positive(inplanes=inplanes, planes=planes, stride=stride)
        self.out_channels = planes
        self.residual = residual
        self.conv1 = conv(inplanes, planes, 3, stride, bias=conv_bias)
        self.bn1 = norm_layer(planes)
        self.relu = act_layer()
        self.conv2 = conv(planes, planes, 3, bias=conv_bias)
        self.bn2 = norm_layer(planes)
        self.downsample = _downsample(
            inplanes,
            planes,
            stride,
            residual=residual,
            conv_bias=conv_bias,
            norm_layer=norm_layer,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps feature maps (N, C, H, W) to others; the class tells their shape."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.residual:
            out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolutions, each with a norm, and a residual sum: torchvision's.

    The stride sits on the 3×3 convolution, as in torchvision (ResNet v1.5).

    Args:
        inplanes: Channels C of the input.
        planes: A quarter (``1 / expansion``) of the channels of the output.
        stride: Stride of the 3×3 convolution and of the shortcut.
        groups: Groups of the 3×3 convolution (ResNeXt, Xie et al. 2017).
        base_width: Channels of each group of the 3×3 convolution where ``planes`` is 64.
        dilation: Dilation of the 3×3 convolution.
        residual: Whether the shortcut is added; see `BasicBlock`.
        conv_bias: Whether the convolutions have a bias.
        norm_layer: Makes the norm for a number of channels.
        act_layer: Makes the activation.

    Shape:
        (N, inplanes, H, W) → (N, 4·planes, ⌈H/stride⌉, ⌈W/stride⌉).

    Raises:
        ValueError: If a number is less than 1, or leaves the 3×3 convolution no channel.

    Source:
        He et al. 2015, figure 5 (right); ``torchvision.models.resnet.Bottleneck``.
    """

    expansion: ClassVar[int] = 4
    depthwise: ClassVar[bool] = False

    def __init__(
        self,
        inplanes: int,
        planes: int,
        stride: int = 1,
        *,
        groups: int = 1,
        base_width: int = 64,
        dilation: int = 1,
        residual: bool = True,
        conv_bias: bool = False,
        norm_layer: NormLayer = nn.BatchNorm2d,
        act_layer: ActLayer = ReLU,
    ) -> None:
        super().__init__()
        check_positive(
            inplanes=inplanes,
            planes=planes,
            stride=stride,
            groups=groups,
            base_width=base_width,
            dilation=dilation,
        )
        if self.depthwise and groups != 1:
            raise ValueError(f"`groups` (={groups}) must be 1: one group a channel it is already")
        width = planes * base_width // 64 * groups
        if width == 0:
            raise ValueError(
                f"`base_width` (={base_width}) times `planes` (={planes}) must be at least 64"
            )
        self.out_channels = planes * self.expansion
        self.residual = residual
        self.conv1 = conv(inplanes, width, 1, bias=conv_bias)
        self.bn1 = norm_layer(width)
        self.conv2 = conv(
            width,
            width,
            3,
            stride,
            groups=width if self.depthwise else groups,
            dilation=dilation,
            bias=conv_bias,
        )
        self.bn2 = norm_layer(width)
        self.conv3 = conv(width, self.out_channels, 1, bias=conv_bias)
        self.bn3 = norm_layer(self.out_channels)
        self.relu = act_layer()
        self.downsample = _downsample(
            inplanes,
            self.out_channels,
            stride,
            residual=residual,
            conv_bias=conv_bias,
            norm_layer=norm_layer,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps feature maps (N, C, H, W) to others; the class tells their shape."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        if self.residual:
            out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


class SeparableBottleneck(Bottleneck):
    """A `Bottleneck` whose 3×3 convolution is depthwise: one group a channel.

    The 1×1 convolution prepares the channels; the depthwise 3×3 and the 1×1
    convolution after it (pointwise) are a depthwise-separable convolution.
    Arguments and errors are those of `Bottleneck`; `groups` must be 1.

    Shape:
        That of `Bottleneck`.

    Source:
        The separable bottleneck that the ResNet-50 report describes; Howard et al. 2017
        (MobileNets), section 3.1.
    """

    depthwise: ClassVar[bool] = True


Order: TypeAlias = Literal[
    "original",
    "norm_after_addition",
    "act_before_addition",
    "act_only_preactivation",
    "preactivation",
]
Shortcut: TypeAlias = Literal[
    "identity",
    "scaling",
    "shortcut_scaling",
    "residual_scaling",
    "exclusive_gating",
    "shortcut_gating",
    "conv",
    "dropout",
]

# order: what each convolution but the last stands among, what the last one, what follows the sum
ORDERS: dict[Order, tuple[str, str, str]] = {
    "original": ("conv norm act", "conv norm", "act"),
    "norm_after_addition": ("conv norm act", "conv", "norm act"),
    "act_before_addition": ("conv norm act", "conv norm act", ""),
    "act_only_preactivation": ("act conv norm", "act conv norm", ""),
    "preactivation": ("norm act conv", "norm act conv", ""),
}
# what the residual and the shortcut are multiplied by
SCALES: dict[str, tuple[float, float]] = {
    "scaling": (0.5, 0.5),
    "shortcut_scaling": (1.0, 0.5),
    "residual_scaling": (0.5, 1.0),
}
# whether the gate is on the residual, too
GATES = {"exclusive_gating": True, "shortcut_gating": False}
GATE_BIAS = -6.0
SHORTCUTS: tuple[Shortcut, ...] = get_args(Shortcut)


def preactivation(order: Order) -> str:
    """What stands before the first convolution of a unit, and behind a network's last unit."""
    return ORDERS[order][0].partition("conv")[0].strip()


def layers_in_order(
    kinds: str,
    channels: int,
    layer: nn.Conv2d | None = None,
    *,
    norm_layer: NormLayer,
    act_layer: ActLayer,
) -> OrderedDict[str, nn.Module]:
    """Modules by their kinds: "norm", "act", and "conv", the convolution given.

    Args:
        kinds: The kinds in order, such as ``"norm act conv"``.
        channels: Channels of the input.
        layer: The convolution, where there is one.
        norm_layer: Makes the norm for a number of channels.
        act_layer: Makes the activation.
    """
    made: OrderedDict[str, nn.Module] = OrderedDict()
    for kind in kinds.split():
        if kind == "conv" and layer is not None:
            made[kind], channels = layer, layer.out_channels
        else:
            made[kind] = norm_layer(channels) if kind == "norm" else act_layer()
    return made


class Ordered(nn.Sequential):
    """Layers in a row whose order TorchScript sees.

    It compiles modules of equal names and types once, whatever their order.
    """

    __constants__ = ("order",)

    def __init__(self, layers: OrderedDict[str, nn.Module]) -> None:
        super().__init__(layers)
        self.order = " ".join(layers)


class ScaledSum(nn.Module):
    """The residual and the shortcut, each times a constant."""

    def __init__(self, residual: float, shortcut: float) -> None:
        super().__init__()
        self.residual = residual
        self.shortcut = shortcut

    def forward(self, x: Tensor, residual: Tensor, shortcut: Tensor) -> Tensor:
        """Maps the two, and the unit's input x, which does not count, to their sum."""
        return self.residual * residual + self.shortcut * shortcut


class GatedSum(nn.Module):
    """The shortcut times 1 - g(x), and the residual, times g(x) where the gate is exclusive.

    The gate g is a 1×1 convolution and a sigmoid. Its bias starts at -6, the best of those that
    the paper tried, so that the shortcut is all but open.
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, *, exclusive: bool
    ) -> None:
        super().__init__()
        self.exclusive = exclusive
        self.gate = conv(in_channels, out_channels, 1, stride, bias=True)
        nn.init.constant_(self.gate.get_parameter("bias"), GATE_BIAS)

    def forward(self, x: Tensor, residual: Tensor, shortcut: Tensor) -> Tensor:
        """Maps the two, and the unit's input x, to their gated sum."""
        gate = torch.sigmoid(self.gate(x))
        if self.exclusive:
            residual = gate * residual
        return residual + (1 - gate) * shortcut


class ResidualUnit(nn.Module):
    """A residual unit of any order of its layers, with any shortcut.

    ``after(merge(branch(before(x)), shortcut(before(x))))``: the merging is a sum, plain, scaled
    or gated. ``before`` holds what both paths share: an order that begins with an activation
    begins so on the shortcut, too, where that has a convolution.

    Args:
        inplanes: Channels C of the input.
        planes: Channels of the output, or a quarter of them in a bottleneck.
        stride: Stride of the (first) 3×3 convolution and of the shortcut.
        bottleneck: Whether the convolutions are 1×1, 3×3 and 1×1 instead of two of 3×3.
        order: ``"original"``, conv-norm-act-conv-norm, sum, act, which is `BasicBlock` or
            `Bottleneck`; ``"norm_after_addition"``, whose last norm follows the sum;
            ``"act_before_addition"``, whose last activation precedes it;
            ``"act_only_preactivation"``, act-conv-norm twice; ``"preactivation"``, norm-act-conv
            twice.
        shortcut: ``"identity"``; ``"scaling"``, the shortcut and the residual times 0.5;
            ``"shortcut_scaling"`` and ``"residual_scaling"``, one of the two times 0.5;
            ``"exclusive_gating"``, the shortcut times 1 - g(x) and the residual times g(x) for a
            learnt gate g; ``"shortcut_gating"``, the shortcut alone times 1 - g(x); ``"conv"``, a
            1×1 convolution; ``"dropout"``, dropout of 0.5. Where the shape changes, all of them
            have the 1×1 convolution. It has a norm in the orders whose residual ends behind one.
        activated: Whether the input comes activated, as behind a stem: an order that begins with
            an activation then leaves that out.
        norm_layer: Makes the norm for a number of channels.
        act_layer: Makes the activation.

    Attributes:
        expansion: Channels of the output for one of `planes`.
        out_channels: Channels of the output.

    Shape:
        (N, inplanes, H, W) → (N, planes·expansion, ⌈H/stride⌉, ⌈W/stride⌉).

    Raises:
        ValueError: If a channel count or the stride is less than 1, or `order` or `shortcut` is
            none of these.

    Source:
        He et al. 2016 (Identity Mappings in Deep Residual Networks): the orders of figure 4, the
        shortcuts of figure 2 and table 1, the shared activation of its appendix. Scaling the
        residual alone is not in it.
    """

    def __init__(
        self,
        inplanes: int,
        planes: int,
        stride: int = 1,
        *,
        bottleneck: bool = False,
        order: Order = "original",
        shortcut: Shortcut = "identity",
        activated: bool = False,
        norm_layer: NormLayer = nn.BatchNorm2d,
        act_layer: ActLayer = ReLU,
    ) -> None:
        super().__init__()
        check_positive(inplanes=inplanes, planes=planes, stride=stride)
        check_choice(order=(order, ORDERS), shortcut=(shortcut, SHORTCUTS))
        self.expansion = Bottleneck.expansion if bottleneck else BasicBlock.expansion
        self.out_channels = planes * self.expansion
        kinds, last, after = ORDERS[order]
        make = partial(layers_in_order, norm_layer=norm_layer, act_layer=act_layer)

        branch: OrderedDict[str, nn.Module] = OrderedDict()
        convs = _convs(inplanes, planes, stride, bottleneck)
        for number, layer in enumerate(convs, 1):
            made = make(last if number == len(convs) else kinds, layer.in_channels, layer)
            branch.update((f"{kind}{number}", module) for kind, module in made.items())
        lead = OrderedDict((f"{k}1", branch.pop(f"{k}1")) for k in preactivation(order).split())
        for module in lead.values():
            if getattr(module, "inplace", False):  # it would change the shortcut's input, too
                vars(module)["inplace"] = False
        if activated:
            lead.clear()

        path: OrderedDict[str, nn.Module] = OrderedDict()
        if shortcut == "conv" or stride != 1 or inplanes != self.out_channels:
            normed = "norm" in last.partition("conv")[2]
            layer = conv(inplanes, self.out_channels, 1, stride)
            path = make("conv norm" if normed else "conv", inplanes, layer)
        else:  # the lead is the branch's alone
            branch = OrderedDict({**lead, **branch})
            lead.clear()
        if shortcut == "dropout":
            path["dropout"] = nn.Dropout(0.5)

        self.before = nn.Sequential(lead)
        self.branch = Ordered(branch)
        self.shortcut = nn.Sequential(path)
        self.merge = _merge(shortcut, inplanes, self.out_channels, stride)
        self.after = nn.Sequential(make(after, self.out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """Maps feature maps (N, C, H, W) to others; the class tells their shape."""
        x = self.before(x)
        residual, shortcut = self.branch(x), self.shortcut(x)
        merged = residual + shortcut if self.merge is None else self.merge(x, residual, shortcut)
        return self.after(merged)


def _convs(inplanes: int, planes: int, stride: int, bottleneck: bool) -> list[nn.Conv2d]:
    """The convolutions of a residual branch."""
    if not bottleneck:
        return [conv(inplanes, planes, 3, stride), conv(planes, planes, 3)]
    outside = planes * Bottleneck.expansion
    return [conv(inplanes, planes, 1), conv(planes, planes, 3, stride), conv(planes, outside, 1)]


def _merge(
    shortcut: Shortcut, in_channels: int, out_channels: int, stride: int
) -> nn.Module | None:
    """What adds the shortcut to the residual, unless they are just added."""
    if shortcut in SCALES:
        return ScaledSum(*SCALES[shortcut])
    if shortcut in GATES:
        return GatedSum(in_channels, out_channels, stride, exclusive=GATES[shortcut])
    return None


class InceptionA(nn.Module):
    """Four parallel branches that keep the size, concatenated over the channels.

    In this order: 1×1; 1×1 then 5×5; 1×1 then 3×3 then 3×3; 3×3 average pool then 1×1.
    All convolutions have a bias; there is no norm and no activation inside.

    Args:
        in_channels: Channels C of the input.
        branch1x1: Channels of the first branch.
        branch5x5: Channels of the second branch's two convolutions.
        branch3x3: Channels of the third branch's three convolutions.
        branch_pool: Channels of the fourth branch.

    Shape:
        (N, C, H, W) → (N, out_channels, H, W), where ``out_channels`` is the sum of the
        branches' last channels: 16 + 24 + 24 + 24 = 88 by default.

    Raises:
        ValueError: If a number of channels is less than 1, or a branch has too many or few.

    Source:
        The report's simple GoogLeNet, after Szegedy et al. 2015 (Inception v3), figure 5.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        branch1x1: int = 16,
        branch5x5: tuple[int, int] = (16, 24),
        branch3x3: tuple[int, int, int] = (16, 24, 24),
        branch_pool: int = 24,
    ) -> None:
        super().__init__()
        check_positive(in_channels=in_channels, branch1x1=branch1x1, branch_pool=branch_pool)
        for name, widths, length in (("branch5x5", branch5x5, 2), ("branch3x3", branch3x3, 3)):
            if not isinstance(widths, (tuple, list)) or len(widths) != length:
                raise ValueError(f"`{name}` (={widths!r}) must be {length} numbers of channels")
            for width in widths:
                check_positive(**{name: width})
        self.out_channels = branch1x1 + branch5x5[-1] + branch3x3[-1] + branch_pool
        self.branch1x1 = nn.Conv2d(in_channels, branch1x1, 1)
        self.branch5x5_1 = nn.Conv2d(in_channels, branch5x5[0], 1)
        self.branch5x5_2 = nn.Conv2d(branch5x5[0], branch5x5[1], 5, padding=2)
        self.branch3x3_1 = nn.Conv2d(in_channels, branch3x3[0], 1)
        self.branch3x3_2 = nn.Conv2d(branch3x3[0], branch3x3[1], 3, padding=1)
        self.branch3x3_3 = nn.Conv2d(branch3x3[1], branch3x3[2], 3, padding=1)
        self.branch_pool = nn.Conv2d(in_channels, branch_pool, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps feature maps (N, C, H, W) to others; the class tells their shape."""
        pooled = self.branch_pool(F.avg_pool2d(x, 3, stride=1, padding=1))
        small = self.branch1x1(x)
        medium = self.branch5x5_2(self.branch5x5_1(x))
        large = self.branch3x3_3(self.branch3x3_2(self.branch3x3_1(x)))
        return torch.cat([small, medium, large, pooled], dim=1)


DENSE_BOTTLENECK = 4  # channels of a dense layer's bottleneck, in growth rates


class DenseLayer(nn.Sequential):
    """Norm, activation and a 3×3 convolution, with a 1×1 bottleneck before: torchvision's.

    It gives the new features alone; `DenseBlock` puts them behind those that it was given.

    Args:
        in_channels: Channels C of the input.
        growth_rate: Channels k of the output.
        bottleneck: Whether norm, activation and a 1×1 convolution to 4·k channels come first.
        dropout: Probability of dropout at the end.
        norm_layer: Makes the norm for a number of channels.
        act_layer: Makes the activation.

    Shape:
        (N, C, H, W) → (N, growth_rate, H, W).

    Raises:
        ValueError: If a number of channels is less than 1, or `dropout` no probability below 1.

    Source:
        Huang et al. 2017 (Densely Connected Convolutional Networks), section 3.
    """

    def __init__(
        self,
        in_channels: int,
        growth_rate: int = 32,
        *,
        bottleneck: bool = True,
        dropout: float = 0.0,
        norm_layer: NormLayer = nn.BatchNorm2d,
        act_layer: ActLayer = ReLU,
    ) -> None:
        check_positive(in_channels=in_channels, growth_rate=growth_rate)
        check_dropout(dropout)
        widths = [in_channels, DENSE_BOTTLENECK * growth_rate] if bottleneck else [in_channels]
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for number, width in enumerate(widths, 1):
            last = number == len(widths)
            layers[f"norm{number}"] = norm_layer(width)
            layers[f"relu{number}"] = act_layer()
            layers[f"conv{number}"] = conv(
                width, growth_rate if last else widths[1], 3 if last else 1, mode="fan_in"
            )
        if dropout:
            layers["dropout"] = nn.Dropout(dropout)
        super().__init__(layers)
        self.out_channels = growth_rate


class DenseBlock(nn.ModuleDict):
    """Layers, each of which sees the features of all before it: torchvision's, name for name.

    Args:
        in_channels: Channels C of the input.
        depth: Number of layers.
        growth_rate: Channels k that each layer adds.
        bottleneck: Whether each layer has a bottleneck; see `DenseLayer`.
        dropout: Probability of dropout at the end of each layer.
        memory_efficient: Whether training keeps each layer's new features alone, and computes
            what is inside the layer again for the backward pass: memory that grows with the depth
            and not with its square. Outputs, gradients and statistics stay the same.
        norm_layer: Makes the norm for a number of channels.
        act_layer: Makes the activation.

    Shape:
        (N, C, H, W) → (N, C + depth·k, H, W), the input's channels first.

    Raises:
        ValueError: If a number is less than 1, or `dropout` no probability below 1.

    Source:
        Huang et al. 2017, figure 1 and equation 2; Pleiss et al. 2017 (Memory-Efficient
        Implementation of DenseNets).
    """

    def __init__(
        self,
        in_channels: int,
        depth: int,
        growth_rate: int = 32,
        *,
        bottleneck: bool = True,
        dropout: float = 0.0,
        memory_efficient: bool = False,
        norm_layer: NormLayer = nn.BatchNorm2d,
        act_layer: ActLayer = ReLU,
    ) -> None:
        super().__init__()
        check_positive(in_channels=in_channels, depth=depth, growth_rate=growth_rate)
        self.out_channels = in_channels + depth * growth_rate
        self.memory_efficient = memory_efficient
        for number in range(depth):
            self[f"denselayer{number + 1}"] = DenseLayer(
                in_channels + number * growth_rate,
                growth_rate,
                bottleneck=bottleneck,
                dropout=dropout,
                norm_layer=norm_layer,
                act_layer=act_layer,
            )

    def forward(self, x: Tensor) -> Tensor:
        """Maps feature maps (N, C, H, W) to others; the class tells their shape."""
        features = [x]
        again = self.memory_efficient and self.training
        for layer in self.values():
            if again and not torch.jit.is_scripting():  # type: ignore[attr-defined]
                features.append(_recomputed(layer, features))
            else:
                features.append(layer(torch.cat(features, 1)))
        return torch.cat(features, 1)


def _recomputed(layer: nn.Module, features: Sequence[Tensor]) -> Tensor:
    """The layer's output, for which nothing inside the layer is kept."""
    first = True

    def run(*parts: Tensor) -> Tensor:
        nonlocal first
        x = torch.cat(parts, 1)
        if first:
            first = False
            return layer(x)
        with _buffers_kept(layer):  # its norms have seen this batch
            return layer(x)

    output: Tensor = checkpoint(run, *features, use_reentrant=False)
    return output


@contextmanager
def _buffers_kept(module: nn.Module) -> Iterator[None]:
    """Restores a module's statistics, whatever happens to them."""
    before = [buffer.clone() for buffer in module.buffers()]
    try:
        yield
    finally:
        for buffer, value in zip(module.buffers(), before, strict=True):
            buffer.copy_(value)


class Transition(nn.Sequential):
    """Norm, activation, a 1×1 convolution, and 2×2 average pooling: torchvision's, name for name.

    Args:
        in_channels: Channels C of the input.
        compression: Part θ of the channels that the convolution leaves: above 0, and 1 for all.
        norm_layer: Makes the norm for a number of channels.
        act_layer: Makes the activation.

    Shape:
        (N, C, H, W) → (N, ⌊θ·C⌋, ⌊H/2⌋, ⌊W/2⌋).

    Raises:
        ValueError: If `in_channels` is less than 1, or `compression` not above 0 and at most 1,
            or it leaves no channel.

    Source:
        Huang et al. 2017, section 3.
    """

    def __init__(
        self,
        in_channels: int,
        compression: float = 0.5,
        *,
        norm_layer: NormLayer = nn.BatchNorm2d,
        act_layer: ActLayer = ReLU,
    ) -> None:
        check_positive(in_channels=in_channels)
        check_compression(compression)
        out_channels = int(round(in_channels * compression, 6))  # 0.29 times 100 is 28.999…
        if out_channels < 1:
            raise ValueError(
                f"`compression` (={compression!r}) times `in_channels` (={in_channels}) must be "
                "at least 1"
            )
        super().__init__(
            OrderedDict(
                norm=norm_layer(in_channels),
                relu=act_layer(),
                conv=conv(in_channels, out_channels, 1, mode="fan_in"),
                pool=nn.AvgPool2d(2),
            )
        )
        self.out_channels = out_channels
