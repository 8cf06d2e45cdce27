"""The outputs of common operations without data, for which torch itself takes far longer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .copies import without_data

ATEN = torch.ops.aten
BATCH_NORM = ATEN.native_batch_norm.default
IN_PLACE = {
    *(ATEN.relu_.default, ATEN.silu_.default, ATEN.leaky_relu_.default),
    *(ATEN.add_.Tensor, ATEN.mul_.Tensor, ATEN.div_.Scalar, ATEN.bernoulli_.float),
}
ELEMENTWISE = {
    *IN_PLACE,
    *(ATEN.relu.default, ATEN.silu.default, ATEN.leaky_relu.default),
    *(ATEN.gelu.default, ATEN.sigmoid.default),
    *(ATEN.add.Tensor, ATEN.sub.Tensor, ATEN.mul.Tensor),
}


def known_output(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The output of an operation on device meta; None for those that torch has to judge."""
    if func in ELEMENTWISE:
        if not _are_alike(*args[:2]):
            return None
        return args[0] if func in IN_PLACE else without_data(args[0])
    rule = RULES.get(func)
    return rule and rule(*args, **kwargs)


def _are_alike(first: Tensor, second: Any = None) -> bool:
    """Whether an operation on them has the shape and type of the first one."""
    if isinstance(second, Tensor):
        same = (second.shape, second.dtype) == (first.shape, first.dtype)
    else:
        same = second is None or type(second) in (int, float)
    return same and first.is_floating_point() and first.is_contiguous()


def _like(x: Tensor, shape: Sequence[int]) -> Tensor:
    return torch.empty(shape, dtype=x.dtype, device="meta")


def _empty(x: Tensor, **options: Any) -> Tensor | None:
    return without_data(x) if _are_alike(x) and not options else None


def _normalised(x: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    statistics = _like(x, (x.shape[1],))
    return without_data(x), statistics, statistics


def _linear(bias: Tensor, x: Tensor, weight: Tensor) -> Tensor | None:
    if x.shape[1:] != weight.shape[:1]:
        return None
    return _like(bias, (len(x), *weight.shape[1:]))


def _convolved(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Tensor | None:
    channels, inside, *kernel = weight.shape
    if transposed or x.dim() != 4 or len(kernel) != 2 or x.shape[1] != inside * groups:
        return None
    if weight.dtype != x.dtype or not weight.is_contiguous():
        return None
    if bias is not None and (bias.shape, bias.dtype) != ((channels,), x.dtype):
        return None
    sizes = _sizes(x, kernel, stride, padding, dilation)
    return _like(x, (len(x), channels, *sizes)) if sizes else None


def _max_pooled(
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    ceil_mode: bool = False,
) -> tuple[Tensor, Tensor] | None:
    if ceil_mode or x.dim() != 4 or any(2 * p > k for p, k in zip(padding, kernel, strict=False)):
        return None
    sizes = _sizes(x, kernel, stride or kernel, padding, dilation)
    if sizes is None:
        return None
    pooled = _like(x, (*x.shape[:2], *sizes))
    return pooled, torch.empty(pooled.shape, dtype=torch.int64, device="meta")


def _mean_pooled(
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0, 0),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor | None:
    outputs = _max_pooled(x, kernel, stride, padding, ceil_mode=ceil_mode)
    return outputs and outputs[0]


def _sizes(
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> list[int] | None:
    """Height and width after a kernel has moved over x; None if it does not fit."""
    if not _are_alike(x) or not len(kernel) == len(stride) == len(padding) == len(dilation) == 2:
        return None
    sizes = [
        (size + 2 * pad - apart * (taps - 1) - 1) // step + 1
        for size, taps, step, pad, apart in zip(
            x.shape[2:], kernel, stride, padding, dilation, strict=True
        )
    ]
    return sizes if min(sizes) > 0 else None


def _joined(tensors: Sequence[Tensor], dim: int = 0) -> Tensor | None:
    first = tensors[0]
    if not 0 <= dim < first.dim():
        return None
    for tensor in tensors:
        others = (*tensor.shape[:dim], first.shape[dim], *tensor.shape[dim + 1 :])
        if others != first.shape or tensor.dtype != first.dtype or not tensor.is_contiguous():
            return None
    size = sum(tensor.shape[dim] for tensor in tensors)
    return _like(first, (*first.shape[:dim], size, *first.shape[dim + 1 :]))


def _averaged(
    x: Tensor, dims: Sequence[int] | None, keepdim: bool = False, *, dtype: Any = None
) -> Tensor | None:
    if not dims or dtype is not None or not _are_alike(x):
        return None
    if not all(-x.dim() <= dim < x.dim() for dim in dims):
        return None
    gone = {dim % x.dim() for dim in dims}
    if len(gone) < len(dims):
        return None
    sizes = [1 if dim in gone else size for dim, size in enumerate(x.shape)]
    return _like(x, [size for dim, size in enumerate(sizes) if keepdim or dim not in gone])


RULES: dict[Any, Callable[..., Any]] = {
    ATEN.empty_like.default: _empty,
    BATCH_NORM: _normalised,
    ATEN.addmm.default: _linear,
    ATEN.convolution.default: _convolved,
    ATEN.max_pool2d_with_indices.default: _max_pooled,
    ATEN.avg_pool2d.default: _mean_pooled,
    ATEN.cat.default: _joined,
    ATEN.mean.dim: _averaged,
}
