"""Looks through an ONNX file for what makes it read other files, or run without an end."""

from __future__ import annotations

from collections.abc import Iterator

MAX_DEPTH = 64  # of graphs inside the nodes of graphs

# by kind of message, the fields that hold messages: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
INSIDE = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
OP_TYPE = ("node", 4)
ELSEWHERE = (("tensor", 13), ("tensor", 14))  # external_data, and data_location if it is not 0


def check_program(content: bytes) -> None:
    """Refuses an ONNX file whose numbers are in another file, or that has a loop.

    Neither is ever in a file that `export` writes, unless the network itself has a loop.

    Raises:
        ValueError: If it has one of these, or is no ONNX file; the message is the reason alone.
    """
    _check(memoryview(content), "model", 0)


def _check(content: memoryview, kind: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise ValueError("its graphs contain each other too deep")
    for number, value in _fields(content):
        if (kind, number) in ELSEWHERE and value:
            raise ValueError("its numbers are in another file, which may be any file")
        if isinstance(value, int):
            continue
        if (kind, number) == OP_TYPE and value.tobytes() == b"Loop":
            raise ValueError("it has a loop (Loop), which may never end")
        if inner := INSIDE[kind].get(number):
            _check(value, inner, depth + 1)


def _fields(content: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """The fields of a message of protocol buffers: number and value."""
    place = 0
    while place < len(content):
        key, place = _whole_number(content, place)
        number, form = key >> 3, key & 7
        if form == 0:
            value, place = _whole_number(content, place)
            yield number, value
            continue
        if form == 2:
            size, place = _whole_number(content, place)
        elif form in (1, 5):
            size = 8 if form == 1 else 4
        else:
            raise ValueError("it is no ONNX file")
        if place + size > len(content):
            raise ValueError("it ends within its description")
        yield number, content[place : place + size]
        place += size


def _whole_number(content: memoryview, place: int) -> tuple[int, int]:
    """A number of seven bits per byte, and the place behind it."""
    number = 0
    for shift in range(0, 70, 7):
        if place >= len(content):
            raise ValueError("it ends within its description")
        byte = content[place]
        place += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, place
    raise ValueError("it is no ONNX file")
