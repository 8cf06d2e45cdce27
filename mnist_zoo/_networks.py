"""Small questions about any network."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.optim.swa_utils import AveragedModel

from ._checks import check_positive

WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel)
COMPILED = "_orig_mod"  # where torch.compile keeps the network
OWN_STATE = "_extra_state"  # how torch names what get_extra_state of a module gives
THOP_BUFFERS = ("total_ops", "total_params")


def check_network(**arguments: object) -> None:
    """Raises TypeError for the first argument that is no network; says how to make one of it."""
    for name, value in arguments.items():
        if isinstance(value, nn.Module):
            continue
        made = f"get_model({value!r})" if isinstance(value, str) and value.isidentifier() else ""
        if callable(value) and hasattr(value, "__name__"):
            made = f"{value.__name__}()"
        way = f"such as {made} makes" if made else "such as get_model makes"
        raise TypeError(f"`{name}` (={value!r:.80}) must be a network, {way}")


def unwrapped(model: nn.Module) -> nn.Module:
    """The network inside the modules that wrap a whole network, or the network itself.

    They are DataParallel, DistributedDataParallel, AveragedModel, what torch.compile returns, and
    any module whose class names its only child in `wrapped_as`, as HubModel does.
    """
    name = "module" if isinstance(model, WRAPPERS) else getattr(type(model), "wrapped_as", COMPILED)
    inside = getattr(model, name) if name in model._modules else None  # asking in vain is slow
    return unwrapped(inside) if isinstance(inside, nn.Module) else model


def first_in(model: nn.Module, name: str) -> object:
    """An attribute of a network that says what its input is, or None.

    An ``nn.Sequential`` without it has that of its first module, whose input is the same.
    """
    model = unwrapped(model)
    while (found := getattr(model, name, None)) is None and isinstance(model, nn.Sequential):
        if not len(model):
            return None
        model = unwrapped(model[0])
    return found


def check_computes(**arguments: nn.Module) -> None:
    """Checks that networks can compute.

    Raises:
        ValueError: If the tensors of one have no values, or it gets its shapes in its first forward
            pass; the message names the argument.
    """
    for argument, network in arguments.items():
        name = f"`{argument}` ({type(network).__name__})"
        if device_of(network).type == "meta":
            raise ValueError(f"{name} must hold data; it is on device meta")
        if any(isinstance(module, LazyModuleMixin) for module in network.modules()):
            raise ValueError(f"{name} must be initialised; call it on images once")


def stated_classes(model: nn.Module) -> tuple[str, ...] | None:
    """The names that a network gives its classes; None if it has none, or only numbers."""
    names = getattr(unwrapped(model), "classes", None)
    if not isinstance(names, (tuple, list)) or not all(isinstance(name, str) for name in names):
        return None
    return None if tuple(names) == numbers(len(names)) else tuple(names)


def numbers(count: int) -> tuple[str, ...]:
    """The names of classes that have no other: "0", "1" and so on."""
    return tuple(map(str, range(count)))


def class_names(names: tuple[str, ...] | None, count: int) -> tuple[str, ...]:
    """One name for each of this many classes: numbers for those without, if they are free."""
    names = (names or ())[:count]
    rest = numbers(count)[len(names) :]
    return (*names, *(f"class {name}" if name in names else name for name in rest))


def check_classes(
    names: tuple[str, ...] | None, count: int, of: str, **data: tuple[str, ...] | None
) -> None:
    """Checks that classes in data can be the `count` classes of a network, which has these `names`.

    Without names, the classes of a network are the numbers from 0. A number among the names in the
    data must then be in its place, because "1" in place 0 would be another digit; other names may
    mean anything. So may `count` names that are not all among these numbers: a network with two
    classes may have learnt "1" and "7". Data without names suit every network.

    Args:
        names: The names of the network's classes; None if it has none.
        count: Number of its classes.
        of: What has these classes, for the message.
        **data: The names of the classes in the data, by the caller's argument.

    Raises:
        ValueError: If the data name other classes, or name them in another order.
    """
    known = names or numbers(count)
    for argument, others in data.items():
        others = others or ()
        if not names and len(others) == count and not set(others) <= set(known):
            continue
        misplaced = [name for own, name in zip(known, others, strict=False) if own != name]
        if any(names or name in known for name in misplaced):
            raise ValueError(
                f"`{argument}` must have the classes of {of}, {known!r:.200}; they are "
                f"{others!r:.200}, in this order"
            )


def float_type(model: nn.Module) -> torch.dtype:
    """The type of the network's first floating-point parameter, which its input must have."""
    types = (p.dtype for p in model.parameters() if p.is_floating_point())
    return next(types, torch.float32)


def channels_of(model: nn.Module) -> int | None:
    """The number of channels of a network's images; None if it does not say."""
    size = first_in(model, "input_size")
    return size[0] if isinstance(size, (tuple, list)) and len(size) == 3 else None


def from_thop(name: str) -> bool:
    """Whether thop adds tensors of this name to networks."""
    return name.rpartition(".")[2] in THOP_BUFFERS


def state_of(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of the state dict, without the counters that thop may have left in it."""
    state = {k: v for k, v in model.state_dict().items() if isinstance(v, Tensor)}
    parameters = dict(model.named_parameters()) if any(map(from_thop, state)) else {}
    return {k: v for k, v in state.items() if k in parameters or not from_thop(k)}


def tensors_of(network: nn.Module) -> list[tuple[str, Tensor]]:
    """The names and tensors of a network, also those that its state dict leaves out."""
    parameters = network.named_parameters(remove_duplicate=False)
    return [*parameters, *network.named_buffers(remove_duplicate=False)]


def unsaved_buffers(network: nn.Module) -> set[str]:
    """The names of the buffers that the state dict leaves out."""
    names = {
        f"{prefix}.{name}" if prefix else name
        for prefix, module in network.named_modules()
        for name in module._non_persistent_buffers_set
    }
    return names - network.state_dict().keys() if names else names


def with_own_state(network: nn.Module) -> list[nn.Module]:
    """The modules of a network that put more than tensors into its state dict."""
    return [module for module in network.modules() if _has_own_state(type(module))]


def _has_own_state(kind: type[nn.Module]) -> bool:
    gets = kind.get_extra_state is not nn.Module.get_extra_state
    return gets and kind.set_extra_state is not nn.Module.set_extra_state


def shape_of(model: nn.Module, input_size: Sequence[int] | None) -> tuple[int, int, int]:
    """The shape (C, H, W) of one input: the given one, or else the network's `input_size`.

    Raises:
        TypeError: If `model` is no network.
        ValueError: If there is neither, or it is not a shape (C, H, W).
    """
    check_network(model=model)
    given = getattr(model, "input_size", None) if input_size is None else input_size
    if given is None:
        raise ValueError(f"`input_size` must be given: {type(model).__name__} has none")
    if not isinstance(given, (tuple, list)) or len(given) != 3:
        raise ValueError(f"`input_size` (={given!r}) must be a shape (C, H, W), without the batch")
    check_positive(**dict(zip(("channels", "height", "width"), given, strict=True)))
    return (given[0], given[1], given[2])


def is_dense(tensor: Tensor) -> bool:
    """Whether a tensor fills its memory, in any order of its axes: without gaps or overlaps."""
    size = 1
    for stride, count in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if count > 1 and stride != size:
            return not tensor.numel()
        size *= count
    return True


def device_of(model: nn.Module) -> torch.device:
    """The device of a network's first tensor."""
    tensor = first_tensor(model)
    return torch.device("cpu") if tensor is None else tensor.device


def first_tensor(model: nn.Module) -> Tensor | None:
    """A network's first parameter, or else its first buffer; None if it has neither."""
    return next(itertools.chain(model.parameters(), model.buffers()), None)
