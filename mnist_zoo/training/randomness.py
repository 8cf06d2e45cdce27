"""The random numbers of a run, which are the same in every thread."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

# Initial weights and dropout come from torch's generators, which all threads share. So runs in
# several threads take turns wherever they draw, and the last to leave restores the generators.
TURN = threading.RLock()
KEPT: dict[torch.device, torch.Tensor] = {}  # the state of each generator before the first run
RUNS: list[int] = []  # an entry per run that is going on


@contextmanager
def random_state_kept(device: torch.device) -> Iterator[None]:
    """Restores torch's random state on the CPU and the device after the last run inside it."""
    with TURN:
        for place in {torch.device("cpu"), device}:
            if place not in KEPT and place.type in ("cpu", "cuda"):
                KEPT[place] = _state(place)
        RUNS.append(0)
    try:
        yield
    finally:
        with TURN:
            RUNS.pop()
            while not RUNS and KEPT:
                place, state = KEPT.popitem()
                if place.type == "cuda":
                    torch.cuda.set_rng_state(state, place)
                else:
                    torch.default_generator.set_state(state)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seeds torch's generators; no other run draws from them until the end."""
    with TURN:
        # torch.manual_seed would seed every device, and slowly
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


def random_seed(*parts: object) -> int:
    """A seed of 32 bits, the most that torch's CPU generator takes, as a hash of the parts."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=4).digest(), "big")


def _state(device: torch.device) -> torch.Tensor:
    if device.type == "cuda":
        return torch.cuda.get_rng_state(device)
    return torch.default_generator.get_state()
