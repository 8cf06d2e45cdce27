"""The tables of the guide "Export and speed": each format of each pretrained network.

``pip install ".[c,executorch,examples,onnx]" playwright && python examples/formats.py`` exports,
measures on one core, and writes ``docs/formats.json`` and the tables in ``docs/export.md``. Every
file computes MNIST's 10,000 test digits; a page does so in Chromium, C as the system's ``cc``
compiles it. Rows whose packages are missing stay as they are. Times are processor times of one
thread, so that other programs change them little; they are taken in turns with the network itself,
in rounds of 10 calls, and the shortest round counts. All takes about half an hour; the names of
networks after the command choose some.
"""

import argparse
import base64
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn

from mnist_zoo import get_model, get_weights, list_models, load_mnist
from mnist_zoo.export import ExportError, c, export, load_session
from mnist_zoo.export.program import Content, Format, form_of

DOCS = Path(__file__).parent.parent / "docs"
RESULTS, GUIDE = DOCS / "formats.json", DOCS / "export.md"
SUFFIX = {"onnx": ".onnx", "torch_export": ".pt2", "torchscript": ".pt", "executorch": ".pte"}
SUFFIX |= {"c": ".c", "page": ".html"}
RUNTIME = {"onnx": "ONNX Runtime", "torch_export": "PyTorch", "torchscript": "TorchScript"}
RUNTIME |= {"executorch": "ExecuTorch", "c": "C, `cc -O2`", "native": "C, `-O3 -march=native`"}
RUNTIME |= {"page": "Chromium"}
TIMED = ("lenet5", "mini_resnet", "digitnet_20k")  # the guide shows the times of these
SECONDS, CALLS = 1.0, 10  # of measuring per function, and per round
COMPUTE = """sent => {
    const images = Uint8Array.from(atob(sent), c => c.charCodeAt(0)), found = [];
    const begin = performance.now();
    for (let at = 0; at < images.length; at += 784)
        found.push(logits(images.subarray(at, at + 784)));
    return [found, performance.now() - begin];
}"""


def shortest(runs: list[Callable[[Tensor], object]], x: Tensor) -> list[float]:
    """Least milliseconds of the processor per call of each function, called in turns."""
    least = [float("inf")] * len(runs)
    end = time.perf_counter() + SECONDS * len(runs)
    while time.perf_counter() < end:
        for place, run in enumerate(runs):
            run(x)
            begin = time.thread_time()
            for _ in range(CALLS):
                run(x)
            least[place] = min(least[place], time.thread_time() - begin)
    return [1000 * seconds / CALLS for seconds in least]


def same_digits(run: Callable[[Tensor], Tensor], wanted: Tensor, images: Tensor) -> int:
    """On how many images a file gives the wanted digit."""
    found = torch.cat([run(batch).argmax(1) for batch in images.split(500)])
    return int((found == wanted).sum())


def in_chromium(page: Path, wanted: Tensor, images: Tensor) -> tuple[int, float]:
    """On how many images a page gives the wanted digit, and its milliseconds per image."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("google-chrome")
    same, least = 0, float("inf")
    with sync_playwright() as runner:
        browser = runner.chromium.launch(executable_path=program, chromium_sandbox=False)
        opened = browser.new_page()
        opened.goto(page.as_uri())
        for batch, digits in zip(images.split(100), wanted.split(100), strict=True):
            sent = base64.b64encode(batch.numpy().tobytes()).decode()
            found, spent = opened.evaluate(COMPUTE, sent)
            same += int((torch.tensor(found).argmax(1) == digits).sum())
            least = min(least, spent / len(batch))
        browser.close()
    return same, least


def measure(model: nn.Module, format: Format, images: Tensor, wanted: Tensor) -> dict[str, Any]:
    """What one format of a network gives."""
    preprocessing: Any = model.preprocessing
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        path = Path(folder, f"digits{SUFFIX[format]}")
        report = export(model, path, format)
        row: dict[str, Any] = {"size": report.size, "difference": report.largest_difference}
        if format == "page":
            same, least = in_chromium(path, wanted, images)
            return row | {"milliseconds": least, "eager": None, "same": same}
        beside = {".h": path.with_suffix(".h").read_bytes()} if format == "c" else {}
        content = Content(path.read_bytes(), beside=beside)
        run: Callable[[Tensor], Tensor]
        if format in ("onnx", "executorch"):
            run = load_session(path, threads=1)
        else:
            run = form_of(format).reader(content)
        inputs = preprocessing(images)
        runs: list[Callable[[Tensor], object]] = [run, model]
        if format == "c":
            runs.append(c.reader(content, "-O3", "-march=native"))
        times = dict(
            zip(("milliseconds", "eager", "native"), shortest(runs, inputs[:1]), strict=False)
        )
        return row | times | {"same": same_digits(run, wanted, inputs)}


def times(rows: list[dict[str, Any]]) -> str:
    """Sizes and times of a few networks as a table in Markdown."""
    lines = [
        "| network | format | runtime | size (kB) | difference | one image (ms) | eager (ms) |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        for runtime, key in ((row["format"], "milliseconds"), ("native", "native")):
            if row["network"] in TIMED and row.get(key):
                eager = f"{row['eager']:.3f}" if row["eager"] else "–"
                lines.append(
                    f"| {row['network']} | {row['format']} | {RUNTIME[runtime]} | "
                    f"{row['size'] / 1000:.0f} | {row['difference']:.0e} | {row[key]:.3f} | "
                    f"{eager} |"
                )
    return "\n".join(lines)


def counts(rows: list[dict[str, Any]]) -> str:
    """How many digits are the same, by network and format, as a table in Markdown."""
    formats = get_args(Format)
    lines = [f"| network | {' | '.join(formats)} |", f"|---|{'---:|' * len(formats)}"]
    same = {(row["network"], row["format"]): row["same"] for row in rows}
    for name in dict.fromkeys(row["network"] for row in rows):
        cells = [f"{same[name, f]:,}" if same.get((name, f)) else "–" for f in formats]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def guide(text: str, rows: list[dict[str, Any]]) -> str:
    """The guide with the tables between their comments."""
    for name, table in (("formats", times(rows)), ("same digits", counts(rows))):
        start, end = f"<!-- {name}: written by examples/formats.py -->", f"<!-- end of {name} -->"
        before, rest = text.split(start)
        text = f"{before}{start}\n\n{table}\n\n{end}{rest.split(end)[1]}"
    return text


def main() -> None:
    """Measures, and writes the results and the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    pretrained = list_models(pretrained=True)
    parser.add_argument("networks", nargs="*", default=pretrained)
    formats = get_args(Format)
    parser.add_argument("--formats", nargs="*", choices=formats, default=[*formats])
    options = parser.parse_args()
    torch.set_num_threads(1)
    images = load_mnist("test").images
    for name in options.networks:
        model = get_model(name, weights="mnist").eval()
        preprocessing: Any = model.preprocessing
        with torch.inference_mode():
            wanted = torch.cat([model(preprocessing(b)).argmax(1) for b in images.split(500)])
        weights = get_weights(name).sha256
        for format in options.formats:
            try:
                row = measure(model, format, images, wanted)
            except (ImportError, ExportError) as error:
                print(f"{name}, {format}: {error}")
                continue
            print(name, format, row, flush=True)
            write({"network": name, "format": format, "weights": weights} | row)


def write(row: dict[str, Any]) -> None:
    """Puts a row into the results, and the tables into the guide."""
    rows = {(old["network"], old["format"]): old for old in json.loads(RESULTS.read_text("utf-8"))}
    rows[row["network"], row["format"]] = row
    networks, formats = list_models(pretrained=True), get_args(Format)
    found = [rows[key] for name in networks for f in formats if (key := (name, f)) in rows]
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    GUIDE.write_text(guide(GUIDE.read_text("utf-8"), found), "utf-8")


if __name__ == "__main__":
    main()
