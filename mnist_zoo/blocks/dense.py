"""Dense layers, dense blocks and the transitions between them."""

# annotations are no strings here: torch.fx writes those of a forward into the code of its graph
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .._checks import check_positive, check_range
from .layers import ActLayer, NormLayer, ReLU, conv

__all__ = ["DenseBlock", "DenseLayer", "Transition"]

DENSE_BOTTLENECK = 4  # channels of a dense layer's bottleneck, in multiples of the growth rate


class DenseLayer(nn.Sequential):
    """A 1×1 bottleneck, then norm, activation and a 3×3 convolution, named as in torchvision.

    The output has only the new features; `DenseBlock` concatenates them with the earlier ones.

    Args:
        in_channels: Channels C of the input.
        growth_rate: Channels k of the output.
        bottleneck: Whether norm, activation and a 1×1 convolution to 4·k channels come first.
        dropout: Probability of dropout at the end.
        norm_layer: Makes a norm, given the number of channels.
        act_layer: Makes an activation.

    Shape:
        (N, C, H, W) → (N, growth_rate, H, W).

    Raises:
        ValueError: If a number of channels is less than 1, or `dropout` is not a probability
            below 1.

    Source:
        Huang et al. 2017 (Densely Connected Convolutional Networks), section 3.

    Example:
        >>> import torch
        >>> from mnist_zoo import DenseLayer
        >>> DenseLayer(16, growth_rate=8)(torch.zeros(2, 16, 7, 7)).shape
        torch.Size([2, 8, 7, 7])
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
        check_range(at_least=0, below=1, dropout=dropout)
        width = DENSE_BOTTLENECK * growth_rate
        convs = [(in_channels, growth_rate, 3)]  # channels in, channels out, kernel size
        if bottleneck:
            convs = [(in_channels, width, 1), (width, growth_rate, 3)]
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for number, (inputs, outputs, kernel_size) in enumerate(convs, 1):
            layers[f"norm{number}"] = norm_layer(inputs)
            layers[f"relu{number}"] = act_layer()
            layers[f"conv{number}"] = conv(inputs, outputs, kernel_size, mode="fan_in")
        if dropout:
            layers["dropout"] = nn.Dropout(dropout)
        super().__init__(layers)
        self.out_channels = growth_rate


class DenseBlock(nn.ModuleDict):
    """Dense layers, named as in torchvision; each takes the input and all earlier features.

    Args:
        in_channels: Channels C of the input.
        depth: Number of layers.
        growth_rate: Number of channels k that each layer adds.
        bottleneck: Whether each layer has a bottleneck; see `DenseLayer`.
        dropout: Probability of dropout at the end of each layer.
        memory_efficient: Whether training stores only the new features of each layer, and
            recomputes the activations inside the layer for the backward pass. Memory then grows
            with the depth, not with its square. Outputs, gradients and statistics stay the same.
        norm_layer: Makes a norm, given the number of channels.
        act_layer: Makes an activation.

    Shape:
        (N, C, H, W) → (N, C + depth·k, H, W); the first C channels are the input.

    Raises:
        ValueError: If a number is less than 1, or `dropout` is not a probability below 1.

    Source:
        Huang et al. 2017, figure 1 and equation 2; Pleiss et al. 2017 (Memory-Efficient
        Implementation of DenseNets).

    Example:
        >>> import torch
        >>> from mnist_zoo import DenseBlock
        >>> DenseBlock(16, depth=4, growth_rate=8)(torch.zeros(2, 16, 7, 7)).shape
        torch.Size([2, 48, 7, 7])
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
        """Maps feature maps (N, C, H, W) to the shape that the class states."""
        features = [x]
        recompute = self.memory_efficient and self.training
        for layer in self.values():
            if recompute and not torch.jit.is_scripting():  # type: ignore[attr-defined]
                features.append(_recomputed(layer, features))
            else:
                features.append(layer(torch.cat(features, 1)))
        return torch.cat(features, 1)


def _recomputed(layer: nn.Module, features: Sequence[Tensor]) -> Tensor:
    """The output of the layer, whose activations the backward pass recomputes."""
    recomputing = False

    def run(*inputs: Tensor) -> Tensor:  # called once forward, then again backward
        nonlocal recomputing
        x = torch.cat(inputs, 1)
        if not recomputing:
            recomputing = True
            return layer(x)
        with _buffers_kept(layer):  # the forward pass has already updated the norms
            return layer(x)

    output: Tensor = checkpoint(run, *features, use_reentrant=False)
    return output


@contextmanager
def _buffers_kept(module: nn.Module) -> Iterator[None]:
    """Restores the buffers of a module on exit."""
    before = [buffer.clone() for buffer in module.buffers()]
    try:
        yield
    finally:
        for buffer, value in zip(module.buffers(), before, strict=True):
            buffer.copy_(value)


class Transition(nn.Sequential):
    """Norm, activation, a 1×1 convolution and 2×2 average pooling, named as in torchvision.

    Args:
        in_channels: Channels C of the input.
        compression: Fraction θ of the channels to keep, more than 0 and at most 1.
        norm_layer: Makes a norm, given the number of channels.
        act_layer: Makes an activation.

    Shape:
        (N, C, H, W) → (N, ⌊θ·C⌋, ⌊H/2⌋, ⌊W/2⌋).

    Raises:
        ValueError: If `in_channels` is less than 1, `compression` is outside its range, or no
            channel would be left.

    Source:
        Huang et al. 2017, section 3.

    Example:
        >>> import torch
        >>> from mnist_zoo import Transition
        >>> Transition(16)(torch.zeros(2, 16, 7, 7)).shape
        torch.Size([2, 8, 3, 3])
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
        check_range(above=0, at_most=1, compression=compression)
        out_channels = int(round(in_channels * compression, 6))  # in floats, 0.29·100 is 28.999…
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
