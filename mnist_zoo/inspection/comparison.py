"""Several networks side by side: `compare`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from ..models.registry import get_model
from .copies import Inputs, Size
from .costs import aligned, profile
from .tables import MB

__all__ = ["Comparison", "ComparisonRow", "compare"]


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
        return "\n".join([*aligned(self._cells()), *self._footnote()])

    def markdown(self) -> str:
        """The table in Markdown."""
        head, *body = ["| " + " | ".join(cells) + " |" for cells in self._cells()]
        return "\n".join([head, "|---|---:|---:|---:|---:|---:|", *body, *self._footnote()])

    def _repr_markdown_(self) -> str:
        return self.markdown()


def compare(
    models: Sequence[nn.Module | str] | Mapping[str, nn.Module | str],
    inputs: Inputs = None,
) -> Comparison:
    """Profiles several networks and puts them side by side.

    Args:
        models: Networks, or names of `list_models`; or either by the name to show.
        inputs: What each is fed, as in `profile`; by default its own `input_size`.

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
            cost = profile(model, inputs)
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
