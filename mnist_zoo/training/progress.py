"""Progress of a training run: on the screen, in TensorBoard and in the history."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .._files import expanded
from .checkpoints import TrainingError
from .run import NotFiniteError, TrainingRun


class Progress:
    """Collects the loss of each step, writes it to the history and shows it.

    `add` leaves a loss on the device, so that no step waits for it; `flush` reads all that were
    added since the last `flush`. Only the first process shows anything.
    """

    def __init__(self, run: TrainingRun, progress: bool, tensorboard: str | Path | None) -> None:
        self.run = run
        self.pending: list[tuple[Tensor, Tensor, float]] = []  # loss, accuracy, learning rate
        self.bar = self.writer = None
        first = run.group.rank == 0
        if tensorboard is not None and first:
            self.writer = _summary_writer(tensorboard, run.history.step + 1)
        if progress and first:
            self.bar = _progress_bar(run)
        self.since = time.perf_counter()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.count_time()
        for output in (self.bar, self.writer):
            if output is not None:
                output.close()

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor, weights: Tensor, lr: float) -> None:
        """Adds a step without waiting for the device."""
        accuracy = (logits.detach().argmax(1) == labels).to(weights.dtype) @ weights
        self.pending.append((loss.detach(), accuracy, lr))

    def flush(self) -> None:
        """Moves the added steps into the history, and shows the last one.

        Raises:
            NotFiniteError: If a loss is not finite.
        """
        run, history = self.run, self.run.history
        if not self.pending:
            return
        values = torch.stack([torch.stack(entry[:2]) for entry in self.pending])
        rows = run.group.sum(values).div_(run.group.size).tolist()
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
            self.bar.update(_images_seen(run) - self.bar.n)
        self.pending.clear()
        self.count_time()

    def show_evaluation(self, *, epoch_ends: bool) -> None:
        """Shows the evaluation that was just made, if any, and the epoch if it ends here."""
        history = self.run.history
        latest = history.evaluations[-1] if history.evaluations else None
        if self.writer and latest:
            for name, value in (("loss", latest.loss), ("accuracy", latest.accuracy)):
                self.writer.add_scalar(f"{history.evaluated}/{name}", value, latest.step)
        if self.bar is not None and epoch_ends:
            record = history.epochs[-1]
            line = f"epoch {record.epoch}: loss {record.train_loss:.4f}, "
            line += f"accuracy {record.train_accuracy:.2%}"
            if latest:
                line += f"; {history.evaluated} loss {latest.loss:.4f}, "
                line += f"accuracy {latest.accuracy:.2%}"
            self.bar.write(f"{line}; {history.seconds:.1f} s")

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Does not count the time spent inside as training time."""
        self.count_time()
        try:
            yield
        finally:
            self.since = time.perf_counter()

    def count_time(self) -> None:
        """Adds the time since the last count to the history."""
        now = time.perf_counter()
        self.run.history.seconds += now - self.since
        self.since = now


def _progress_bar(run: TrainingRun) -> Any:
    from tqdm.auto import tqdm

    return tqdm(
        total=run.recipe.epochs * len(run.train),
        initial=_images_seen(run),
        unit=" images",
        unit_scale=True,
        dynamic_ncols=True,
    )


def _images_seen(run: TrainingRun) -> int:
    return run.history.step * len(run.train) // run.history.steps_per_epoch


def _summary_writer(folder: str | Path, first_step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError as error:
        message = '`tensorboard` needs tensorboard: pip install "mnist-zoo[tensorboard]"'
        raise ModuleNotFoundError(message, name="tensorboard") from error
    path = expanded(folder, "tensorboard")
    try:
        return SummaryWriter(str(path), purge_step=first_step)
    except OSError as error:
        raise TrainingError(f"`tensorboard` (='{path}') cannot be written: {error}") from error
