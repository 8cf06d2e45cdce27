"""Residual units in the orders and with the shortcuts of He et al. 2016."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from .._checks import check_choice, check_positive
from .layers import ActLayer, NormLayer, ReLU, conv
from .residual import BasicBlock, Bottleneck

__all__ = ["ResidualUnit"]

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

# by order: the layers with each convolution but the last, with the last, and after the sum
ORDERS: dict[Order, tuple[str, str, str]] = {
    "original": ("conv norm act", "conv norm", "act"),
    "norm_after_addition": ("conv norm act", "conv", "norm act"),
    "act_before_addition": ("conv norm act", "conv norm act", ""),
    "act_only_preactivation": ("act conv norm", "act conv norm", ""),
    "preactivation": ("norm act conv", "norm act conv", ""),
}
# by shortcut: the factors of the residual and of the shortcut
SCALES: dict[str, tuple[float, float]] = {
    "scaling": (0.5, 0.5),
    "shortcut_scaling": (1.0, 0.5),
    "residual_scaling": (0.5, 1.0),
}
# by shortcut: whether the gate also multiplies the residual
GATES = {"exclusive_gating": True, "shortcut_gating": False}
GATE_BIAS = -6.0
SHORTCUTS: tuple[Shortcut, ...] = get_args(Shortcut)


def preactivation(order: Order) -> str:
    """The layers before the first convolution of a unit, and after the last unit of a network."""
    return ORDERS[order][0].partition("conv")[0].strip()


def layers_in_order(
    kinds: str,
    channels: int,
    layer: nn.Conv2d | None = None,
    *,
    norm_layer: NormLayer,
    act_layer: ActLayer,
) -> OrderedDict[str, nn.Module]:
    """Makes the modules of the given kinds, in their order.

    Args:
        kinds: The kinds, such as ``"norm act conv"``.
        channels: Channels of the input.
        layer: The module for "conv"; None if there is none.
        norm_layer: Makes a norm, given the number of channels.
        act_layer: Makes an activation.
    """
    made: OrderedDict[str, nn.Module] = OrderedDict()
    for kind in kinds.split():
        if kind == "conv" and layer is not None:
            made[kind], channels = layer, layer.out_channels
        else:
            made[kind] = norm_layer(channels) if kind == "norm" else act_layer()
    return made


class Ordered(nn.Sequential):
    """An ``nn.Sequential`` whose order of layers TorchScript sees.

    Without the constant, TorchScript would take two rows with the same names and types for one
    type, even if their order differs.
    """

    __constants__ = ("order",)
    plain_row = True  # diagrams show its layers, as those of nn.Sequential

    def __init__(self, layers: OrderedDict[str, nn.Module]) -> None:
        super().__init__(layers)
        self.order = " ".join(layers)


class ScaledSum(nn.Module):
    """The sum of residual and shortcut, each times a constant."""

    def __init__(self, residual: float, shortcut: float) -> None:
        super().__init__()
        self.residual = residual
        self.shortcut = shortcut

    def forward(self, x: Tensor, residual: Tensor, shortcut: Tensor) -> Tensor:
        """Maps residual and shortcut to their scaled sum; x, the input of the unit, is unused."""
        return self.residual * residual + self.shortcut * shortcut


class GatedSum(nn.Module):
    """The shortcut times 1 - g(x), plus the residual, which an exclusive gate multiplies by g(x).

    The gate g is a 1×1 convolution and a sigmoid. Its bias starts at -6, the best value in the
    paper, so that g(x) starts near 0 and the shortcut passes almost unchanged.
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, *, exclusive: bool
    ) -> None:
        super().__init__()
        self.exclusive = exclusive
        self.gate = conv(in_channels, out_channels, 1, stride, bias=True)
        nn.init.constant_(self.gate.get_parameter("bias"), GATE_BIAS)

    def forward(self, x: Tensor, residual: Tensor, shortcut: Tensor) -> Tensor:
        """Maps residual and shortcut, and the input x of the unit, to their gated sum."""
        gate = torch.sigmoid(self.gate(x))
        if self.exclusive:
            residual = gate * residual
        return residual + (1 - gate) * shortcut


class ResidualUnit(nn.Module):
    """A residual unit with any order of its layers and any shortcut.

    It computes ``after(merge(branch(before(x)), shortcut(before(x))))``, where ``merge`` is a
    plain, scaled or gated sum. ``before`` has the layers that both paths share: if an order starts
    with an activation and the shortcut has a convolution, both paths start with the activation.

    Args:
        inplanes: Channels C of the input.
        planes: Channels of the output; in a bottleneck, a quarter of them.
        stride: Stride of the (first) 3×3 convolution and of the shortcut.
        bottleneck: Whether the convolutions are 1×1, 3×3 and 1×1 instead of two of 3×3.
        order: ``"original"``, conv-norm-act-conv-norm, sum, act, as in `BasicBlock` and
            `Bottleneck`; ``"norm_after_addition"``, whose last norm follows the sum;
            ``"act_before_addition"``, whose last activation precedes the sum;
            ``"act_only_preactivation"``, act-conv-norm twice; ``"preactivation"``, norm-act-conv
            twice.
        shortcut: ``"identity"``; ``"scaling"``, the shortcut and the residual times 0.5;
            ``"shortcut_scaling"`` and ``"residual_scaling"``, one of the two times 0.5;
            ``"exclusive_gating"``, the shortcut times 1 - g(x) and the residual times g(x) for a
            learnt gate g; ``"shortcut_gating"``, only the shortcut times 1 - g(x); ``"conv"``, a
            1×1 convolution; ``"dropout"``, dropout of 0.5. Where the shape changes, all of them
            have the 1×1 convolution. A norm follows it in orders with a norm after the last
            convolution of the residual.
        activated: Whether the input is already activated, as after a stem. An order that starts
            with an activation then leaves it out.
        norm_layer: Makes a norm, given the number of channels.
        act_layer: Makes an activation.

    Attributes:
        expansion: Ratio of the channels of the output to `planes`.
        out_channels: Channels of the output.

    Shape:
        (N, inplanes, H, W) → (N, planes·expansion, ⌈H/stride⌉, ⌈W/stride⌉).

    Raises:
        ValueError: If a number of channels or the stride is less than 1, or `order` or `shortcut`
            is unknown.

    Source:
        He et al. 2016 (Identity Mappings in Deep Residual Networks): the orders of figure 4, the
        shortcuts of figure 2 and table 1, the shared activation of the appendix.
        ``"residual_scaling"`` is not in the paper.

    Example:
        >>> import torch
        >>> from mnist_zoo import ResidualUnit
        >>> unit = ResidualUnit(8, 16, stride=2, order="preactivation")
        >>> unit(torch.zeros(1, 8, 6, 6)).shape
        torch.Size([1, 16, 3, 3])
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
            if getattr(module, "inplace", False):  # it would also change the input of the shortcut
                vars(module)["inplace"] = False
        if activated:
            lead.clear()

        path: OrderedDict[str, nn.Module] = OrderedDict()
        if shortcut == "conv" or stride != 1 or inplanes != self.out_channels:
            normed = "norm" in last.partition("conv")[2]
            layer = conv(inplanes, self.out_channels, 1, stride)
            path = make("conv norm" if normed else "conv", inplanes, layer)
        else:  # only the branch has the lead
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
        """Maps feature maps (N, C, H, W) to the shape that the class states."""
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
    """The module that merges shortcut and residual; None for a plain sum."""
    if shortcut in SCALES:
        return ScaledSum(*SCALES[shortcut])
    if shortcut in GATES:
        return GatedSum(in_channels, out_channels, stride, exclusive=GATES[shortcut])
    return None
