"""Refusing pickles that `torch.save` would not have written."""

from __future__ import annotations

import io
import os
import pickletools
import re
import struct
import zipfile
from pathlib import Path
from typing import Any, BinaryIO


class PickleRefused(ValueError):  # noqa: N818  (what happened, not a mistake of the caller's)
    """A pickle is not what torch.save writes; the message gives the bare reason."""


MAX_PICKLE = 1 << 20  # bytes; the largest network here needs a tenth of a megabyte
MAX_MEMBERS = 60_000  # of a zip archive
MAX_NESTED = 10_000  # values that a tuple in a pickle holds, and those that it holds hold


def check_pickles(path: Path) -> bool:
    """Refuses what torch.save would not have written; tells whether it is a zip archive."""
    with path.open("rb") as file:
        archive = file.read(4) == b"PK\3\4"  # as torch itself decides
        if not archive:
            file.seek(0)
            for _ in range(5):  # the older format: five pickles, then the data
                _check_pickle(file)
            return False
        members = _count_members(file)
    with zipfile.ZipFile(path) as opened:
        entries = opened.infolist()
        if len(entries) != members:
            raise PickleRefused("it miscounts its parts")
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise PickleRefused("it is compressed")
        if sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise PickleRefused("its parts overlap")
        for entry in entries:
            if entry.filename.lower().endswith("/data.pkl"):  # torch does not look at the case
                with opened.open(entry) as pickle:  # a byte at a time would be slow from there
                    _check_pickle(io.BytesIO(pickle.read(MAX_PICKLE + 1000)))
    return True


def _count_members(file: BinaryIO) -> int:
    """How many members a zip archive says it has, in the one place where all readers look."""
    end = file.seek(0, os.SEEK_END)
    file.seek(max(end - 98, 0))
    tail = file.read().rjust(98, b"\0")
    if tail[-22:-18] != b"PK\5\6" or tail[-2:] != b"\0\0":
        raise PickleRefused("its end is missing, or something follows it")
    members, size = struct.unpack("<HI", tail[-12:-6])
    if tail[-42:-38] == b"PK\6\7":  # the 64-bit records, which torch.save writes, too
        if tail[-98:-94] != b"PK\6\6" or struct.unpack("<Q", tail[-34:-26])[0] != end - 98:
            raise PickleRefused("it has two tables of contents")
        members, size = struct.unpack("<QQ", tail[-66:-50])
    if members > MAX_MEMBERS or size > 200 * MAX_MEMBERS:
        raise PickleRefused(f"it has more than {MAX_MEMBERS:,} parts")
    return int(members)


CALLS = re.compile(
    r"collections OrderedDict|torch (Size|device|\w+Storage|b?float\d+|u?int\d+|bool)|"
    r"torch\.storage UntypedStorage|torch\._utils _rebuild_(tensor|tensor_v2|parameter)|"
    r"torch\.nn\.parameter Parameter"
)
"""What the pickle of a state dict calls."""


def _check_pickle(file: Any) -> None:
    """Refuses one pickle that is long, calls anything else, or nests tuples deep.

    `torch.load` runs no code of a file, but it may ask for any amount of memory, and hash tuples
    that hold each other for ever. So the stack is followed here, with a weight for each value.
    """
    start = file.tell()
    stack: list[Any] = []
    memo: dict[Any, Any] = {}
    mark = pickletools.markobject
    for op, arg, place in pickletools.genops(file):
        if place - start > MAX_PICKLE:
            raise PickleRefused(f"it describes its tensors in more than {MAX_PICKLE:,} bytes")
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
