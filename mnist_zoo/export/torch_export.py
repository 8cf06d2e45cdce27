"""Networks as programs of torch.export."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator

import torch

from .program import METADATA, Content, Program, Run

EXTRA, PACKAGES = "", ()
BATCH = PIXELS = None


def contents(program: Program) -> Iterator[Content]:
    """The file that ``torch.export.load`` reads."""
    batch = None if program.batch else ({0: torch.export.Dim("batch")},)
    exported = torch.export.export(program.network, (program.example,), dynamic_shapes=batch)
    buffer = io.BytesIO()
    torch.export.save(exported, buffer, extra_files={METADATA: json.dumps(program.metadata)})
    yield Content(buffer.getvalue())


def reader(content: Content) -> Run:
    """The file, run by torch."""
    return torch.export.load(io.BytesIO(content.data)).module()
