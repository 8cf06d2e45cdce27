"""Before a network is traced: `duplicate`, a copy with its data, and a lock."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

Network = TypeVar("Network", bound=nn.Module)
TRACING = threading.RLock()  # torch's tracers change nn.Module for all threads: one at a time


class _ComputedTensors(TorchFunctionMode):
    """While active, `copy.deepcopy` takes tensors with a history, too, and copies their values."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is Tensor.__deepcopy__ and not args[0].is_leaf:
            tensor, memo = args
            memo[id(tensor)] = tensor.detach().clone()
            return memo[id(tensor)]
        return func(*args, **(kwargs or {}))


def duplicate(model: Network, argument: str = "model") -> Network:
    """Copies a network, or raises a ValueError; also one whose weights a hook computes."""
    try:
        with _ComputedTensors():
            return copy.deepcopy(model)
    except Exception as error:  # of any type: what the network holds may raise anything
        name = type(model).__name__
        raise ValueError(f"`{argument}` ({name}) cannot be copied: {error!s:.300}") from error
