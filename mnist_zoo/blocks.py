"""Composable building blocks: residual units, bottlenecks, and the Inception module.

Every block maps a batch of feature maps ``(N, C, H, W)`` to another, and knows
its ``out_channels``, so that blocks chain::

    nn.Sequential(ResidualBlock(16), ResidualBlock(16, 32, stride=2), InceptionA(32))
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from functools import partial
from numbers import Integral
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

__all__ = ["BasicBlock", "Bottleneck", "InceptionA", "ResidualBlock", "SeparableBottleneck"]

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
) -> nn.Conv2d:
    """A convolution that keeps the size (but for its stride), with He et al. 2015's weights.

    The weights are torchvision's: normal, fan out, gain of ReLU; drawn once, where
    ``nn.Conv2d`` followed by ``kaiming_normal_`` draws twice. A bias starts at zero.
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
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def did_you_mean(name: object, known: Iterable[str], count: int = 3) -> str:
    """Asks for the known names nearest to a wrong one; "" where none is near."""
    near = get_close_matches(str(name), list(known), n=count)
    return f"did you mean {' or '.join(map(repr, near))}?" if near else ""


def check_positive(**arguments: int) -> None:
    """Raises ValueError for the first argument that is not a whole number of at least 1."""
    for name, value in arguments.items():
        if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
            raise ValueError(f"`{name}` (={value!r}) must be a whole number of at least 1")


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
    Arguments, shapes and errors are those of `Bottleneck`; `groups` must be 1.

    Source:
        The separable bottleneck that the ResNet-50 report describes; Howard et al. 2017
        (MobileNets), section 3.1.
    """

    depthwise: ClassVar[bool] = True


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
