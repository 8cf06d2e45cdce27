"""Logits and familiarity of images, by any network."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, nn

from .._modes import eval_mode
from .._networks import channels_of, unwrapped
from .familiarity import gives_familiarity
from .preprocessing import Preprocessing


@torch.inference_mode()
def logits(model: nn.Module, images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Float32 logits (N, classes) of images (N, C, H, W), in eval mode on the model's device."""
    inputs = prepared(model, images, preprocessing)
    with eval_mode(model):
        return model(inputs).float()


@torch.inference_mode()
def logits_and_familiarity(
    model: nn.Module, images: Tensor, preprocessing: Preprocessing
) -> tuple[Tensor, Tensor | None]:
    """`logits`, and the familiarity (N,) where the network tells it."""
    inputs = prepared(model, images, preprocessing)
    with eval_mode(model):
        values, familiarity = with_familiarity(model, inputs)
        return values.float(), familiarity


def with_familiarity(model: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor | None]:
    """The logits (N, classes) of inputs, and their familiarity (N,) where the network tells it."""
    if not gives_familiarity(model):
        return model(inputs), None
    inside: Any = unwrapped(model)
    values, familiarity = inside.with_familiarity(inputs)
    if model is not inside or inside._forward_hooks or inside._forward_pre_hooks:
        values = model(inputs)  # a wrapper or a hook may change them
    return values, familiarity


def prepared(model: nn.Module, images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """The network's input for images (N, C, H, W): on its device, in its channels and precision."""
    none = images.new_empty(0, dtype=torch.float32)
    tensor = next(itertools.chain(model.parameters(), model.buffers()), none)
    inputs = preprocessing(images.to(tensor.device))
    channels = channels_of(model)
    if channels and channels != inputs.shape[1] == 1:
        inputs = inputs.expand(-1, channels, -1, -1)
    if tensor.is_floating_point():
        inputs = inputs.to(tensor.dtype)
    return inputs
