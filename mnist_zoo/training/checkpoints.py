"""Checkpoints of a training run."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from .._files import written_whole
from .run import TrainingRun

__all__ = ["CheckpointError", "TrainingError"]


class TrainingError(RuntimeError):
    """Training cannot go on; the message says why, and which checkpoint is kept."""


class CheckpointError(TrainingError):
    """A checkpoint cannot be used; the message names the file and the reason."""


FORMAT = "mnist_zoo checkpoint 1"


class Checkpoints:
    """The last two checkpoints of a run, in a folder; making it resumes the run."""

    def __init__(self, folder: Path, run: TrainingRun) -> None:
        self.folder, self.run = folder, run
        folder.mkdir(parents=True, exist_ok=True)
        self._resume()
        step = torch.tensor([run.history.step, -run.history.step])
        highest, lowest = run.team.sum(step, highest=True).tolist()
        if highest != -lowest:
            raise CheckpointError(
                f"{folder}: the processes found different checkpoints, of steps {-lowest} to "
                f"{highest}; it must be one folder that all of them share"
            )

    def files(self) -> list[Path]:
        """The checkpoints there are, oldest first."""
        return sorted(self.folder.glob("checkpoint-*.pt"))

    def kept(self) -> str:
        """Tells which one is the last, for a message."""
        files = self.files()
        return f"the last checkpoint is {files[-1]}" if files else "there is no checkpoint yet"

    def save(self) -> None:
        """Writes one, so that at no moment there is none, or half a one.

        Raises:
            TrainingError: If it cannot be written.
        """
        if self.run.team.rank != 0:
            return
        path = self.folder / f"checkpoint-{self.run.history.step:09d}.pt"
        try:
            with written_whole(path) as file:
                torch.save({"format": FORMAT, **self.run.state()}, file)
        except (OSError, RuntimeError) as error:  # torch hides the system's error behind its own
            reason = error.__context__ or error
            raise TrainingError(f"{path}: cannot be written: {reason}; {self.kept()}") from error
        for old in [*self.folder.glob("*.part"), *[f for f in self.files() if f <= path][:-2]]:
            old.unlink(missing_ok=True)

    def _resume(self) -> None:
        refused = []
        for path in reversed(self.files()):
            try:
                self.run.load_state(_read_checkpoint(path))
                break
            except CheckpointError as error:
                refused.append(str(error))
            except Exception as error:  # of many types: whatever foreign content leads to
                refused.append(f"{path}: {error or type(error).__name__}")
        else:
            if refused:
                told = "\n  ".join(refused)
                raise CheckpointError(f"no checkpoint of this run in {self.folder}:\n  {told}")
        if refused and self.run.team.rank == 0:
            told = "; ".join(refused)
            warnings.warn(f"{told}; training goes on from {path}", stacklevel=4)


def _read_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a checkpoint without running any code of it.

    Raises:
        CheckpointError: If it is damaged, or something else.
    """
    try:
        with zipfile.ZipFile(path) as archive:  # torch.load does not look at the checksums
            damaged = archive.testzip()
        if damaged:
            raise CheckpointError(f"{path}: damaged at {damaged}")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except Exception as error:  # of many types, zipfile's and pickle's among them
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"{path}: half-written, or no checkpoint: {reason}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a training checkpoint of this library")
    return state
