"""Whether a file computes what its network does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..pictures.logits import as_logits
from .program import Content, ExportError, Form, Format, Program, Run

BATCHES = (1, 2, 7)  # batch sizes to compare; the export traces with 2


def images(shape: tuple[int, int, int], batch: int | None, pixels: str) -> list[Tensor]:
    """Batches of random images to compare on, the same each time."""
    found = []
    for count in BATCHES:
        random = torch.Generator().manual_seed(count)
        size = (batch or count, *shape)
        if pixels == "uint8":
            found.append(
                torch.randint(256, size, generator=random, dtype=torch.uint8, device="cpu")
            )
        else:
            found.append(torch.randn(size, generator=random, device="cpu", dtype=torch.float32))
    return found


def output_of(network: nn.Module, x: Tensor) -> Tensor:
    """The logits of a batch; ValueError if the network gives none."""
    try:
        output = network(x)
    except Exception as error:  # of any type: the code of the network may raise anything
        rule = f"`model` ({type(network).__name__}) must accept images of shape {tuple(x.shape)}"
        raise ValueError(f"{rule}: {error!s:.300}") from error
    return as_logits(output, len(x), network)


def largest_difference(run: Run, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> float:
    """The largest difference over all inputs; NaN if an output is NaN, or infinite on one side."""
    gaps = [run(x) - y for x, y in zip(inputs, outputs, strict=True)]
    return float(torch.cat([gap.abs().flatten() for gap in gaps]).max())


def agreeing_content(
    form: Form, program: Program, inputs: Sequence[Tensor], outputs: Sequence[Tensor], most: float
) -> tuple[Content | None, Run, float]:
    """The first content of the file that differs by at most `most`; None if none does."""
    for content in form.contents(program):
        run = form.reader(content)
        difference = largest_difference(run, inputs, outputs)
        if difference <= most:
            return content, run, difference
    return None, run, difference


@contextmanager
def failures_named(model: nn.Module, format: Format) -> Iterator[None]:
    """Raises any error again as an ExportError that names the network."""
    try:
        yield
    except (ExportError, OSError) as error:  # a full disk
        name = type(model).__name__
        raise ExportError(f"`model` ({name}) cannot be exported as {format}: {error}") from error
    except Exception as error:  # of many types: exporters and runtimes document none
        raise ExportError(
            f"`model` ({type(model).__name__}) cannot be exported as {format}; its forward must "
            "use operations of torch only, and not branch on the values of tensors or on the batch "
            f"size (use torch.where or torch.cond): {type(error).__name__}: {error!s:.500}"
        ) from error
