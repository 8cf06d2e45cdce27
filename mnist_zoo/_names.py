"""Checks of names that users give, and suggestions for misspelt ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from torch import nn


def did_you_mean(name: object, known: Iterable[str], count: int = 3) -> str:
    """Suggests known names that are similar to a wrong one or contain it; "" if there are none."""
    known, given = list(known), str(name)
    near = get_close_matches(given, known, count, cutoff=0.8)
    near = near or [entry for entry in known if len(given) > 2 and given in entry][:3]
    near = near or get_close_matches(given, known, count)
    return f"did you mean {' or '.join(map(repr, near))}?" if near else ""


class Names(list[str]):
    """Names, which print as a table with a line about each.

    Args:
        about: What there is to say of each name.
    """

    def __init__(self, about: Mapping[str, str]) -> None:
        super().__init__(about)
        self._about = dict(about)

    def __str__(self) -> str:
        width = max(map(len, self), default=0)
        return "\n".join(f"{name:<{width}}  {self._about.get(name, '')}".rstrip() for name in self)


def printable(text: str) -> str:
    """A text from a file or of another program, for a message: its control characters escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def check_known(prefix: str, names: Iterable[str], known: Iterable[str]) -> None:
    """Raises TypeError for the first name that is not known; the message starts with `prefix`."""
    known = tuple(known)
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known, 1) or f"it has {', '.join(known)}"
            raise TypeError(f"{prefix} {name!r}; {hint}")


def check_choice(**arguments: tuple[object, Iterable[str]]) -> None:
    """Raises ValueError for the first argument that is not one of its choices.

    Each argument is a pair: its value and the choices.
    """
    for name, (value, known) in arguments.items():
        choices = tuple(known)
        if value not in choices:
            rule = f"must be one of {', '.join(map(repr, choices))}"
            hint = did_you_mean(value, choices, 1)
            raise ValueError(f"`{name}` (={value!r}) {rule}{hint and f'; {hint}'}")


def check_makers(**arguments: object) -> None:
    """Raises ValueError for the first argument that cannot make modules."""
    for name, maker in arguments.items():
        if not callable(maker) or isinstance(maker, nn.Module):
            raise ValueError(
                f"`{name}` (={maker!r}) must be a class or function that makes a module"
            )
