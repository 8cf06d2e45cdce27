"""`export`: writes a network to a file in one of three formats, and checks the file."""

from __future__ import annotations

import io
import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast, get_args

import torch
from torch import Tensor, nn

from .._checks import check_range
from .._files import check_place, written_whole
from .._networks import class_names, stated_classes, unwrapped
from ..inspection.latency import latency
from ..inspection.tracing import TRACING, duplicate
from ..pictures.outputs import gives_familiarity, with_familiarity
from ..pictures.preprocessing import preprocessing_of
from .session import (
    FAMILIARITY,
    INPUT,
    LOGITS,
    METADATA,
    PROBABILITIES,
    ExportError,
    need,
    onnx_session,
    run_onnx,
    square_shape,
)

if TYPE_CHECKING:
    import onnx

__all__ = ["ExportReport", "export"]

Format: TypeAlias = Literal["onnx", "torch_export", "torchscript"]
BATCHES = (1, 2, 7)  # batch sizes to compare; the export traces with 2


@dataclass(frozen=True)
class ExportReport:
    """The result of `export`, measured with the runtime of the file.

    Attributes:
        path: The file.
        format: Format of the file.
        size: Size of the file in bytes.
        opset: Version of ONNX's operators; None for other formats.
        largest_difference: Largest difference between the outputs of the file and those of the
            network, over batches of 1, 2 and 7.
        milliseconds: Median time per image in the runtime of the file, with a batch of 1.
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
    classes: Sequence[str] | None = None,
    tolerance: float = 1e-4,
) -> ExportReport:
    """Writes a network to a file for other runtimes, and checks that its outputs are the same.

    The file maps float32 images ``digits`` (N, C, H, W), for any N and normalised as by
    `Preprocessing`, to ``logits`` (N, classes). It stores the preprocessing and the class names
    as JSON: in the metadata of ONNX, or in the extra file ``mnist_zoo`` of the other formats.
    With a record of familiarity (`fit_familiarity`; the pretrained weights have one), an ONNX file
    also gives ``familiarity`` (N,). Before it replaces an earlier file, its own runtime reads it
    and it is compared with the network. Threads that export wait for each other.

    Args:
        model: The network; it stays unchanged. The file holds it in eval mode and float32.
        path: The file to write.
        format: ``"onnx"``, for `load_session` and every other runtime of ONNX;
            ``"torch_export"``, for ``torch.export.load``; ``"torchscript"``, for
            ``torch.jit.load`` and C++.
        input_size: Shape (C, H, W) of one input, with H equal to W; None for the network's own.
        softmax: Whether the file returns ``probabilities`` instead of logits.
        classes: Names of the classes; None for the network's own, or else "0", "1" and so on.
        tolerance: Largest allowed difference from the outputs of the network. If an output
            exceeds 1, the tolerance is multiplied by the largest output.

    Returns:
        Size, largest difference and time, measured with the runtime of the file.

    Raises:
        ExportError: If the network cannot be exported, or the outputs differ by more than
            `tolerance`. Nothing is written, and an earlier file stays.
        ValueError: If an argument is impossible.
        FileNotFoundError: If the folder of `path` does not exist.
        ImportError: If a package is missing; ``pip install "mnist-zoo[onnx]"``.

    Example:
        >>> from mnist_zoo import mini_resnet
        >>> from mnist_zoo.export import export
        >>> report = export(mini_resnet(weights="mnist"), "mini_resnet.onnx")
        >>> report.format, report.largest_difference < 1e-3
        ('onnx', True)
    """
    path = Path(path).expanduser()
    if format not in get_args(Format):
        known = ", ".join(map(repr, get_args(Format)))
        raise ValueError(f"`format` (={format!r}) must be one of {known}")
    if not isinstance(model, nn.Module):
        raise ValueError(f"`model` (={model!r:.80}) must be a network")
    check_range(above=0, finite=False, tolerance=tolerance)
    check_place(path)
    if format == "onnx":
        need("onnx", "onnxruntime", "onnxscript")
    model = unwrapped(model)
    try:
        network = duplicate(model).cpu().float().eval()
    except ValueError as error:
        raise ExportError(f"{error}") from error
    shape = square_shape(model, input_size)
    inputs = [
        torch.randn(
            batch,
            *shape,
            generator=torch.Generator().manual_seed(batch),
            device="cpu",
            dtype=torch.float32,
        )
        for batch in BATCHES
    ]
    with torch.no_grad():
        count = _output(network, inputs[0]).shape[1]
        classes = _class_names(model, count, classes)
        if softmax or (format == "onnx" and gives_familiarity(network)):
            network = _Outputs(network, softmax, format == "onnx" and gives_familiarity(network))
        outputs = [_listed(network(x)) for x in inputs]
        preprocessing = replace(preprocessing_of(model), image_size=shape[2])
        metadata = {
            "network": getattr(model, "factory", None) or type(model).__name__,
            "classes": classes,
            "preprocessing": asdict(preprocessing),
            "output": PROBABILITIES if softmax else LOGITS,
        }
        with (
            TRACING,
            torch.device("cpu"),
            _failures_named(model, format),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            content, opset = _content(network, inputs[1], format, metadata)
            run = _read_back(content, format)
            difference = _largest_difference(run, inputs, outputs)
        largest = max(float(values.abs().max()) for values, *_ in outputs)
        if not difference <= tolerance * max(1.0, largest):
            raise ExportError(
                f"`model` ({metadata['network']}) exported as {format} differs by {difference:.1e} "
                f"from the original, more than `tolerance` (={tolerance:g})"
            )
        seconds, eager = latency([run, network], inputs[0])
    with written_whole(path) as file:
        file.write(content)
    return ExportReport(path, format, len(content), opset, difference, 1000 * seconds, 1000 * eager)


def _output(network: nn.Module, x: Tensor) -> Tensor:
    try:
        output = network(x)
    except Exception as error:  # of any type: the code of the network may raise anything
        rule = f"`model` ({type(network).__name__}) must accept images of shape {tuple(x.shape)}"
        raise ValueError(f"{rule}: {error!s:.300}") from error
    if not isinstance(output, Tensor) or output.dim() != 2 or len(output) != len(x):
        raise ValueError("`model` must map images (N, C, H, W) to logits (N, classes)")
    return output


def _class_names(model: nn.Module, count: int, classes: Sequence[str] | None) -> list[str]:
    if classes is None:
        return [*class_names(stated_classes(model), count)]
    if isinstance(classes, str) or len(classes) != count:
        raise ValueError(f"`classes` (={classes!r:.80}) must be the names of {count} classes")
    return [str(name) for name in classes]


class _Outputs(nn.Module):
    """A network with the outputs of its file."""

    def __init__(self, network: nn.Module, softmax: bool, familiarity: bool) -> None:
        super().__init__()
        self.network = network
        self.softmax = softmax
        self.familiarity = familiarity

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        values, familiarity = with_familiarity(self.network, x)
        values = values.softmax(1) if self.softmax else values
        return values if familiarity is None or not self.familiarity else (values, familiarity)


def _listed(outputs: Tensor | Sequence[Tensor]) -> list[Tensor]:
    return [outputs] if isinstance(outputs, Tensor) else list(outputs)


def _largest_difference(
    run: Callable[[Tensor], Any], inputs: Sequence[Tensor], outputs: Sequence[list[Tensor]]
) -> float:
    """The largest difference over all inputs; NaN if an output is NaN, or infinite on one side."""
    pairs = [
        pair
        for x, y in zip(inputs, outputs, strict=True)
        for pair in zip(_listed(run(x)), y, strict=True)
    ]
    return float(torch.cat([(found - expected).abs().flatten() for found, expected in pairs]).max())


def _content(
    network: nn.Module, x: Tensor, format: Format, metadata: Mapping[str, Any]
) -> tuple[bytes, int | None]:
    """The content of the file, and its opset for ONNX."""
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
            raise ExportError(
                f"the trace would be wrong for other inputs: {warning.message!s:.300}"
            )
    return cast(torch.jit.ScriptModule, traced)


def _to_onnx(
    program: torch.export.ExportedProgram, batch: tuple[Any, ...], output: str
) -> onnx.ModelProto:
    converted = torch.onnx.export(
        program,
        input_names=[INPUT],
        output_names=[output, FAMILIARITY][: len(program.graph_signature.user_outputs)],
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
        del part.metadata_props[:]  # the exporter stores source lines and folders there
    return proto


@contextmanager
def _failures_named(model: nn.Module, format: Format) -> Iterator[None]:
    """Raises any error again as an ExportError that names the network."""
    try:
        yield
    except Exception as error:  # of many types: exporters and runtimes document none
        raise ExportError(
            f"`model` ({type(model).__name__}) cannot be exported as {format}; its forward must "
            "use operations of torch only, and not branch on the values of tensors or on the batch "
            f"size (use torch.where or torch.cond): {type(error).__name__}: {error!s:.500}"
        ) from error


def _read_back(content: bytes, format: Format) -> Callable[[Tensor], Any]:
    """The file as a function that its own runtime computes."""
    if format == "onnx":
        session = onnx_session(content, None)
        return lambda x: run_onnx(session, x)
    if format == "torch_export":
        return torch.export.load(io.BytesIO(content)).module()
    return cast("Callable[[Tensor], Any]", torch.jit.load(io.BytesIO(content)))
