"""`compare`: the costs of several networks side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from ..blocks.layers import no_data
from ..models.registry import get_model
from .copies import Inputs, Size
from .costs import aligned, profile, profile_outline
from .tables import MB

__all__ = ["Comparison", "ComparisonRow", "compare"]


@dataclass(frozen=True)
class ComparisonRow:
    """The cost of one network.

    Attributes:
        name: Name of the network in the table.
        input_shapes: Shapes of the inputs, with the batch.
        params: Number of parameters, each counted once.
        macs: Multiply-accumulates, as thop counts them.
        flops: Floating-point operations, as torch counts them; see `Profile`.
        size_bytes: Size of parameters and buffers.

    Example:
        >>> from mnist_zoo import compare
        >>> row = compare(["lenet5"]).rows[0]
        >>> row.params, row.macs, row.macs_incomplete
        (44426, 281640, False)
    """

    name: str
    input_shapes: tuple[Size, ...]
    params: int
    macs: int
    flops: int
    size_bytes: int

    @property
    def macs_incomplete(self) -> bool:
        """Whether torch counts operations for which thop has no rule."""
        return self.flops > 2 * self.macs


@dataclass(frozen=True, repr=False)
class Comparison:
    """Networks side by side; ``str()`` gives a text table.

    Attributes:
        rows: The numbers, one row per network.

    Example:
        >>> from mnist_zoo import compare
        >>> print(compare(["lenet5"]).markdown())
        | network | input | parameters | MACs | FLOPs | size (MB) |
        |---|---:|---:|---:|---:|---:|
        | lenet5 | 1×28×28 | 44,426 | 281,640 | 563,280 | 0.17 |
    """

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
        return ["", "* incomplete: thop has no rule for some operations"] * incomplete

    def __repr__(self) -> str:
        return "\n".join([*aligned(self._cells()), *self._footnote()])

    def markdown(self) -> str:
        """Returns the table in Markdown."""
        head, *body = ["| " + " | ".join(cells) + " |" for cells in self._cells()]
        return "\n".join([head, "|---|---:|---:|---:|---:|---:|", *body, *self._footnote()])

    def _repr_markdown_(self) -> str:
        return self.markdown()


def compare(
    models: Sequence[nn.Module | str] | Mapping[str, nn.Module | str],
    inputs: Inputs = None,
) -> Comparison:
    """Profiles several networks and puts the results side by side.

    Args:
        models: Networks or names from `list_models`; or a mapping from the names to show to
            networks or names.
        inputs: Inputs of every network, as in `profile`; by default its own `input_size`.

    Returns:
        A table of parameters, MACs, FLOPs, and the size of parameters and buffers.

    Raises:
        ValueError: If a name is unknown, or if `profile` raises it.
        TypeError: If `models` is a single network or name, or if `profile` raises it.
        RuntimeError: If `profile` raises it; the message names the network.

    Example:
        >>> from mnist_zoo import compare, mini_resnet
        >>> compare({"LeNet-5": "lenet5", "mine": mini_resnet(num_classes=26)})
        network  input    parameters       MACs      FLOPs  size (MB)
        LeNet-5  1×28×28      44,426    281,640    563,280       0.17
        mine     1×28×28      49,722  2,021,376  4,042,752       0.19
    """
    if isinstance(models, (str, nn.Module)):
        raise TypeError(f"`models` (={models!r:.80}) must be several networks or names")
    if not isinstance(models, Mapping):
        models = _named(models)
    rows = []
    for name, item in models.items():
        with no_data():
            model = get_model(item) if isinstance(item, str) else item
        try:
            if isinstance(item, str):
                cost = profile_outline(_in_float32(model), inputs)
            else:
                cost = profile(model, inputs)
        except (RuntimeError, TypeError, ValueError) as error:
            raise type(error)(f"{name}: {error}") from error
        size = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
        row = ComparisonRow(name, cost.input_shapes, cost.params, cost.macs, cost.flops, size)
        rows.append(row)
    return Comparison(tuple(rows))


def _in_float32(model: nn.Module) -> nn.Module:
    """The network, whatever torch's default type was while it was built."""
    return model if torch.get_default_dtype() == torch.float32 else model.float()


def _named(models: Sequence[nn.Module | str]) -> dict[str, nn.Module | str]:
    """The networks by name or class name, with a number where a name occurs again."""
    named: dict[str, nn.Module | str] = {}
    for item in models:
        name = item if isinstance(item, str) else type(item).__name__
        recurring = sum(name == known.partition(" (")[0] for known in named)
        named[f"{name} ({recurring + 1})" if recurring else name] = item
    return named
