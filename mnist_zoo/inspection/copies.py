"""Structural copies of networks: their tensors hold no data."""

from __future__ import annotations

import contextlib
import copy
import random
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from numbers import Integral
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .._modes import modes_of
from .._networks import check_network, unwrapped

Size: TypeAlias = tuple[int, ...]
Inputs: TypeAlias = Size | Sequence[Size] | Tensor | Sequence[Tensor] | None
"""A shape without the batch, several shapes, tensors, or None for the network's `input_size`."""


KEPT = 64
"""So many elements a tensor may have for the copy to keep its values, if it is no parameter."""
GENERATOR_STATE = 5056  # bytes of the largest state of a torch.Generator
PLAIN = {int, float, bool, str, type(None), torch.dtype, torch.device}  # never hold tensors
_LOCK = threading.RLock()  # the random state belongs to the process


class _DataFreeCopies(TorchFunctionMode):
    """While active, `copy.deepcopy` copies the shape and type of a tensor, but not its data.

    A small tensor keeps its values: the network may read a number of its own, such as a stride.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is Tensor.__deepcopy__:
            tensor, memo = args
            memo[id(tensor)] = _copied(tensor, KEPT)
            return memo[id(tensor)]
        if func is Tensor.clone:  # how a Parameter copies its data
            return _copied(args[0], 1)
        return func(*args, **(kwargs or {}))


def _copied(tensor: Tensor, kept: int) -> Tensor:
    small = tensor.numel() <= kept or (tensor.numel() <= GENERATOR_STATE and _is_state(tensor))
    if small and not tensor.is_meta and type(tensor) is Tensor:
        return tensor.detach().cpu().clone().requires_grad_(tensor.requires_grad)
    return without_data(tensor).requires_grad_(tensor.requires_grad)


def without_data(tensor: Tensor) -> Tensor:
    """A tensor of the same shape and type on device meta."""
    if tensor.is_contiguous():  # `empty_like` is ten times slower
        return torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
    return torch.empty_like(tensor, device="meta")


def _is_state(tensor: Tensor) -> bool:
    """Whether the tensor may be the state of a torch.Generator."""
    return tensor.dtype == torch.uint8 and tensor.dim() == 1 and not tensor.is_cuda


def structural_copy(model: nn.Module) -> nn.Module:
    """Copies a network without data and hooks: modules, modes, and tensors on device meta.

    Tensors of up to `KEPT` elements that are no parameters keep their values, on the CPU; so do
    parameters of one element, and generators their state.
    """
    check_network(model=model)
    if isinstance(model, torch.jit.ScriptModule):
        raise TypeError(f"`model` must be an nn.Module in Python, not {type(model).__name__}")
    model = unwrapped(model)
    modules = dict(model.named_modules())
    memo: dict[int, Any] = {}
    for name, module in modules.items():
        if isinstance(module, torch.jit.ScriptModule):
            raise TypeError(f"`model` must be in Python; '{name}' is a {type(module).__name__}")
        for key, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is not None:
                _check_copied(f"{name}.{key}" if name else key, tensor)
                if type(tensor) is nn.Parameter:
                    twin_data = _copied(tensor.data, 1)
                    memo[id(tensor)] = nn.Parameter(twin_data, tensor.requires_grad)
    hooks = [key for key in vars(nn.Module()) if "_hooks" in key]
    for module in modules.values():
        memo.update({id(getattr(module, key)): OrderedDict() for key in hooks})
        names = module._non_persistent_buffers_set
        memo[id(names)] = set(names)
    try:
        with _DataFreeCopies(), random_state_kept():
            _copy_plain_modules(list(modules.values()), memo)
            twin = copy.deepcopy(model, memo)
    except Exception as error:
        raise TypeError(f"`model` ({type(model).__name__}) cannot be copied: {error}") from error
    own = modes_of(model)
    for name, module in twin.named_modules():
        if module in own:
            raise TypeError(
                f"`model` cannot be copied: '{name}' has a __deepcopy__ that forbids it"
            )
        for key, child in module.named_children():
            setattr(module, key, unwrapped(child))
    for module, mode in own.items():
        if isinstance(copied := memo.get(id(module)), nn.Module):
            copied.training = mode
    return twin


def _check_copied(name: str, tensor: Tensor) -> None:
    if nn.parameter.is_lazy(tensor):
        raise ValueError(f"`model` must be initialised; {name} gets its shape in the first forward")
    if tensor.layout is not torch.strided:
        raise TypeError(f"`model` must have dense tensors; {name} is {tensor.layout}")


def _copy_plain_modules(modules: list[nn.Module], memo: dict[int, Any]) -> None:
    """Does for most modules what `copy.deepcopy` does, in a third of the time."""
    for module in reversed(modules):  # those inside before those around them
        if id(module) in memo or not _is_copied_by_its_attributes(module):
            continue
        memo[id(module)] = twin = type(module).__new__(type(module))
        values = {k: v for k, v in vars(module).items() if k != "_compiled_call_impl"}  # as torch
        twin.__setstate__({key: _attribute(value, memo) for key, value in values.items()})


def _is_copied_by_its_attributes(module: nn.Module) -> bool:
    kind = type(module)
    own = ("__new__", "__reduce__", "__reduce_ex__", "__getstate__")
    return (
        not hasattr(module, "__deepcopy__")
        and not hasattr(kind, "__slots__")
        and all(getattr(kind, name, None) is getattr(nn.Module, name, None) for name in own)
    )


def _attribute(value: Any, memo: dict[int, Any]) -> Any:
    kind = type(value)
    if kind in PLAIN or (kind is tuple and all(type(item) in PLAIN for item in value)):
        return value
    return memo[id(value)] if id(value) in memo else copy.deepcopy(value, memo)


@contextlib.contextmanager
def random_state_kept() -> Iterator[None]:
    """Restores the random state of Python, NumPy and torch, even if a forward draws numbers.

    One thread at a time: another one would restore a state in the middle of this one's.
    """
    with _LOCK, torch.random.fork_rng(devices=[]):
        numpy = sys.modules.get("numpy")
        python_state = random.getstate()
        numpy_state = numpy.random.get_state() if numpy else None
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
