"""The check of a network's input."""

import torch
from torch import Tensor


@torch.jit.script_if_tracing  # a jit trace keeps the check, too
def check_input(x: Tensor, channels: int, size: int) -> Tensor:
    """Returns x if it is a batch (N, channels, size, size) of floats; size 0 allows any size.

    Raises:
        TypeError: If x is no tensor.
        ValueError: If x has another rank, number of channels, size or type.
    """
    if not isinstance(x, Tensor):
        raise TypeError(
            f"expected a tensor, got {type(x).__name__}; predict() takes images of every kind, and "
            "torch.as_tensor() converts arrays"
        )
    wrong_size = size > 0 and x.dim() == 4 and (x.size(2) != size or x.size(3) != size)
    if x.dim() != 4 or x.size(1) != channels or wrong_size:
        expected = f"{channels}, {size}, {size}" if size > 0 else f"{channels}, H, W"
        got = str(x.size()).replace("torch.Size(", "").replace(")", "")  # TorchScript has a list
        got = got.replace("[", "(").replace("]", ")")
        raise ValueError(f"expected an input of shape (N, {expected}), got {got}")
    if not x.is_floating_point():
        raise ValueError(
            f"expected an input of floating-point numbers, got {x.dtype}; predict() and "
            "Preprocessing convert images to them"
        )
    return x
