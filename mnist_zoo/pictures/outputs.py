"""Logits of images and their familiarity, by any network that tells it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .._modes import eval_mode
from .._networks import unwrapped
from .logits import as_logits, prepared
from .preprocessing import Preprocessing


@torch.inference_mode()
def logits_and_familiarity(
    model: nn.Module, images: Tensor, preprocessing: Preprocessing
) -> tuple[Tensor, Tensor | None]:
    """`logits`, and the familiarity (N,) where the network tells it."""
    inputs = prepared(model, images, preprocessing)
    with eval_mode(model):
        values, familiarity = with_familiarity(model, inputs)
        return as_logits(values, len(inputs), model).float(), familiarity


def with_familiarity(model: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor | None]:
    """The logits (N, classes) of inputs, and their familiarity (N,) where the network tells it."""
    if not gives_familiarity(model):
        return model(inputs), None
    inside: Any = unwrapped(model)
    values, familiarity = inside.with_familiarity(inputs)
    hooks = inside._forward_hooks or inside._forward_pre_hooks
    if model is not inside or hooks or _has_another_forward(inside):
        values = model(inputs)  # which a wrapper, a hook or a derived class may change
    return values, familiarity


def _has_another_forward(network: nn.Module) -> bool:
    """Whether the network or its class replaces `forward`, but not `with_familiarity`."""
    places = (vars(network), *map(vars, type(network).__mro__))
    return "with_familiarity" not in next(place for place in places if "forward" in place)


def gives_familiarity(model: nn.Module) -> bool:
    """Whether a network tells the familiarity of images."""
    ask = getattr(unwrapped(model), "gives_familiarity", None)
    return ask is not None and bool(ask())
