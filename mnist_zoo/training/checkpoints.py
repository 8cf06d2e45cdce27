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

FORMAT = "mnist_zoo checkpoint 1"


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
          checkpoint-000000004.pt: incomplete, or not a checkpoint: File is not a zip file
    """


class Checkpoints:
    """The last two checkpoints of a run, in a folder; creating this object resumes the run."""

    def __init__(self, folder: Path, run: TrainingRun) -> None:
        self.folder, self.run = folder, run
        folder.mkdir(parents=True, exist_ok=True)
        self._resume()
        step = run.history.step
        highest, minus_lowest = run.group.max(torch.tensor([step, -step])).tolist()
        if highest != -minus_lowest:
            raise CheckpointError(
                f"{folder}: the processes found different checkpoints, of steps {-minus_lowest} "
                f"to {highest}; they must all use one shared folder"
            )

    def _resume(self) -> None:
        """Loads the newest checkpoint that can be used."""
        refused = []
        for path in reversed(self.files()):
            try:
                self.run.load_state(_read_checkpoint(path))
                break
            except CheckpointError as error:
                refused.append(str(error))
            except Exception as error:  # the content may be anything, and so may the error's type
                refused.append(f"{path}: {error or type(error).__name__}")
        else:
            if refused:
                reasons = "\n  ".join(refused)
                raise CheckpointError(f"no checkpoint of this run in {self.folder}:\n  {reasons}")
        if refused and self.run.group.rank == 0:
            reasons = "; ".join(refused)
            warnings.warn(f"{reasons}; training resumes from {path}", stacklevel=4)

    def files(self) -> list[Path]:
        """The checkpoints in the folder, oldest first."""
        return sorted(self.folder.glob("checkpoint-*.pt"))

    def kept(self) -> str:
        """Says in a message which checkpoint is the last."""
        files = self.files()
        return f"the last checkpoint is {files[-1]}" if files else "there is no checkpoint yet"

    def save(self) -> None:
        """Writes a checkpoint and deletes the third last; a complete one exists at any moment.

        Raises:
            TrainingError: If it cannot be written.
        """
        if self.run.group.rank != 0:
            return
        path = self.folder / f"checkpoint-{self.run.history.step:09d}.pt"
        try:
            with written_whole(path) as file:
                torch.save({"format": FORMAT, **self.run.state()}, file)
        except (OSError, RuntimeError) as error:  # torch raises its own error over the system's
            reason = error.__context__ or error
            raise TrainingError(f"{path}: cannot be written: {reason}; {self.kept()}") from error
        for old in [*self.folder.glob("*.part"), *[f for f in self.files() if f <= path][:-2]]:
            old.unlink(missing_ok=True)


def _read_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a checkpoint without running any code in it.

    Raises:
        CheckpointError: If it is damaged, or not a checkpoint.
    """
    try:
        with zipfile.ZipFile(path) as archive:  # torch.load does not verify the checksums
            damaged = archive.testzip()
        if damaged:
            raise CheckpointError(f"{path}: damaged at {damaged}")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except Exception as error:  # zipfile and pickle raise many types
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"{path}: incomplete, or not a checkpoint: {reason}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a training checkpoint of mnist_zoo")
    return state
