"""The state of one training run."""

from __future__ import annotations

import copy
import hashlib
import zlib
from collections.abc import Callable
from contextlib import nullcontext
from functools import cached_property
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import lr_scheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..data.augmentation import resample, sampling_grid
from ..data.digits import Digits
from ..evaluation import Metrics
from ..models.base import Classifier
from ..pictures.preprocessing import to_float
from .history import History, ValidationPoint
from .processes import Team, shared_logits
from .recipe import Recipe
from .small_maps import SmallMapsAsProducts

STOPPED_BY_HOOK = "the hook asked for it"


class NotFiniteError(ArithmeticError):
    """A loss that is infinite or no number."""


def _random_seed(*parts: object) -> int:
    """32 bits that follow from the parts; torch's CPU generator takes no more."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=4).digest(), "big")


class TrainingRun:
    """Everything that a step reads and changes."""

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        train: Digits,
        validation: Digits | None,
        team: Team,
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
        logits = shared_logits(self.result, self.validation, recipe.preprocessing, 1000, self.team)
        metrics = Metrics.from_logits(logits, self.validation.labels)
        evaluation = ValidationPoint(
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
            NotFiniteError: If a weight is infinite or no number.
        """
        weights = [p for p in self.model.state_dict().values() if p.is_floating_point()]
        if not torch.stack([weight.isfinite().all() for weight in weights]).all():
            raise NotFiniteError(f"weights are not finite after step {self.history.step}")

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
