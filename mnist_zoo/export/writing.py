"""`export`: writes a network to a file in one of several formats, and checks the file."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import get_args

import torch
from torch import nn

from .._checks import check_positive, check_range
from .._files import check_place, expanded, written_whole
from .._names import check_choice
from .._networks import check_computes, check_network, class_names, stated_classes, unwrapped
from ..inspection.latency import latency
from ..inspection.tracing import TRACING, duplicate
from ..pictures.logits import check_logits
from ..pictures.preprocessing import preprocessing_of
from .comparing import agreeing_content, failures_named, images, output_of
from .program import (
    LOGITS,
    MODULES,
    PROBABILITIES,
    SUFFIXES,
    ExportError,
    Format,
    Pixels,
    Program,
    form_of,
    square_shape,
)
from .session import Session
from .taking_bytes import TakesBytes

__all__ = ["ExportReport", "export"]

OPSETS = (18, 23)  # of ONNX, first and last


@dataclass(frozen=True)
class ExportReport:
    """The result of `export`, measured with the runtime of the file.

    Attributes:
        path: The file.
        format: Format of the file.
        size: Size of the file in bytes.
        opset: Version of ONNX's operators; None for formats without ONNX.
        largest_difference: Largest difference between the outputs of the file and those of the
            network, over batches of 1, 2 and 7, or three of the only size that the file takes.
        milliseconds: Median time per image in the runtime of the file, in batches of 1, or of the
            only size that the file takes.
        eager_milliseconds: The same for the network itself in float32 on the CPU, measured in
            turns with the file.

    Example:
        >>> from mnist_zoo import lenet5
        >>> from mnist_zoo.export import export
        >>> report = export(lenet5(), "lenet5.pt", "torchscript")
        >>> report.format, report.largest_difference < 1e-4
        ('torchscript', True)
    """

    path: Path
    format: Format
    size: int
    opset: int | None
    largest_difference: float
    milliseconds: float
    eager_milliseconds: float

    def __repr__(self) -> str:
        opset = f", opset {self.opset}" if self.opset else ""
        return (
            f"{self.path} ({self.format}{opset}, {self.size / 1e6:.2f} MB): largest difference "
            f"{self.largest_difference:.1e}; one image {self.milliseconds:.3f} ms, eager "
            f"{self.eager_milliseconds:.3f} ms"
        )


def export(
    model: nn.Module,
    path: str | os.PathLike[str],
    format: Format = "onnx",
    *,
    input_size: tuple[int, int, int] | None = None,
    softmax: bool = False,
    classes: Iterable[str] | None = None,
    tolerance: float = 1e-4,
    pixels: Pixels = "float32",
    batch: int | None = None,
    opset: int | None = None,
) -> ExportReport:
    """Writes a network to a file for other runtimes, and checks that its outputs are the same.

    The file maps float32 images ``digits`` (N, C, H, W), for any N and normalised as by
    `Preprocessing`, to ``logits`` (N, classes). It stores the preprocessing and the class names
    as JSON: in the metadata of ONNX, or in the extra file ``mnist_zoo`` of torch's formats.
    With a record of familiarity (`fit_familiarity`; the pretrained weights have one), an ONNX file
    also gives ``familiarity`` (N,). Before it replaces an earlier file, its own runtime reads it
    and it is compared with the network. Threads that export wait for each other.

    Args:
        model: The network; it stays unchanged. The file holds it in eval mode and float32. For C
            also the `Session` of an ONNX file, say of int8 numbers by `quantize`.
        path: The file to write, without the ending of another format.
        format: ``"onnx"``, for `load_session` and every other runtime of ONNX;
            ``"torch_export"``, for ``torch.export.load``; ``"torchscript"``, for
            ``torch.jit.load`` and C++; ``"executorch"``, for `load_session` and ExecuTorch on
            phones; ``"c"``, C99 for any machine, with a header beside it; ``"page"``, an HTML file
            with a pad on which to draw digits, which needs nothing but a browser.
        input_size: Shape (C, H, W) of one input, with H equal to W; None for the network's own.
        softmax: Whether the file returns ``probabilities`` instead of logits.
        classes: Names of the classes, in their order; None for the network's own, or else "0", "1"
            and so on.
        tolerance: Largest allowed difference from the outputs of the network. If an output
            exceeds 1, the tolerance is multiplied by the largest output. A page holds weights of
            half precision if that keeps it within the tolerance, and of single precision if not.
        pixels: ``"uint8"`` for a file that takes images as they come, uint8 (N, C, H, W), and
            normalises them itself; ``"float32"`` for one that takes them normalised.
        batch: Number of images that the file takes at a time, for runtimes that must know it;
            None for any. A page, C and ExecuTorch always take one; `load_session` reads files of
            one or any.
        opset: Version of ONNX's operators, between 18 and 23; None for that of the exporter.

    Returns:
        Size, largest difference and time, measured with the runtime of the file.

    Raises:
        ExportError: If the network cannot be exported, or the outputs differ by more than
            `tolerance`. Nothing is written, and an earlier file stays.
        TypeError: If `model` is no network.
        ValueError: If another argument is impossible, or `model` gives no finite logits
            (N, classes), such as probabilities.
        FileNotFoundError: If the folder of `path` does not exist.
        ImportError: If a package is missing; the message names the extra that installs it.

    Example:
        >>> from mnist_zoo import mini_resnet
        >>> from mnist_zoo.export import export
        >>> report = export(mini_resnet(weights="mnist"), "mini_resnet.onnx")
        >>> report.format, report.largest_difference < 1e-3
        ('onnx', True)
    """
    path = expanded(path)
    check_choice(format=(format, MODULES), pixels=(pixels, get_args(Pixels)))
    check_network(model=model)
    check_computes(model=model)
    check_range(above=0, finite=False, tolerance=tolerance)
    if batch is not None:
        check_positive(batch=batch)
    _check_opset(opset, format)
    if format == "c" and not re.fullmatch(r"[\w.-]+\.c", path.name, re.ASCII):
        raise ValueError(f"`path` (='{path}') must be letters, digits, _, - and ., and end in .c")
    usual = SUFFIXES.get(path.suffix.lower(), format)
    if usual != format:
        raise ValueError(
            f"`path` (='{path}') has the ending of {usual!r} files, and `format` is {format!r}: "
            "change one of them"
        )
    check_place(path)
    form = form_of(format)
    if form.BATCH and batch not in (None, form.BATCH):
        raise ValueError(f"`batch` (={batch}) must be None or {form.BATCH} for {format!r}")
    batch, pixels = form.BATCH or batch, form.PIXELS or pixels
    model = unwrapped(model)
    if isinstance(model, Session):
        _check_session(model, format, pixels, softmax)
    try:
        network = model if isinstance(model, Session) else _as_exported(model)
    except ValueError as error:
        raise ExportError(f"{error}") from error
    shape = square_shape(model, input_size)
    preprocessing = replace(preprocessing_of(model), image_size=shape[2])
    inputs = images(shape, batch, pixels)
    with torch.no_grad():
        normalised = [preprocessing(x) for x in inputs] if pixels == "uint8" else inputs
        outputs = [output_of(network, x) for x in normalised]
        for values in outputs:
            check_logits(values, network)
        classes = _class_names(model, outputs[0].shape[1], classes)
        if softmax:
            outputs = [values.softmax(1) for values in outputs]
        largest = max(float(values.abs().max()) for values in outputs)
        told = _told(network, softmax) if format == "onnx" else None
        if told is not None:
            network = told
            outputs = [torch.column_stack(network(x)) for x in normalised]
        elif softmax:
            network = nn.Sequential(network, nn.Softmax(1))
        if pixels == "uint8":
            network = TakesBytes(network, preprocessing)
            preprocessing = replace(preprocessing, mean=0.0, std=1.0)
        metadata = {
            "network": getattr(model, "factory", None) or type(model).__name__,
            "classes": classes,
            "pixels": pixels,
            "preprocessing": asdict(preprocessing),
            "output": PROBABILITIES if softmax else LOGITS,
        }
        program = Program(path.stem, network, inputs[1], batch, opset, metadata)
        with (
            TRACING,
            torch.device("cpu"),
            failures_named(model, format),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            content, run, difference = agreeing_content(
                form, program, inputs, outputs, tolerance * max(1.0, largest)
            )
        if content is None:
            raise ExportError(
                f"`model` ({metadata['network']}) exported as {format} differs by {difference:.1e} "
                f"from the original, more than `tolerance` (={tolerance:g})"
            )
        seconds, eager = (
            seconds / len(inputs[0]) for seconds in latency([run, network], inputs[0])
        )
    with ExitStack() as files:
        for suffix, data in {path.suffix: content.data, **content.beside}.items():
            files.enter_context(written_whole(path.with_suffix(suffix))).write(data)
    return ExportReport(
        path, format, len(content.data), content.opset, difference, 1000 * seconds, 1000 * eager
    )


def _check_session(session: Session, format: Format, pixels: Pixels, softmax: bool) -> None:
    if format != "c":
        raise ValueError(
            f"`format` (={format!r}) must be 'c' for a Session, which is a file already"
        )
    if pixels != session.pixels:
        raise ValueError(
            f"`pixels` (={pixels!r}) must be {session.pixels!r}, as in the file of the Session"
        )
    if softmax or session.output != LOGITS:
        raise ValueError(
            f"`softmax` (={softmax}) must be False, and the Session of a file of logits; it gives "
            f"{session.output}"
        )


def _as_exported(model: nn.Module) -> nn.Module:
    """A copy on the CPU in float32 and evaluation mode.

    Weights in channels-last order, in which a recipe may leave them, would change its graph.
    """
    copied = duplicate(model).cpu().float().eval()
    return copied.to(memory_format=torch.contiguous_format)


def _told(network: nn.Module, softmax: bool) -> nn.Module | None:
    from .onnx_file import told

    return told(network, softmax)


def _check_opset(opset: int | None, format: Format) -> None:
    if opset is not None:
        if format != "onnx":
            raise ValueError(f"`opset` (={opset!r}) is for ONNX; it must be None for {format!r}")
        check_range(at_least=OPSETS[0], at_most=OPSETS[1], whole=True, opset=opset)


def _class_names(model: nn.Module, count: int, classes: Iterable[str] | None) -> list[str]:
    if classes is None:
        return [*class_names(stated_classes(model), count)]
    if isinstance(classes, Iterable) and not isinstance(classes, (str, bytes, set, frozenset)):
        names = [str(name) for name in classes]
        if len(names) == count:
            return names
        classes = names
    raise ValueError(
        f"`classes` (={classes!r:.80}) must be the names of {count} classes, in their order"
    )
