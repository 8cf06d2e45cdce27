"""What a run keeps of a network, and how it is put back into one."""

from __future__ import annotations

import copy
import io
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .._networks import (
    device_of,
    is_dense,
    tensors_of,
    unsaved_buffers,
    unwrapped,
    with_own_state,
)
from ..weights.archives import Archive
from .recipe import Recipe

MORE = 10  # times the texts of a run before its first step: its optimiser has noted nothing yet


def whole_state(network: nn.Module) -> dict[str, Any]:
    """The state dict, and the buffers that it leaves out, on which steps may depend as well."""
    buffers = dict(network.named_buffers())
    unsaved = unsaved_buffers(network) & buffers.keys()
    return {**network.state_dict(), **{name: buffers[name].detach() for name in sorted(unsaved)}}


def load_whole_state(network: nn.Module, state: Mapping[str, Any]) -> None:
    """Puts what `whole_state` returned back into a network.

    Buffers may have got other shapes. Others stay the same tensors, which modules may share.
    """
    unsaved = unsaved_buffers(network)
    network.load_state_dict({k: v for k, v in state.items() if k not in unsaved})
    device = device_of(network)
    for name in unsaved & state.keys():
        prefix, _, key = name.rpartition(".")
        buffers, saved = network.get_submodule(prefix)._buffers, state[name].detach()
        own = buffers[key]
        if own is None or (own.shape, own.dtype) != (saved.shape, saved.dtype) or not is_dense(own):
            buffers[key] = saved.to(device, copy=True)
        else:
            own.detach().copy_(saved)


def copy_unaveraged(network: nn.Module, average: nn.Module, infinite: set[str]) -> None:
    """Gives a moving average what has no mean: masks, indices, counts, and states of its own."""
    pairs = zip(tensors_of(network), tensors_of(average), strict=True)
    for (name, tensor), (_, averaged) in pairs:
        if name in infinite or not tensor.is_floating_point():
            averaged.detach().copy_(tensor)
    for module, other in zip(with_own_state(network), with_own_state(average), strict=True):
        other.set_extra_state(copy.deepcopy(module.get_extra_state()))


def check_restorable(model: nn.Module, recipe: Recipe, *, has_folder: bool) -> None:
    """Checks that a network takes its own state dict, where the run will need that.

    Raises:
        ValueError: If it does not, or if there are checkpoints and they could not be read.
    """
    if not has_folder and recipe.select != "best" and recipe.ema_decay is None:
        return
    network = unwrapped(model)
    kind = type(network).__name__
    try:
        state = whole_state(network)
        copies = {k: v.clone() if isinstance(v, Tensor) else v for k, v in state.items()}
        load_whole_state(network, copies)
    except Exception as error:  # of any type, from the network's own methods
        needs = "`folder`" if has_folder else "`select` or `ema_decay` of the recipe"
        raise ValueError(
            f"`target` ({kind}) must take its own state dict, which {needs} needs: "
            f"{' '.join(str(error).split())}"
        ) from error
    if has_folder:
        _check_readable(state, kind)


def _check_readable(state: Mapping[str, object], kind: str) -> None:
    slim = {k: v.new_empty(0) if isinstance(v, Tensor) else v for k, v in state.items()}
    file = io.BytesIO()
    try:
        torch.save(slim, file)
        size = file.tell()
        file.seek(0)
        Archive(file, size, MORE * longest_pickle(slim), exact=True).read_all()
    except Exception as error:  # of any type, from the network's own objects
        raise ValueError(
            f"`target` ({kind}) must have a state dict of tensors, numbers, texts, and lists, "
            f"tuples and dictionaries of them, or no checkpoint of it can be read: {error}; change "
            "it, or train without `folder`"
        ) from error


def longest_pickle(state: object) -> int:
    """How many bytes may describe the tensors and texts of such a state."""
    if isinstance(state, Mapping):
        return 100 + sum(len(str(key)) + longest_pickle(value) for key, value in state.items())
    return 1000 if isinstance(state, Tensor) else 100 + len(repr(state))
