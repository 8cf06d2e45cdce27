"""What a network costs: `profile`."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from .copies import Inputs, Size, meta_inputs, structural_copy
from .running import Trace, is_layer, tensors_in

__all__ = ["LayerProfile", "Profile", "profile"]


@dataclass(frozen=True)
class LayerProfile:
    """The cost of one layer by itself, without the modules inside it.

    Attributes:
        type: The name of its class.
        macs: Multiply-accumulates of all its calls, as thop counts them.
        params: Number of parameters that it owns.
    """

    type: str
    macs: int
    params: int


@dataclass(frozen=True, repr=False)
class Profile:
    """The cost of one forward; unpacks as ``macs, params``, like thop's; its repr is a table.

    Attributes:
        model: Name of the network's class.
        input_shapes: Shapes of the inputs, with the batch.
        macs: Multiply-accumulates, as thop counts them.
        params: Number of parameters, each once.
        flops: Floating-point operations of its convolutions and matrix products, as
            `torch.utils.flop_counter` counts them: two a multiply-accumulate.
        by_layer: The cost of every layer, by name: of modules without others inside, with a
            rule in thop, or with parameters of their own. A shared one stands under its
            first name. The repr adds them up by the network's children.
        uncounted: What computes and thop has no rule for, with the number of calls: types
            of layers, and operations called as functions.
    """

    model: str
    input_shapes: tuple[Size, ...]
    macs: int
    params: int
    flops: int
    by_layer: dict[str, LayerProfile]
    uncounted: dict[str, int]

    def __iter__(self) -> Iterator[int]:
        return iter((self.macs, self.params))

    def __repr__(self) -> str:
        shapes = ", ".join(map(str, self.input_shapes))
        lines = [
            f"{self.model} on {shapes}: {self.macs:,} MACs, {self.flops:,} FLOPs, "
            f"{self.params:,} parameters",
        ]
        groups: dict[str, list[LayerProfile]] = {}
        for name, layer in self.by_layer.items():
            groups.setdefault(name.partition(".")[0], []).append(layer)
        cells = [
            (name or "itself", f"{sum(p.macs for p in part):,}", f"{sum(p.params for p in part):,}")
            for name, part in groups.items()
        ]
        lines += aligned([("", "MACs", "parameters"), *cells])
        if self.uncounted:
            told = ", ".join(f"{name} ×{calls}" for name, calls in self.uncounted.items())
            lines.append(f"no rule in thop: {told}")
        return "\n".join(lines)


MOVES = ("clone", "copy", "detach", "to_copy", "unsafe_view")  # these compute nothing


class _Uncounted(TorchDispatchMode):
    """Counts what computes outside the layers for which thop has a rule."""

    def __init__(self, run: Trace, rules: Mapping[type, Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.run = run
        self.rules = rules
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        of_the_network = any(
            t.is_meta for t in tensors_in((args, kwargs))
        )  # thop counts on the CPU
        operation = func.overloadpacket.__name__.strip("_")
        if of_the_network and self.run.stack and not func.is_view and operation not in MOVES:
            self._count(operation)
        return func(*args, **(kwargs or {}))

    def _count(self, operation: str) -> None:
        call = self.run.stack[-1]
        if any(_has_rule(outer.module, self.rules) for outer in self.run.stack):
            return
        if not is_layer(call.module):
            self.calls[operation] += 1
        elif not call.reported:
            call.reported = True
            self.calls[type(call.module).__name__] += 1


def profile(model: nn.Module, inputs: Inputs = None) -> Profile:
    """Counts multiply-accumulates by thop, FLOPs by torch, and parameters, each once.

    The network is not touched: it is a data-free copy of it that runs, in eval mode; see
    `summary`. Where FLOPs are more than twice the MACs, thop has missed something, which
    `Profile.uncounted` names.

    Args:
        model: Any network.
        inputs: What it is fed: the shape of one input without the batch, such as
            (C, H, W), or a list of shapes, with a batch of 1; or tensors, whose form
            and type are used. By default the network's own `input_size`.

    Returns:
        The cost, which unpacks as ``macs, params``.

    Raises:
        ValueError: If the inputs are missing or no shape, or the network is lazy.
        TypeError: If `model` is not a network or cannot be copied.
        RuntimeError: If the network cannot process the input; the message names the layer.

    Source:
        thop 0.1.1, whose rules count; its MACs are about half the FLOPs that others count.
    """
    from torch.utils.flop_counter import FlopCounterMode

    rules = _thop_rules()
    twin = structural_copy(model).eval()
    tensors = meta_inputs(twin, inputs, batch=1)
    macs: Counter[nn.Module] = Counter()

    def count(module: nn.Module, inputs: Any, output: Any) -> None:
        if _has_rule(module, rules):
            counted = _Counted(module)
            rules[type(module)](counted, inputs, output)
            macs[module] += int(counted.total_ops)

    run = Trace(model, twin, count)
    uncounted = _Uncounted(run, rules)
    with run.guarded(), FlopCounterMode(display=False) as flops, uncounted:
        twin(*tensors)

    by_layer: dict[str, LayerProfile] = {}
    seen: set[nn.Parameter] = set()
    for name, module in twin.named_modules():
        own = set(module.parameters(recurse=False)) - seen
        seen.update(own)
        if own or _has_rule(module, rules) or is_layer(module):
            params = sum(p.numel() for p in own)
            by_layer[name] = LayerProfile(type(module).__name__, macs[module], params)
    return Profile(
        model=type(twin).__name__,
        input_shapes=tuple(tuple(t.shape) for t in tensors),
        macs=macs.total(),
        params=sum(p.numel() for p in twin.parameters()),
        flops=flops.get_total_flops(),
        by_layer=by_layer,
        uncounted=dict(uncounted.calls),
    )


class _Counted:
    """A layer as a rule of thop wants it, the counter not among the layer's own names."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer
        self.total_ops = torch.zeros(1, dtype=torch.float64)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.layer, name)


def _thop_rules() -> dict[type, Callable[..., None]]:
    """thop's rule for every type of layer, imported without its warning about distutils."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return dict(import_module("thop.profile").register_hooks)


def _has_rule(module: nn.Module, rules: Mapping[type, Any]) -> bool:
    """Whether thop counts the module as a whole."""
    return type(module) in rules and not isinstance(module, nn.Sequential)


def aligned(cells: Sequence[Sequence[str]]) -> list[str]:
    """Rows of text with the first column to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            [row[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        )
        for row in cells
    ]
