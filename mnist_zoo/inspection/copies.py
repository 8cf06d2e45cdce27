"""Structural copies of networks: their tensors hold no data."""

from __future__ import annotations

import contextlib
import copy
import random
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from numbers import Integral
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .._networks import unwrapped

Size: TypeAlias = tuple[int, ...]
Inputs: TypeAlias = Size | Sequence[Size] | Tensor | Sequence[Tensor] | None
"""A shape without the batch, several shapes, tensors, or None for the network's `input_size`."""


class _DataFreeCopies(TorchFunctionMode):
    """While active, `copy.deepcopy` copies the shape and type of a tensor, but not its data."""

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
    """Copies a network without data and hooks: modules, modes, and tensors on device meta."""
    if not isinstance(model, nn.Module) or isinstance(model, torch.jit.ScriptModule):
        raise TypeError(f"`model` must be an nn.Module in Python, not {type(model).__name__}")
    model = unwrapped(model)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if nn.parameter.is_lazy(tensor):
            raise ValueError(
                f"`model` must be initialised; {name} gets its shape in the first forward"
            )
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
        with _DataFreeCopies(), random_state_kept():
            twin = copy.deepcopy(model, memo)
    except Exception as error:
        raise TypeError(f"`model` ({type(model).__name__}) cannot be copied: {error}") from error
    own = set(model.modules())
    for name, module in twin.named_modules():
        if module in own:
            raise TypeError(
                f"`model` cannot be copied: '{name}' has a __deepcopy__ that forbids it"
            )
        for key, child in module.named_children():
            setattr(module, key, unwrapped(child))
    return twin


@contextlib.contextmanager
def random_state_kept() -> Iterator[None]:
    """Restores the random state of Python, NumPy and torch, even if a forward draws numbers."""
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


def meta_inputs(model: nn.Module, inputs: Any, batch: int) -> tuple[Tensor, ...]:
    """Makes inputs without data: like the given tensors, or of the given shapes with a batch.

    Raises:
        ValueError: If `inputs` is missing or is neither shapes nor tensors.
    """
    given = getattr(model, "input_size", None) if inputs is None else inputs
    if given is None:
        raise ValueError(f"`inputs` must be given: {type(model).__name__} has no `input_size`")
    items = [given] if isinstance(given, Tensor) or _is_size(given) else given
    if not isinstance(items, Sequence) or not items:
        items = [None]
    dtypes = [p.dtype for p in model.parameters() if p.is_floating_point()]
    tensors = []
    for item in items:
        if isinstance(item, Tensor):
            tensors.append(item.detach().to("meta"))
        elif _is_size(item):
            dtype = dtypes[0] if dtypes else None
            tensors.append(torch.empty(batch, *item, dtype=dtype, device="meta"))
        else:
            raise ValueError(
                f"`inputs` (={given!r:.80}) must be a shape such as (C, H, W) of whole "
                "numbers of at least 1, a list of shapes, or tensors"
            )
    return tuple(tensors)


def _is_size(item: Any) -> bool:
    if not isinstance(item, (tuple, list)) or not item:
        return False
    return all(isinstance(n, Integral) and int(n) > 0 for n in item)
