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
    plain_row = True  # diagrams look into it, as into nn.Sequential

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
