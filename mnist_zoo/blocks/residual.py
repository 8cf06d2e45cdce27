"""Residual blocks of the reports and of torchvision."""

# annotations are no strings here: torch.fx writes those of a forward into the code of its graph
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from .._checks import check_positive
from .layers import ActLayer, NormLayer, ReLU, conv

__all__ = ["BasicBlock", "Bottleneck", "ResidualBlock", "SeparableBottleneck"]


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions with bias and no norm: ``relu(conv2(relu(conv1(x))) + shortcut(x))``.

    The shortcut is the identity; where the shape changes, it is a 1×1 convolution
    (He et al. 2015, section 3.3, option B).

    Args:
        in_channels: Channels C of the input.
        out_channels: Channels of the output; None for as many as the input has.
        stride: Stride of the first convolution and of the shortcut.

    Shape:
        (N, C, H, W) → (N, out_channels, ⌈H/stride⌉, ⌈W/stride⌉).

    Raises:
        ValueError: If a number of channels or the stride is less than 1.

    Source:
        The report on the simple GoogLeNet and ResNet; He et al. 2015, figure 2.

    Example:
        >>> import torch
        >>> from mnist_zoo import ResidualBlock
        >>> ResidualBlock(16, 32, stride=2)(torch.zeros(1, 16, 12, 12)).shape
        torch.Size([1, 32, 6, 6])
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
        """Maps feature maps (N, C, H, W) to the shape that the class states."""
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
    """The 1×1 convolution and norm on the shortcut; None (the identity) if the shape stays.

    A plain block (``residual=False``) has them too, so that plain and residual networks load the
    same checkpoints. It never runs them; they are frozen, because otherwise optimisers would decay
    them and DistributedDataParallel would wait for their gradients.
    """
    if stride == 1 and in_channels == out_channels:
        return None
    projection = nn.Sequential(
        conv(in_channels, out_channels, 1, stride, bias=conv_bias), norm_layer(out_channels)
    )
    return projection.requires_grad_(bool(residual))


class BasicBlock(nn.Module):
    """Two 3×3 convolutions, each with a norm, and a residual sum; named as in torchvision.

    Args:
        inplanes: Channels C of the input.
        planes: Channels of the output.
        stride: Stride of the first convolution and of the shortcut.
        residual: Whether the shortcut is added. If False, the block is plain: layers on the
            shortcut exist, but are frozen and unused.
        conv_bias: Whether the convolutions have a bias.
        norm_layer: Makes a norm, given the number of channels.
        act_layer: Makes an activation.

    Shape:
        (N, inplanes, H, W) → (N, planes, ⌈H/stride⌉, ⌈W/stride⌉).

    Raises:
        ValueError: If a number of channels or the stride is less than 1.

    Source:
        He et al. 2015, figure 5 (left); ``torchvision.models.resnet.BasicBlock``.

    Example:
        >>> import torch
        >>> from mnist_zoo import BasicBlock
        >>> BasicBlock(16, 32, stride=2)(torch.zeros(1, 16, 12, 12)).shape
        torch.Size([1, 32, 6, 6])
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
        """Maps feature maps (N, C, H, W) to the shape that the class states."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.residual:
            out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolutions, each with a norm, and a residual sum; named as in torchvision.

    As in torchvision, the stride is in the 3×3 convolution (ResNet v1.5).

    Args:
        inplanes: Channels C of the input.
        planes: A quarter of the channels of the output (`expansion` is 4).
        stride: Stride of the 3×3 convolution and of the shortcut.
        groups: Groups of the 3×3 convolution (ResNeXt, Xie et al. 2017).
        base_width: Channels per group of the 3×3 convolution when `planes` is 64; for other
            `planes`, they change in proportion.
        dilation: Dilation of the 3×3 convolution.
        residual: Whether the shortcut is added; see `BasicBlock`.
        conv_bias: Whether the convolutions have a bias.
        norm_layer: Makes a norm, given the number of channels.
        act_layer: Makes an activation.

    Shape:
        (N, inplanes, H, W) → (N, 4·planes, ⌈H/stride⌉, ⌈W/stride⌉).

    Raises:
        ValueError: If a number is less than 1, or the 3×3 convolution would have no channels.

    Source:
        He et al. 2015, figure 5 (right); ``torchvision.models.resnet.Bottleneck``.

    Example:
        >>> import torch
        >>> from mnist_zoo import Bottleneck
        >>> Bottleneck(16, 8, stride=2)(torch.zeros(1, 16, 12, 12)).shape
        torch.Size([1, 32, 6, 6])
    """

    expansion: ClassVar[int] = 4

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
        width = planes * base_width // 64 * groups
        if width == 0:
            raise ValueError(
                f"`base_width` (={base_width}) times `planes` (={planes}) must be at least 64"
            )
        self.out_channels = planes * self.expansion
        self.residual = residual
        self.conv1 = conv(inplanes, width, 1, bias=conv_bias)
        self.bn1 = norm_layer(width)
        self.conv2 = self._conv2(width, stride, groups, dilation, conv_bias)
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

    def _conv2(self, width: int, stride: int, groups: int, dilation: int, bias: bool) -> nn.Conv2d:
        """The 3×3 convolution, which a subclass may replace."""
        return conv(width, width, 3, stride, groups=groups, dilation=dilation, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Maps feature maps (N, C, H, W) to the shape that the class states."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        if self.residual:
            out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


class SeparableBottleneck(Bottleneck):
    """A `Bottleneck` whose 3×3 convolution is depthwise: one group per channel.

    The depthwise 3×3 convolution and the 1×1 (pointwise) convolution after it form a
    depthwise-separable convolution. For arguments and errors, see `Bottleneck`; `groups` must
    be 1.

    Shape:
        (N, inplanes, H, W) → (N, 4·planes, ⌈H/stride⌉, ⌈W/stride⌉), as for `Bottleneck`.

    Source:
        The separable bottleneck that the ResNet-50 report describes; Howard et al. 2017
        (MobileNets), section 3.1.

    Example:
        >>> from mnist_zoo import SeparableBottleneck
        >>> SeparableBottleneck(16, 8).conv2.groups
        8
    """

    @override
    def _conv2(self, width: int, stride: int, groups: int, dilation: int, bias: bool) -> nn.Conv2d:
        if groups != 1:
            raise ValueError(
                f"`groups` (={groups}) must be 1: a depthwise convolution already has one group "
                "per channel"
            )
        return super()._conv2(width, stride, width, dilation, bias)
