"""`summary`: the table of a network."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from typing import Any

import torch
from torch import Tensor, nn

from .copies import Inputs, Size, meta_inputs, random_state_kept, structural_copy
from .running import Trace, parameters_of, tensors_in

__all__ = ["ModelSummary", "SummaryRow", "summary"]

MB = 1024**2
_PRINT_LOCK = threading.Lock()


@dataclass(frozen=True)
class SummaryRow:
    """One call of a module.

    Attributes:
        name: Name of the module in the network, such as ``"layer1.0.conv1"``.
        type: Name of the module's class.
        output_shape: Shape of the output with -1 for the batch, () for a number; a tuple of
            shapes if the module returns several tensors.
        params: Number of the module's own parameters that no earlier row has counted.

    Example:
        >>> from mnist_zoo import lenet5, summary
        >>> summary(lenet5(), quiet=True).rows[0]
        SummaryRow(name='conv1', type='Conv2d', output_shape=(-1, 6, 24, 24), params=156)
    """

    name: str
    type: str
    output_shape: tuple[Any, ...]
    params: int


@dataclass(frozen=True, repr=False)
class ModelSummary:
    """The table of a network; ``str()`` gives the text, and notebooks show it as HTML.

    Attributes:
        model: Name of the network's class.
        rows: The calls of modules in order. Sequential, ModuleList and the network itself have
            no row, unless the network calls no module.
        total_params: Number of parameters, each counted once, whether or not it is in a row.
        trainable_params: Number of parameters that require a gradient.
        input_bytes: Size of one input.
        forward_backward_bytes: Size of all outputs and their gradients for one input.
        params_bytes: Size of the parameters.
        unlisted: Names of the parameters that are in no row: those of the network itself, and
            those of modules that did not run or were used without a call.

    Example:
        >>> from mnist_zoo import lenet5, summary
        >>> table = summary(lenet5(), quiet=True)
        >>> table.total_params, table.params_bytes
        (44426, 177704)
        >>> [row.name for row in table.rows]
        ['conv1', 'pool', 'conv2', 'pool', 'fc1', 'fc2', 'fc3']
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


@random_state_kept()  # once for the copy and its run
def summary(model: nn.Module, inputs: Inputs = None, *, quiet: bool = False) -> ModelSummary:
    """Prints torchsummary's table of a network and returns it.

    The network stays unchanged: a copy without data runs, in the training modes of the
    network. So the network's hooks do not run, and its forward must not depend on the values
    of the input, nor of large tensors of its own: only buffers and constants of up to 64
    elements, and parameters of one, keep their values.

    Args:
        model: Any network.
        inputs: The shape of one input without the batch, such as (C, H, W); a list of
            shapes for several inputs; or a batch of each input as tensors, of which only
            shape and type are used (needed for integer inputs). By default the network's
            own `input_size`.
        quiet: Whether to return the table without printing it.

    Returns:
        The table: rows, totals and sizes.

    Raises:
        ValueError: If `inputs` is missing or is neither shapes nor tensors, or if the network
            has lazy parameters.
        TypeError: If `model` is not a network or cannot be copied.
        RuntimeError: If the network cannot process the input; the message names the layer.

    Source:
        torchsummary 1.5.1, which prints the table.

    Example:
        >>> from torch import nn
        >>> from mnist_zoo import summary
        >>> table = summary(nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), (1, 28, 28))
        ----------------------------------------------------------------
                Layer (type)               Output Shape         Param #
        ================================================================
                   Flatten-1                  [-1, 784]               0
                    Linear-2                   [-1, 10]           7,850
        ================================================================
        Total params: 7,850
        Trainable params: 7,850
        Non-trainable params: 0
        ----------------------------------------------------------------
        Input size (MB): 0.00
        Forward/backward pass size (MB): 0.01
        Params size (MB): 0.03
        Estimated Total Size (MB): 0.04
        ----------------------------------------------------------------
        >>> table.rows[1].params
        7850
    """
    twin = structural_copy(model)
    tensors = meta_inputs(twin, inputs, batch=2)  # BatchNorm needs two
    rows: list[SummaryRow] = []
    seen: set[nn.Parameter] = set()
    output_bytes = 0

    def add_row(module: nn.Module, name: str, inputs: Any, output: Any) -> None:
        nonlocal output_bytes
        if isinstance(module, (nn.Sequential, nn.ModuleList)) or (module is twin and rows):
            return
        own = parameters_of(module) - seen
        seen.update(own)
        outputs = tensors_in(output)
        output_bytes += sum(map(_bytes_of_one, outputs))
        shapes = tuple((-1, *t.shape[1:]) if t.dim() else () for t in outputs)
        shape = shapes[0] if isinstance(output, Tensor) else shapes
        params = sum(p.numel() for p in own)
        rows.append(SummaryRow(name, type(module).__name__, shape, params))

    with Trace(model, twin, add_row).guarded():
        twin(*tensors)

    named = dict(twin.named_parameters())
    parameters = list(named.values())
    table = ModelSummary(
        model=type(twin).__name__,
        rows=tuple(rows),
        total_params=sum(p.numel() for p in parameters),
        trainable_params=sum(p.numel() for p in parameters if p.requires_grad),
        input_bytes=sum(map(_bytes_of_one, tensors)),
        forward_backward_bytes=2 * output_bytes,  # the outputs and their gradients
        params_bytes=sum(p.nbytes for p in parameters),
        unlisted=tuple(name for name, p in named.items() if p not in seen),
    )
    if not quiet:
        print(table)
    return table


def _bytes_of_one(batch: Tensor) -> int:
    """Bytes of one element of a batch."""
    return math.prod(batch.shape[1:]) * batch.element_size()


def _rows_by_torchsummary(rows: Sequence[SummaryRow]) -> list[str]:
    """The lines that torchsummary prints, down to the last row.

    torchsummary cannot run tensors without data or nested outputs, and counts shared parameters
    at every call. So it gets a stand-in that replays the recorded calls.
    """
    from torchsummary import summary as print_table

    # without modes of torch, such as another default device, it counts on the CPU, and faster
    with _printed_lines() as lines, torch._C.DisableTorchFunction():
        # an input of size 0 needs no random numbers
        print_table(_Replay(rows), (0,), -1, "cpu")
    lines = lines[: 3 + len(rows)]
    for place, row in enumerate(rows, start=3):
        if not _is_shape(row.output_shape):
            shapes = str([list(shape) for shape in row.output_shape])
            lines[place] = lines[place].replace(f"{'[]':>25}", f"{shapes:>25}")
    return lines


@contextlib.contextmanager
def _printed_lines() -> Iterator[list[str]]:
    """Collects the lines that torchsummary prints in this thread."""
    # Redirecting sys.stdout would affect all threads, and would fail if another thread redirects
    # it as well. A global named `print` in torchsummary's module affects that module only.
    from torchsummary import torchsummary as module

    lines: list[str] = []
    this_thread = threading.get_ident()

    def collect(line: str) -> None:
        if threading.get_ident() == this_thread:
            lines.append(line)
        else:  # another thread that calls torchsummary directly
            print(line)

    with _PRINT_LOCK:
        module.print = collect
        try:
            yield lines
        finally:
            del module.print


class _Replay:
    """Stands in for a network that calls one layer per row, as far as torchsummary uses networks.

    One more layer has a parameter, because torchsummary fails if none has; its line is cut off.
    """

    def __init__(self, rows: Sequence[SummaryRow]) -> None:
        printed = [*((row.type, row.output_shape, row.params) for row in rows), ("", (), 1)]
        self.layers = [_kind(name)(shape, params) for name, shape, params in printed]

    def apply(self, register: Callable[[Any], None]) -> None:
        for layer in self.layers:
            register(layer)

    def __call__(self, x: Tensor) -> None:
        for layer in self.layers:
            layer.hook(layer, (x,), layer.output)


class _Layer:
    """The call of one row; the name of its class is the row's."""

    hook: Callable[..., None]

    def __init__(self, shape: tuple[Any, ...], params: int) -> None:
        self.output = _Sized((2, *shape[1:])) if _is_shape(shape) else ()
        if params:
            self.weight = _Sized((params,))

    def register_forward_hook(self, hook: Callable[..., None]) -> _Layer:
        self.hook = hook
        return self

    def remove(self) -> None:
        """Nothing calls the hook again."""


@cache
def _kind(name: str) -> type[_Layer]:
    return type(name, (_Layer,), {})


@dataclass
class _Sized:
    """A tensor, as far as torchsummary uses it."""

    shape: Size
    requires_grad: bool = True

    def size(self) -> Size:
        return self.shape


def _is_shape(shape: tuple[Any, ...]) -> bool:
    """Whether it is a shape that torchsummary can print: of one tensor, with a batch."""
    return bool(shape) and not isinstance(shape[0], tuple)
