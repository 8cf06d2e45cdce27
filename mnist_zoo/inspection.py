"""Tables and costs of any network, without touching it.

`summary` and `profile` run on a structural copy whose tensors hold no data, so the
network's weights, modes, hooks and statistics, and the random state, stay as they are,
and a large picture costs no more than a small one. torchsummary prints the table and thop
counts the multiply-accumulates; what they cannot see is added here: parameters of any
name, each once however often it is shared, and outputs of any nesting.
"""

from __future__ import annotations

import contextlib
import copy
import random
import sys
import warnings
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import import_module
from numbers import Integral
from types import FunctionType
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from ._networks import unwrapped
from .models.registry import get_model

__all__ = [
    "Comparison",
    "ComparisonRow",
    "LayerProfile",
    "ModelSummary",
    "Profile",
    "SummaryRow",
    "compare",
    "profile",
    "summary",
]

Size: TypeAlias = tuple[int, ...]
Inputs: TypeAlias = Size | Sequence[Size] | Tensor | Sequence[Tensor] | None
"""What to feed: a shape without the batch, several of them, tensors, or None for `input_size`."""

MB = 1024**2


# --- the structural copy -------------------------------------------------------------------


class _DataFreeCopies(TorchFunctionMode):
    """Inside it, `copy.deepcopy` copies of a tensor the shape and type, not the data."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is Tensor.__deepcopy__:
            tensor, memo = args
            memo[id(tensor)] = _to_meta(tensor)
            return memo[id(tensor)]
        if func is Tensor.clone:  # how a Parameter copies its data
            return _to_meta(args[0])
        return func(*args, **(kwargs or {}))


def _to_meta(tensor: Tensor) -> Tensor:
    return torch.empty_like(tensor, device="meta", requires_grad=tensor.requires_grad)


def structural_copy(model: nn.Module) -> nn.Module:
    """The network without data and hooks: its modules, modes, and tensors on device meta."""
    if not isinstance(model, nn.Module) or isinstance(model, torch.jit.ScriptModule):
        raise TypeError(f"`model` must be an nn.Module in Python, not {type(model).__name__}")
    model = unwrapped(model)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if nn.parameter.is_lazy(tensor):
            raise ValueError(f"`model` must be initialised; {name} waits for a first forward")
        if tensor.layout is not torch.strided:
            raise TypeError(f"`model` must have dense tensors; {name} is {tensor.layout}")
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise TypeError(f"`model` must be in Python; '{name}' is a {type(module).__name__}")
    hooks = [key for key in vars(nn.Module()) if "_hooks" in key]
    memo: dict[int, Any] = {}
    for module in model.modules():
        memo.update({id(getattr(module, key)): OrderedDict() for key in hooks})
    try:
        with _DataFreeCopies(), _random_state_kept():
            twin = copy.deepcopy(model, memo)
    except Exception as error:
        raise TypeError(f"`model` ({type(model).__name__}) cannot be copied: {error}") from error
    own = set(model.modules())
    for name, module in twin.named_modules():
        if module in own:
            raise TypeError(f"`model` cannot be copied: '{name}' forbids it by its __deepcopy__")
        for key, child in module.named_children():
            setattr(module, key, unwrapped(child))
    return twin


@contextlib.contextmanager
def _random_state_kept() -> Iterator[None]:
    """Restores the random state of Python, NumPy and torch, whatever a forward draws."""
    numpy = sys.modules.get("numpy")
    python_state = random.getstate()
    numpy_state = numpy.random.get_state() if numpy else None
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            random.setstate(python_state)
            if numpy:
                numpy.random.set_state(numpy_state)


@contextlib.contextmanager
def _switches_kept(model: nn.Module) -> Iterator[None]:
    """Restores training modes and `requires_grad`, which a closure could reach past the copy."""
    modes = [(module, module.training) for module in model.modules()]
    trained = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, required in trained:
            parameter.requires_grad = required


def meta_inputs(model: nn.Module, argument: str, value: Any, batch: int) -> tuple[Tensor, ...]:
    """Data-free inputs: of the given tensors' form, or of the given sizes and a batch."""
    given = getattr(model, "input_size", None) if value is None else value
    if given is None:
        raise ValueError(f"`{argument}` must be given: {type(model).__name__} has no `input_size`")
    items = [given] if isinstance(given, Tensor) or _is_size(given) else given
    if not isinstance(items, Sequence) or not items:
        items = [None]
    dtypes = [p.dtype for p in model.parameters() if p.is_floating_point()]
    inputs = []
    for item in items:
        if isinstance(item, Tensor):
            inputs.append(item.detach().to("meta"))
        elif _is_size(item):
            dtype = dtypes[0] if dtypes else None
            inputs.append(torch.empty(batch, *item, dtype=dtype, device="meta"))
        else:
            raise ValueError(
                f"`{argument}` (={given!r:.80}) must be a shape such as (C, H, W), of whole "
                "numbers of at least 1, several shapes, or tensors"
            )
    return tuple(inputs)


def _is_size(item: Any) -> bool:
    if not isinstance(item, (tuple, list)) or not item:
        return False
    return all(isinstance(n, Integral) and int(n) > 0 for n in item)


# --- running it ----------------------------------------------------------------------------


@dataclass(eq=False)
class _Call:
    """A module that is running."""

    module: nn.Module
    inputs: Any
    told: bool = False


class _DataFree(TorchDispatchMode):
    """Runs a structural copy: what it meets that holds data goes to device meta, too.

    Such are the constants that a network makes as it runs or finds outside itself. Its
    own tensors are none of these: a forward that reaches them would change the network.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        tensors = (*model.parameters(), *model.buffers())
        self.own = {tensor.untyped_storage()._cdata for tensor in tensors}

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        tensors = _tensors((args, kwargs))
        if any(t.untyped_storage()._cdata in self.own for t in tensors):
            raise RuntimeError("the forward reaches the network itself, past its copy")
        args, kwargs = _all_on_meta(args, kwargs or {})
        if not any(t.is_meta for t in tensors):
            return func(*args, **kwargs)
        if func is torch.ops.aten._to_copy.default and "device" in kwargs:
            kwargs = {**kwargs, "device": torch.device("meta")}
        if func is torch.ops.aten.native_batch_norm.default:
            statistics = args[0].new_empty(args[0].shape[1])  # torch's own rule takes far longer
            return torch.empty_like(args[0]), statistics, statistics
        return func(*args, **kwargs)


class _MixedArguments(TorchFunctionMode):
    """Does as `_DataFree` for calls that compare devices before they are dispatched."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        args, kwargs = _all_on_meta(args, kwargs or {})
        return func(*args, **kwargs)


def _all_on_meta(args: Any, kwargs: Any) -> Any:
    """The arguments of a call, all on device meta if one of them is."""
    on_meta = {tensor.is_meta for tensor in _tensors((args, kwargs))}
    if len(on_meta) < 2:
        return args, kwargs
    return tree_map_only(Tensor, lambda tensor: tensor.to("meta"), (args, kwargs))


class _Run:
    """One forward of a structural copy, followed module by module.

    Attributes:
        names: The name of every module.
        stack: The modules that are running, innermost last.
    """

    def __init__(
        self,
        model: nn.Module,
        twin: nn.Module,
        on_return: Callable[[nn.Module, Any, Any], None],
    ) -> None:
        self.model = model
        self.names = {module: name for name, module in twin.named_modules()}
        self.stack: list[_Call] = []
        self.on_return = on_return
        self.data_free = _DataFree(model)
        for module in self.names:
            module.register_forward_pre_hook(self._enter, with_kwargs=True)
            module.register_forward_hook(self._leave, with_kwargs=True)

    def _enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self.stack.append(_Call(module, (*args, *kwargs.values())))

    def _leave(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        call = self.stack.pop()
        while call.module is not module:  # calls whose error the network caught itself
            call = self.stack.pop()
        self.on_return(module, call.inputs, output)

    @contextlib.contextmanager
    def guarded(self) -> Iterator[None]:
        """Runs without data and trace, and raises an error again with its layer's name."""
        try:
            with (
                _switches_kept(self.model),
                _random_state_kept(),
                torch.no_grad(),
                torch.device("cpu"),
                _MixedArguments(),
                self.data_free,
            ):
                yield
        except Exception as error:
            raise RuntimeError(f"`model` failed{self._where()}: {error}") from error

    def _where(self) -> str:
        if not self.stack:
            return ""
        call = self.stack[-1]
        name = self.names[call.module]
        kind = call.module if _is_layer(call.module) else type(call.module).__name__
        given = ", ".join(str(tuple(t.shape)) for t in _tensors(call.inputs)) or "no tensor"
        return f" in layer '{name}', {kind}, given {given}" if name else f" in {kind} itself"


# --- summary -------------------------------------------------------------------------------


@dataclass(frozen=True)
class SummaryRow:
    """One call of a module.

    Attributes:
        name: The module's name in the network, such as ``"layer1.0.conv1"``.
        type: The name of its class.
        output_shape: Shape of its output with -1 for the batch; a tuple of shapes where it
            returns several tensors.
        params: Number of parameters that it owns and no row before it has counted.
    """

    name: str
    type: str
    output_shape: tuple[Any, ...]
    params: int


@dataclass(frozen=True, repr=False)
class ModelSummary:
    """The table of a network; ``str()`` is the text, notebooks show it as HTML.

    Attributes:
        model: Name of the network's class.
        rows: The calls of its modules in order, without Sequential, ModuleList and the network
            itself; a network that calls no module is a row.
        total_params: Number of its parameters, each once, whether or not a row has them.
        trainable_params: Number of those that require a gradient.
        input_bytes: Size of one input.
        forward_backward_bytes: Size of all outputs and their gradients for one input.
        params_bytes: Size of the parameters.
        unlisted: Names of the parameters that no row has: the network's own, and those of
            modules that did not run or whose parent used them without calling them.
    """

    model: str
    rows: tuple[SummaryRow, ...]
    total_params: int
    trainable_params: int
    input_bytes: int
    forward_backward_bytes: int
    params_bytes: int
    unlisted: tuple[str, ...]

    @property
    def non_trainable_params(self) -> int:
        """Number of parameters that require no gradient."""
        return self.total_params - self.trainable_params

    @property
    def total_bytes(self) -> int:
        """Size of the input, the outputs with their gradients, and the parameters."""
        return self.input_bytes + self.forward_backward_bytes + self.params_bytes

    def __str__(self) -> str:
        rule = "-" * 64
        lines = [
            *_rows_by_torchsummary(self.rows),
            "=" * 64,
            f"Total params: {self.total_params:,}",
            f"Trainable params: {self.trainable_params:,}",
            f"Non-trainable params: {self.non_trainable_params:,}",
            rule,
            f"Input size (MB): {self.input_bytes / MB:0.2f}",
            f"Forward/backward pass size (MB): {self.forward_backward_bytes / MB:0.2f}",
            f"Params size (MB): {self.params_bytes / MB:0.2f}",
            f"Estimated Total Size (MB): {self.total_bytes / MB:0.2f}",
            rule,
        ]
        if self.unlisted:
            more = f" and {len(self.unlisted) - 4} more" if len(self.unlisted) > 4 else ""
            lines.append(f"In no row: {', '.join(self.unlisted[:4])}{more}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<ModelSummary of {self.model}: {self.total_params:,} parameters>"

    def _repr_html_(self) -> str:
        cells = [("Layer", "Type", "Output shape", "Parameters")]
        cells += [(r.name, r.type, str(list(r.output_shape)), f"{r.params:,}") for r in self.rows]
        cells += [("all", self.model, "", f"{self.total_params:,}")]
        rows = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in cells)
        return f"<table>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"


def summary(model: nn.Module, input_size: Inputs = None, *, quiet: bool = False) -> ModelSummary:
    """Prints torchsummary's table of a network and returns it.

    The network is not touched: it is a data-free copy of it that runs, in the modes the
    network is in, so hooks of the network do not run, and its forward must not depend on
    the values of the input.

    Args:
        model: Any network.
        input_size: The shape of one input without the batch, such as (C, H, W); a list of
            shapes for several inputs; or a batch of each input as tensors, whose form and
            type are used (integer inputs come so). By default the network's own
            `input_size`.
        quiet: Whether not to print.

    Returns:
        The table: rows, totals and sizes.

    Raises:
        ValueError: If `input_size` is missing or no shape, or the network is lazy.
        TypeError: If `model` is not a network or cannot be copied.
        RuntimeError: If the network cannot process the input; the message names the layer.

    Source:
        torchsummary 1.5.1, whose table it is.
    """
    twin = structural_copy(model)
    inputs = meta_inputs(twin, "input_size", input_size, batch=2)  # BatchNorm wants two
    rows: list[SummaryRow] = []
    seen: set[nn.Parameter] = set()
    output_bytes = 0

    def add_row(module: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal output_bytes
        if isinstance(module, (nn.Sequential, nn.ModuleList)) or (module is twin and rows):
            return
        own = set(module.parameters(recurse=False)) - seen
        seen.update(own)
        outputs = _tensors(output)
        output_bytes += sum(map(_bytes_of_one, outputs))
        shapes = tuple((-1, *t.shape[1:]) for t in outputs)
        shape = shapes[0] if isinstance(output, Tensor) else shapes
        params = sum(p.numel() for p in own)
        rows.append(SummaryRow(run.names[module], type(module).__name__, shape, params))

    run = _Run(model, twin, add_row)
    with run.guarded():
        twin(*inputs)

    parameters = list(twin.parameters())
    table = ModelSummary(
        model=type(twin).__name__,
        rows=tuple(rows),
        total_params=sum(p.numel() for p in parameters),
        trainable_params=sum(p.numel() for p in parameters if p.requires_grad),
        input_bytes=sum(map(_bytes_of_one, inputs)),
        forward_backward_bytes=2 * output_bytes,  # the outputs and their gradients
        params_bytes=sum(p.nbytes for p in parameters),
        unlisted=tuple(name for name, p in twin.named_parameters() if p not in seen),
    )
    if not quiet:
        print(table)
    return table


def _tensors(tree: Any) -> list[Tensor]:
    """The tensors in nested tuples, lists and dicts."""
    if isinstance(tree, Tensor):
        return [tree]
    if isinstance(tree, Mapping):
        tree = tree.values()
    elif not isinstance(tree, (tuple, list)):
        return []
    return [tensor for item in tree for tensor in _tensors(item)]


def _bytes_of_one(batch: Tensor) -> int:
    """The bytes of one element of a batch."""
    return batch[:1].nbytes if batch.dim() else batch.nbytes


def _rows_by_torchsummary(rows: Sequence[SummaryRow]) -> list[str]:
    """The lines that torchsummary prints, down to the last row.

    torchsummary itself can run neither data-free tensors nor nested outputs, and counts
    shared parameters at every call; so it is given the recorded calls to print.
    """
    from torchsummary import summary as print_table

    class Replay(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.calls = nn.ModuleList(_replayed(row) for row in rows)

        def forward(self, x: Tensor) -> None:
            for call in self.calls:
                call(x)

    lines: list[str] = []
    names = {**print_table.__globals__, "print": lines.append}
    with torch.device("cpu"):
        # an input of size 0 draws no random number
        FunctionType(print_table.__code__, names)(Replay(), (0,), -1, "cpu")
    return lines[: 3 + len(rows)]


def _replayed(row: SummaryRow) -> nn.Module:
    """A module of the row's type name, output shape and number of parameters."""
    nested = not row.output_shape or isinstance(row.output_shape[0], tuple)
    shapes = row.output_shape if nested else (row.output_shape,)
    outputs = tuple(torch.empty(2, *shape[1:], device="meta") for shape in shapes)
    output = outputs if nested else outputs[0]
    call: nn.Module = type(row.type, (nn.Module,), {"forward": lambda self, x: output})()
    call.weight = nn.Parameter(torch.empty(row.params, device="meta"))
    return call


# --- profile -------------------------------------------------------------------------------


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
        lines += _aligned([("", "MACs", "parameters"), *cells])
        if self.uncounted:
            told = ", ".join(f"{name} ×{calls}" for name, calls in self.uncounted.items())
            lines.append(f"no rule in thop: {told}")
        return "\n".join(lines)


MOVES = ("clone", "copy", "detach", "to_copy", "unsafe_view")  # these compute nothing


class _Uncounted(TorchDispatchMode):
    """Counts what computes outside the layers for which thop has a rule."""

    def __init__(self, run: _Run, rules: Mapping[type, Any]) -> None:
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
        of_the_network = any(t.is_meta for t in _tensors((args, kwargs)))  # thop counts on the CPU
        operation = func.overloadpacket.__name__.strip("_")
        if of_the_network and self.run.stack and not func.is_view and operation not in MOVES:
            self._count(operation)
        return func(*args, **(kwargs or {}))

    def _count(self, operation: str) -> None:
        call = self.run.stack[-1]
        if any(_has_rule(outer.module, self.rules) for outer in self.run.stack):
            return
        if not _is_layer(call.module):
            self.calls[operation] += 1
        elif not call.told:
            call.told = True
            self.calls[type(call.module).__name__] += 1


def profile(model: nn.Module, inputs_or_size: Inputs = None) -> Profile:
    """Counts multiply-accumulates by thop, FLOPs by torch, and parameters, each once.

    The network is not touched: it is a data-free copy of it that runs, in eval mode; see
    `summary`. Where FLOPs are more than twice the MACs, thop has missed something, which
    `Profile.uncounted` names.

    Args:
        model: Any network.
        inputs_or_size: What it is fed: the shape of one input without the batch, such as
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
    inputs = meta_inputs(twin, "inputs_or_size", inputs_or_size, batch=1)
    macs: Counter[nn.Module] = Counter()

    def count(module: nn.Module, inputs: Any, output: Any) -> None:
        if _has_rule(module, rules):
            counted = _Counted(module)
            rules[type(module)](counted, inputs, output)
            macs[module] += int(counted.total_ops)

    run = _Run(model, twin, count)
    uncounted = _Uncounted(run, rules)
    with run.guarded(), FlopCounterMode(display=False) as flops, uncounted:
        twin(*inputs)

    by_layer: dict[str, LayerProfile] = {}
    seen: set[nn.Parameter] = set()
    for name, module in twin.named_modules():
        own = set(module.parameters(recurse=False)) - seen
        seen.update(own)
        if own or _has_rule(module, rules) or _is_layer(module):
            params = sum(p.numel() for p in own)
            by_layer[name] = LayerProfile(type(module).__name__, macs[module], params)
    return Profile(
        model=type(twin).__name__,
        input_shapes=tuple(tuple(t.shape) for t in inputs),
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


def _is_layer(module: nn.Module) -> bool:
    return next(module.children(), None) is None


def _has_rule(module: nn.Module, rules: Mapping[type, Any]) -> bool:
    """Whether thop counts the module as a whole."""
    return type(module) in rules and not isinstance(module, nn.Sequential)


# --- comparison ----------------------------------------------------------------------------


@dataclass(frozen=True)
class ComparisonRow:
    """The cost of one network: see `Profile`; ``size_bytes`` is of parameters and buffers."""

    name: str
    input_shapes: tuple[Size, ...]
    params: int
    macs: int
    flops: int
    size_bytes: int

    @property
    def macs_incomplete(self) -> bool:
        """Whether torch counts more products than thop, which lacks a rule for some."""
        return self.flops > 2 * self.macs


@dataclass(frozen=True, repr=False)
class Comparison:
    """Networks side by side; ``str()`` is a table, `markdown` another, `rows` the numbers."""

    rows: tuple[ComparisonRow, ...]

    def _cells(self) -> list[tuple[str, ...]]:
        return [
            ("network", "input", "parameters", "MACs", "FLOPs", "size (MB)"),
            *(
                (
                    row.name,
                    ", ".join("×".join(map(str, shape[1:])) for shape in row.input_shapes),
                    f"{row.params:,}",
                    f"{row.macs:,}{'*' * row.macs_incomplete}",
                    f"{row.flops:,}",
                    f"{row.size_bytes / MB:.2f}",
                )
                for row in self.rows
            ),
        ]

    def _footnote(self) -> list[str]:
        incomplete = any(row.macs_incomplete for row in self.rows)
        return ["", "* without products that thop has no rule for"] * incomplete

    def __repr__(self) -> str:
        return "\n".join([*_aligned(self._cells()), *self._footnote()])

    def markdown(self) -> str:
        """The table in Markdown."""
        head, *body = ["| " + " | ".join(cells) + " |" for cells in self._cells()]
        return "\n".join([head, "|---|---:|---:|---:|---:|---:|", *body, *self._footnote()])

    def _repr_markdown_(self) -> str:
        return self.markdown()


def compare(
    models: Sequence[nn.Module | str] | Mapping[str, nn.Module | str],
    inputs_or_size: Inputs = None,
) -> Comparison:
    """Profiles several networks and puts them side by side.

    Args:
        models: Networks, or names of `list_models`; or either by the name to show.
        inputs_or_size: What each is fed, as in `profile`; by default its own `input_size`.

    Returns:
        A table of parameters, MACs, FLOPs, and the size of parameters and buffers.

    Raises:
        ValueError: If a name is unknown, or as `profile` does.
        TypeError: If `models` is a single network or name, or as `profile` does.
        RuntimeError: As `profile` does, with the network's name.
    """
    if isinstance(models, (str, nn.Module)):
        raise TypeError(f"`models` (={models!r:.80}) must be several networks or names")
    if not isinstance(models, Mapping):
        models = _named(models)
    rows = []
    for name, item in models.items():
        with torch.device("meta"):  # no data and no random numbers for a network that goes again
            model = get_model(item) if isinstance(item, str) else item
        try:
            cost = profile(model, inputs_or_size)
        except (RuntimeError, TypeError, ValueError) as error:
            raise type(error)(f"{name}: {error}") from error
        size = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
        row = ComparisonRow(name, cost.input_shapes, cost.params, cost.macs, cost.flops, size)
        rows.append(row)
    return Comparison(tuple(rows))


def _named(models: Sequence[nn.Module | str]) -> dict[str, nn.Module | str]:
    """The networks by name or class, a number behind those that recur."""
    named: dict[str, nn.Module | str] = {}
    for item in models:
        name = item if isinstance(item, str) else type(item).__name__
        recurring = sum(name == known.partition(" (")[0] for known in named)
        named[f"{name} ({recurring + 1})" if recurring else name] = item
    return named


def _aligned(cells: Sequence[Sequence[str]]) -> list[str]:
    """Rows of text with the first column to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            [row[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        )
        for row in cells
    ]
