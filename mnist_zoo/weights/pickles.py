"""Refuses pickles that `torch.save` would not have written."""

from __future__ import annotations

import io
import pickletools
import re
import struct
import zipfile
from typing import Any

MAX_PICKLE = 1 << 20  # bytes; the largest network here needs a tenth of a megabyte
MAX_MEMBERS = 60_000  # of a zip archive
MAX_NESTED = 10_000  # values inside a tuple, counting those inside its own tuples


class PickleRefused(ValueError):  # noqa: N818  (it says what happened)
    """A pickle is not one that torch.save writes; the message is the reason alone."""


def check_pickles(content: bytes, longest: int = MAX_PICKLE) -> None:
    """Checks every pickle in the content of a file of torch.save, in its new or old format.

    Args:
        content: The content.
        longest: The most bytes that a pickle may have.

    Raises:
        PickleRefused: If torch.save would not have written it.
        Exception: Of many types, if it is damaged.
    """
    file = io.BytesIO(content)
    if not content.startswith(b"PK\3\4"):  # torch decides in the same way
        for _ in range(5):  # the old format: five pickles, then the numbers
            _check_pickle(file, longest)
        return
    members = _count_members(content)
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if len(entries) != members:
            raise PickleRefused("it miscounts its parts")
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise PickleRefused("it is compressed")
        if sum(entry.file_size for entry in entries) > len(content):
            raise PickleRefused("its parts overlap")
        for entry in entries:
            if entry.filename.lower().endswith("/data.pkl"):  # torch ignores the case
                with archive.open(entry) as pickle:
                    # pickletools reads byte by byte, which is slow in an archive
                    _check_pickle(io.BytesIO(pickle.read(longest + 1000)), longest)


def _count_members(content: bytes) -> int:
    """The number of members that a zip archive states at its very end.

    Readers differ in where else they look, so anything after that place is refused.
    """
    tail = content[-98:].rjust(98, b"\0")
    if tail[-22:-18] != b"PK\5\6" or tail[-2:] != b"\0\0":
        raise PickleRefused("its end is missing, or something follows it")
    members, size = struct.unpack("<HI", tail[-12:-6])
    if tail[-42:-38] == b"PK\6\7":  # the 64-bit records, which torch.save writes as well
        start = struct.unpack("<Q", tail[-34:-26])[0]
        if tail[-98:-94] != b"PK\6\6" or start != len(content) - 98:
            raise PickleRefused("it has two tables of contents")
        members, size = struct.unpack("<QQ", tail[-66:-50])
    if members > MAX_MEMBERS or size > 200 * MAX_MEMBERS:
        raise PickleRefused(f"it has more than {MAX_MEMBERS:,} parts")
    return int(members)


# All that the pickle of a state dict calls. torch.serialization.get_unsafe_globals_in_checkpoint
# cannot take its place: it reads no file of the old format, and it takes bytearray, with which
# a short pickle asks for gigabytes, for safe.
CALLS = re.compile(
    r"collections OrderedDict|torch (Size|device|\w+Storage|b?float\d+|u?int\d+|bool)|"
    r"torch\.storage UntypedStorage|torch\._utils _rebuild_(tensor|tensor_v2|parameter)|"
    r"torch\.nn\.parameter Parameter"
)


def _check_pickle(file: io.BytesIO, longest: int) -> None:
    """Refuses one pickle that is long, calls anything else, or nests tuples deep.

    `torch.load` with ``weights_only`` runs no code of a file. But a file may make it ask for any
    amount of memory, or hash tuples that contain each other almost for ever. So this follows
    the stack of the pickle, where each value stands as its weight: the number of values in it.
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
