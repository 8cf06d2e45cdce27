"""`quantize`: an exported network in int8."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from typing_extensions import override

from .._files import check_place, expanded, written_whole
from ..data.digits import Digits, check_digits
from ..evaluation import Metrics, evaluate
from ..inspection.latency import latency
from .onnx_file import opened, read_again
from .program import INPUT, ExportError, need
from .session import Session, load_session

if TYPE_CHECKING:
    import onnx

__all__ = ["QuantizationReport", "quantize"]

CALIBRATION_BATCH = 100


@dataclass(frozen=True)
class QuantizationReport:
    """The result of `quantize`: the int8 file compared with the float file.

    Attributes:
        path: The int8 file.
        size: Size of the int8 file in bytes.
        float_size: Size of the float file in bytes.
        milliseconds: Median time per image of the int8 file, with a batch of 1.
        float_milliseconds: The same for the float file, measured in turns with the int8 file.
        metrics: Metrics of the int8 file on the test digits; None without test digits.
        float_metrics: Metrics of the float file on the test digits; None without test digits.

    Example:
        >>> from pathlib import Path
        >>> from mnist_zoo.export import QuantizationReport
        >>> QuantizationReport(Path("int8.onnx"), 48_000, 160_000, 0.04, 0.1, None, None)
        int8.onnx: 48.0 kB, 30.0% of the float file; one image 0.040 ms, 2.50 times as fast as float
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
            f"float file; one image {self.milliseconds:.3f} ms, {speed:.2f} times as fast as "
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
    """Writes an ONNX file with 8-bit weights and activations, and one scale per weight channel.

    This is static quantisation by ONNX Runtime (QDQ). The range of each activation is measured on
    the calibration digits.

    Args:
        source: The float file, which `export` wrote.
        path: The int8 file to write.
        calibration: Digits that are not in the test set; 1,000 are enough.
        test: Digits to evaluate both files on; None to skip the evaluation.

    Returns:
        Sizes, times and, with `test`, metrics of both files.

    Raises:
        ExportError: If `source` is not a float file that `export` wrote; nothing is written.
        TypeError: If `calibration` or `test` are no `Digits`.
        ValueError: If `calibration` is empty or has the wrong number of channels, or if `path`
            is `source`.
        FileNotFoundError: If `source` or the folder of `path` does not exist.
        ImportError: If a package is missing; ``pip install "mnist-zoo[onnx]"``.

    Example:
        >>> from mnist_zoo import load_mnist, mini_resnet
        >>> from mnist_zoo.export import export, quantize
        >>> report = export(mini_resnet(weights="mnist"), "float.onnx")
        >>> (calibration,) = load_mnist("train", source="sample").split(1000)  # stratified
        >>> report = quantize("float.onnx", "int8.onnx", calibration)
        >>> report.size < 0.3 * report.float_size
        True
    """
    source, path = expanded(source, "source"), expanded(path)
    check_digits(calibration=calibration)
    if test is not None:
        check_digits(test=test)
    need("onnx", "onnx", "onnxruntime")
    before = load_session(source)
    check_place(path)
    if path.resolve() == source.resolve():
        raise ValueError(f"`path` (='{path}') must be another file than `source`")
    channels = calibration.images.shape[1]
    if not len(calibration) or channels not in (1, before.in_channels):
        raise ValueError(
            f"`calibration` must hold digits with {before.in_channels} channels or 1; it holds "
            f"{len(calibration)} with {channels}"
        )
    content = _quantized(before, calibration).SerializeToString()
    after = Session(path, opened(content, None))
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(1, *before.input_size, generator=generator, device="cpu", dtype=torch.float32)
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

    prepared_batches = (
        session.preprocessing(images.cpu()).expand(-1, session.in_channels, -1, -1)
        for images in calibration.images.split(CALIBRATION_BATCH)
    )
    batches = (
        {INPUT: batch.numpy()} for images in prepared_batches for batch in session.batches(images)
    )

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        @override
        def get_next(self) -> Any:
            return next(batches, None)

    original = read_again(session)
    with tempfile.TemporaryDirectory() as folder:
        prepared, quantized = Path(folder, "prepared.onnx"), Path(folder, "quantized.onnx")
        if any(node.op_type == "QuantizeLinear" for node in original.graph.node):
            raise ExportError(
                f"'{session.path}' must hold float weights; its weights are quantized already"
            )
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
    used = {node.domain for node in proto.graph.node}
    stated = [opset for opset in proto.opset_import if opset.domain in used]
    del proto.opset_import[:]  # the quantiser states all that ONNX Runtime knows
    proto.opset_import.extend(stated)
    del proto.metadata_props[:]
    proto.metadata_props.extend(original.metadata_props)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def _shorten(proto: onnx.ModelProto) -> None:
    """Shortens the names in a graph, which need as much space as the weights of a small network."""
    graph = proto.graph
    if any(attribute.HasField("g") for node in graph.node for attribute in node.attribute):
        return  # an inner graph may use the names of the outer one
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
