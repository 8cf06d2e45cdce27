"""Checkpoints of a training run."""

from __future__ import annotations

import os
import re
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from .._files import written_whole
from .._names import printable
from ..weights.archives import Archive
from .locking import FolderInUseError, in_use
from .restoring import MORE, longest_pickle
from .resuming import LEFT, check_network, check_start, described, digest_of, starts_of
from .run import TrainingRun

__all__ = ["CheckpointError", "TrainingError"]

FORMAT, OLD_FORMAT = "mnist_zoo checkpoint 2", "mnist_zoo checkpoint 1"
NAMED = re.compile(r"checkpoint-\d{9,}\.pt")
UNFINISHED = re.compile(r"checkpoint-\d{9,}\.pt\.\d+-\d+\.part")  # names of written_whole


class TrainingError(RuntimeError):
    """Training cannot continue; the message says why, and which checkpoint is kept.

    Example:
        >>> import torch
        >>> from mnist_zoo import Digits, Recipe, TrainingError, fit
        >>> digits = Digits(torch.randint(256, (60, 1, 28, 28)).byte(), torch.arange(60) % 10)
        >>> recipe = Recipe(network="lenet5", lr=1e20, batch_size=20, epochs=1)
        >>> try:
        ...     fit(recipe, digits, progress=False)
        ... except TrainingError as error:
        ...     print(error)
        the loss of step ... is ...; no checkpoint is kept, because `folder` is None
    """


class CheckpointError(TrainingError):
    """A checkpoint cannot be used; the message names the file and the reason.

    Example:
        >>> import torch
        >>> from pathlib import Path
        >>> from mnist_zoo import CheckpointError, Digits, fit
        >>> digits = Digits(torch.randint(256, (60, 1, 28, 28)).byte(), torch.arange(60) % 10)
        >>> _ = Path("checkpoint-000000004.pt").write_text("not a checkpoint")
        >>> try:
        ...     fit("lenet5_report", digits, folder=".", progress=False)
        ... except CheckpointError as error:
        ...     print(error)
        no checkpoint of this run in .:
          checkpoint-000000004.pt: incomplete, or not a checkpoint: it is no file of torch.save
    """


class Checkpoints:
    """The last two checkpoints of a run, in a folder; entering this object resumes the run."""

    def __init__(self, folder: Path, run: TrainingRun) -> None:
        self.folder, self.run = folder, run
        self.network = described(run.model)
        self.starts = starts_of(run.model)  # digests of the weights with which it may have begun
        self.own: list[str] = []  # names of this run's checkpoints, oldest first
        self.held = ExitStack()

    def __enter__(self) -> Checkpoints:
        with ExitStack() as stack:
            if self.run.group.rank == 0:
                self._hold(stack)
            self._resume()
            step = self.run.history.step
            limits = torch.tensor([step, -step], device="cpu")
            highest, minus_lowest = self.run.group.max(limits).tolist()
            if highest != -minus_lowest:
                raise CheckpointError(
                    f"{self.folder}: the processes found different checkpoints, of steps "
                    f"{-minus_lowest} to {highest}; they must all use one shared folder"
                )
            self.held = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        LEFT[self.run.model] = (digest_of(self.run.model), self.starts[-1])
        self.held.close()

    def _hold(self, stack: ExitStack) -> None:
        """Takes the folder, and deletes what a killed run had not written to its end."""
        try:
            stack.enter_context(in_use(self.folder))
            for path in self.folder.iterdir():
                if UNFINISHED.fullmatch(path.name) and path.is_file():
                    path.unlink(missing_ok=True)
        except FolderInUseError as error:
            raise CheckpointError(
                f"{self.folder}: another run uses this folder ({error}); wait for it, or use "
                "another folder"
            ) from error
        except (OSError, ValueError) as error:  # ValueError for an impossible name
            raise TrainingError(
                f"`folder` (='{self.folder}') cannot be written: {error}"
            ) from error

    def _resume(self) -> None:
        """Loads the newest checkpoint that can be used."""
        refused = []
        for path in reversed(self.files()):
            try:
                state = _read_checkpoint(path, MORE * longest_pickle(self.run.state()))
                self.run.check_same_run(state)
                check_network(state["network"], self.network)
                check_start(state["start"], self.starts)
                self.run.load_state(state)
                self.starts = (state["start"],)
                self.own = [name for name in state["files"] if NAMED.fullmatch(name)] + [path.name]
                break
            except CheckpointError as error:
                refused.append(str(error))
            except Exception as error:  # the content may be anything, and so may the error's type
                refused.append(f"{path}: {error or type(error).__name__}")
        else:
            self.starts = self.starts[:1]
            if refused:
                reasons = "\n  ".join(refused)
                raise CheckpointError(f"no checkpoint of this run in {self.folder}:\n  {reasons}")
        if refused and self.run.group.rank == 0:
            reasons = "; ".join(refused)
            warnings.warn(f"{reasons}; training resumes from {path}", stacklevel=4)

    def files(self) -> list[Path]:
        """The checkpoints in the folder, oldest first."""
        return sorted(p for p in self.folder.glob("*.pt") if NAMED.fullmatch(p.name))

    def kept(self) -> str:
        """Says in a message which checkpoint is the last."""
        files = self.files()
        return f"the last checkpoint is {files[-1]}" if files else "there is no checkpoint yet"

    def save(self) -> None:
        """Writes a checkpoint and deletes the third last; a complete one exists at any moment.

        Only files that this run wrote are deleted.

        Raises:
            TrainingError: If it cannot be written.
        """
        if self.run.group.rank != 0:
            return
        path = self.folder / f"checkpoint-{self.run.history.step:09d}.pt"
        own = [name for name in self.own if name != path.name]
        about = {"format": FORMAT, "network": self.network, "start": self.starts[0], "files": own}
        try:
            with written_whole(path) as file:
                torch.save({**about, **self.run.state()}, file)
        except (OSError, RuntimeError) as error:  # torch raises its own error over the system's
            reason = error.__context__ or error
            raise TrainingError(f"{path}: cannot be written: {reason}; {self.kept()}") from error
        self.own = [*own, path.name]
        for old in self.own[:-2]:
            (self.folder / old).unlink(missing_ok=True)
        self.own = self.own[-2:]


def _read_checkpoint(path: Path, longest_pickle: int) -> dict[str, Any]:
    """Reads a checkpoint without running any code in it.

    Each tensor is read once, into memory of its own, and only if the file holds all its numbers.

    Raises:
        CheckpointError: If it is damaged, or not a checkpoint.
    """
    try:
        if not path.is_file():
            raise OSError("it is not a file")
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            state = Archive(file, size, longest_pickle, exact=True).read_all()
    except Exception as error:  # foreign content leads to errors of many types
        reason = printable(str(error).partition("\n")[0] or type(error).__name__)
        raise CheckpointError(f"{path}: incomplete, or not a checkpoint: {reason:.300}") from error
    if isinstance(state, dict) and state.get("format") == OLD_FORMAT:
        raise CheckpointError(
            f"{path}: written by an older version, which did not note the network and its initial "
            "weights; finish the run with that version, or train anew in another folder"
        )
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a training checkpoint of mnist_zoo")
    return state
