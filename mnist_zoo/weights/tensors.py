"""Reads the tensors of a safetensors file, each of them once and into its own memory.

The package safetensors would read them from memory that holds the whole file already, and copy
them. Reading and hashing a large file takes little longer than hashing it alone here.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from io import BufferedReader
from typing import Any, TypeAlias

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
LARGE = 1 << 20  # bytes, whose checksum takes longer than telling another thread about it


class LayoutError(ValueError):
    """A file does not have the layout of safetensors; the message is the reason alone."""


Layout: TypeAlias = Mapping[str, tuple[torch.dtype, tuple[int, ...]]]
"""The type and the shape of each tensor, in the order of the file."""


def read_layout(entries: Mapping[str, Any], size: int) -> Layout:
    """The types and shapes of the tensors in the header of a safetensors file.

    Args:
        entries: The header without the metadata: the type, shape and place of each tensor.
        size: Number of bytes behind the header, which the tensors must fill without a gap.

    Raises:
        LayoutError: If the entries are wrong.
    """
    layout, end = {}, 0
    try:
        for name, entry in sorted(entries.items(), key=lambda item: item[1]["data_offsets"]):
            dtype, shape = DTYPES[entry["dtype"]], entry["shape"]
            start, stop = entry["data_offsets"]
            if len(shape) > MAX_DIMENSIONS or min(shape, default=0) < 0:
                raise LayoutError(f"{name!r:.80} has an impossible shape")
            if start != end or stop - start != math.prod(shape) * dtype.itemsize or stop > size:
                raise LayoutError(f"{name!r:.80} is not where its type and shape put it")
            layout[name], end = (dtype, tuple(shape)), stop
    except LayoutError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise LayoutError(f"its header describes no tensors: {error!s:.200}") from error
    if end != size:
        raise LayoutError(f"{size - end:,} bytes follow its tensors")
    return layout


def read_tensors(
    file: BufferedReader,
    layout: Layout,
    seen: Callable[[Any], object],
    check: Callable[[Mapping[str, Tensor]], object] | None = None,
) -> dict[str, Tensor]:
    """Reads the tensors behind the header of a safetensors file.

    Those of a large file are hashed in a thread beside the reading.

    Args:
        file: The file, open behind its header.
        layout: What `read_layout` found. No more memory than the file has bytes is asked for.
        seen: Called with all bytes, in their order; the last call ends before this returns or
            raises.
        check: Called with the tensors, while those of a large file are still being hashed.

    Raises:
        LayoutError: If a shape is impossible, or the file is shorter.
    """
    try:
        tensors = {
            name: torch.empty(shape, dtype=dtype, device="cpu")
            for name, (dtype, shape) in layout.items()
        }
    except (RuntimeError, TypeError) as error:
        raise LayoutError(f"its header describes no tensors: {error!s:.200}") from error
    is_large = sum(tensor.nbytes for tensor in tensors.values()) > LARGE
    hashing = []
    with ThreadPoolExecutor(max_workers=1) as beside:
        for tensor in tensors.values():
            numbers = tensor.reshape(-1).view(torch.uint8).numpy().data
            count = file.readinto(numbers)
            if is_large:
                hashing.append(beside.submit(seen, numbers[:count]))
            else:
                seen(numbers[:count])
            if count < len(numbers):
                raise LayoutError("it ends within its tensors")
        if check and sys.byteorder == "little":
            check(tensors)
    for done in hashing:
        done.result()  # raises what it raised
    if sys.byteorder == "big":  # once they are hashed as they stand in the file
        for tensor in tensors.values():
            tensor.untyped_storage().byteswap(tensor.dtype)
        if check:
            check(tensors)
    return tensors
