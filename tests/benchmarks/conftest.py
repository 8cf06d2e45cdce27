"""Races against peers: both sides in turn in the same run, the median of the ratios.

``pytest tests/benchmarks`` on an idle machine. With ``--write`` the results go to
``docs/benchmarks.json``, from which ``examples/benchmarks.py`` writes the page. A benchmark marks
the question that it answers there; the first line of its docstring is its row, as "peer: ours".
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
    config.addinivalue_line("markers", "question(key): which table of the page has the benchmark")


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
    """A parameter of a benchmark for the page."""
    if isinstance(value, dict):  # switches
        return " and ".join(f"`{name}={setting!r}`" for name, setting in value.items())
    return value


def row_of(item):
    """The question of a benchmark, and its row in words."""
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    words = {name: in_words(value) for name, value in parameters.items()}
    row = item.function.__doc__.partition("\n")[0].format(**words)
    return {"question": item.get_closest_marker("question").args[0], "row": row}


@pytest.fixture
def report(request):
    """Writes down how many times faster than the peer we were, and holds it to the bar, if any."""
    row = row_of(request.node)

    def check(ratios, *, at_least=None):
        assert len(ratios) >= 9, "too few rounds to state their quartiles"
        low, median, high = statistics.quantiles(ratios, n=4, method="inclusive")
        found = {"low": low, "median": median, "high": high, "rounds": len(ratios)}
        RESULTS.append({"name": request.node.name, **row, **found, "bar": at_least})
        assert median >= (at_least or 0)

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
    terminalreporter.section("times faster than the peer: median (quartiles; bar)")
    for row in RESULTS:
        bar = f"; at least {row['bar']:.2f}" if row["bar"] else ""
        spread = f"({row['low']:.2f} to {row['high']:.2f}{bar})"
        terminalreporter.line(f"{row['name']:<60} {row['median']:6.2f}  {spread}")
    if RESULTS and config.getoption("--write"):
        write()


def write():
    """Writes the results; those of other benchmarks stay if this machine made them."""
    surroundings = {
        "machine": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, "
        f"{torch.get_num_threads()} threads",
        "versions": f"Python {platform.python_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in PEERS),
        "spread": "quartiles",
    }
    before = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    same = surroundings.items() <= before.items()
    results = {row["name"]: row for row in [*(before["results"] if same else []), *RESULTS]}
    written = {**surroundings, "results": [results[name] for name in sorted(results)]}
    FILE.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
