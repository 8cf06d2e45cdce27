"""The memory that the layers of a network take and free."""

from __future__ import annotations

from functools import cache

import torch

LARGE_BLOCK = 31 << 20  # bytes; just below glibc's DEFAULT_MMAP_THRESHOLD_MAX


@cache
def keep_freed_memory() -> None:
    """Has glibc's malloc keep what layers free, up to 64 MB, for the next layers.

    Otherwise it gives that memory back to the system, which clears it again: up to a fifth of the
    time of a training step, and more than half of some networks' time for a batch. Its limits
    follow the largest block that was freed; see mallopt(3), M_MMAP_THRESHOLD. The block is never
    written to, and other allocators do nothing.
    """
    torch.empty(LARGE_BLOCK, dtype=torch.uint8, device="cpu")
