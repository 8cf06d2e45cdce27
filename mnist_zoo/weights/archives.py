"""Reads what `torch.save` writes, in its new and its old format, without `torch.load`.

Only the tensors that are asked for are read, each storage once and into its own memory. What else
a checkpoint holds costs nothing, and the file decides neither what is called nor how much memory
is used.
"""

from __future__ import annotations

import math
import struct
import sys
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, BinaryIO

import torch
from torch import Tensor

from .pickles import MAX_PICKLE, Foreign, PickleRefused, Storage, StoredTensor, read_pickle
from .tensors import LARGE

MAX_MEMBERS = 60_000  # of a zip archive
OLD_MAGIC = 0x1950A86A20F9469CFC6C


@dataclass(frozen=True)
class Part:
    """Where a file keeps the numbers of a storage, and their checksum; 0 for none."""

    place: int
    size: int
    crc: int = 0


class Archive:
    """A file of `torch.save`, open.

    Attributes:
        value: What was saved, as `read_pickle` gives it.

    Args:
        file: The file; it must stay open while tensors are read.
        size: Its size.
        longest: The most bytes that may describe its tensors.
        exact: As for `read_pickle`.

    Raises:
        PickleRefused: If torch.save would not have written it.
        Exception: Of many types, if it is damaged.
    """

    def __init__(
        self, file: BinaryIO, size: int, longest: int = MAX_PICKLE, *, exact: bool = False
    ) -> None:
        self._file, self._size = file, size
        self._longest, self._exact = longest, exact
        self._parts: dict[str, Part] = {}
        self._swapped = False
        self._storages: dict[str, Tensor] = {}
        zipped = file.read(4) == b"PK\3\4"  # torch decides in the same way
        self.value = self._read_zip() if zipped else self._read_old_format()

    def size_of(self, tensors: Mapping[Any, StoredTensor]) -> int:
        """The bytes that these tensors take, after a check that the file holds as many numbers.

        Raises:
            PickleRefused: If a tensor has more numbers than its storage, or all have more than
                the file.
        """
        for name, tensor in tensors.items():
            needed = math.prod(tensor.shape) * tensor.dtype.itemsize
            if needed > tensor.storage.count * tensor.storage.dtype.itemsize:
                which = repr(name)[:80] if isinstance(name, str) else "a tensor"
                raise PickleRefused(f"{which} has more numbers than the file holds for it")
        storages = {tensor.storage for tensor in tensors.values()}
        total = sum(storage.count * storage.dtype.itemsize for storage in storages)
        if total > self._size:
            raise PickleRefused("its tensors have more numbers than the file")
        return total

    def read(self, tensors: Mapping[Any, StoredTensor]) -> dict[Any, Tensor]:
        """Reads tensors; those that share a storage share memory.

        Raises:
            PickleRefused: If numbers are damaged or missing.
        """
        with ThreadPoolExecutor(1) as second:  # computes checksums while this one reads
            storages = {tensor.storage: None for tensor in tensors.values()}
            sums = [self._read_storage(each, second) for each in storages]
            for check in filter(None, sums):
                check.result()
        return {name: self._view(tensor) for name, tensor in tensors.items()}

    def _view(self, tensor: StoredTensor) -> Tensor:
        numbers = self._storages[tensor.storage.key].view(tensor.dtype)
        return numbers.as_strided(tensor.shape, tensor.strides, tensor.offset)

    def read_all(self) -> Any:
        """What was saved, with every tensor read.

        Raises:
            PickleRefused: If anything was saved but tensors, texts, numbers and what holds them.
        """
        stored: dict[Any, StoredTensor] = {}

        def collect(value: Any) -> None:
            if isinstance(value, StoredTensor):
                stored[id(value)] = value
            for part in _parts_of(value):
                collect(part)

        def filled(value: Any) -> Any:
            if isinstance(value, StoredTensor):
                return tensors[id(value)]
            if isinstance(value, dict):
                return {key: filled(part) for key, part in value.items()}
            if isinstance(value, (list, tuple)):
                return type(value)(map(filled, value))
            if isinstance(value, (Foreign, Storage)):
                raise PickleRefused(f"it holds {getattr(value, 'what', 'a storage')!r:.80}")
            return value

        collect(self.value)
        self.size_of(stored)
        tensors = self.read(stored)
        return filled(self.value)

    def _read_storage(self, storage: Storage, second: Executor) -> Future[None] | None:
        """Reads a storage; returns the check of its sum where that is not made yet."""
        if storage.key in self._storages:
            return None
        part = self._parts.get(storage.key)
        if part is None or part.size != storage.count * storage.dtype.itemsize:
            raise PickleRefused("it lacks the numbers of a tensor")
        if part.place + part.size > self._size:
            raise PickleRefused("it ends within its tensors")
        numbers = torch.empty(part.size, dtype=torch.uint8, device="cpu")
        self._file.seek(part.place)
        memory = numbers.numpy().data
        if _read_into(self._file, memory) < part.size:
            raise PickleRefused("it ends within its tensors")
        self._storages[storage.key] = numbers
        if part.size > LARGE and not self._swapped:
            return second.submit(_check_sum, memory, part.crc)
        _check_sum(memory, part.crc)
        if self._swapped:
            numbers.untyped_storage().byteswap(storage.dtype)
        return None

    def _read_zip(self) -> Any:
        members = self._count_members()
        with zipfile.ZipFile(self._file) as archive:
            entries = archive.infolist()
        if len(entries) != members:
            raise PickleRefused("it miscounts its parts")
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise PickleRefused("it is compressed")
        found = {entry.filename: entry for entry in entries}
        pickles = [name for name in found if name.endswith("/data.pkl")]
        if len(found) != len(entries) or len(pickles) != 1:
            raise PickleRefused("its parts are not those that torch.save writes")
        root = pickles[0].removesuffix("data.pkl")
        order = found.get(f"{root}byteorder")
        little = order is None or self._content(order) == b"little"
        self._swapped = little != (sys.byteorder == "little")
        content = self._content(found[pickles[0]])
        folder = f"{root}data/"
        self._parts = {
            name.removeprefix(folder): self._part(entry)
            for name, entry in found.items()
            if name.startswith(folder)
        }
        return read_pickle(content, exact=self._exact).value

    def _count_members(self) -> int:
        """The number of members that a zip archive states at its very end.

        Readers differ in where else they look, so anything after that place is refused.
        """
        self._file.seek(max(0, self._size - 98))
        tail = self._file.read(98).rjust(98, b"\0")
        if tail[-22:-18] != b"PK\5\6" or tail[-2:] != b"\0\0":
            raise PickleRefused("its end is missing, or something follows it")
        members, size = struct.unpack("<HI", tail[-12:-6])
        if tail[-42:-38] == b"PK\6\7":  # the 64-bit records, which torch.save writes as well
            start = struct.unpack("<Q", tail[-34:-26])[0]
            if tail[-98:-94] != b"PK\6\6" or start != self._size - 98:
                raise PickleRefused("it has two tables of contents")
            members, size = struct.unpack("<QQ", tail[-66:-50])
        if members > MAX_MEMBERS or size > 200 * MAX_MEMBERS:
            raise PickleRefused(f"it has more than {MAX_MEMBERS:,} parts")
        return int(members)

    def _part(self, entry: zipfile.ZipInfo) -> Part:
        """Where the content of a member is."""
        self._file.seek(entry.header_offset)
        start = self._file.read(30)
        if len(start) < 30 or start[:4] != b"PK\3\4" or entry.flag_bits & 1:
            raise PickleRefused("it is damaged, or encrypted")
        name, extra = struct.unpack("<HH", start[26:30])
        return Part(entry.header_offset + 30 + name + extra, entry.file_size, entry.CRC)

    def _content(self, entry: zipfile.ZipInfo) -> bytes:
        """The content of a short member."""
        part = self._part(entry)
        if part.size > self._longest:
            raise PickleRefused(f"it describes its tensors in more than {self._longest:,} bytes")
        self._file.seek(part.place)
        content = self._file.read(part.size)
        if len(content) < part.size or (part.crc and zlib.crc32(content) != part.crc):
            raise PickleRefused("it is damaged: the checksum of a part is another")
        return content

    def _read_old_format(self) -> Any:
        """Reads five pickles: magic number, version, machine, value, keys of the storages."""
        self._file.seek(0)
        content = self._file.read(self._longest)
        if not content.startswith(b"\x80") or read_pickle(content).value != OLD_MAGIC:
            raise PickleRefused("it is no file of torch.save")
        magic = read_pickle(content)
        machine = read_pickle(content, read_pickle(content, magic.end).end)
        self._swapped = machine.value["little_endian"] != (sys.byteorder == "little")
        saved = read_pickle(content, machine.end, exact=self._exact)
        keys = read_pickle(content, saved.end)
        place = keys.end
        for key in keys.value:
            storage = saved.storages[key]
            size = storage.count * storage.dtype.itemsize
            self._parts[key] = Part(place + 8, size)  # behind the count
            place += 8 + size
        return saved.value


def _parts_of(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, (list, tuple)) else ()


def _check_sum(memory: memoryview, crc: int) -> None:
    if crc and zlib.crc32(memory) != crc:
        raise PickleRefused("it is damaged: the checksum of a tensor is another")


def _read_into(file: BinaryIO, memory: memoryview) -> int:
    """Fills the memory from the file, which may give less at a time; the number of bytes."""
    done = 0
    while done < len(memory) and (count := file.readinto(memory[done:])):  # type: ignore[attr-defined]
        done += count
    return done
