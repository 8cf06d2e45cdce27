"""Paths as users write them, and files written as a whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import get_ident
from typing import BinaryIO


def expanded(path: str | os.PathLike[str], argument: str = "path") -> Path:
    """The path, where ``~`` and ``~user`` mean a home directory.

    A name that begins with ``~`` and is no user's stays a name, as in the shell.

    Raises:
        TypeError: If it is something else, such as bytes; the message names the argument.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"`{argument}` (={path!r:.80}) must be a str or a Path")
    return Path(os.path.expanduser(path))


def check_no_device(path: Path) -> None:
    """Raises ValueError if something other than a file is at the path, which might never end."""
    if os.path.exists(path) and not path.is_file():  # Path.exists raises for an impossible name
        raise ValueError(f"`path` (='{path}') must be a file; it is a folder, a pipe or a device")


def check_place(path: Path) -> None:
    """Raises an error unless a file can be written at the path, which replaces a file only."""
    if "\0" in str(path):
        raise ValueError(f"`path` (={str(path)!r:.80}) must not hold the character NUL")
    try:
        is_there = path.exists() and not path.is_file()
        has_folder = path.parent.is_dir()
    except OSError as error:  # a name too long, a folder that cannot be read
        raise ValueError(f"`path` (='{path!s:.80}') cannot be written: {error.strerror}") from error
    if is_there:
        kind = "a folder" if path.is_dir() else "a device, a pipe or a socket"
        raise ValueError(f"`path` (='{path}') must be a file; it is {kind}")
    if not has_folder:
        raise FileNotFoundError(f"`path` (='{path}') must be in a folder that exists")


@contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """Opens a file for writing that replaces `path` once all of it is on the disk, or never.

    Raises:
        OSError: If it cannot be written, or the path is a folder, a device, a pipe or a socket.
    """
    path = path.resolve()  # a link stays a link
    if path.exists() and not path.is_file():  # a device would be gone for all programs
        raise FileExistsError(f"'{path}' must be a file; it is a folder or a device")
    temporary = path.with_name(f"{path.name}.{os.getpid()}-{get_ident()}.part")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:  # a full disk
            error.filename = str(path)
        raise
    if os.name == "posix":  # write the new name to the disk as well
        with suppress(OSError):  # some network drives cannot
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
