"""What happened to each tensor in a conversion."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Literal, TypeAlias

from .files import WeightsError

__all__ = ["ConversionError", "ConversionReport", "TensorReport"]

Action: TypeAlias = Literal["copied", "adapted", "skipped", "missing"]
ACTIONS: tuple[Action, ...] = ("copied", "adapted", "skipped", "missing")


@dataclass(frozen=True)
class TensorReport:
    """What happened to one tensor.

    Attributes:
        name: Its name in the network, or in the source if the network has no such tensor.
        action: ``"copied"``; ``"adapted"``, copied with a change; ``"skipped"``, not copied;
            ``"missing"``, not in the source, so the network keeps its own values.
        note: How it was adapted, or why it was not copied.
        fatal: Whether a strict conversion fails because of it.

    Example:
        >>> from mnist_zoo import from_torchvision, lenet5
        >>> from_torchvision(lenet5(), lenet5()).tensors[0]
        TensorReport(name='conv1.weight', action='copied', note='', fatal=False)
    """

    name: str
    action: Action
    note: str = ""
    fatal: bool = False

    @property
    def shown_name(self) -> str:
        """The name as messages show it: its repr if it is not an ordinary name."""
        return self.name if re.fullmatch(r"[\w.-]+", self.name, re.ASCII) else repr(self.name)


@dataclass(frozen=True, repr=False)
class ConversionReport:
    """What happened to every tensor of a network and of the source; its repr is a table.

    Attributes:
        tensors: One report per tensor.

    Example:
        >>> from mnist_zoo import from_torchvision, lenet5
        >>> report = from_torchvision(lenet5(num_classes=26), lenet5())
        >>> report
        8 copied, 0 adapted, 2 skipped, 0 missing
          skipped  fc3.weight  (10, 84) → (26, 84); re-initialised
          skipped  fc3.bias    (10,) → (26,); re-initialised
        >>> report.skipped
        ('fc3.weight', 'fc3.bias')
    """

    tensors: tuple[TensorReport, ...]

    def names(self, action: Action) -> tuple[str, ...]:
        """The names of the tensors with this action."""
        return tuple(tensor.name for tensor in self.tensors if tensor.action == action)

    @property
    def copied(self) -> tuple[str, ...]:
        """Names of the tensors that were copied unchanged."""
        return self.names("copied")

    @property
    def adapted(self) -> tuple[str, ...]:
        """Names of the tensors that were copied with a change, most often of shape."""
        return self.names("adapted")

    @property
    def skipped(self) -> tuple[str, ...]:
        """Names of the tensors that were not copied."""
        return self.names("skipped")

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the network's tensors that the source lacks."""
        return self.names("missing")

    def __repr__(self) -> str:
        counts = Counter(tensor.action for tensor in self.tensors)
        lines = [", ".join(f"{counts[action]} {action}" for action in ACTIONS)]
        changed = [tensor for tensor in self.tensors if tensor.action != "copied"]
        width = max((len(tensor.shown_name) for tensor in changed), default=0)
        lines += [f"  {t.action:<8} {t.shown_name:<{width}}  {t.note}".rstrip() for t in changed]
        return "\n".join(lines)


class ConversionError(WeightsError):
    """The source does not fit the network; the network is unchanged.

    Attributes:
        report: What would have happened to each tensor; empty if none was examined.

    Example:
        >>> from mnist_zoo import ConversionError, from_torchvision, lenet5
        >>> try:
        ...     from_torchvision(lenet5(), lenet5(image_size=32))
        ... except ConversionError as error:
        ...     print(error)
        `source` must fit LeNet5:
          fc1.weight: (120, 400) → (120, 256); the shapes must be equal
    """

    def __init__(self, message: str, report: ConversionReport | None = None) -> None:
        super().__init__(message)
        self.report = report or ConversionReport(())
