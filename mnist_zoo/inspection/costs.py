"""`profile`: the computational cost of a network."""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes

from .copies import Inputs, Size, meta_inputs, random_state_kept, structural_copy
from .outputs import BATCH_NORM
from .running import DataFree, Trace, is_layer, parameters_of, tensors_in

__all__ = ["LayerProfile", "Profile", "profile"]


@dataclass(frozen=True)
class LayerProfile:
    """The cost of one layer by itself, without the modules inside it.

    Attributes:
        type: Name of the layer's class.
        macs: Multiply-accumulates of all its calls, as thop counts them.
        params: Number of parameters that it owns.

    Example:
        >>> from mnist_zoo import lenet5, profile
        >>> profile(lenet5()).by_layer["fc1"]
        LayerProfile(type='Linear', macs=30720, params=30840)
    """

    type: str
    macs: int
    params: int


@dataclass(frozen=True, repr=False)
class Profile:
    """The cost of one forward; unpacks as ``macs, params``, as thop's result does.

    Its repr is a table with one row per child of the network.

    Attributes:
        model: Name of the network's class.
        input_shapes: Shapes of the inputs, with the batch.
        macs: Multiply-accumulates, as thop counts them.
        params: Number of parameters, each counted once.
        flops: Floating-point operations of convolutions and matrix products, as
            `torch.utils.flop_counter` counts them: two per multiply-accumulate.
        by_layer: The cost of every layer, by name. A layer is a module that has no modules
            inside, or a rule in thop, or parameters of its own. A shared layer is listed
            under its first name.
        uncounted: Layer types and functions that compute something but have no rule in
            thop, with their numbers of calls.

    Example:
        >>> from mnist_zoo import mini_resnet, profile
        >>> cost = profile(mini_resnet())
        >>> cost.macs, cost.params, cost.flops
        (2013184, 41514, 4026368)
        >>> cost.uncounted
        {'relu': 6, 'add': 2}
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
            missed = ", ".join(f"{name} ×{calls}" for name, calls in self.uncounted.items())
            lines.append(f"no rule in thop: {missed}")
        return "\n".join(lines)


TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
# operations that compute nothing
MOVES = ("clone", "copy", "detach", "to_copy", "unsafe_view")


class _Operations(DataFree):
    """Counts the FLOPs, and the operations outside the layers for which thop has a rule."""

    def __init__(self, run: Trace, rules: Mapping[type, Any]) -> None:
        from torch.utils.flop_counter import flop_registry  # 0.1 s, for `profile` only

        super().__init__(run.model)
        self.formulas = flop_registry
        self.run = run
        self.rules = rules
        self.calls: Counter[str] = Counter()
        self.flops = 0
        self.inside = False  # of an operation that consists of others

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        operation = func.overloadpacket.__name__.strip("_")
        computes = not (self.inside or func.is_view or operation in MOVES)
        if computes and self.run.stack and any(t.is_meta for t in tensors_in((args, kwargs))):
            self._count(operation)
        formula = self.formulas.get(func.overloadpacket)
        if formula is None and func is not BATCH_NORM and func._can_decompose():
            return self._decomposed(func, args, kwargs)
        output = super().__torch_dispatch__(func, types, args, kwargs)
        if formula is not None:
            self.flops += formula(*args, **kwargs, out_val=output)
        return output

    def _decomposed(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Counts the FLOPs of the operations of which one consists."""
        outer, self.inside = self.inside, True
        try:
            with self:
                return func.decompose(*args, **kwargs)
        finally:
            self.inside = outer

    def _count(self, operation: str) -> None:
        call = self.run.stack[-1]
        if any(_has_rule(outer.module, self.rules) for outer in self.run.stack):
            return
        if not is_layer(call.module):
            self.calls[operation] += 1
        elif not call.reported:
            call.reported = True
            self.calls[type(call.module).__name__] += 1


@random_state_kept()  # once for the copy and its run
def profile(model: nn.Module, inputs: Inputs = None) -> Profile:
    """Counts the MACs (with thop), FLOPs (with torch) and parameters of a network.

    The network stays unchanged: a copy without data runs, in eval mode; see `summary`. If
    there are more FLOPs than twice the MACs, thop has missed operations, which
    `Profile.uncounted` names.

    Args:
        model: Any network.
        inputs: The shape of one input without the batch, such as (C, H, W), or a list of
            shapes for several inputs: the batch is then 1. Or the inputs themselves as
            tensors, of which only shape and type are used. By default the network's own
            `input_size`.

    Returns:
        The cost, which unpacks as ``macs, params``.

    Raises:
        ValueError: If `inputs` is missing or is neither shapes nor tensors, or if the network
            has lazy parameters.
        TypeError: If `model` is not a network or cannot be copied.
        RuntimeError: If the network cannot process the input; the message names the layer.

    Source:
        The counting rules of thop 0.1.1; its MACs are about half of what others call FLOPs. Only
        transposed convolutions have a rule of ours: each input value times each weight of its
        channel, where thop counts stride² times as much.

    Example:
        >>> from mnist_zoo import profile, resnet18
        >>> macs, params = profile(resnet18())
        >>> macs, params
        (33184000, 11175370)
        >>> profile(resnet18(in_channels=3), (3, 224, 224)).macs
        1823526912
    """
    return _profile(model, structural_copy(model), inputs)


@random_state_kept()
def profile_outline(model: nn.Module, inputs: Inputs = None) -> Profile:
    """Counts as `profile` does, without a copy: the network has no data and nobody else uses it."""
    no_original = nn.Module()  # whose tensors the forward might use, or whose modes it might change
    return _profile(no_original, model, inputs)


def _profile(model: nn.Module, twin: nn.Module, inputs: Inputs) -> Profile:
    """Counts for a network by running its structural copy, in eval mode."""
    rules = _thop_rules()
    twin.eval()
    tensors = meta_inputs(twin, inputs, batch=1)
    macs: Counter[nn.Module] = Counter()

    def count(module: nn.Module, name: str, inputs: Any, output: Any) -> None:
        if _has_rule(module, rules):
            with _disable_current_modes():  # thop's own arithmetic is not the network's
                counted = _Counted(module)
                rules[type(module)](counted, inputs, output)
                macs[module] += int(counted.total_ops)

    run = Trace(model, twin, count)
    operations = _Operations(run, rules)
    with run.guarded(operations):
        twin(*tensors)

    by_layer: dict[str, LayerProfile] = {}
    seen: set[nn.Parameter] = set()
    for name, module in twin.named_modules():
        own = parameters_of(module) - seen
        seen.update(own)
        if own or _has_rule(module, rules) or is_layer(module):
            params = sum(p.numel() for p in own)
            by_layer[name] = LayerProfile(type(module).__name__, macs[module], params)
    return Profile(
        model=type(twin).__name__,
        input_shapes=tuple(tuple(t.shape) for t in tensors),
        macs=macs.total(),
        params=sum(p.numel() for p in twin.parameters()),
        flops=operations.flops,
        by_layer=by_layer,
        uncounted=dict(operations.calls),
    )


class _Counted:
    """Wraps a layer for a rule of thop, so that the counter is no attribute of the layer."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer
        self.total_ops = torch.zeros(1, dtype=torch.float64, device="cpu")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.layer, name)


def _thop_rules() -> dict[type, Callable[..., None]]:
    """thop's rule per layer type, imported without thop's warning about distutils."""
    if "thop.profile" not in sys.modules:  # catching warnings would affect other threads
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            import_module("thop.profile")
    rules = dict(import_module("thop.profile").register_hooks)
    return rules | dict.fromkeys(TRANSPOSED, _count_transposed)


def _count_transposed(layer: Any, inputs: Any, output: Tensor) -> None:
    """Counts each input value times each weight of its channel; thop takes the output's values."""
    layer.total_ops += inputs[0].numel() * layer.weight[0].numel()


def _has_rule(module: nn.Module, rules: Mapping[type, Any]) -> bool:
    """Whether a rule of thop counts the module as a whole."""
    return type(module) in rules and not isinstance(module, nn.Sequential)


def aligned(cells: Sequence[Sequence[str]]) -> list[str]:
    """Rows of text: the first column is aligned left, the others right."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            [row[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        )
        for row in cells
    ]
