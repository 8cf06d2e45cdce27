"""Logits of images, by any network."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .._memory import keep_freed_memory
from .._modes import eval_mode
from .._networks import channels_of, first_tensor, unwrapped
from .preprocessing import Preprocessing


@torch.inference_mode()
def logits(model: nn.Module, images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Float32 logits (N, classes) of images (N, C, H, W), in eval mode on the model's device."""
    inputs = prepared(model, images, preprocessing)
    with eval_mode(model):
        return as_logits(model(inputs), len(inputs), model).float()


def as_logits(output: object, count: int, model: nn.Module, argument: str = "model") -> Tensor:
    """What a network gave for so many images, if its type and shape are those of logits.

    Raises:
        ValueError: If they are not.
    """
    wrong = ""
    if not isinstance(output, Tensor) or output.dim() != 2 or len(output) != count:
        found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        wrong = f"logits ({count}, classes) for {count} images, got {found}"
    elif output.shape[1] < 2:
        wrong = f"at least 2 logits, got {output.shape[1]}: one logit per class"
    elif output.is_complex():
        wrong = f"logits that are real numbers, got {output.dtype}"
    if wrong or not isinstance(output, Tensor):
        raise ValueError(f"`{argument}` ({type(unwrapped(model)).__name__}) must give {wrong}")
    return output


def check_logits(
    values: Tensor, model: nn.Module, argument: str = "model", *, finite: bool = True
) -> None:
    """Checks that what a network gave (N, classes) is no probabilities and, if `finite`, finite.

    Raises:
        ValueError: If it is not.
    """
    if not values.numel():
        return
    low, high = (limit.item() for limit in values.aminmax())  # NaN, if there is one
    if low >= 0 and are_probabilities(values, next(model.parameters(), values).dtype):
        wrong = "logits; it gives probabilities: leave its softmax out, or take the logarithm"
    elif finite and not (math.isfinite(low) and math.isfinite(high)):
        wrong = "finite `logits`; it gave infinity or not a number"
    else:
        return
    raise ValueError(f"`{argument}` ({type(unwrapped(model)).__name__}) must give {wrong}")


def are_probabilities(values: Tensor, dtype: torch.dtype) -> bool:
    """Whether every row of values (N, classes) adds up to 1, as far as the network's type tells."""
    eps = torch.finfo(dtype if dtype in (torch.float16, torch.bfloat16) else torch.float32).eps
    return bool(((values.float().sum(1) - 1).abs() < min(100 * eps, 0.02)).all())


def prepared(model: nn.Module, images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """The network's input for images (N, C, H, W): on its device, in its channels and precision."""
    keep_freed_memory()
    tensor = first_tensor(model)
    inputs = preprocessing(images if tensor is None else images.to(tensor.device))
    channels = channels_of(model)
    if channels and channels != inputs.shape[1] == 1:
        inputs = inputs.expand(-1, channels, -1, -1)
    # of an nn.Sequential, the channels of its first module may be known, which may take others
    own = getattr(unwrapped(model), "input_size", None)
    if own and channels and inputs.shape[1] != channels:
        raise ValueError(
            f"`model` ({type(unwrapped(model)).__name__}) takes images with "
            f"{f'1 or {channels} channels' if channels > 1 else '1 channel'}; these have "
            f"{inputs.shape[1]}"
        )
    if tensor is not None and tensor.is_floating_point():
        inputs = inputs.to(tensor.dtype)
    return inputs
