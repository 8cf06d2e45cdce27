"""`Program`: a network and what a file of it states; each format has a module that writes it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias, cast

import torch
from torch import Tensor, nn

from .._networks import shape_of

__all__ = ["ExportError"]

Format: TypeAlias = Literal["onnx", "torch_export", "torchscript", "executorch", "c", "page"]
Pixels: TypeAlias = Literal["float32", "uint8"]
MODULES: dict[Format, str] = {
    "onnx": "onnx_file",
    "torch_export": "torch_export",
    "torchscript": "torchscript",
    "executorch": "executorch",
    "c": "c",
    "page": "page.writing",
}
SUFFIXES: dict[str, Format] = {
    ".onnx": "onnx",
    ".pt2": "torch_export",
    ".pt": "torchscript",
    ".pte": "executorch",
    ".c": "c",
    ".html": "page",
}
SMALL = 1_000_000  # weights; with more, a page or C is slow to open or to compile
INPUT = "digits"
LOGITS, PROBABILITIES, FAMILIARITY = "logits", "probabilities", "familiarity"
METADATA = "mnist_zoo"


class ExportError(ValueError):
    """A network cannot be exported, or an exported file cannot be read; the message says why.

    Example:
        >>> from pathlib import Path
        >>> from mnist_zoo.export import ExportError, load_session
        >>> size = Path("text.onnx").write_text("not a network")
        >>> try:
        ...     load_session("text.onnx")
        ... except ExportError as error:
        ...     print(error)
        'text.onnx' cannot be read by ONNX Runtime: ...
    """


@dataclass(frozen=True)
class Program:
    """A network to write.

    Attributes:
        name: Name of the file without its suffix.
        network: The network, in eval mode and float32 on the CPU.
        example: A batch of its input.
        batch: Number of images in every batch; None for any number.
        opset: Version of ONNX's operators; None for the exporter's own.
        metadata: What the file states: network, classes, preprocessing, pixels and output.
    """

    name: str
    network: nn.Module
    example: Tensor
    batch: int | None
    opset: int | None
    metadata: Mapping[str, Any]


@dataclass(frozen=True)
class Content:
    """The content of a file, and the version of ONNX's operators where it has one.

    `beside` holds the content of files that belong to it, by their suffixes.
    """

    data: bytes
    opset: int | None = None
    beside: Mapping[str, bytes] = field(default_factory=dict)


Run: TypeAlias = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Opened:
    """A file that a runtime has read.

    Attributes:
        run: Computes the outputs of a batch: a table, and the familiarity (N,) if the file
            tells it.
        stated: What the file states, as JSON; empty if it states nothing.
        name: Name of the input.
        shape: Shape of the input; the batch is a number only where it is fixed.
        dtype: Type of the input's numbers; None for another than float32 and uint8.
        count: Numbers per image in the table.
        gives_familiarity: Whether the file tells the familiarity of images.
    """

    run: Callable[[Tensor], list[Tensor]]
    stated: str
    name: str
    shape: tuple[Any, ...]
    dtype: torch.dtype | None
    count: object
    gives_familiarity: bool = False


class Form(Protocol):
    """The module of a format."""

    EXTRA: str  # of the package, which installs what is needed
    PACKAGES: tuple[str, ...]
    BATCH: int | None  # the only size of a batch; None for any
    PIXELS: Pixels | None  # the only type of pixels; None for either

    def contents(self, program: Program) -> Iterator[Content]:
        """The content of the file; several where a smaller one may be too inexact."""
        ...

    def reader(self, content: Content) -> Run:
        """The file as a function that its own runtime computes."""
        ...


def form_of(format: Format) -> Form:
    """The module that writes a format, once the packages that it needs are there."""
    form = cast(Form, importlib.import_module(f"{__package__}.{MODULES[format]}"))
    need(form.EXTRA, *form.PACKAGES)
    return form


def need(extra: str, *packages: str) -> None:
    """Raises ImportError for the first package that is not installed."""
    for package in packages:
        try:
            importlib.import_module(package)
        except ModuleNotFoundError as error:
            message = f'{extra} needs the package {package}: pip install "mnist-zoo[{extra}]"'
            raise ImportError(message, name=package) from error


def square_shape(model: nn.Module, input_size: tuple[int, ...] | None) -> tuple[int, int, int]:
    """The shape (C, S, S) of one input; `Preprocessing` produces square images."""
    shape = shape_of(model, input_size)
    if shape[1] != shape[2]:
        raise ValueError(f"`input_size` (={shape}) must be square, with H equal to W")
    return shape


def check_small(count: int) -> None:
    """Raises ExportError for a network with too many weights to stand in a text."""
    if count > SMALL:
        raise ExportError(
            f"this format takes networks of at most {SMALL:,} parameters; it has {count:,}"
        )


def weights_of(program: Program) -> int:
    """Number of the network's parameters."""
    return sum(values.numel() for values in program.network.parameters())
