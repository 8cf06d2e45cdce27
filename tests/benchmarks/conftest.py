"""Races against peers: both sides in turn in the same run, the median of the ratios.

``pytest tests/benchmarks`` on an idle machine. With ``--write`` the results go to
``docs/benchmarks.json``, from which ``examples/benchmarks.py`` writes the page.
"""

import json
import platform
import statistics
import time
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

PEERS = (
    "torch",
    "torchvision",
    "timm",
    "onnxruntime",
    "thop",
    "torchsummary",
    "torchinfo",
    "fvcore",
)
RESULTS: list[dict[str, object]] = []
FILE = Path(__file__).parents[2] / "docs" / "benchmarks.json"


def pytest_configure(config):
    config.addinivalue_line("filterwarnings", "default")  # the peers may warn


def pytest_addoption(parser):
    parser.addoption("--write", action="store_true", help="write docs/benchmarks.json")


def seconds(work):
    start = time.perf_counter()
    result = work()
    elapsed = time.perf_counter() - start
    del result
    return elapsed


@pytest.fixture(name="seconds")
def seconds_of():
    """Times a call, for a test that races by itself."""
    return seconds


def in_words(value):
    """A parameter of a benchmark for the page: switches as field=value."""
    if isinstance(value, dict):
        return ", ".join(f"{name}={setting}" for name, setting in value.items())
    return str(value)


@pytest.fixture
def report(request):
    """Writes down how many times faster than the peer we were, and holds it to the bar, if any."""

    parameters = getattr(request.node, "callspec", None)
    parameters = {} if parameters is None else parameters.params

    def check(ratios, *, at_least=None):
        RESULTS.append(
            {
                "section": request.module.__doc__.partition("\n")[0],
                "name": request.node.name,
                "case": {name: in_words(value) for name, value in parameters.items()},
                "median": statistics.median(ratios),
                "low": min(ratios),
                "high": max(ratios),
                "bar": at_least,
            }
        )
        assert statistics.median(ratios) >= (at_least or 0)

    return check


@pytest.fixture
def race(benchmark, report):
    """Times `theirs` and `ours` in turn, each the first as often, and reports the ratios."""

    def run(ours, theirs, *, at_least=None, rounds=9, warmup=1):
        for _ in range(warmup):
            theirs(), ours()
        ratios = []

        def turn():
            if len(ratios) % 2:
                mine, other = seconds(ours), seconds(theirs)
            else:
                other, mine = seconds(theirs), seconds(ours)
            ratios.append(other / mine)

        benchmark.pedantic(turn, rounds=rounds)
        benchmark.extra_info["times_faster"] = ratios
        report(ratios, at_least=at_least)

    return run


def pytest_terminal_summary(terminalreporter, config):
    terminalreporter.section("times faster than the peer: median (range; bar)")
    for row in RESULTS:
        bar = f"; at least {row['bar']:.2f}" if row["bar"] else ""
        spread = f"({row['low']:.2f} to {row['high']:.2f}{bar})"
        terminalreporter.line(f"{row['name']:<60} {row['median']:6.2f}  {spread}")
    if RESULTS and config.getoption("--write"):
        names = {row["name"] for row in RESULTS}
        before = json.loads(FILE.read_text(encoding="utf-8"))["results"] if FILE.exists() else []
        kept = [row for row in before if row["name"] not in names]
        written = {
            "machine": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, "
            f"{torch.get_num_threads()} threads",
            "versions": f"Python {platform.python_version()}, "
            + ", ".join(f"{name} {version(name)}" for name in PEERS),
            "results": sorted(kept + RESULTS, key=lambda row: (row["section"], row["name"])),
        }
        FILE.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
