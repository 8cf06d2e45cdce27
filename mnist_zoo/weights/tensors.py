"""Reads the tensors of a safetensors file, each of them once and into its own memory.

The package safetensors would read them from memory that holds the whole file already, and copy
them. Reading and hashing a large file takes little longer than hashing it alone here.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from io import BufferedReader
from typing import Any

import torch
from torch import Tensor

DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "U16": torch.uint16,
    "U32": torch.uint32,
    "U64": torch.uint64,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
    "C64": torch.complex64,
}
MAX_DIMENSIONS = 64  # as in torch


class LayoutError(ValueError):
    """A file does not have the layout of safetensors; the message is the reason alone."""


def read_tensors(
    file: BufferedReader, entries: Mapping[str, Any], size: int, seen: Callable[[Any], object]
) -> dict[str, Tensor]:
    """Reads the tensors behind the header of a safetensors file.

    Args:
        file: The file, open behind its header.
        entries: The header without the metadata: the type, shape and place of each tensor.
        size: Number of bytes behind the header, which the tensors must fill without a gap. No
            more memory than that is asked for.
        seen: Called with all bytes, in their order, as they are read.

    Raises:
        LayoutError: If the entries are wrong, or the file is shorter.
    """
    tensors = _empty_tensors(entries, size)
    for tensor in tensors.values():
        numbers = tensor.reshape(-1).view(torch.uint8).numpy().data
        count = file.readinto(numbers)
        seen(numbers[:count])
        if count < len(numbers):
            raise LayoutError("it ends within its tensors")
        if sys.byteorder == "big":
            tensor.untyped_storage().byteswap(tensor.dtype)
    return tensors


def _empty_tensors(entries: Mapping[str, Any], size: int) -> dict[str, Tensor]:
    """The tensors before their numbers are read, in the order of the file."""
    tensors, end = {}, 0
    try:
        for name, entry in sorted(entries.items(), key=lambda item: item[1]["data_offsets"]):
            dtype, shape = DTYPES[entry["dtype"]], entry["shape"]
            start, stop = entry["data_offsets"]
            if len(shape) > MAX_DIMENSIONS or min(shape, default=0) < 0:
                raise LayoutError(f"{name!r:.80} has an impossible shape")
            if start != end or stop - start != math.prod(shape) * dtype.itemsize or stop > size:
                raise LayoutError(f"{name!r:.80} is not where its type and shape put it")
            tensors[name], end = torch.empty(shape, dtype=dtype, device="cpu"), stop
    except LayoutError:
        raise
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise LayoutError(f"its header describes no tensors: {error!s:.200}") from error
    if end != size:
        raise LayoutError(f"{size - end:,} bytes follow its tensors")
    return tensors
