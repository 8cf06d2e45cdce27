"""Paths as users write them, and files written as a whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import get_ident
from typing import BinaryIO


def expanded(path: str | os.PathLike[str]) -> Path:
    """The path, where ``~`` and ``~user`` mean a home directory.

    A name that begins with ``~`` and is no user's stays a name, as in the shell.
    """
    return Path(os.path.expanduser(path))


def check_place(path: Path) -> None:
    """Raises an error unless a file can be written at the path."""
    if path.is_dir():
        raise ValueError(f"`path` (='{path}') must be a file; it is a folder")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"`path` (='{path}') must be in a folder that exists")


@contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """Opens a file for writing that replaces `path` once all of it is on the disk, or never."""
    path = path.resolve()  # a link stays a link
    temporary = path.with_name(f"{path.name}.{os.getpid()}-{get_ident()}.part")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if os.name == "posix":  # write the new name to the disk as well
        with suppress(OSError):  # some network drives cannot
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
