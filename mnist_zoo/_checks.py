"""Checks of arguments, and suggestions for misspelt names."""

from __future__ import annotations

import math
from collections.abc import Iterable
from difflib import get_close_matches
from numbers import Integral

from torch import nn


def did_you_mean(name: object, known: Iterable[str], count: int = 3) -> str:
    """Asks for the known names meant by a wrong one: near it, or with it inside; "" for none."""
    known, given = list(known), str(name)
    near = get_close_matches(given, known, count, cutoff=0.8)
    near = near or [entry for entry in known if len(given) > 2 and given in entry][:3]
    near = near or get_close_matches(given, known, count)
    return f"did you mean {' or '.join(map(repr, near))}?" if near else ""


def check_known(told: str, names: Iterable[str], known: Iterable[str]) -> None:
    """Raises TypeError, which begins as told, for the first name that is none of the known."""
    known = tuple(known)
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known, 1) or f"it has {', '.join(known)}"
            raise TypeError(f"{told} {name!r}; {hint}")


def check_positive(**arguments: int) -> None:
    """Raises ValueError for the first argument that is not a whole number of at least 1."""
    for name, value in arguments.items():
        if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
            raise ValueError(f"`{name}` (={value!r}) must be a whole number of at least 1")


def check_choice(**arguments: tuple[object, Iterable[str]]) -> None:
    """Raises ValueError for the first argument, given with its choices, that is none of them."""
    for name, (value, known) in arguments.items():
        choices = tuple(known)
        if value not in choices:
            rule = f"must be one of {', '.join(map(repr, choices))}"
            hint = did_you_mean(value, choices, 1)
            raise ValueError(f"`{name}` (={value!r}) {rule}{hint and f'; {hint}'}")


def check_dropout(dropout: float) -> None:
    """Raises ValueError unless it is a probability below 1."""
    if not isinstance(dropout, (int, float)) or not 0 <= dropout < 1:
        raise ValueError(f"`dropout` (={dropout!r}) must be at least 0 and below 1")


def check_compression(compression: float) -> None:
    """Raises ValueError unless it is a part, and more than none."""
    if not isinstance(compression, (int, float)) or not 0 < compression <= 1:
        raise ValueError(f"`compression` (={compression!r}) must be more than 0 and at most 1")


def check_makers(**arguments: object) -> None:
    """Raises ValueError for the first argument that cannot make modules."""
    for name, maker in arguments.items():
        if not callable(maker) or isinstance(maker, nn.Module):
            raise ValueError(f"`{name}` (={maker!r}) must be a class or function that makes it")


def check_range(*, open_below: bool = False, below: float = math.inf, **arguments: float) -> None:
    """Each argument must be a number from 0 (itself allowed or not) to `below`, without it."""
    for name, value in arguments.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 <= value < below or (open_below and value == 0):
            limits = "more than 0" if open_below else "at least 0"
            raise ValueError(f"`{name}` (={value!r}) must be a number, {limits} and below {below}")
