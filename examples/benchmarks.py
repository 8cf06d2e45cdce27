"""Writes the page of benchmarks, and measures how cost grows with batch, image size and width.

``pytest tests/benchmarks --write && python examples/benchmarks.py --growth`` on an idle machine
measures everything again (half an hour on two cores, Linux). Without ``--growth``, it writes the
page from the results in ``docs/benchmarks.json`` and ``docs/growth.json``.
"""

import argparse
import json
import resource
import subprocess
import sys
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mnist_zoo import BasicBlock, get_model
from mnist_zoo.inspection.latency import latency

DOCS = Path(__file__).parent.parent / "docs"
RESULTS, GROWTH = DOCS / "benchmarks.json", DOCS / "growth.json"
SWEEPS: dict[str, list[int]] = {
    "batch": [1, 4, 16, 64, 256],
    "image size": [28, 56, 112, 224],
    "width": [16, 32, 64, 128, 256],
}
WAYS = ["fused", "optimized", "compiled", "ONNX Runtime", "int8"]
COLOURS = ("#0072B2", "#D55E00", "#009E73")  # Okabe and Ito's, for colour-blind readers


# --- How cost grows ------------------------------------------------------------------------


def case(sweep: str, value: int) -> tuple[nn.Module, torch.Tensor]:
    """The network and the input of one point of a sweep."""
    if sweep == "width":
        return BasicBlock(value, value).eval(), torch.randn(16, value, 28, 28)
    batch, size = (value, 28) if sweep == "batch" else (1, value)
    return get_model("resnet18").eval(), torch.randn(batch, 1, size, size)


def peak() -> float:
    """Peak memory of this process, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def measure(sweep: str, value: int) -> dict[str, float]:
    """Milliseconds and peak MB of one forward pass; the peak needs a new process."""
    model, x = case(sweep, value)
    before = peak()
    with torch.inference_mode():
        model(x)
        memory = max(peak() - before, 0.1)
        (time,) = latency([model], x)
    return {"value": value, "milliseconds": 1000 * time, "megabytes": memory}


def measure_all() -> dict[str, list[dict[str, float]]]:
    """Every sweep, each point in its own process."""
    return {
        sweep: [
            json.loads(
                subprocess.run(
                    [sys.executable, __file__, "--point", sweep, str(value)],
                    capture_output=True,
                    text=True,
                    check=True,
                ).stdout
            )
            for value in values
        ]
        for sweep, values in SWEEPS.items()
    }


# --- The page ------------------------------------------------------------------------------


def plot_growth(growth: dict[str, list[dict[str, float]]]) -> None:
    """Time and memory over each sweep, on logarithmic axes."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    figure = Figure(figsize=(9, 5.5), layout="constrained")
    axes = figure.subplots(2, len(growth), sharey="row")
    for column, (sweep, points) in enumerate(growth.items()):
        values = [point["value"] for point in points]
        for row, (quantity, label) in enumerate(
            (("milliseconds", "time (ms)"), ("megabytes", "memory (MB)"))
        ):
            axis = axes[row][column]
            axis.loglog(values, [point[quantity] for point in points], "o-")
            axis.set_xticks(values, map(str, values))
            axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.yaxis.set_major_formatter("{x:g}")
            axis.minorticks_off()
            axis.grid(alpha=0.3)
            axis.set_xlabel(sweep if row else "")
            axis.set_ylabel("" if column else label)
    figure.savefig(DOCS / "growth.png", dpi=110)


def plot_ways(rows: list[dict[str, Any]]) -> None:
    """Speed-up of each way over eager mode, per network and batch size."""
    from matplotlib.figure import Figure

    found = {row["name"]: row["median"] for row in rows}
    batches = (1, 64, 256)
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    for axis, name in zip(figure.subplots(1, 2), ("mini_resnet", "resnet18"), strict=True):
        for place, (batch, colour) in enumerate(zip(batches, COLOURS, strict=False)):
            keys = [f"test_other_ways_against_eager[{name}-{way}-{batch}]" for way in WAYS]
            places = [number + 0.27 * (place - 1) for number in range(len(WAYS))]
            heights = [found[key] for key in keys]
            axis.bar(places, heights, 0.25, label=f"batch {batch}", color=colour)
        axis.axhline(1, color="black", lw=0.8)
        axis.set_xticks(range(len(WAYS)), WAYS, rotation=20)
        axis.spines[["top", "right"]].set_visible(False)
        factors = {way: found[f"test_other_ways_against_eager[{name}-{way}-1]"] for way in WAYS}
        best = max(factors, key=factors.__getitem__)
        axis.set_title(f"{name}, fastest for one image: {best}", fontsize=10)
    figure.axes[0].set_ylabel("times faster than eager")
    figure.axes[0].legend(frameon=False, loc="upper left")
    figure.savefig(DOCS / "benchmarks.png", dpi=110)


def in_words(name: str) -> str:
    """The name of a test as a phrase."""
    words = name.partition("[")[0].removeprefix("test_").replace("_", " ")
    return words[0].upper() + words[1:]


def cells_of(row: dict[str, Any]) -> dict[str, str]:
    """What a benchmark compares: a value for each of its parameters, in words."""
    case = row.get("case") or {"case": row["name"].partition("[")[2].rstrip("]").replace("-", ", ")}
    return {name: f"{value}×{value}" if name == "size" else value for name, value in case.items()}


def table(columns: list[str], rows: list[dict[str, Any]]) -> str:
    """Benchmarks of one kind, a row each."""
    lines = [f"| {' | '.join(columns)} | times faster | range | minimum |"]
    lines.append("|---" * len(columns) + "|---:|---:|---:|")
    for row in rows:
        bar = f"{row['bar']:.2f}" if row["bar"] else ""
        times = f"{row['median']:.2f}"
        spread = f"{row['low']:.2f} to {row['high']:.2f}"
        cells = list(cells_of(row).values()) if "[" in row["name"] else [in_words(row["name"])]
        lines.append(f"| {' | '.join([*cells, times, spread, bar])} |")
    return "\n".join(lines)


def page(measured: dict[str, Any]) -> str:
    """The whole page."""
    parts = [
        "# Benchmarks",
        "How many times faster we are than a peer, both measured in turns in the same run: median, "
        "and range over the rounds. Below 1 the peer is faster. A benchmark "
        "fails below its required minimum. "
        "Written by `examples/benchmarks.py` from the results of "
        "`pytest tests/benchmarks --write`.",
        f"Machine: {measured['machine']}; {measured['versions']}.",
    ]
    for section, found in groupby(measured["results"], key=lambda row: row["section"]):
        rows = list(found)
        parts.append(f"## {section.removesuffix('.')}")
        single = [row for row in rows if "[" not in row["name"]]
        if single:
            parts.append(table(["benchmark"], single))
        several = [row for row in rows if "[" in row["name"]]
        for name, cases in groupby(several, key=lambda row: row["name"].partition("[")[0]):
            group = list(cases)
            parts += [f"### {in_words(name)}", table(list(cells_of(group[0])), group)]
    parts += [
        "## Ways to run a network",
        "![How many times faster than eager each way is](benchmarks.png)",
        "## How cost grows",
        "One forward pass in inference mode: `resnet18` at 28×28 against the batch size, one image "
        "against its size, and one `BasicBlock` on 16 inputs of 28×28 against its width. Memory is "
        "the growth of the process's peak.",
        "![Time and memory against batch, image size and width](growth.png)",
    ]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Measures if asked to, and writes the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--growth", action="store_true", help="measures how cost grows")
    parser.add_argument("--point", nargs=2, metavar=("SWEEP", "VALUE"), help="measures one point")
    arguments = parser.parse_args()
    if arguments.point:
        print(json.dumps(measure(arguments.point[0], int(arguments.point[1]))))
        return
    if arguments.growth:
        GROWTH.write_text(json.dumps(measure_all(), indent=1) + "\n", encoding="utf-8")
    measured = json.loads(RESULTS.read_text(encoding="utf-8"))
    plot_ways(measured["results"])
    plot_growth(json.loads(GROWTH.read_text(encoding="utf-8")))
    (DOCS / "benchmarks.md").write_text(page(measured), encoding="utf-8")


if __name__ == "__main__":
    main()
