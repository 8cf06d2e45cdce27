"""Reads the pickle in a file of `torch.save` as data: nothing in it is called or imported."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

MAX_PICKLE = 64 << 20  # bytes; a network needs a tenth of a megabyte, 1,000 epochs need 25
MAX_STEPS = 750_000  # of one pickle, where a row of numbers is one step
MAX_TEXT = 1000  # bytes of a text beyond ASCII, which takes four times as much memory
MAX_DIMENSIONS = 64  # as in torch


class PickleRefused(ValueError):  # noqa: N818  (it says what happened)
    """A pickle is not one that torch.save writes; the message is the reason alone."""


@dataclass(frozen=True)
class Foreign:
    """A value beside the tensors, which is never made: the name of what would make it."""

    what: str


@dataclass(frozen=True)
class Storage:
    """The numbers of one or several tensors: where the file keeps them."""

    key: str
    dtype: torch.dtype
    count: int


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in the file: a view of a storage."""

    storage: Storage
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


STORAGES = {
    "torch.storage UntypedStorage": torch.uint8,
    "torch DoubleStorage": torch.float64,
    "torch FloatStorage": torch.float32,
    "torch HalfStorage": torch.float16,
    "torch BFloat16Storage": torch.bfloat16,
    "torch LongStorage": torch.int64,
    "torch IntStorage": torch.int32,
    "torch ShortStorage": torch.int16,
    "torch CharStorage": torch.int8,
    "torch ByteStorage": torch.uint8,
    "torch BoolStorage": torch.bool,
    "torch ComplexDoubleStorage": torch.complex128,
    "torch ComplexFloatStorage": torch.complex64,
    "torch QUInt8Storage": torch.quint8,
    "torch QInt8Storage": torch.qint8,
    "torch QInt32Storage": torch.qint32,
}

# What a pickle may name: all that torch.load takes with ``weights_only``, and what often stands
# beside the weights in a checkpoint. Anything else is refused, although it would not run here,
# because its author has to be trusted wherever else the file is opened.
HARMLESS = re.compile(
    r"collections (OrderedDict|Counter|defaultdict|deque)|_codecs encode|argparse Namespace|"
    r"(builtins|__builtin__) (set|frozenset|bytearray|bytes|complex|slice|range|"
    r"list|dict|tuple|int|float|str|bool|xrange|unicode|long)|"
    r"pathlib \w*Path|datetime \w+|numpy (dtype|ndarray)|"
    r"numpy\.(_core|core)\.multiarray (scalar|_reconstruct)|"
    r"torch (Size|Tensor|device|\w+Storage|b?float\w+|u?int\d+|bool|complex\d+|per_\w+|"
    r"strided|sparse_\w+|quint\d+\w*|qint\d+)|torch\.storage \w+Storage|"
    r"torch\.serialization _get_layout|torch\.nn\.parameter (Parameter|Buffer)|"
    r"torch\._utils _rebuild_\w+|torch\._tensor _rebuild_from_type_v2"
)
ROW = re.compile(  # of at most 5,000, because re takes memory for each
    rb"(?:G.{8}){50,5000}|(?:J.{4}){50,5000}|(?:M..){50,5000}|(?:K.){50,5000}", re.DOTALL
)
ROW_STEPS = {b"G": 9, b"J": 5, b"M": 3, b"K": 2}
ROW_VALUE = Foreign("a number")  # one or two stand for a long row of them, such as a history's
MARK = Foreign("a mark")


@dataclass(frozen=True)
class Pickle:
    """The content of a pickle.

    Attributes:
        value: Dictionaries, lists, tuples, strings and numbers are themselves; a tensor is a
            `StoredTensor`, and every other object is `Foreign`.
        storages: All storages, by their keys.
        end: The place behind the pickle.
    """

    value: Any
    storages: dict[str, Storage]
    end: int


def read_pickle(content: bytes, start: int = 0, *, exact: bool = False) -> Pickle:
    """Reads a pickle as torch.save writes it.

    Memory and time are bounded by `MAX_STEPS` and by the length of the content.

    Args:
        content: The pickle, with whatever follows it.
        start: Where it begins.
        exact: Whether long rows of numbers and long texts are read, too, or stood for by `Foreign`.

    Raises:
        PickleRefused: If torch.save would not have written it, or it names code.
        Exception: Of many types, if it is damaged.
    """
    reader = _Reader(content, start, exact)
    for _ in range(MAX_STEPS):
        if reader.step():
            value = reader.stack.pop()
            _check_weight(value, MAX_STEPS + 2 * len(content))
            return Pickle(value, reader.storages, reader.place)
    raise PickleRefused(f"it takes more than {MAX_STEPS:,} steps to describe its tensors")


class _Reader:
    """The machine that a pickle is a program for, without the instructions that are dangerous."""

    def __init__(self, content: bytes, start: int, exact: bool) -> None:
        self.content, self.place, self.exact = content, start, exact
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}

    def step(self) -> bool:
        """Runs one instruction; returns whether it was the last."""
        code = self._take(1)
        if (
            code in ROW_STEPS
            and not self.exact
            and (row := ROW.match(self.content, self.place - 1))
        ):
            count = (row.end() - row.start()) // ROW_STEPS[code]
            self.stack.extend([ROW_VALUE] * (2 - count % 2))  # keys and values stay in step
            self.place = row.end()
        elif code in NUMBERS:
            form, size = NUMBERS[code]
            self.stack.append(struct.unpack(form, self._take(size))[0])
        elif code in LENGTHS:
            form, size = LENGTHS[code]
            text = self._take(struct.unpack(form, self._take(size))[0])
            if code == b"\x8a":
                self.stack.append(int.from_bytes(text, "little", signed=True))
            elif text.isascii() or self.exact or len(text) < MAX_TEXT:
                self.stack.append(text.decode("utf-8", "surrogatepass"))
            else:
                self.stack.append(Foreign("a long text"))
        elif code in CONSTANTS:
            self.stack.append(CONSTANTS[code])
        elif code in b"qr":
            self.memo[self._index(code)] = self.stack[-1]
        elif code in b"hj":
            self.stack.append(self.memo[self._index(code)])
        elif code == b"c":
            self.stack.append(_named(f"{self._line()} {self._line()}"))
        elif code == b"Q":
            storage = _storage(self.stack.pop())
            self.storages[storage.key] = storage
            self.stack.append(storage)
        elif code == b"\x80":
            self._take(1)
        elif code == b".":
            return True
        elif change := CHANGES.get(code):
            change(self.stack)
        else:
            raise PickleRefused(f"it has the instruction {code!r}")
        return False

    def _take(self, size: int) -> bytes:
        """The next bytes of the pickle."""
        part = self.content[self.place : self.place + size]
        if len(part) < size:
            raise PickleRefused("it ends within its description")
        self.place += size
        return part

    def _line(self) -> str:
        end = self.content.index(b"\n", self.place, self.place + 200)
        return self._take(end + 1 - self.place)[:-1].decode()

    def _index(self, code: bytes) -> int:
        return int.from_bytes(self._take(1 if code in b"qh" else 4), "little")


NUMBERS = {b"G": (">d", 8), b"J": ("<i", 4), b"M": ("<H", 2), b"K": ("<B", 1)}
LENGTHS = {b"X": ("<I", 4), b"T": ("<i", 4), b"U": ("<B", 1), b"\x8a": ("<B", 1)}
CONSTANTS = {b"N": None, b"\x88": True, b"\x89": False, b")": (), b"(": MARK}


def _check_weight(value: Any, most: int) -> None:
    """Refuses values that contain each other so often that they could never be written out.

    A list of twice the same list, forty times over, has as many values as fill a terabyte.
    """
    weights: dict[int, int] = {}

    def weight(value: Any) -> int:
        if isinstance(value, str):
            return len(value)
        if not isinstance(value, (dict, list, tuple)):
            return 1
        if id(value) not in weights:
            weights[id(value)] = most + 1  # if it contains itself
            parts = [*value, *value.values()] if isinstance(value, dict) else value
            weights[id(value)] = 1 + sum(map(weight, parts))
        return weights[id(value)]

    if weight(value) > most:
        raise PickleRefused("its values contain each other too often")


def _named(name: str) -> Foreign:
    if not HARMLESS.fullmatch(name):
        raise PickleRefused(f"it calls {name!r:.80}")
    return Foreign(name)


def _above_mark(stack: list[Any]) -> list[Any]:
    """Takes the values above the last mark, and the mark."""
    mark = len(stack) - 1
    while stack[mark] is not MARK:
        mark -= 1
    values = stack[mark + 1 :]
    del stack[mark:]
    return values


def _top(stack: list[Any], count: int) -> list[Any]:
    """Takes the last values."""
    return [stack.pop() for _ in range(count)][::-1]


def _set_items(target: Any, values: list[Any]) -> None:
    if not isinstance(target, dict):
        return  # of a foreign object
    for key, value in zip(values[::2], values[1::2], strict=True):
        small = isinstance(key, int) and abs(key) < 1 << 63  # longer ones may share one hash
        if isinstance(key, str) or small:
            target[key] = value


def _append(target: Any, values: list[Any]) -> None:
    if isinstance(target, list):
        target.extend(values)


def _call(stack: list[Any]) -> None:
    """What stands for the result of a call."""
    function, arguments = _top(stack, 2)
    if not isinstance(function, Foreign) or not isinstance(arguments, tuple):
        raise PickleRefused("it calls a value")
    stack.append(_result(function.what, arguments))


def _result(name: str, arguments: tuple[Any, ...]) -> Any:
    if name == "torch._tensor _rebuild_from_type_v2":  # a tensor with attributes
        inner, _, arguments, _ = arguments
        name = inner.what
    if name in ("torch._utils _rebuild_parameter", "torch._utils _rebuild_parameter_with_state"):
        return arguments[0]
    if re.fullmatch(r"torch\._utils _rebuild_tensor(_v[23])?", name):
        storage, offset, shape, strides = arguments[:4]
        dtype = arguments[6] if name.endswith("3") else None
        return _tensor(storage, offset, shape, strides, dtype)
    if name in ("collections OrderedDict", "collections defaultdict"):
        made: dict[Any, Any] = {}
        for pair in arguments[0] if arguments and isinstance(arguments[0], list) else ():
            _set_items(made, pair)  # as Python 2 wrote it
        return made
    return arguments[0] if name == "torch Size" else Foreign(name)


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, dtype: Any) -> Any:
    if not isinstance(storage, Storage):
        return Foreign("a tensor of a type that is unknown")
    kind = storage.dtype if dtype is None else getattr(torch, dtype.what.partition(" ")[2])
    if not isinstance(kind, torch.dtype):
        raise PickleRefused("it has a tensor of an impossible type")
    whole = [offset, *shape, *strides]
    possible = all(type(number) is int and 0 <= number < 1 << 63 for number in whole)
    if not possible or len(shape) != len(strides) or len(shape) > MAX_DIMENSIONS:
        raise PickleRefused("it has a tensor of an impossible shape")
    return StoredTensor(storage, kind, offset, tuple(shape), tuple(strides))


def _storage(address: Any) -> Storage:
    """The storage that stands at an address."""
    kind, storage, key, _, count, *view = address
    if kind != "storage" or view not in ([], [None]) or storage.what not in STORAGES:
        raise PickleRefused("it keeps its numbers in an unknown way")
    if not isinstance(key, str) or type(count) is not int or not 0 <= count < 1 << 48:
        raise PickleRefused("it has an impossible storage")
    return Storage(key, STORAGES[storage.what], count)


CHANGES: dict[bytes, Callable[[list[Any]], object]] = {
    b"}": lambda stack: stack.append({}),
    b"]": lambda stack: stack.append([]),
    b"t": lambda stack: stack.append(tuple(_above_mark(stack))),
    b"\x85": lambda stack: stack.append(tuple(_top(stack, 1))),
    b"\x86": lambda stack: stack.append(tuple(_top(stack, 2))),
    b"\x87": lambda stack: stack.append(tuple(_top(stack, 3))),
    b"a": lambda stack: _append(stack[-2], _top(stack, 1)),
    b"e": lambda stack: _append((values := _above_mark(stack)) and stack[-1], values),
    b"s": lambda stack: _set_items(stack[-3], _top(stack, 2)),
    b"u": lambda stack: _set_items((values := _above_mark(stack)) and stack[-1], values),
    b"R": _call,
    b"\x81": _call,
    b"b": lambda stack: stack.pop(),  # attributes, which no tensor needs
}
