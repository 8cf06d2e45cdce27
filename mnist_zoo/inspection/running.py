"""`Trace`: runs a structural copy and follows it module by module."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from .._modes import modes_of, set_modes
from .copies import random_state_kept


@contextlib.contextmanager
def _switches_kept(model: nn.Module) -> Iterator[None]:
    """Restores training modes and `requires_grad` of the original network.

    Its forward may hold a reference to the original and change them.
    """
    modes = modes_of(model)
    trained = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        yield
    finally:
        set_modes(modes)
        for parameter, required in trained:
            parameter.requires_grad = required


@dataclass(eq=False)
class _Call:
    """A running call of a module."""

    module: nn.Module
    inputs: Any
    reported: bool = False


class _DataFree(TorchDispatchMode):
    """Moves tensors with data to device meta when they meet a tensor of the structural copy.

    These are constants that the forward creates or finds outside the network. The tensors
    of the original network are refused, because such a forward could change them.
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
        tensors = tensors_in((args, kwargs))
        if any(t.untyped_storage()._cdata in self.own for t in tensors):
            raise RuntimeError("the forward uses tensors of the original network, not of its copy")
        args, kwargs = _all_on_meta(args, kwargs or {})
        if not any(t.is_meta for t in tensors):
            return func(*args, **kwargs)
        if func is torch.ops.aten._to_copy.default and "device" in kwargs:
            kwargs = {**kwargs, "device": torch.device("meta")}
        if func is torch.ops.aten.native_batch_norm.default:
            statistics = args[0].new_empty(args[0].shape[1])  # torch's rule is far slower
            return torch.empty_like(args[0]), statistics, statistics
        return func(*args, **kwargs)


class _MixedArguments(TorchFunctionMode):
    """Does the same as `_DataFree` for functions that compare devices before the dispatch."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is Tensor.__getitem__ and args[0].is_meta:
            args = (args[0], tree_map_only(Tensor, _numbered, args[1]))
        args, kwargs = _all_on_meta(args, kwargs or {})
        if kwargs.get("generator") is not None and _gives_meta(args, kwargs):
            kwargs = {**kwargs, "generator": None}  # device meta has none
        return func(*args, **kwargs)


def _numbered(index: Tensor) -> Tensor:
    """The places that a mask with data selects, since a mask on device meta has no places."""
    mask = index.dtype == torch.bool and index.dim() == 1 and not index.is_meta
    return index.nonzero().squeeze(1) if mask else index


def _gives_meta(args: Any, kwargs: Any) -> bool:
    device = kwargs.get("device")
    on_meta = device is not None and torch.device(device).type == "meta"
    return on_meta or any(tensor.is_meta for tensor in tensors_in((args, kwargs)))


def _all_on_meta(args: Any, kwargs: Any) -> Any:
    """Moves all arguments of a call to device meta if one of them is there."""
    on_meta = {tensor.is_meta for tensor in tensors_in((args, kwargs))}
    if len(on_meta) < 2:
        return args, kwargs
    return tree_map_only(Tensor, lambda tensor: tensor.to("meta"), (args, kwargs))


class Trace:
    """Follows one forward of a structural copy module by module.

    Args:
        model: The original network.
        twin: Its structural copy.
        on_return: Called with module, inputs and output when a module returns.

    Attributes:
        names: The name of every module.
        stack: The running calls, innermost last.
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
        while call.module is not module:  # calls that failed, where the network caught the error
            call = self.stack.pop()
        self.on_return(module, call.inputs, output)

    @contextlib.contextmanager
    def guarded(self) -> Iterator[None]:
        """Runs without data and gradients; errors are raised again with the name of the layer."""
        try:
            with (
                _switches_kept(self.model),
                random_state_kept(),
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
        kind = call.module if is_layer(call.module) else type(call.module).__name__
        given = ", ".join(str(tuple(t.shape)) for t in tensors_in(call.inputs)) or "no tensor"
        return f" in layer '{name}', {kind}, given {given}" if name else f" in {kind} itself"


def tensors_in(tree: Any) -> list[Tensor]:
    """The tensors in nested tuples, lists, dicts and dataclasses."""
    if isinstance(tree, Tensor):
        return [tree]
    if is_dataclass(tree) and not isinstance(tree, type):
        tree = [getattr(tree, field.name) for field in fields(tree)]
    if isinstance(tree, Mapping):
        tree = tree.values()
    elif not isinstance(tree, (tuple, list)):
        return []
    return [tensor for item in tree for tensor in tensors_in(item)]


def is_layer(module: nn.Module) -> bool:
    """Whether the module has no modules inside."""
    return next(module.children(), None) is None
