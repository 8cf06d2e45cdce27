"""Logits of images, by any network."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from .._modes import eval_mode
from .._networks import channels_of
from .preprocessing import Preprocessing


@torch.inference_mode()
def logits(model: nn.Module, images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Float32 logits (N, classes) of images (N, C, H, W), in eval mode on the model's device."""
    inputs = prepared(model, images, preprocessing)
    with eval_mode(model):
        return model(inputs).float()


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
