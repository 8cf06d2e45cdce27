"""Networks as C99, which emx-onnx-cgen generates from their ONNX graph."""

from __future__ import annotations

import ctypes
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .onnx_file import to_onnx
from .program import Content, ExportError, Program, Run, check_small, weights_of

EXTRA, PACKAGES = "c", ("emx_onnx_cgen", "onnx", "onnxscript")
BATCH, PIXELS = 1, None
ALL = 1 << 60  # bytes; nothing is larger
FLAGS = ("-std=c99", "-O2")
SECONDS = 600  # for the compiler
FOLDER = Path(__file__).parent / "c_files"
TYPES = {torch.float32: "float", torch.uint8: "uint8_t"}


def contents(program: Program) -> Iterator[Content]:
    """The C file and its header."""
    from emx_onnx_cgen import CodegenError, ShapeInferenceError, UnsupportedOpError
    from emx_onnx_cgen.compiler import Compiler, CompilerOptions

    check_small(weights_of(program))
    compiler()  # without one nothing could be checked
    proto = to_onnx(program)
    options = CompilerOptions(
        model_name="graph",
        large_temp_threshold_bytes=0,  # no malloc, and so none that fails
        large_weight_threshold=ALL,  # weights stand in the file
    )
    try:
        code = _own(Compiler(options).compile(proto))
    except (CodegenError, ShapeInferenceError, UnsupportedOpError) as error:
        raise ExportError(f"emx-onnx-cgen cannot write it: {error!s:.300}") from error
    values = _values(program)
    texts = [(FOLDER / name).read_text("utf-8") for name in ("network.h", "network.c")]
    header, source = (re.sub(r"@(\w+)@", lambda found: values[found[1]], t) for t in texts)
    yield Content(source.replace("/* graph */", code).encode(), beside={".h": header.encode()})


def reader(content: Content, *flags: str) -> Run:
    """The C file, compiled by the system's compiler, with these flags too, and run."""
    source = content.data.decode()
    (file,) = re.findall(r'^#include "(.+)\.h"$', source, re.M)
    (name,) = re.findall(r" (\w+)_names\[", source)
    dtype = torch.uint8 if f"{name}_logits(const uint8_t " in source else torch.float32
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, f"{file}.c").write_bytes(content.data)
        Path(folder, f"{file}.h").write_bytes(content.beside[".h"])
        library = Path(folder, f"{name}.so")
        compile_c(Path(folder, f"{file}.c"), library, "-shared", "-fPIC", *flags)
        function = getattr(ctypes.CDLL(str(library)), f"{name}_logits")
    count = int(re.findall(r"_CLASSES (\d+)$", content.beside[".h"].decode(), re.M)[0])

    def run(images: Tensor) -> Tensor:
        images = images.to(dtype).contiguous()
        found = torch.empty(len(images), count, device="cpu", dtype=torch.float32)
        for image, row in zip(images, found, strict=True):
            function(ctypes.c_void_p(image.data_ptr()), ctypes.c_void_p(row.data_ptr()))
        return found

    return run


def compiler() -> str:
    """The system's C compiler.

    Raises:
        ExportError: If there is none.
    """
    found = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not found:
        raise ExportError("the file is checked by compiling it; there must be a C compiler, `cc`")
    return found


def compile_c(source: Path, output: Path, *flags: str) -> None:
    """Compiles a C file.

    Raises:
        ExportError: If the compiler refuses it.
    """
    command = [compiler(), *FLAGS, *flags, str(source), "-o", str(output), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    if done.returncode:
        raise ExportError(f"the C compiler refuses the file: {done.stderr:.300}")


def _own(code: str) -> str:
    """Generated code whose names are the file's own, and whose memory is static."""
    code = re.sub(r"^_Bool graph_load.*?^}\n", "", code, flags=re.M | re.S)  # weights are inside
    code = re.sub(r"^extern const |^const (?=EMX_UNUSED )", "static const ", code, flags=re.M)
    code = re.sub(r"^void graph\(", "static void graph(", code, flags=re.M)
    return re.sub(r"^    (\w+ tmp\d+\w*(\[\d+\])+;)$", r"    static \1", code, flags=re.M)


def _values(program: Program) -> dict[str, str]:
    """What replaces the names between @ in the files of `c_files`."""
    metadata = program.metadata
    (channels, height, width), classes = program.example.shape[1:], metadata["classes"]
    preprocessing = metadata["preprocessing"]
    name = re.sub(r"\W", "_", program.name, flags=re.ASCII)
    name = f"_{name}" if name[:1].isdigit() else name
    is_bytes = program.example.dtype == torch.uint8
    form = f"({channels}, {height}, {width})"
    if is_bytes:
        images = f"pixels {form} from 0 to 255, {_looks(preprocessing)}"
    else:
        mean, std = preprocessing["mean"], preprocessing["std"]
        images = f"pixels {form}: (value - {mean}) / {std} of values in 0...1"
    return {
        "file": program.name,
        "name": name,
        "NAME": name.upper(),
        "network": json.dumps(metadata["network"]).replace("*/", "* /").replace("\\", "/"),
        "images": images,
        "type": TYPES[program.example.dtype],
        "output": metadata["output"],
        "channels": str(channels),
        "height": str(height),
        "width": str(width),
        "classes": str(len(classes)),
        "names": ", ".join(_literal(label) for label in classes),
    }


def _looks(preprocessing: Mapping[str, Any]) -> str:
    """Describes how the images that a network takes look."""
    if not preprocessing["redraw"]:
        return "as in its training data"
    return "dark on light" if preprocessing["dark_on_light"] else "light on black as MNIST's"


def _literal(text: str) -> str:
    """A text as a C string of ASCII: other bytes in octal, which no digit can prolong."""
    plain = "".join(
        chr(byte) if 32 <= byte < 127 and chr(byte) not in '"\\?' else f"\\{byte:03o}"
        for byte in text.encode()
    )
    return f'"{plain}"'
