"""Convolutions over very small maps, computed as matrix products."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class SmallMapsAsProducts(TorchFunctionMode):
    """While active, convolutions over very small maps on the CPU run as matrix products.

    If a map is at most half as wide as the kernel, rounded up (2×2 under 3×3), every output sees
    every pixel. The convolution is then a linear layer that uses only some of the kernel's
    weights: one in nine for a 3×3 kernel on a single pixel. Convolution routines do not exploit
    that: at 28×28, most of the training step of a ResNet is spent on maps of 2×2 and 1×1. Outputs
    and gradients agree to float precision; modules, their hooks and their state do not change.

    Attributes:
        found: Whether there has been such a convolution.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found = False

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        is_plain = func is F.conv2d and not kwargs and len(args) == 7
        if is_plain and _applies(*args) and not _computes_again():
            self.found = True
            return _as_product(*args[:3], stride=args[3][0])
        return func(*args, **(kwargs or {}))


def _applies(
    x: Tensor, weight: Tensor, bias: object, stride: object, padding: object, *rest: object
) -> bool:
    """Whether every output sees every pixel, in a plain convolution of square maps on the CPU."""
    size, reach = x.shape[-1], weight.shape[-1] // 2
    return (
        x.device.type == "cpu"
        and x.dim() == 4
        and x.shape[-2] == size <= reach + 1
        and weight.shape[-2:] == (2 * reach + 1, 2 * reach + 1)
        and stride in ((1, 1), (2, 2))
        and padding == (reach, reach)
        and rest == ((1, 1), 1)  # dilation and groups
    )


def _computes_again() -> bool:
    """Whether torch.utils.checkpoint will compare what it computes again in the backward pass.

    That pass does not run in this mode, and would convolve. Versions of torch before 2.8 cannot be
    asked; they raise CheckpointError for such networks.
    """
    hooks = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)
    return hooks is not None and hooks(True) is not None


def _as_product(x: Tensor, weight: Tensor, bias: Tensor | None, *, stride: int) -> Tensor:
    """The convolution of maps (N, C, S, S) as a product, with a row of weights per output."""
    size, reach = x.shape[-1], weight.shape[-1] // 2
    seen = [slice(reach - place, reach - place + size) for place in range(0, size, stride)]
    rows = torch.stack([weight[:, :, i, j] for i in seen for j in seen])
    rows = rows.permute(0, 1, 3, 4, 2).flatten(2).flatten(0, 1)
    biases = None if bias is None else bias.repeat(len(seen) ** 2)
    y = F.linear(x.permute(0, 2, 3, 1).flatten(1), rows, biases)
    return y.view(len(x), len(seen), len(seen), len(weight)).permute(0, 3, 1, 2)
