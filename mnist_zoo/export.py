"""Networks out of Python: verified export, ONNX Runtime, int8.

What has to do with ONNX needs the extra ``onnx``.
"""

from __future__ import annotations

import copy
import importlib
import io
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast, get_args

import torch
from torch import Tensor, nn
from typing_extensions import override

from ._checks import check_positive
from ._files import check_place, written_whole
from ._networks import shape_of, unwrapped
from .data import Digits
from .evaluation import Metrics, evaluate
from .inspection.latency import latency
from .models.base import check_input
from .preprocessing import Preprocessing, preprocessing_of

if TYPE_CHECKING:
    import onnx
    import onnxruntime

__all__ = [
    "ExportError",
    "ExportReport",
    "QuantizationReport",
    "Session",
    "export",
    "load_session",
    "quantize",
]

Format: TypeAlias = Literal["onnx", "torch_export", "torchscript"]

INPUT = "digits"
LOGITS, PROBABILITIES = "logits", "probabilities"
METADATA = "mnist_zoo"
BATCHES = (1, 2, 7)  # the file must agree for; 2 is the one it is traced with
CALIBRATION_BATCH = 100


class ExportError(ValueError):
    """A network cannot be exported, or an exported file cannot be read; the message says why."""


@dataclass(frozen=True)
class ExportReport:
    """What `export` wrote, as its own runtime found it.

    Attributes:
        path: The file.
        format: Its format.
        size: Its bytes.
        opset: Version of ONNX's operators; None for other formats.
        largest_difference: Between its outputs and the network's, over batches of 1, 2 and 7.
        milliseconds: Median time of a forward pass of one picture in the file's runtime.
        eager_milliseconds: The same of the network in float32 on the processor, in turns.
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
            f"{self.largest_difference:.1e}; one picture {self.milliseconds:.3f} ms, eager "
            f"{self.eager_milliseconds:.3f} ms"
        )


def export(
    model: nn.Module,
    path: str | os.PathLike[str],
    format: Format = "onnx",
    *,
    input_size: tuple[int, int, int] | None = None,
    softmax: bool = False,
    classes: Sequence[str] | None = None,
    tolerance: float = 1e-4,
) -> ExportReport:
    """Writes a network for use outside of Python, and checks that the file gives its answers.

    The file takes float32 pictures ``digits`` (N, C, H, W) for any N, normalised as
    `Preprocessing` does it, to ``logits`` (N, classes). It says the preprocessing and the names of
    the classes in JSON: in ONNX's metadata, or in the extra file ``mnist_zoo``. It is read back by
    its own runtime and compared with the network before it takes its place.

    Args:
        model: The network; it stays as it is. The file is of its eval mode, in float32.
        path: The file.
        format: ``"onnx"``, for `load_session` and every other runtime of ONNX;
            ``"torch_export"``, for ``torch.export.load``; ``"torchscript"``, for
            ``torch.jit.load`` and C++.
        input_size: Shape (C, H, W) of an input, a square; None for the network's own.
        softmax: Whether the output is ``probabilities`` instead.
        classes: Names of the classes; None for "0", "1" and so on.
        tolerance: Largest difference from the network's own outputs; where these exceed 1, as a
            part of the largest.

    Returns:
        Size, largest difference and time, as the file's own runtime found them.

    Raises:
        ExportError: If the network cannot be exported, or the file differs by more than
            `tolerance`; there is no file then, or the one that was there before.
        ValueError: If an argument is impossible.
        FileNotFoundError: If the path's folder does not exist.
        ImportError: If a package is missing; ``pip install "mnist-zoo[onnx]"``.
    """
    path = Path(path).expanduser()
    if format not in get_args(Format):
        known = ", ".join(map(repr, get_args(Format)))
        raise ValueError(f"`format` (={format!r}) must be one of {known}")
    if not isinstance(model, nn.Module):
        raise ValueError(f"`model` (={model!r:.80}) must be a network")
    if not tolerance > 0:
        raise ValueError(f"`tolerance` (={tolerance!r}) must be more than 0")
    check_place(path)
    if format == "onnx":
        _need("onnx", "onnxruntime", "onnxscript")
    model = unwrapped(model)
    network = copy.deepcopy(model).cpu().float().eval()
    shape = _square(model, input_size)
    inputs = [
        torch.randn(batch, *shape, generator=torch.Generator().manual_seed(batch))
        for batch in BATCHES
    ]
    with torch.no_grad():
        outputs = [_output(network, x) for x in inputs]
        classes = _class_names(outputs[0].shape[1], classes)
        if softmax:
            network = nn.Sequential(network, nn.Softmax(1))
            outputs = [values.softmax(1) for values in outputs]
        preprocessing = replace(preprocessing_of(model), image_size=shape[2])
        metadata = {
            "network": getattr(model, "factory", None) or type(model).__name__,
            "classes": classes,
            "preprocessing": asdict(preprocessing),
            "output": PROBABILITIES if softmax else LOGITS,
        }
        with _failures_named(model, format), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content, opset = _content(network, inputs[1], format, metadata)
            run = _read_back(content, format)
            difference = _largest_difference(run, inputs, outputs)
        largest = max(float(values.abs().max()) for values in outputs)
        if not difference <= tolerance * max(1.0, largest):
            raise ExportError(
                f"`model` ({metadata['network']}) as {format} differs by {difference:.1e} from "
                f"itself, more than `tolerance` (={tolerance:g})"
            )
        seconds, eager = latency([run, network], inputs[0])
    with written_whole(path) as file:
        file.write(content)
    return ExportReport(path, format, len(content), opset, difference, 1000 * seconds, 1000 * eager)


def _square(model: nn.Module, input_size: tuple[int, ...] | None) -> tuple[int, int, int]:
    """The shape (C, S, S) of one input: `Preprocessing` makes squares."""
    shape = shape_of(model, input_size)
    if shape[1] != shape[2]:
        raise ValueError(f"`input_size` (={shape}) must be that of a square")
    return shape


def _output(network: nn.Module, x: Tensor) -> Tensor:
    try:
        output = network(x)
    except Exception as error:  # of any type: whatever the network's code meets
        told = f"`model` ({type(network).__name__}) must take pictures of shape {tuple(x.shape)}"
        raise ValueError(f"{told}: {error!s:.300}") from error
    if not isinstance(output, Tensor) or output.dim() != 2 or len(output) != len(x):
        raise ValueError("`model` must map pictures (N, C, H, W) to logits (N, classes)")
    return output


def _class_names(count: int, classes: Sequence[str] | None) -> list[str]:
    if classes is None:
        return [str(number) for number in range(count)]
    if isinstance(classes, str) or len(classes) != count:
        raise ValueError(f"`classes` (={classes!r:.80}) must be the names of {count} classes")
    return [str(name) for name in classes]


def _largest_difference(
    run: Callable[[Tensor], Tensor], inputs: Sequence[Tensor], outputs: Sequence[Tensor]
) -> float:
    """Over all inputs; NaN where one side is NaN or infinite and the other is not the same."""
    gaps = [run(x) - y for x, y in zip(inputs, outputs, strict=True)]
    return float(torch.cat([gap.abs().flatten() for gap in gaps]).max())


def _content(
    network: nn.Module, x: Tensor, format: Format, metadata: Mapping[str, Any]
) -> tuple[bytes, int | None]:
    """The content of the file, and its opset."""
    extra, buffer = json.dumps(metadata), io.BytesIO()
    if format == "torchscript":
        torch.jit.save(_traced(network, x), buffer, _extra_files={METADATA: extra})
        return buffer.getvalue(), None
    batch = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(network, (x,), dynamic_shapes=batch)
    if format == "torch_export":
        torch.export.save(program, buffer, extra_files={METADATA: extra})
        return buffer.getvalue(), None
    import onnx

    proto = _to_onnx(program, batch, metadata["output"])
    proto.metadata_props.add(key=METADATA, value=extra)
    onnx.checker.check_model(proto, full_check=True)
    opset = next(opset.version for opset in proto.opset_import if not opset.domain)
    return proto.SerializeToString(), opset


def _traced(network: nn.Module, x: Tensor) -> torch.jit.ScriptModule:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        traced = torch.jit.trace(network, x)
    for warning in caught:
        if issubclass(warning.category, torch.jit._trace.TracerWarning):
            raise ExportError(f"a trace loses what it saw: {warning.message!s:.300}")
    return cast(torch.jit.ScriptModule, traced)


def _to_onnx(
    program: torch.export.ExportedProgram, batch: tuple[Any, ...], output: str
) -> onnx.ModelProto:
    converted = torch.onnx.export(
        program,
        input_names=[INPUT],
        output_names=[output],
        dynamic_shapes=batch,
        dynamo=True,
        verbose=False,
    )
    proto = cast("torch.onnx.ONNXProgram", converted).model_proto  # None without dynamo
    graph = proto.graph
    for part in (
        graph,
        *graph.node,
        *graph.input,
        *graph.output,
        *graph.initializer,
        *graph.value_info,
    ):
        del part.metadata_props[:]  # the exporter's, with lines of the source and its folders
    return proto


@contextmanager
def _failures_named(model: nn.Module, format: Format) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # of many types: whatever exporter and runtime meet
        raise ExportError(
            f"`model` ({type(model).__name__}) cannot be exported as {format}; its forward must "
            "not branch on the values of tensors or on the batch (use torch.where, or "
            f"torch.cond), nor leave torch: {type(error).__name__}: {error!s:.500}"
        ) from error


def _read_back(content: bytes, format: Format) -> Callable[[Tensor], Tensor]:
    """The file as a function, by its own runtime."""
    if format == "onnx":
        session = _onnx_session(content, None)
        return lambda x: _run(session, x)
    if format == "torch_export":
        return torch.export.load(io.BytesIO(content)).module()
    return cast("Callable[[Tensor], Tensor]", torch.jit.load(io.BytesIO(content)))


def _need(*packages: str) -> None:
    for package in packages:
        try:
            importlib.import_module(package)
        except ModuleNotFoundError as error:
            told = f'ONNX needs the package {package}: pip install "mnist-zoo[onnx]"'
            raise ImportError(told, name=package) from error


class Session(nn.Module):
    """A network in an ONNX file, run by ONNX Runtime; `load_session` makes it.

    `predict`, `evaluate` and `ensemble` take it as any network; it has no parameters.

    Attributes:
        path: The file.
        input_size: Shape (C, H, W) of one input.
        num_classes: Number of classes.
        classes: Their names.
        preprocessing: How its pictures are normalised.

    Shape:
        (N, C, H, W) → logits (N, num_classes); the logarithms of the probabilities, which may
        stand for them, where the file gives those.

    Raises:
        ExportError: If ONNX Runtime cannot read the file, or `export` did not write it.
    """

    def __init__(self, path: Path, content: bytes, threads: int | None = None) -> None:
        super().__init__()
        self._session = _onnx_session(content, threads, f"'{path}'")
        try:
            (given,), (output,) = self._session.get_inputs(), self._session.get_outputs()
            stated = json.loads(self._session.get_modelmeta().custom_metadata_map[METADATA])
            self.preprocessing = Preprocessing(**stated["preprocessing"])
            self.classes = tuple(map(str, stated["classes"]))
            _, *shape = given.shape
            self.input_size = _square(self, tuple(shape))
            if given.name != INPUT or output.shape[1] != len(self.classes):
                raise ValueError(f"it maps {given.name} to {output.shape}")
        except (ValueError, LookupError, TypeError) as error:
            raise ExportError(f"'{path}' must be a file of mnist_zoo.export: {error}") from error
        self.path = path
        self.in_channels = self.input_size[0]
        self.num_classes = len(self.classes)
        self._gives_probabilities = output.name == PROBABILITIES

    @override
    def forward(self, x: Tensor) -> Tensor:
        """Maps pictures (N, C, H, W) to logits (N, num_classes), on the device of the pictures.

        Raises:
            ValueError: If the pictures have another shape than the file expects, or are no
                floating-point numbers.
        """
        check_input(x, self.in_channels, self.input_size[1])
        values = _run(self._session, x).to(x.device)
        if self._gives_probabilities:
            return values.clamp(min=torch.finfo(values.dtype).tiny).log()
        return values

    @override
    def extra_repr(self) -> str:
        """The file."""
        return f"'{self.path}'"

    @override
    def __getstate__(self) -> dict[str, Any]:
        raise TypeError("a Session cannot be copied or pickled; load its file again")


def load_session(path: str | os.PathLike[str], *, threads: int | None = None) -> Session:
    """A network from an ONNX file that `export` or `quantize` wrote, run by ONNX Runtime.

    ``predict(load_session("mini_resnet.onnx"), "photo.png").digit``

    Args:
        path: The file.
        threads: Threads of a forward pass; None for as many as there are cores.

    Returns:
        The network, for `predict`, `evaluate` and `ensemble`.

    Raises:
        ExportError: If ONNX Runtime cannot read the file, or `export` did not write it.
        FileNotFoundError: If it does not exist.
        ValueError: If `threads` is less than 1.
        ImportError: If ONNX Runtime is missing; ``pip install "mnist-zoo[onnx]"``.
    """
    if threads is not None:
        check_positive(threads=threads)
    path = Path(path).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"`path` (='{path}'): no such file")
    if not path.is_file():
        raise ExportError(f"'{path}' must be a file")
    _need("onnxruntime")
    return Session(path, path.read_bytes(), threads)


def _onnx_session(
    content: bytes, threads: int | None, name: str = "the file"
) -> onnxruntime.InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3  # errors
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # of many types, which ONNX Runtime does not name
        raise ExportError(f"{name} cannot be read by ONNX Runtime: {error!s:.300}") from error


def _run(session: onnxruntime.InferenceSession, x: Tensor) -> Tensor:
    values = x.detach().to("cpu", torch.float32).contiguous().numpy()
    return torch.from_numpy(session.run(None, {INPUT: values})[0])


@dataclass(frozen=True)
class QuantizationReport:
    """What `quantize` wrote, beside the file it came from.

    Attributes:
        path: The int8 file.
        size: Its bytes.
        float_size: Those of the float file.
        milliseconds: Median time of a forward pass of one picture.
        float_milliseconds: The same of the float file, measured in turns with it.
        metrics: On the test digits; None without these.
        float_metrics: The same of the float file.
    """

    path: Path
    size: int
    float_size: int
    milliseconds: float
    float_milliseconds: float
    metrics: Metrics | None
    float_metrics: Metrics | None

    def __repr__(self) -> str:
        speed = self.float_milliseconds / self.milliseconds
        parts = [
            f"{self.path}: {self.size / 1000:.1f} kB, {self.size / self.float_size:.1%} of the "
            f"float file; one picture {self.milliseconds:.3f} ms, {speed:.2f} times as fast as "
            f"float{' (slower)' if speed < 1 else ''}"
        ]
        if self.metrics and self.float_metrics:
            parts.append(
                f"accuracy {self.metrics.accuracy:.2%}, float {self.float_metrics.accuracy:.2%}"
            )
        return "; ".join(parts)


def quantize(
    source: str | os.PathLike[str],
    path: str | os.PathLike[str],
    calibration: Digits,
    *,
    test: Digits | None = None,
) -> QuantizationReport:
    """Writes an ONNX file with weights and activations in 8 bits, one scale a weight's channel.

    Static quantisation by ONNX Runtime (QDQ): the range of each activation is the one seen on the
    calibration digits.

    Args:
        source: The float file, of `export`.
        path: The int8 file.
        calibration: Digits to see the ranges on, none of the test set; 1,000 are enough.
        test: Digits to measure both files on; None to leave that out.

    Returns:
        Size and time of both files, and what they make of the test digits.

    Raises:
        ExportError: If `source` is no float file of `export`; nothing is written.
        ValueError: If `calibration` is empty, or not of the file's channels, or `path` is
            `source`.
        FileNotFoundError: If `source`, or the folder of `path`, does not exist.
        ImportError: If a package is missing; ``pip install "mnist-zoo[onnx]"``.
    """
    source, path = Path(source).expanduser(), Path(path).expanduser()
    _need("onnx", "onnxruntime")
    before = load_session(source)
    check_place(path)
    if path.resolve() == source.resolve():
        raise ValueError(f"`path` (='{path}') must be another file than `source`")
    channels = calibration.images.shape[1]
    if not len(calibration) or channels not in (1, before.in_channels):
        raise ValueError(
            f"`calibration` must hold digits of {before.in_channels} channels or 1; it holds "
            f"{len(calibration)} of {channels}"
        )
    content = _quantized(before, calibration).SerializeToString()
    after = Session(path, content)
    x = torch.randn(1, *before.input_size, generator=torch.Generator().manual_seed(0))
    seconds, float_seconds = latency([after, before], x)
    metrics, float_metrics = (
        evaluate(session, test, session.preprocessing) if test is not None else None
        for session in (after, before)
    )
    with written_whole(path) as file:
        file.write(content)
    return QuantizationReport(
        path,
        len(content),
        source.stat().st_size,
        1000 * seconds,
        1000 * float_seconds,
        metrics,
        float_metrics,
    )


def _quantized(session: Session, calibration: Digits) -> onnx.ModelProto:
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    batches = (
        {INPUT: session.preprocessing(images.cpu()).expand(-1, session.in_channels, -1, -1).numpy()}
        for images in calibration.images.split(CALIBRATION_BATCH)
    )

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        @override
        def get_next(self) -> Any:
            return next(batches, None)

    with tempfile.TemporaryDirectory() as folder:
        prepared, quantized = Path(folder, "prepared.onnx"), Path(folder, "quantized.onnx")
        original = onnx.load(session.path)
        if any(node.op_type == "QuantizeLinear" for node in original.graph.node):
            raise ExportError(f"'{session.path}' must hold float weights; it is quantized already")
        quant_pre_process(session.path, prepared, skip_symbolic_shape=True)
        graph = onnx.load(prepared).graph
        quantization.quantize_static(
            prepared,
            quantized,
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            weight_type=quantization.QuantType.QInt8,
            activation_type=quantization.QuantType.QUInt8,
            nodes_to_exclude=[node.name for node in graph.node if node.op_type == "Softmax"],
        )
        proto = onnx.load(quantized)
    _shorten(proto)
    del proto.metadata_props[:]
    proto.metadata_props.extend(original.metadata_props)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def _shorten(proto: onnx.ModelProto) -> None:
    """Gives a graph short names: those of a small network take as much room as its weights."""
    graph = proto.graph
    if any(attribute.HasField("g") for node in graph.node for attribute in node.attribute):
        return  # a graph within sees the names outside of it
    kept = {value.name for value in (*graph.input, *graph.output)}
    names: dict[str, str] = {"": ""}

    def short(name: str) -> str:
        return name if name in kept else names.setdefault(name, f"{len(names):x}")

    del graph.value_info[:]
    for tensor in graph.initializer:
        tensor.name = short(tensor.name)
    for node in graph.node:
        node.name, node.doc_string = "", ""
        node.input[:] = [short(name) for name in node.input]
        node.output[:] = [short(name) for name in node.output]
