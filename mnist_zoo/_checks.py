"""Checks of numbers that users give as arguments."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

LARGEST = 2**63 - 1  # whole numbers above it are none to torch


def plain(value: Any) -> Any:
    """A number of NumPy or torch as Python's int, float or bool; any other value as it is."""
    if getattr(value, "ndim", None) == 0 and callable(item := getattr(value, "item", None)):
        value = item()
    if isinstance(value, (bool, int, float)) or not isinstance(value, Real):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


def check_data(**arguments: Any) -> None:
    """Raises ValueError for the first argument whose numbers are not all there, in plain memory.

    Such are sparse, quantized and nested tensors, those on device meta, and NumPy's masked arrays.
    """
    for name, value in arguments.items():
        kind = ""
        if isinstance(value, Tensor):
            if value.is_meta:
                kind = "on device meta"
            elif value.is_nested or value.is_quantized or value.layout != torch.strided:
                kind = "nested, quantized or sparse"
        elif callable(getattr(value, "filled", None)) and hasattr(value, "mask"):
            kind = "masked; fill it first, by its method filled()"
        if kind:
            raise ValueError(f"`{name}` must be plain numbers in memory; it is {kind}")


def check_positive(**arguments: int) -> None:
    """Raises ValueError for the first argument that is not a whole number of at least 1."""
    for name, value in arguments.items():
        if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
            raise ValueError(f"`{name}` (={value!r}) must be a whole number of at least 1")
        if value > LARGEST:
            raise ValueError(f"`{name}` (={value!r}) must be at most {LARGEST}")


def check_range(
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    whole: bool = False,
    finite: bool = True,
    **arguments: float,
) -> None:
    """Raises ValueError for the first argument that is not a number within the limits.

    NumPy's numbers are numbers; NaN, True, False, text and None are not.

    Args:
        at_least: Smallest allowed value; None for no such limit.
        above: Largest value that is too small.
        at_most: Largest allowed value.
        below: Smallest value that is too large.
        whole: Whether it must be a whole number.
        finite: Whether infinity is refused even where no limit excludes it.
        **arguments: The values by their names.
    """
    kind = "a whole number" if whole else "a finite number" if finite else "a number"
    limits = (at_least, above, at_most, below)
    for name, value in arguments.items():
        if not _is_number(value, whole) or (finite and abs(value) == math.inf):
            rule = ", ".join(filter(None, (kind, _in_words(*limits))))
            raise ValueError(f"`{name}` (={value!r}) must be {rule}")
        if (
            (at_least is not None and value < at_least)
            or (above is not None and value <= above)
            or (at_most is not None and value > at_most)
            or (below is not None and value >= below)
        ):
            raise ValueError(f"`{name}` (={value!r}) must be {_in_words(*limits)}")
        if finite and _overflows(value, whole):
            raise ValueError(f"`{name}` (={value!r}) must be {kind} that is not too large")


def _is_number(value: object, whole: bool) -> bool:
    if isinstance(value, bool) or not isinstance(value, Integral if whole else Real):
        return False
    return bool(value == value)  # NaN is not


def _overflows(value: Any, whole: bool) -> bool:
    try:
        return math.isinf(float(value)) or (whole and abs(value) > LARGEST)
    except OverflowError:
        return True


def _in_words(
    at_least: float | None, above: float | None, at_most: float | None, below: float | None
) -> str:
    """The limits in words: "at least 0 and below 1"."""
    if at_least is not None and at_most is not None:
        return f"between {at_least} and {at_most}"
    words = {"at least": at_least, "more than": above, "at most": at_most, "below": below}
    return " and ".join(f"{word} {limit}" for word, limit in words.items() if limit is not None)
