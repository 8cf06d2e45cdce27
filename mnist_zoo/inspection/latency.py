"""`latency`: the time of a forward pass."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Forward = Callable[[Tensor], object]
ROUNDS = 300  # at most so many measurements
SECONDS = 1.0  # about so long per function


def latency(runs: Sequence[Forward], x: Tensor) -> list[float]:
    """Median seconds per call of each function, called in turns so that conditions are equal."""
    for run in runs:
        run(x)
    start = time.perf_counter()
    times: list[list[float]] = [[] for _ in runs]
    while len(times[0]) < 3 or (
        len(times[0]) < ROUNDS and time.perf_counter() - start < SECONDS * len(runs)
    ):
        for run, found in zip(runs, times, strict=True):
            begin = time.perf_counter()
            run(x)
            _wait(x)
            found.append(time.perf_counter() - begin)
    return [statistics.median(found) for found in times]


def _wait(x: Tensor) -> None:
    if x.device.type != "cpu":
        torch.accelerator.synchronize(x.device)
