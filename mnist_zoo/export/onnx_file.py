"""Networks as ONNX files, run by ONNX Runtime."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from typing_extensions import override

from .._names import printable
from ..pictures.outputs import gives_familiarity, with_familiarity
from .onnx_check import check_program
from .program import (
    FAMILIARITY,
    INPUT,
    METADATA,
    Content,
    ExportError,
    Opened,
    Program,
    Run,
    check_small,
)
from .session import Session

if TYPE_CHECKING:
    import onnx

EXTRA, PACKAGES = "onnx", ("onnx", "onnxruntime", "onnxscript")
BATCH = PIXELS = None


class Told(nn.Module):
    """A network that also gives the familiarity of images."""

    def __init__(self, network: nn.Module, softmax: bool) -> None:
        super().__init__()
        self.network = network
        self.softmax = softmax

    @override
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        values, familiarity = with_familiarity(self.network, x)
        return values.softmax(1) if self.softmax else values, familiarity


def told(network: nn.Module, softmax: bool) -> Told | None:
    """The network that also gives familiarity; None if it has no record of it."""
    return Told(network, softmax) if gives_familiarity(network) else None


def contents(program: Program) -> Iterator[Content]:
    """The ONNX file, as ONNX's own checker accepts it."""
    import onnx

    proto = to_onnx(program)
    proto.metadata_props.add(key=METADATA, value=json.dumps(program.metadata))
    onnx.checker.check_model(proto, full_check=True)
    opset = next(opset.version for opset in proto.opset_import if not opset.domain)
    yield Content(proto.SerializeToString(), opset)


def reader(content: Content) -> Run:
    """The file, run by ONNX Runtime."""
    run = opened(content.data, None).run
    return lambda x: torch.column_stack(run(x))


def opened(content: bytes, threads: int | None, name: str = "the file") -> Opened:
    """The file, read by ONNX Runtime; `name` stands for it in the message of an error.

    Raises:
        ExportError: If ONNX Runtime cannot read it, or it has other inputs and outputs.
    """
    import onnxruntime

    try:
        check_program(content)
    except ValueError as error:
        raise ExportError(f"{name} cannot be read by ONNX Runtime: {error}") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3  # only errors
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # of many types, which ONNX Runtime does not document
        reason = printable(f"{error!s:.300}")
        raise ExportError(f"{name} cannot be read by ONNX Runtime: {reason}") from error

    def run(x: Tensor) -> list[Tensor]:
        try:
            found = session.run(None, {given.name: x.numpy()})
            return [torch.from_numpy(output) for output in found]
        except Exception as error:  # of many types, which ONNX Runtime does not document
            reason = printable(f"{error!s:.300}")
            raise ExportError(f"ONNX Runtime cannot run the network: {reason}") from error

    inputs, outputs = session.get_inputs(), session.get_outputs()
    others = [(output.name, len(output.shape)) for output in outputs[1:]]
    ranks = [len(output.shape) for output in outputs[:1]]
    if len(inputs) != 1 or ranks != [2] or others not in ([], [(FAMILIARITY, 1)]):
        raise ExportError(
            f"{name} must be a file that mnist_zoo.export wrote: it must map one batch to one "
            "table, and at most its familiarity"
        )
    given = inputs[0]
    stated = session.get_modelmeta().custom_metadata_map.get(METADATA, "")
    dtype = {"tensor(float)": torch.float32, "tensor(uint8)": torch.uint8}.get(given.type)
    shape = tuple(given.shape)
    return Opened(run, stated, given.name, shape, dtype, outputs[0].shape[1], bool(others))


def stored(session: Session, program: Program) -> onnx.ModelProto:
    """The graph in a session's file, for the batch of the program and without familiarity."""
    import onnx

    proto = read_again(session)
    check_small(sum(math.prod(values.dims) for values in proto.graph.initializer))
    names = [[value.name for value in part] for part in (proto.graph.input, proto.graph.output)]
    found = onnx.utils.Extractor(proto).extract_model(names[0], names[1][:1])
    for value in (*found.graph.input, *found.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = len(program.example)
    del found.graph.value_info[:]  # inside, the batch may still be any number
    return found


def read_again(session: Session) -> onnx.ModelProto:
    """The graph in a session's file, read again.

    Raises:
        ExportError: If it is no ONNX file; ExecuTorch may run it.
    """
    import onnx

    content = session.path.read_bytes()
    try:
        check_program(content)  # again: `onnx.load` would follow names of other files
    except ValueError as error:
        raise ExportError(f"'{session.path}' cannot be read as ONNX: {error}") from error
    return onnx.load_from_string(content)


def to_onnx(program: Program) -> onnx.ModelProto:
    """The network as a graph of ONNX's operators, without names of the machine."""
    for module in program.network.modules():
        if isinstance(module, Session):
            return stored(module, program)
    batch = None if program.batch else ({0: torch.export.Dim("batch")},)
    exported = torch.export.export(program.network, (program.example,), dynamic_shapes=batch)
    converted = torch.onnx.export(
        exported,
        input_names=[INPUT],
        output_names=[program.metadata["output"], FAMILIARITY][
            : len(exported.graph_signature.user_outputs)
        ],
        opset_version=program.opset,
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
