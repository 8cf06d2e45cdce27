"""Networks as programs of ExecuTorch, for phones: computed by XNNPACK."""

from __future__ import annotations

import json
from collections.abc import Iterator

import torch
from torch import Tensor

from .._names import printable
from .program import INPUT, METADATA, Content, ExportError, Opened, Program, Run
from .shortcuts import fold_shortcuts, give, tensor_of

EXTRA, PACKAGES = "executorch", ("executorch.runtime",)
BATCH, PIXELS = 1, None
TYPES = {0: torch.uint8, 6: torch.float32}  # by ExecuTorch's numbers


def contents(program: Program) -> Iterator[Content]:
    """The .pte file; its method `mnist_zoo` gives what it states."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    traced = torch.export.export(program.network, (program.example,)).module()
    _own_weights(traced)
    fold_shortcuts(traced)
    exported = torch.export.export(traced, (program.example,))
    edge = to_edge_transform_and_lower(
        exported,
        partitioner=[XnnpackPartitioner()],
        constant_methods={METADATA: json.dumps(program.metadata)},
    )
    yield Content(edge.to_executorch().buffer)


def _own_weights(traced: torch.fx.GraphModule) -> None:
    """Gives each use of a tensor one of its own.

    XNNPACK merges a BatchNorm into the weights of the convolution before it, and would merge those
    of several into the weights that the convolutions share.
    """
    for node in traced.graph.find_nodes(op="get_attr"):
        for number, user in enumerate(list(node.users)[1:]):
            own = tensor_of(traced, node).clone()
            give(traced, user, node, f"{node.name}_again{number}", own)
    traced.recompile()


def reader(content: Content) -> Run:
    """The file, run by ExecuTorch."""
    run = opened(content.data, None).run
    return lambda x: torch.cat([run(image)[0] for image in x.split(1)])


def opened(content: bytes, threads: int | None, name: str = "the file") -> Opened:
    """The file, read by ExecuTorch; `name` stands for it in the message of an error.

    ExecuTorch has one number of threads for all files of a process.

    Raises:
        ExportError: If ExecuTorch cannot read it, or it is of another form.
    """
    from executorch.extension.pybindings import portable_lib
    from executorch.runtime import Runtime

    try:
        program = Runtime.get().load_program(content)
        if threads not in (None, portable_lib._threadpool_get_thread_count()):
            portable_lib._unsafe_reset_threadpool(threads)  # unsafe while another file is run
        method = program.load_method("forward")
        given, output = method.metadata.input_tensor_meta(0), method.metadata.output_tensor_meta(0)
        stated = ""
        if METADATA in program.method_names:
            stated = str(program.load_method(METADATA).execute(())[0])
        count = output.sizes()[1] if len(output.sizes()) == 2 else None
    except Exception as error:  # of many types, which ExecuTorch does not document
        reason = printable(f"{error!s:.300}")
        raise ExportError(f"{name} cannot be read by ExecuTorch: {reason}") from error

    loaded = program, method  # a method reads the memory of its program, which must stay

    def run(x: Tensor) -> list[Tensor]:
        try:
            found: Tensor = loaded[1].execute((x,))[0]  # a copy of its memory
        except Exception as error:  # of many types, which ExecuTorch does not document
            reason = printable(f"{error!s:.300}")
            raise ExportError(f"ExecuTorch cannot run the network: {reason}") from error
        return [found]

    return Opened(run, stated, INPUT, tuple(given.sizes()), TYPES.get(given.dtype()), count)
