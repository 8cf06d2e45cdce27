"""Networks as TorchScript."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Iterator
from typing import cast

import torch

from .program import METADATA, Content, ExportError, Program, Run

EXTRA, PACKAGES = "", ()
BATCH = PIXELS = None


def contents(program: Program) -> Iterator[Content]:
    """The file that ``torch.jit.load`` reads."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        traced = torch.jit.trace(program.network, program.example)
    for warning in caught:
        if issubclass(warning.category, torch.jit._trace.TracerWarning):
            raise ExportError(
                f"the trace would be wrong for other inputs: {warning.message!s:.300}"
            )
    buffer = io.BytesIO()
    torch.jit.save(traced, buffer, _extra_files={METADATA: json.dumps(program.metadata)})
    yield Content(buffer.getvalue())


def reader(content: Content) -> Run:
    """The file, run by torch."""
    return cast(Run, torch.jit.load(io.BytesIO(content.data)))
