"""A folder that one run at a time uses."""

from __future__ import annotations

import errno
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

NAME = "mnist_zoo-run.lock"
TAKEN = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)


class FolderInUseError(OSError):
    """Another run holds the folder; the message says which."""


@contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """Holds a folder, whose lock file says by whom; deletes the file at the end.

    The lock is the operating system's, so a killed run does not hold it. Where the file system
    has no locks, nothing is held.

    Raises:
        FolderInUseError: If another run holds it.
        OSError: If the folder cannot be made or written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / NAME
    file = _locked(path)
    try:
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}".encode())
        file.flush()
        yield
    finally:
        if os.name == "nt":  # no open file can be deleted there
            file.close()
        path.unlink(missing_ok=True)
        file.close()


def _locked(path: Path) -> BinaryIO:
    """The file, open and locked."""
    while True:
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise FileExistsError(f"'{path}' must be a file")  # a link may lead to another's file
        file = path.open("a+b")
        try:
            _lock(file)
            # its last holder may have deleted it between these two calls
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
            file.close()
        except BaseException:
            file.close()
            raise


def _lock(file: BinaryIO) -> None:
    try:
        if os.name == "nt":
            import msvcrt

            file.seek(1 << 20)  # far behind what others may read
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in TAKEN:
            file.seek(0)
            holder = file.read(200).decode(errors="replace")
            raise FolderInUseError(holder or "another process") from error
    except ImportError:
        pass
