"""`Trace`: runs a structural copy and follows it module by module."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.hooks import RemovableHandle

from .._modes import modes_of, set_modes
from .copies import PLAIN, random_state_kept
from .outputs import known_output


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
            if parameter.requires_grad != required:
                parameter.requires_grad = required


@dataclass(eq=False)
class _Call:
    """A running call of a module."""

    module: nn.Module
    inputs: Any
    reported: bool = False


class DataFree(TorchDispatchMode):
    """Moves tensors with data to device meta when they meet a tensor of the structural copy.

    These are constants that the forward creates or finds outside the network. The tensors
    of the original network are refused, because such a forward could change them.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        tensors = (*model.parameters(), *model.buffers())
        self.own = {tensor.untyped_storage()._cdata for tensor in tensors}
        self.own_on_meta = any(tensor.is_meta for tensor in tensors)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Says that nothing is compiled here; each call is faster."""
        return False

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        tensors = tensors_in((args, kwargs) if kwargs else args)
        with_data = [t for t in tensors if not t.is_meta]
        for tensor in tensors if self.own_on_meta else with_data:
            if tensor.untyped_storage()._cdata in self.own:
                message = "the forward uses tensors of the original network, not of its copy"
                raise RuntimeError(message)
        if len(with_data) == len(tensors):
            return func(*args, **kwargs)
        if with_data:
            args, kwargs = _on_meta(args, kwargs)
        if func is torch.ops.aten._to_copy.default and "device" in kwargs:
            kwargs = {**kwargs, "device": torch.device("meta")}
        known = known_output(func, args, kwargs)
        return func(*args, **kwargs) if known is None else known


class _MixedArguments(TorchFunctionMode):
    """Does the same as `DataFree` for functions that compare devices before the dispatch."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", None) == "__get__":  # an attribute of a tensor
            return func(*args, **kwargs)
        if func is Tensor.__getitem__ and args[0].is_meta:
            args = (args[0], tree_map_only(Tensor, _numbered, args[1]))
        tensors = tensors_in((args, kwargs) if kwargs else args)
        if len({tensor.is_meta for tensor in tensors}) > 1:
            args, kwargs = _on_meta(args, kwargs)
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


def _on_meta(args: Any, kwargs: Any) -> Any:
    """Moves all arguments of a call to device meta."""
    return tree_map_only(Tensor, lambda tensor: tensor.to("meta"), (args, kwargs))


class Trace:
    """Follows one forward of a structural copy module by module.

    Args:
        model: The original network.
        twin: Its structural copy.
        on_return: Called with module, its name, inputs and output when a module returns.

    Attributes:
        names: The name of every module.
        stack: The running calls, innermost last.
    """

    def __init__(
        self,
        model: nn.Module,
        twin: nn.Module,
        on_return: Callable[[nn.Module, str, Any, Any], None],
    ) -> None:
        self.model = model
        self.names = {module: name for name, module in twin.named_modules()}
        self.stack: list[_Call] = []
        self.on_return = on_return
        self.hooks: list[RemovableHandle] = []
        for module in self.names:
            self.hooks.append(module.register_forward_pre_hook(self._enter, with_kwargs=True))
            self.hooks.append(module.register_forward_hook(self._leave, with_kwargs=True))

    def _enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self.stack.append(_Call(module, (*args, *kwargs.values())))

    def _leave(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        call = self.stack.pop()
        while call.module is not module:  # calls that failed, where the network caught the error
            call = self.stack.pop()
        with torch._C.DisableTorchFunction():  # shapes are read without `_MixedArguments`
            self.on_return(module, self.names[module], call.inputs, output)

    @contextlib.contextmanager
    def guarded(self, data_free: DataFree | None = None) -> Iterator[None]:
        """Runs without data and gradients; errors are raised again with the name of the layer."""
        data_free = data_free or DataFree(self.model)
        try:
            with (
                _switches_kept(self.model),
                random_state_kept(),
                torch.no_grad(),
                _cpu_by_default(),
                _MixedArguments(),
                data_free,
            ):
                yield
        except Exception as error:
            raise RuntimeError(f"`model` failed{self._where()}: {error}{self._hint()}") from error
        finally:
            for hook in self.hooks:  # or the copy would wait for the garbage collector
                hook.remove()

    def _where(self) -> str:
        if not self.stack:
            return ""
        call = self.stack[-1]
        name = self.names[call.module]
        kind = call.module if is_layer(call.module) else type(call.module).__name__
        given = ", ".join(str(tuple(t.shape)) for t in tensors_in(call.inputs)) or "no tensor"
        return f" in layer '{name}', {kind}, given {given}" if name else f" in {kind} itself"

    def _hint(self) -> str:
        """What to do about an input that has a batch twice."""
        for tensor in tensors_in(self.stack[0].inputs) if self.stack else []:
            if tensor.dim() > 4:
                shape = tuple(tensor.shape[2:])
                return f". A shape in `inputs` is without the batch, such as {shape}"
        return ""


def _cpu_by_default() -> AbstractContextManager[Any]:
    """Makes the CPU the default device, where it is not: the context sees every call of torch."""
    default = torch.get_default_device()
    return nullcontext() if default.type == "cpu" else torch.device("cpu")


def tensors_in(tree: Any) -> list[Tensor]:
    """The tensors in nested tuples, lists, dicts and dataclasses."""
    found: list[Tensor] = []
    _collect(tree, found)
    return found


def _collect(tree: Any, found: list[Tensor]) -> None:
    if isinstance(tree, Tensor):
        found.append(tree)
        return
    if type(tree) not in (tuple, list):
        if is_dataclass(tree) and not isinstance(tree, type):
            tree = [getattr(tree, field.name) for field in fields(tree)]
        elif isinstance(tree, Mapping):
            tree = tree.values()
        elif not isinstance(tree, (tuple, list)):
            return
    for item in tree:
        if isinstance(item, Tensor):
            found.append(item)
        elif type(item) not in PLAIN:
            _collect(item, found)


def parameters_of(module: nn.Module) -> set[nn.Parameter]:
    """The module's own parameters, without those of the modules inside."""
    return {p for p in module._parameters.values() if p is not None}


def is_layer(module: nn.Module) -> bool:
    """Whether the module has no modules inside."""
    return next(module.children(), None) is None
