"""Residual units with the layer orders and the shortcuts of He et al. 2016."""

# annotations are no strings here: torch.fx writes those of a forward into the code of its graph
from collections import OrderedDict
from functools import partial
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from .._checks import check_positive
from .._names import check_choice
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

# kinds of layers in each order: around every convolution except the last, around the last one,
# and after the sum
ORDERS: dict[Order, tuple[str, str, str]] = {
    "original": ("conv norm act", "conv norm", "act"),
    "norm_after_addition": ("conv norm act", "conv", "norm act"),
    "act_before_addition": ("conv norm act", "conv norm act", ""),
    "act_only_preactivation": ("act conv norm", "act conv norm", ""),
    "preactivation": ("norm act conv", "norm act conv", ""),
}
# factors of the residual and of the shortcut
SCALES: dict[str, tuple[float, float]] = {
    "scaling": (0.5, 0.5),
    "shortcut_scaling": (1.0, 0.5),
    "residual_scaling": (0.5, 1.0),
}
# whether the gate also multiplies the residual
GATES = {"exclusive_gating": True, "shortcut_gating": False}
GATE_BIAS = -6.0
SHORTCUTS: tuple[Shortcut, ...] = get_args(Shortcut)


def leading_kinds(order: Order) -> str:
    """The kinds of layers before the first convolution of a unit: "norm act", "act" or ""."""
    return ORDERS[order][0].partition("conv")[0].strip()


def layers_in_order(
    kinds: str,
    channels: int,
    convolution: nn.Conv2d | None = None,
    *,
    norm_layer: NormLayer,
    act_layer: ActLayer,
) -> OrderedDict[str, nn.Module]:
    """Makes modules of the given kinds, in the given order.

    Args:
        kinds: Kinds separated by spaces, such as ``"norm act conv"``.
        channels: Channels of the input.
        convolution: The module for "conv"; None if `kinds` has no "conv".
        norm_layer: Makes a norm, given the number of channels.
        act_layer: Makes an activation.
    """
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    for kind in kinds.split():
        if kind == "conv" and convolution is not None:
            modules[kind] = convolution
            channels = convolution.out_channels  # a later norm has these
        else:
            modules[kind] = norm_layer(channels) if kind == "norm" else act_layer()
    return modules


class Ordered(nn.Sequential):
    """An ``nn.Sequential`` that TorchScript compiles once per order of its layers.

    TorchScript compiles modules once if their layers have the same names and types, even in
    different orders. The constant `order` makes them different.
    """

    __constants__ = ("order",)
    plain_row = True  # diagrams show its layers, not one box, as for nn.Sequential

    def __init__(self, layers: OrderedDict[str, nn.Module]) -> None:
        super().__init__(layers)
        self.order = " ".join(layers)


class ScaledSum(nn.Module):
    """The sum of residual and shortcut, each multiplied by a constant."""

    def __init__(self, residual: float, shortcut: float) -> None:
        super().__init__()
        self.residual = residual
        self.shortcut = shortcut

    def forward(self, x: Tensor, residual: Tensor, shortcut: Tensor) -> Tensor:
        """Maps residual and shortcut to their scaled sum; x, the input of the unit, is unused."""
        return self.residual * residual + self.shortcut * shortcut


class GatedSum(nn.Module):
    """(1 - g(x))·shortcut + residual; an exclusive gate also multiplies the residual by g(x).

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
    """A residual unit with any order of layers and any kind of shortcut.

    It computes ``after(merge(branch(before(x)), shortcut(before(x))))``, where ``merge`` is a
    plain, scaled or gated sum. If the shortcut has a convolution, ``before`` holds the layers that
    the order puts before the first convolution, so that both paths share them; else it is empty.

    Args:
        inplanes: Channels C of the input.
        planes: Channels of the output; in a bottleneck, a quarter of them.
        stride: Stride of the (first) 3×3 convolution and of the shortcut.
        bottleneck: Whether the convolutions are 1×1, 3×3 and 1×1 instead of two of 3×3.
        order: Order of the layers, here for two convolutions:

            - ``"original"``: conv-norm-act, conv-norm, sum, act, as in `BasicBlock` and
              `Bottleneck`;
            - ``"norm_after_addition"``: conv-norm-act, conv, sum, norm-act;
            - ``"act_before_addition"``: conv-norm-act, conv-norm-act, sum;
            - ``"act_only_preactivation"``: act-conv-norm, act-conv-norm, sum;
            - ``"preactivation"``: norm-act-conv, norm-act-conv, sum.
        shortcut: Kind of shortcut; g is a learnt gate:

            - ``"identity"``: the input;
            - ``"scaling"``: shortcut and residual are multiplied by 0.5;
            - ``"shortcut_scaling"``, ``"residual_scaling"``: only that one is multiplied by 0.5;
            - ``"exclusive_gating"``: the shortcut is multiplied by 1 - g(x), the residual by g(x);
            - ``"shortcut_gating"``: only the shortcut is multiplied, by 1 - g(x);
            - ``"conv"``: a 1×1 convolution;
            - ``"dropout"``: dropout of 0.5.

            Every kind has a 1×1 convolution where the shape changes. A norm follows it if the
            order has a norm between the last convolution and the sum.
        activated: Whether the input is already activated, as after a stem. The layers before the
            first convolution are then left out.
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
        He et al. 2016 (Identity Mappings in Deep Residual Networks): figure 4 for the orders,
        figure 2 and table 1 for the shortcuts, the appendix for the shared activation.
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
        inner_kinds, last_kinds, kinds_after = ORDERS[order]
        make_layers = partial(layers_in_order, norm_layer=norm_layer, act_layer=act_layer)

        branch: OrderedDict[str, nn.Module] = OrderedDict()
        convs = _convs(inplanes, planes, stride, bottleneck)
        for number, layer in enumerate(convs, 1):
            kinds = last_kinds if number == len(convs) else inner_kinds
            layers = make_layers(kinds, layer.in_channels, layer)
            branch.update((f"{kind}{number}", module) for kind, module in layers.items())
        # the layers before the first convolution, taken out of the branch
        before = OrderedDict((f"{k}1", branch.pop(f"{k}1")) for k in leading_kinds(order).split())
        for module in before.values():
            if getattr(module, "inplace", False):  # it would also change the input of the shortcut
                vars(module)["inplace"] = False
        if activated:
            before.clear()

        shortcut_layers: OrderedDict[str, nn.Module] = OrderedDict()
        if shortcut == "conv" or stride != 1 or inplanes != self.out_channels:
            norm_follows = "norm" in last_kinds.partition("conv")[2]
            projection = conv(inplanes, self.out_channels, 1, stride)
            kinds = "conv norm" if norm_follows else "conv"
            shortcut_layers = make_layers(kinds, inplanes, projection)
        else:  # not shared: back into the branch
            branch = OrderedDict({**before, **branch})
            before.clear()
        if shortcut == "dropout":
            shortcut_layers["dropout"] = nn.Dropout(0.5)

        self.before = nn.Sequential(before)
        self.branch = Ordered(branch)
        self.shortcut = nn.Sequential(shortcut_layers)
        self.merge = _merge(shortcut, inplanes, self.out_channels, stride)
        self.after = nn.Sequential(make_layers(kinds_after, self.out_channels))

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
    out_channels = planes * Bottleneck.expansion
    return [
        conv(inplanes, planes, 1),
        conv(planes, planes, 3, stride),
        conv(planes, out_channels, 1),
    ]


def _merge(
    shortcut: Shortcut, in_channels: int, out_channels: int, stride: int
) -> nn.Module | None:
    """The module that merges shortcut and residual; None for a plain sum."""
    if shortcut in SCALES:
        return ScaledSum(*SCALES[shortcut])
    if shortcut in GATES:
        return GatedSum(in_channels, out_channels, stride, exclusive=GATES[shortcut])
    return None
