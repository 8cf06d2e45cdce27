"""Progress on the screen and in TensorBoard."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .run import NotFiniteError, TrainingRun


class Progress:
    """Losses on their way from the device into the history, and onto the screen."""

    def __init__(self, run: TrainingRun, progress: bool, tensorboard: str | Path | None) -> None:
        self.run, self.pending = run, list[tuple[Tensor, Tensor, float]]()
        self.bar = self.writer = None
        first = run.team.rank == 0
        if progress and first:
            from tqdm.auto import tqdm

            pictures = len(run.train)
            self.bar = tqdm(
                total=run.recipe.epochs * pictures,
                initial=run.history.step * pictures // run.history.steps_per_epoch,
                unit=" images",
                unit_scale=True,
                dynamic_ncols=True,
            )
        if tensorboard is not None and first:
            self.writer = _summary_writer(tensorboard, run.history.step + 1)
        self.since = time.perf_counter()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.tick()
        for sink in (self.bar, self.writer):
            if sink is not None:
                sink.close()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Does not count what happens inside as training time."""
        self.tick()
        try:
            yield
        finally:
            self.since = time.perf_counter()

    def tick(self) -> None:
        """Adds the time since the last look to the history's."""
        now = time.perf_counter()
        self.run.history.seconds += now - self.since
        self.since = now

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor, weights: Tensor, lr: float) -> None:
        """Notes a step, without waiting for the device."""
        correct = (logits.detach().argmax(1) == labels).to(weights.dtype) @ weights
        self.pending.append((loss.detach(), correct, lr))

    def flush(self) -> None:
        """Moves what was noted into the history.

        Raises:
            NotFiniteError: If a loss is not.
        """
        run, history = self.run, self.run.history
        if not self.pending:
            return
        values = torch.stack([torch.stack(entry[:2]) for entry in self.pending])
        rows = run.team.sum(values).div_(run.team.size).tolist()
        for (loss, accuracy), (_, _, lr) in zip(rows, self.pending, strict=True):
            if not math.isfinite(loss):
                raise NotFiniteError(f"the loss of step {history.step + 1} is {loss}")
            history.loss.append(loss)
            history.accuracy.append(accuracy)
            history.lr.append(lr)
            if self.writer:
                for name, value in (("loss", loss), ("accuracy", accuracy)):
                    self.writer.add_scalar(f"train/{name}", value, history.step)
                self.writer.add_scalar("lr", lr, history.step)
        if self.bar is not None:
            epoch = math.ceil(history.step / history.steps_per_epoch)
            self.bar.set_description(f"epoch {epoch}/{run.recipe.epochs}", refresh=False)
            self.bar.set_postfix_str(f"loss {loss:.4f}, accuracy {accuracy:.1%}", refresh=False)
            pictures = history.step * len(run.train) // history.steps_per_epoch
            self.bar.update(pictures - self.bar.n)
        self.pending.clear()
        self.tick()

    def evaluated(self, epoch_ends: bool) -> None:
        """Shows an evaluation."""
        history = self.run.history
        latest = history.evaluations[-1] if history.evaluations else None
        if self.writer and latest:
            self.writer.add_scalar("validation/loss", latest.loss, latest.step)
            self.writer.add_scalar("validation/accuracy", latest.accuracy, latest.step)
        if self.bar is not None and epoch_ends:
            record = history.epochs[-1]
            line = f"epoch {record.epoch}: loss {record.train_loss:.4f}, "
            line += f"accuracy {record.train_accuracy:.2%}"
            if latest:
                line += f"; validation loss {latest.loss:.4f}, accuracy {latest.accuracy:.2%}"
            self.bar.write(f"{line}; {history.seconds:.1f} s")


def _summary_writer(folder: str | Path, first_step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError as error:
        message = "`tensorboard` needs the package tensorboard: pip install tensorboard"
        raise ModuleNotFoundError(message, name="tensorboard") from error
    return SummaryWriter(str(folder), purge_step=first_step)
