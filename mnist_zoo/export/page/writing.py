"""Networks as one HTML file with a pad on which digits are drawn."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from ..onnx_file import to_onnx
from ..program import LOGITS, Content, ExportError, Program, Run, check_small, weights_of
from ..taking_bytes import TakesBytes
from .familiarity import WithFeatures, record_of, stated
from .running import network_of, run
from .steps import Graph, graph_of

EXTRA, PACKAGES = "onnx", ("onnx", "onnxscript")
BATCH, PIXELS = 1, "uint8"
FILES = Path(__file__).parent
SCRIPTS = ("network.js", "familiarity.js", "preparation.js", "pad.js")


def contents(program: Program) -> Iterator[Content]:
    """The page with weights of half precision, then the one with single precision."""
    check_small(weights_of(program))
    _check(program)
    network, record = program.network, record_of(program.network)
    if record is None or not isinstance(network, TakesBytes):
        graph, told = graph_of(to_onnx(program)), None
    else:
        graph = graph_of(to_onnx(replace(program, network=WithFeatures(network))))
        told = stated(record, network, cast(int, graph.features))
    for half in (True, False):
        yield Content(_page(graph, program, half, told))


def reader(content: Content) -> Run:
    """The network of a page, computed by torch as the page's script does."""
    network = network_of(content.data)
    return lambda x: run(network, x)


def _check(program: Program) -> None:
    """Raises ExportError for a network that does not take the images which a page draws."""
    preprocessing = program.metadata["preprocessing"]
    shape = tuple(program.example.shape[1:])
    if shape != (1, 28, 28):
        raise ExportError(f"a page draws images of shape (1, 28, 28); it takes {shape}")
    if program.metadata["output"] != LOGITS:
        raise ExportError("a page shows probabilities in any case; `softmax` must be False")
    if not preprocessing["redraw"]:
        raise ExportError(
            "a page draws digits in MNIST's form; it takes images as they are (its `preprocessing` "
            "says so)"
        )


def _page(graph: Graph, program: Program, half: bool, told: dict[str, Any] | None) -> bytes:
    network = {
        "name": program.metadata["network"],
        "classes": program.metadata["classes"],
        "inverted": program.metadata["preprocessing"]["dark_on_light"],
        "steps": graph.steps,
        "shapes": [array.shape for array in (*graph.weights, *graph.others)],
        "half": half,
        "weights": _base64(graph.weights, "<f2" if half else "<f4"),
        "others": _base64(graph.others, "<f4"),
        "familiarity": told,
    }
    stated = json.dumps(network, separators=(",", ":")).replace("<", "\\u003c")  # ends no script
    script = "\n".join((FILES / name).read_text("utf-8") for name in SCRIPTS)
    script = re.sub(r"^\s*(//|/?\*).*\n|^ +", "", script, flags=re.M)  # comments, indentation
    page = (FILES / "page.html").read_text("utf-8")
    return page.replace("{script}", script).replace("{network}", stated).encode()


def _base64(arrays: Sequence[np.ndarray[Any, Any]], dtype: str) -> str:
    content = b"".join(array.astype(dtype).tobytes() for array in arrays)
    return base64.b64encode(content).decode()
