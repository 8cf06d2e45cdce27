"""Races against peers: both sides in turn in the same run, the median of the ratios."""

import statistics
import time

import pytest

RESULTS: list[str] = []


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


@pytest.fixture
def report(request):
    """Writes down how many times faster than the peer we were, and holds it to the bar."""

    def check(ratios, *, at_least):
        ratio = statistics.median(ratios)
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        RESULTS.append(f"{request.node.name:<42} {ratio:6.2f}  ({spread}; at least {at_least:.2f})")
        assert ratio >= at_least

    return check


@pytest.fixture
def race(benchmark, report):
    """Times `theirs` and `ours` in turn, and reports the ratios."""

    def run(ours, theirs, *, at_least, rounds=9, warmup=1):
        for _ in range(warmup):
            theirs(), ours()
        ratios = []

        def turn():
            ratios.append(seconds(theirs) / seconds(ours))

        benchmark.pedantic(turn, rounds=rounds)
        benchmark.extra_info["times_faster"] = ratios
        report(ratios, at_least=at_least)

    return run


def pytest_terminal_summary(terminalreporter):
    terminalreporter.section("times faster than the peer: median (range; bar)")
    for line in RESULTS:
        terminalreporter.line(line)
