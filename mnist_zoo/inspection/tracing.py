"""Before a network is traced: `duplicate`, a copy with its data; and a tracer for one thread."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode
from typing_extensions import override

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


def duplicate(model: Network) -> Network:
    """Copies a network, also a pruned one, whose weights a hook computes at each call.

    Raises:
        ValueError: If it cannot be copied.
    """
    try:
        with _ComputedTensors():
            return copy.deepcopy(model)
    except Exception as error:  # of any type: what the network holds may raise anything
        raise ValueError(
            f"`model` ({type(model).__name__}) cannot be copied: {error!s:.300}"
        ) from error


class Tracer(fx.Tracer):
    """torch's tracer, which replaces `nn.Module.__call__`, but lets other threads call modules.

    To trace, hold `TRACING`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.thread = threading.get_ident()

    @override
    def call_module(
        self,
        m: nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        if threading.get_ident() != self.thread:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)
