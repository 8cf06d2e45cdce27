"""Looking through the pickle of a checkpoint before torch reads it."""

from __future__ import annotations

import pickletools
import re
from io import BytesIO
from typing import Any

from ..weights.pickles import PickleRefused

MAX_NESTED = 10_000  # values inside a tuple, counting those inside its own tuples

# All that the pickle of a state dict calls. torch.serialization.get_unsafe_globals_in_checkpoint
# cannot take its place: it reads no file of the old format, and it takes bytearray, with which
# a short pickle asks for gigabytes, for safe.
CALLS = re.compile(
    r"collections OrderedDict|torch (Size|device|\w+Storage|b?float\d+|u?int\d+|bool)|"
    r"torch\.storage UntypedStorage|torch\._utils _rebuild_(tensor|tensor_v2|parameter)|"
    r"torch\.nn\.parameter Parameter"
)


def check_pickle(file: BytesIO, longest: int) -> None:
    """Refuses one pickle that is long, calls anything else, or nests tuples deep.

    `torch.load` with ``weights_only`` runs no code of a file. But a file may make it ask for any
    amount of memory, or hash tuples that contain each other almost for ever. So this follows
    the stack of the pickle, where each value stands as its weight: the number of values in it.

    Raises:
        PickleRefused: If the pickle is one of these.
    """
    start = file.tell()
    stack: list[Any] = []
    memo: dict[Any, Any] = {}
    mark = pickletools.markobject
    for op, arg, place in pickletools.genops(file):
        if place is not None and place - start > longest:
            raise PickleRefused(f"it describes its tensors in more than {longest:,} bytes")
        if "GLOBAL" in op.name and not CALLS.fullmatch(str(arg)):
            raise PickleRefused(f"it calls {arg!r:.80}")
        if "PUT" in op.name:
            memo[arg] = stack[-1]
            continue
        taken, weights = list(op.stack_before), []
        if mark in taken:
            while (value := stack.pop()) is not mark:
                weights.append(value)
            taken = taken[: taken.index(mark)]
        weights += [stack.pop() for _ in taken]
        if "GET" in op.name:
            stack.append(memo[arg])
            continue
        weight = 1 + sum(weights) if "TUPLE" in op.name else 1
        if weight > MAX_NESTED:
            raise PickleRefused("it nests tuples too deep")
        stack += [mark if kind is mark else weight for kind in op.stack_after]
