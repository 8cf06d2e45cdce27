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
COLLECTIONS = {tuple, set, dict, OrderedDict}
HOOKS = dict.fromkeys(key for key in vars(nn.Module()) if "_hooks" in key)
_LOCK = threading.RLock()  # the random state belongs to the process
_kept = False  # by `random_state_kept`, whose thread has the lock


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
        memo.update({id(hooks): OrderedDict() for key in HOOKS if (hooks := vars(module).get(key))})
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
            if (inside := unwrapped(child)) is not child:
                setattr(module, key, inside)
    for module, mode in own.items():
        copied = memo.get(id(module))
        if isinstance(copied, nn.Module) and copied.training != mode:
            copied.training = mode
    return twin


def _check_copied(name: str, tensor: Tensor) -> None:
    if nn.parameter.is_lazy(tensor):
        raise ValueError(f"`model` must be initialised; {name} gets its shape in the first forward")
    if tensor.layout is not torch.strided:
        raise TypeError(f"`model` must have dense tensors; {name} is {tensor.layout}")


def _copy_plain_modules(modules: list[nn.Module], memo: dict[int, Any]) -> None:
    """Does for most modules what `copy.deepcopy` does, in a fraction of the time."""
    plain = {kind: _is_plain(kind) for kind in set(map(type, modules))}
    for module in reversed(modules):  # those inside before those around them
        kind, own = type(module), vars(module)
        if id(module) in memo or not plain[kind] or "__deepcopy__" in own:
            continue
        memo[id(module)] = twin = kind.__new__(kind)
        kept = {k: v for k, v in own.items() if k not in HOOKS and k != "_compiled_call_impl"}
        twin.__setstate__(_items(kept, memo) | {key: OrderedDict() for key in HOOKS})


def _is_plain(kind: type[nn.Module]) -> bool:
    """Whether a module of this class is copied by its attributes."""
    own = ("__new__", "__reduce__", "__reduce_ex__", "__getstate__", "__getattr__")
    return (
        not hasattr(kind, "__deepcopy__")
        and not any(vars(base).get("__slots__") for base in kind.__mro__)
        and all(getattr(kind, name, None) is getattr(nn.Module, name, None) for name in own)
    )


def _attribute(value: Any, memo: dict[int, Any]) -> Any:
    """A copy of an attribute; those that every module has need no `copy.deepcopy`."""
    if id(value) in memo:
        return memo[id(value)]
    kind = type(value)
    if kind in COLLECTIONS and PLAIN.issuperset(map(type, value)):
        if kind is tuple:
            return value
        twin: Any = kind()
        memo[id(value)] = twin
        if value:
            twin.update(value if kind is set else _items(value, memo))
        return twin
    return copy.deepcopy(value, memo)


def _items(values: dict[str, Any], memo: dict[int, Any]) -> dict[str, Any]:
    return {k: v if type(v) in PLAIN else _attribute(v, memo) for k, v in values.items()}


@contextlib.contextmanager
def random_state_kept() -> Iterator[None]:
    """Restores the random state of Python, NumPy and torch, even if a forward draws numbers.

    One thread at a time: another one would restore a state in the middle of this one's. Within
    itself it does nothing.
    """
    global _kept
    with _LOCK:
        if _kept:
            yield
            return
        numpy = sys.modules.get("numpy")
        python_state = random.getstate()
        numpy_state = numpy.random.get_state() if numpy else None
        _kept = True
        try:
            with torch.random.fork_rng(devices=[]):
                yield
        finally:
            _kept = False
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
