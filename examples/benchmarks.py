"""Writes the page of benchmarks, and measures how cost grows.

``pytest tests/benchmarks --write && python examples/benchmarks.py --growth`` on an idle machine
measures everything again (half an hour on two cores, Linux). Without ``--growth``, it writes the
page from the results in ``docs/benchmarks.json`` and ``docs/growth.json``. The documentation's
build draws the charts.
"""

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mnist_zoo import BasicBlock, Digits, fit, get_model, get_recipe

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DOCS = Path(__file__).parent.parent / "docs"
RESULTS, GROWTH = DOCS / "benchmarks.json", DOCS / "growth.json"
Growth = dict[str, list[dict[str, float]]]
Row = dict[str, Any]


@dataclass(frozen=True)
class Question:
    """A table of the page: what it answers, what is compared, and what either side is called."""

    heading: str
    text: str
    ours: str = "ours"
    theirs: str = "the peer"
    column: str = "compared with"
    value: str = "times faster"


QUESTIONS = {
    "forward": Question(
        "Is a network as fast as the same one of torchvision or timm?",
        "One forward pass in eager mode, with the same shapes and random weights.",
    ),
    "ways": Question(
        "How much faster than eager mode are the other ways to run a network?",
        "Fused: BatchNorm is folded. Optimized: what `optimize` finds to be fastest. Compiled: "
        "`torch.compile`. ONNX Runtime and int8: a Session of the exported file.",
        ours="this way",
        theirs="eager mode",
    ),
    "peak": Question(
        "Which share of the machine's peak do networks reach?",
        "Floating-point operations per second, as torch counts them, against those of a product "
        "of two matrices of 2048×2048 in float32, in the faster of torch's two libraries, measured "
        "in turn; eager mode, channels-last.",
        column="network",
        value="share of the peak",
    ),
    "training": Question(
        "Is training as fast as other loops, and as its own steps?",
        "`fit` makes batches from uint8 images, trains and keeps records; steps alone have their "
        "batches ready in memory.",
    ),
    "records": Question(
        "How many times in one epoch of the report's loop could a record be trained?",
        "The epoch is that of the report on `mini_resnet`. "
        "[The records and their rule](our_experiments.md#accuracy-over-seconds). "
        "Below 1 the epoch takes less time than the record.",
        ours="the record",
        theirs="the epoch",
        column="record",
        value="times in an epoch",
    ),
    "switches": Question(
        "What do channels-last and bfloat16 gain in training?",
        "`fit` with the switch against `fit` without: it depends on the network and the processor.",
        ours="with it",
        theirs="without it",
        column="switch",
    ),
    "build": Question(
        "How long do importing, building and loading take?",
        "With the peer's own number of channels and classes.",
    ),
    "count": Question(
        "How long do tables and counts of a network take?",
        "`summary`, `profile` and `compare` run no network on data.",
    ),
    "pictures": Question(
        "How long does reading images take?",
        "One image at a time, or ten thousand at once.",
    ),
}


# --- How cost grows ------------------------------------------------------------------------


def images(count: int) -> Digits:
    """Random images; what they show does not change the cost."""
    return Digits(
        torch.randint(256, (count, 1, 28, 28), dtype=torch.uint8), torch.arange(count) % 10
    )


def forward_of(model: torch.nn.Module, *shape: int) -> Callable[[], object]:
    """A forward pass in inference mode."""
    model, x = model.eval(), torch.randn(shape)
    return torch.inference_mode()(lambda: model(x))


def epoch_of(count: int) -> Callable[[], object]:
    """An epoch of the report's recipe for `mini_resnet`; processes of torchrun share it."""
    recipe, digits = get_recipe("mini_resnet_report", epochs=1), images(count)
    return lambda: fit(recipe, digits, progress=False)


@dataclass(frozen=True)
class Sweep:
    """What grows, through which values, the work at a value, and how often it is timed."""

    values: tuple[int, ...]
    work: Callable[[int], Callable[[], object]]
    text: str
    rounds: int = 99


SWEEPS = {
    "batch": Sweep(
        (1, 4, 16, 64, 256),
        lambda batch: forward_of(get_model("resnet18"), batch, 1, 28, 28),
        "forward pass of `resnet18`, 28×28",
    ),
    "image size": Sweep(
        (28, 56, 112, 224),
        lambda size: forward_of(get_model("resnet18"), 1, 1, size, size),
        "forward pass of `resnet18`, one image",
    ),
    "width": Sweep(
        (16, 32, 64, 128, 256),
        lambda width: forward_of(BasicBlock(width, width), 16, width, 28, 28),
        "forward pass of a `BasicBlock`, 28×28, batch 16",
    ),
    "training images": Sweep(
        (1000, 2000, 4000, 8000, 16000), epoch_of, "epoch of `mini_resnet`, batch 64", 9
    ),
    "processes": Sweep(
        (1, 2, 4),
        lambda count: epoch_of(9600),
        "epoch of `mini_resnet`, 9,600 images, one thread per process",
        9,
    ),
}


def peak() -> float:
    """Peak memory of this process, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def measure(sweep: str, value: int) -> dict[str, float]:
    """Quartiles of the milliseconds, and peak MB; the peak needs a new process."""
    if sweep == "processes":
        torch.distributed.init_process_group("gloo")  # once, which is not timed
    work = SWEEPS[sweep].work(value)
    before = peak()
    work()
    memory = max(peak() - before, 0.1)
    times = []
    for _ in range(SWEEPS[sweep].rounds):
        start = time.perf_counter()
        work()
        times.append(1000 * (time.perf_counter() - start))
    if sweep == "processes":
        torch.distributed.destroy_process_group()
    low, median, high = statistics.quantiles(times, n=4, method="inclusive")
    return {"value": value, "low": low, "milliseconds": median, "high": high, "megabytes": memory}


def in_new_process(sweep: str, value: int) -> dict[str, float]:
    """One point, in as many processes as it asks for; the first one reports."""
    environment, launcher = dict(os.environ), []
    if sweep == "processes":
        environment["OMP_NUM_THREADS"] = "1"
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={value}"]
    command = [sys.executable, *launcher, __file__, "--point", sweep, str(value)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    point: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return point


def measure_all() -> Growth:
    """Every sweep, each point in its own process."""
    return {
        name: [in_new_process(name, value) for value in sweep.values]
        for name, sweep in SWEEPS.items()
    }


def exponent(points: list[dict[str, float]], quantity: str = "milliseconds") -> float:
    """The power of the value with which the quantity grows: the slope on logarithmic axes."""
    values = [math.log(point["value"]) for point in points]
    return statistics.linear_regression(values, [math.log(p[quantity]) for p in points]).slope


# --- Charts --------------------------------------------------------------------------------


# Okabe and Ito's colours, which colour-blind readers can tell apart
COLOURS = ("#0072B2", "#D55E00")
WAYS = ("fused", "optimized", "compiled", "ONNX Runtime", "int8")
BATCHES = (1, 256)


def styled(axes: "Axes", title: str) -> None:
    """The house's style: a takeaway as title, no frame, and a pale grid behind."""
    axes.set_title(title, loc="left", fontsize="medium")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)


def draw_ways(rows: list[Row]) -> "Figure":
    """How many times faster than eager mode each way is, per network and batch."""
    from matplotlib.figure import Figure

    found = {row["name"]: row for row in rows}
    figure = Figure((9, 3.6), layout="constrained")
    for axes, network in zip(figure.subplots(1, 2), ("mini_resnet", "resnet18"), strict=True):
        for batch, colour, shift in zip(BATCHES, COLOURS, (-0.2, 0.2), strict=True):
            each = [found[f"test_other_ways_against_eager[{network}-{w}-{batch}]"] for w in WAYS]
            heights = [row["median"] for row in each]
            ends = [[row["median"] - row["low"] for row in each]]
            ends += [[row["high"] - row["median"] for row in each]]
            places = [place + shift for place in range(len(WAYS))]
            label = f"batch {batch}" if network == "mini_resnet" else None
            axes.bar(places, heights, 0.4, yerr=ends, color=colour, ecolor="0.3", label=label)
            if batch == 1:
                height, way = max(zip(heights, WAYS, strict=True))
                title = f"{network}: {way} is {height:.1f} times faster for one image"
        axes.axhline(1, color="0.3", linewidth=0.8)
        axes.set_xticks(range(len(WAYS)), WAYS, rotation=20)
        styled(axes, title)
    figure.axes[0].set_ylabel("times faster than eager mode")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def takeaway(sweep: str, points: list[dict[str, float]]) -> str:
    """What doubling does to the time."""
    return f"twice the {sweep}:\n{2 ** exponent(points):.2f} times as long"


def draw_growth(growth: Growth) -> "Figure":
    """Time over each sweep, on logarithmic axes, with the line that was fitted."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    figure = Figure((11, 3.2), layout="constrained")
    for axes, (sweep, points) in zip(figure.subplots(1, len(growth)), growth.items(), strict=True):
        values = [point["value"] for point in points]
        times = [point["milliseconds"] for point in points]
        middle, slope = statistics.geometric_mean(values), exponent(points)
        fitted = [statistics.geometric_mean(times) * (v / middle) ** slope for v in values]
        axes.plot(values, fitted, color="0.6", linewidth=1)
        ends = [[p["milliseconds"] - p["low"] for p in points]]
        ends += [[p["high"] - p["milliseconds"] for p in points]]
        axes.errorbar(values, times, ends, fmt="o", ms=4, color=COLOURS[0], capsize=2)
        axes.set(xscale="log", yscale="log", xlabel=sweep)
        axes.set_xticks(values, map(str, values), rotation=45, fontsize="small")
        axes.minorticks_off()
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        styled(axes, takeaway(sweep, points))
    figure.axes[0].set_ylabel("time (ms)")
    return figure


def figures() -> dict[str, "Figure"]:
    """The charts of the page, by name."""
    return {
        "benchmarks_ways": draw_ways(read(RESULTS)["results"]),
        "benchmarks_growth": draw_growth(read(GROWTH)),
    }


# --- The page ------------------------------------------------------------------------------


def read(path: Path) -> Any:
    """The results in a file."""
    return json.loads(path.read_text(encoding="utf-8"))


def markdown(columns: list[str], rows: list[list[str]]) -> str:
    """A table whose first column is words."""
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def faster(question: Question, row: Row) -> str:
    """Which side is faster; neither, if 1 lies between the quartiles."""
    if row["low"] > 1:
        return question.ours
    return question.theirs if row["high"] < 1 else "neither"


def table(question: Question, rows: list[Row], spread: str) -> str:
    """The benchmarks that answer a question, a row each."""
    share = question.value.startswith("share")

    def number(value: float) -> str:
        return f"{value:.0%}" if share else f"{value:.2f}"

    columns = [question.column, question.value, spread, "rounds"]
    columns += [] if share else ["required", "faster"]
    lines = []
    for row in rows:
        cells = [row["row"], number(row["median"])]
        cells += [f"{number(row['low'])} to {number(row['high'])}", str(row["rounds"])]
        if not share:
            bar = f"{row['bar']:.2f}" if row["bar"] else ""
            cells += [bar, faster(question, row)]
        lines.append(cells)
    return markdown(columns, lines)


def table_of_growth(growth: Growth) -> str:
    """A row per sweep: the ends, the time there, and the exponent."""
    lines = []
    for sweep, points in growth.items():
        first, last = points[0], points[-1]
        ends = f"{first['milliseconds']:.1f} to {last['milliseconds']:.1f}"
        memory = f"{first['megabytes']:.0f} to {last['megabytes']:.0f}"
        values = f"{first['value']:,} to {last['value']:,}"
        power = f"{exponent(points):.2f}"
        lines.append([f"{sweep}: {SWEEPS[sweep].text}", values, ends, power, memory])
    return markdown(["what grows", "from, to", "time (ms)", "exponent", "memory (MB)"], lines)


def page(measured: dict[str, Any], growth: Growth) -> str:
    """The whole page."""
    spread = measured["spread"]
    parts = [
        "# Benchmarks",
        "Both sides are measured in turns in the same run. A row names the peer, and after a colon "
        "what of ours is compared with it, where that is not the same. *Times faster* is the "
        f"peer's time divided by ours: the median over the rounds, with their {spread}. Below 1 "
        "the peer is faster; the last column says which side is, or neither, if the "
        f"{spread} lie on both sides of 1. A benchmark fails below what is required.",
        "Written by `examples/benchmarks.py` from the results of `pytest tests/benchmarks --write` "
        f"on an idle machine: {measured['machine']}; {measured['versions']}.",
    ]
    for key, question in QUESTIONS.items():
        rows = [row for row in measured["results"] if row["question"] == key]
        if rows:
            parts += [f"## {question.heading}", question.text, table(question, rows, spread)]
        if rows and key == "ways":
            parts.append("![How many times faster each way is](_pictures/benchmarks_ways.svg)")
    parts += [
        "## How does cost grow?",
        "Time grows with this power of the value, fitted to the medians of at least nine rounds: 1 "
        "is in proportion, 2 with the square; −1 means half the time with twice the processes. "
        "Memory is the growth of the (first) process's peak.",
        table_of_growth(growth),
        "![Time over what grows, on logarithmic axes](_pictures/benchmarks_growth.svg)",
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
        point = measure(arguments.point[0], int(arguments.point[1]))
        if os.environ.get("RANK", "0") == "0":
            print(json.dumps(point))
        return
    if arguments.growth:
        GROWTH.write_text(json.dumps(measure_all(), indent=1) + "\n", encoding="utf-8")
    text = page(read(RESULTS), read(GROWTH))
    (DOCS / "benchmarks.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
