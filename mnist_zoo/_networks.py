"""Small questions that any module may ask about any network."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ._checks import check_positive

THOP_BUFFERS = ("total_ops", "total_params")


def unwrapped(model: nn.Module) -> nn.Module:
    """The network inside what DataParallel, DistributedDataParallel or torch.compile made."""
    if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        return unwrapped(model.module)
    inside = getattr(model, "_orig_mod", None)
    return unwrapped(inside) if isinstance(inside, nn.Module) else model


def from_thop(name: str) -> bool:
    return name.rpartition(".")[2] in THOP_BUFFERS


def state_of(model: nn.Module) -> dict[str, Tensor]:
    """The state dict without the counters that thop may have left."""
    parameters = dict(model.named_parameters())
    return {k: v for k, v in model.state_dict().items() if k in parameters or not from_thop(k)}


def shape_of(model: nn.Module, input_size: Sequence[int] | None) -> tuple[int, int, int]:
    """The shape (C, H, W) of one input: as given, or as the network says.

    Raises:
        ValueError: If neither says, or it is no such shape.
    """
    given = getattr(model, "input_size", None) if input_size is None else input_size
    if given is None:
        raise ValueError(f"`input_size` must be given: {type(model).__name__} has none")
    if not isinstance(given, (tuple, list)) or len(given) != 3:
        raise ValueError(f"`input_size` (={given!r}) must be a shape (C, H, W)")
    check_positive(**dict(zip(("channels", "height", "width"), given, strict=True)))
    return (given[0], given[1], given[2])


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Puts a network into eval mode, and each of its modules back into its own afterwards."""
    modes = {module: module.training for module in model.modules()}
    try:
        model.eval()
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def device_of(model: nn.Module) -> torch.device:
    tensors = itertools.chain(model.parameters(), model.buffers())
    return next((tensor.device for tensor in tensors), torch.device("cpu"))
