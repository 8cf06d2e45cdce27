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
    value = reader.run()
    _check_weight(value, MAX_STEPS + 2 * len(content))
    return Pickle(value, reader.storages, reader.place)


class _Reader:
    """The machine that a pickle is a program for, without the instructions that are dangerous."""

    def __init__(self, content: bytes, start: int, exact: bool) -> None:
        self.content, self.place, self.exact = content, start, exact
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}

    def run(self) -> Any:
        """Runs the program to its end; returns its value."""
        content, stack = self.content, self.stack
        for _ in range(MAX_STEPS):
            code = content[self.place]
            self.place += 1
            if change := CHANGES.get(code):
                change(stack)
            elif move := MOVES.get(code):
                move(self, code)
            elif code == ord("."):
                return stack.pop()
            else:
                raise PickleRefused(f"it has the instruction {bytes([code])!r}")
        raise PickleRefused(f"it takes more than {MAX_STEPS:,} steps to describe its tensors")

    def number(self, code: int) -> None:
        """A number, or a row of them."""
        form, size = NUMBERS[code]
        begins = self.place
        self.place += size
        if not self.exact and self.content[self.place] == code:
            row = ROW.match(self.content, begins - 1)
            if row is not None:
                count = (row.end() - row.start()) // (size + 1)
                self.stack.extend([ROW_VALUE] * (2 - count % 2))  # keys and values stay in step
                self.place = row.end()
                return
        self.stack.append(form.unpack_from(self.content, begins)[0])

    def text(self, code: int) -> None:
        """A text, or bytes that are one number."""
        text = self._take(*LENGTHS[code])
        if code == 0x8A:
            self.stack.append(int.from_bytes(text, "little", signed=True))
        elif text.isascii() or self.exact or len(text) < MAX_TEXT:
            self.stack.append(text.decode("utf-8", "surrogatepass"))
        else:
            self.stack.append(Foreign("a long text"))

    def put(self, code: int) -> None:
        """Notes the last value."""
        self.memo[self._index(code == ord("q"))] = self.stack[-1]

    def get(self, code: int) -> None:
        """A value that was noted."""
        self.stack.append(self.memo[self._index(code == ord("h"))])

    def name(self, code: int) -> None:
        """The name of a class or a function."""
        self.stack.append(_named(f"{self._line()} {self._line()}"))

    def storage(self, code: int) -> None:
        """A storage, by its address."""
        storage = _storage(self.stack.pop())
        self.storages[storage.key] = storage
        self.stack.append(storage)

    def protocol(self, code: int) -> None:
        """The number of the protocol, which changes nothing."""
        self.place += 1

    def _take(self, form: struct.Struct, size: int) -> bytes:
        """The bytes that follow their length."""
        begins = self.place + size
        length = form.unpack_from(self.content, self.place)[0]
        part = self.content[begins : begins + length]
        if len(part) < length:
            raise PickleRefused("it ends within its description")
        self.place = begins + length
        return part

    def _line(self) -> str:
        end = self.content.index(b"\n", self.place, self.place + 200)
        line = self.content[self.place : end].decode()
        self.place = end + 1
        return line

    def _index(self, short: bool) -> int:
        begins = self.place
        if short:
            self.place += 1
            return self.content[begins]
        self.place += 4
        return int.from_bytes(self.content[begins : self.place], "little")


# by instruction: the form and the size of a number, or of the length of a text
NUMBERS = {
    ord(code): (struct.Struct(form), struct.calcsize(form))
    for code, form in {"G": ">d", "J": "<i", "M": "<H", "K": "<B"}.items()
}
LENGTHS = {
    code: (struct.Struct(form), struct.calcsize(form))
    for code, form in {ord("X"): "<I", ord("T"): "<i", ord("U"): "<B", 0x8A: "<B"}.items()
}
MOVES: dict[int, Callable[[_Reader, int], None]] = {
    **dict.fromkeys(NUMBERS, _Reader.number),
    **dict.fromkeys(LENGTHS, _Reader.text),
    **dict.fromkeys(b"qr", _Reader.put),
    **dict.fromkeys(b"hj", _Reader.get),
    ord("c"): _Reader.name,
    ord("Q"): _Reader.storage,
    0x80: _Reader.protocol,
}


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


CHANGES: dict[int, Callable[[list[Any]], object]] = {
    ord("N"): lambda stack: stack.append(None),
    0x88: lambda stack: stack.append(True),
    0x89: lambda stack: stack.append(False),
    ord("("): lambda stack: stack.append(MARK),
    ord(")"): lambda stack: stack.append(()),
    ord("}"): lambda stack: stack.append({}),
    ord("]"): lambda stack: stack.append([]),
    ord("t"): lambda stack: stack.append(tuple(_above_mark(stack))),
    0x85: lambda stack: stack.append(tuple(_top(stack, 1))),
    0x86: lambda stack: stack.append(tuple(_top(stack, 2))),
    0x87: lambda stack: stack.append(tuple(_top(stack, 3))),
    ord("a"): lambda stack: _append(stack[-2], _top(stack, 1)),
    ord("e"): lambda stack: _append((values := _above_mark(stack)) and stack[-1], values),
    ord("s"): lambda stack: _set_items(stack[-3], _top(stack, 2)),
    ord("u"): lambda stack: _set_items((values := _above_mark(stack)) and stack[-1], values),
    ord("R"): _call,
    0x81: _call,
    ord("b"): lambda stack: stack.pop(),  # attributes, which no tensor needs
}
