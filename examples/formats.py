"""The table of the guide "Out of Python": every format of the small pretrained networks.

``pip install ".[c,executorch,examples,onnx]" && python examples/formats.py`` measures on one core
and writes ``docs/formats.json`` and the table in ``docs/export.md``; formats whose packages are
missing keep their earlier figures. Times are the shortest of many, taken in turns with the network
itself; agreement is counted on MNIST's 10,000 test digits.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn

from mnist_zoo import get_model, list_models, load_mnist
from mnist_zoo.export import export, load_session
from mnist_zoo.export.program import Content, Format, form_of

DOCS = Path(__file__).parent.parent / "docs"
RESULTS, GUIDE = DOCS / "formats.json", DOCS / "export.md"
START, END = "<!-- formats: written by examples/formats.py -->", "<!-- end of formats -->"
SUFFIX = {"onnx": ".onnx", "torch_export": ".pt2", "torchscript": ".pt", "executorch": ".pte"}
SUFFIX |= {"c": ".c", "page": ".html"}
RUNTIME = {"onnx": "ONNX Runtime", "torch_export": "PyTorch", "torchscript": "TorchScript"}
RUNTIME |= {"executorch": "ExecuTorch", "c": "C, `cc -O2`", "page": "a browser (computed by torch)"}
SECONDS = 2.0  # of measuring per format


def shortest(runs: list[Callable[[Tensor], object]], x: Tensor) -> list[float]:
    """Least milliseconds per call of each function, called in turns."""
    least = [float("inf")] * len(runs)
    end = time.perf_counter() + SECONDS * len(runs)
    while time.perf_counter() < end:
        for place, run in enumerate(runs):
            begin = time.perf_counter()
            run(x)
            least[place] = min(least[place], time.perf_counter() - begin)
    return [1000 * seconds for seconds in least]


def same_digits(run: Callable[[Tensor], Tensor], model: nn.Module, images: Tensor) -> int:
    """On how many normalised images a file and its network give the same digit."""
    batches = images.split(500)
    return sum(int((run(x).argmax(1) == model(x).argmax(1)).sum()) for x in batches)


def measure(name: str, format: Format, images: Tensor) -> dict[str, Any]:
    """One row of the table."""
    model = get_model(name, weights="mnist").eval()
    assert model.preprocessing is not None
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        path = Path(folder, f"digits{SUFFIX[format]}")
        report = export(model, path, format)
        beside = {".h": path.with_suffix(".h").read_bytes()} if format == "c" else {}
        run: Callable[[Tensor], Tensor]
        if format in ("onnx", "executorch"):
            run = load_session(path, threads=1)
        else:
            run = form_of(format).reader(Content(path.read_bytes(), beside=beside))
        inputs = images if format == "page" else model.preprocessing(images)
        if format == "page":  # too slow here; a test counts in Chromium
            same: int | None = None
            least: list[float | None] = [None, None]
        else:
            same = same_digits(run, model, inputs)
            least = [*shortest([run, model], inputs[:1])]
    return {
        "network": name,
        "format": format,
        "size": report.size,
        "difference": report.largest_difference,
        "milliseconds": least[0],
        "eager": least[1],
        "same": same,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as a table in Markdown."""
    lines = [
        "| network | format | runtime | size (kB) | difference | one image (ms) | eager (ms) "
        "| same digit of 10,000 |",
        "|---|---|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        timed = [f"{row[key]:.3f}" if row[key] else "–" for key in ("milliseconds", "eager")]
        same = f"{row['same']:,}" if row["same"] else "10,000 in Chromium"
        lines.append(
            f"| {row['network']} | {row['format']} | {RUNTIME[row['format']]} | "
            f"{row['size'] / 1000:.0f} | {row['difference']:.0e} | {' | '.join(timed)} | {same} |"
        )
    return "\n".join(lines)


def guide(text: str, rows: list[dict[str, Any]]) -> str:
    """The guide with the table between its comments."""
    before, rest = text.split(START)
    return f"{before}{START}\n\n{table(rows)}\n\n{END}{rest.split(END)[1]}"


def main() -> None:
    """Measures, and writes the results and the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    small = list_models(pretrained=True, max_params=100_000)
    parser.add_argument("networks", nargs="*", default=small)
    parser.add_argument("--formats", nargs="*", default=[*get_args(Format)])
    options = parser.parse_args()
    torch.set_num_threads(1)
    images = load_mnist("test").images
    kept = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else []
    rows = {(row["network"], row["format"]): row for row in kept}
    for name in options.networks:
        for format in options.formats:
            try:
                rows[name, format] = measure(name, format, images)
            except ImportError as error:
                print(f"{name}, {format}: {error}")
    order = {format: place for place, format in enumerate(get_args(Format))}
    found = sorted(rows.values(), key=lambda row: (row["network"], order[row["format"]]))
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    GUIDE.write_text(guide(GUIDE.read_text("utf-8"), found), "utf-8")


if __name__ == "__main__":
    main()
