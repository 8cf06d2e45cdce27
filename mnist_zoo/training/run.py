"""The state of one training run."""

from __future__ import annotations

import copy
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import lr_scheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from .._checks import plain
from .._networks import float_type, state_of, unwrapped
from ..data.augmentation import augment
from ..data.corruption import corrupt
from ..data.digits import Digits
from ..data.form import preprocessing_for
from ..data.style import restyle
from ..evaluation import Metrics
from ..inspection.tracing import duplicate
from ..pictures.preprocessing import Preprocessing, to_float
from .checks import head_parameters, infinite_in, record, train_mode
from .distillation import Teacher
from .history import History, ValidationPoint
from .processes import ProcessGroup
from .randomness import random_seed, seeded
from .recipe import Recipe
from .restoring import copy_unaveraged, load_whole_state, whole_state
from .resuming import (
    check_optimizer,
    check_rates,
    check_recipe,
    check_schedule,
    check_tensors,
    packed,
    unpack,
)
from .small_maps import SmallMapsAsProducts

STOPPED_BY_HOOK = "the hook asked for it"
EVALUATION_BATCH = 100  # images; larger batches take new memory for each layer


class NotFiniteError(ArithmeticError):
    """A loss or a weight is infinite or not a number."""


class TrainingRun:
    """Everything that a training step reads and changes."""

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        train: Digits,
        validation: Digits | None,
        group: ProcessGroup,
        teacher: Teacher | None = None,
        *,
        small_maps: bool = True,
    ) -> None:
        self.recipe, self.group, self.teacher = recipe, group, teacher
        self.train, self.validation = train.to(group.device), validation
        full_batches, rest = divmod(len(train), recipe.batch_size)
        steps_per_epoch = full_batches + (rest > 1)
        self.total_steps = recipe.epochs * steps_per_epoch
        self.history = History(recipe, steps_per_epoch)
        self.history.model = model
        memory = torch.channels_last if recipe.channels_last else torch.preserve_format
        self.wrapper = model.to(group.device).to(memory_format=memory)
        self.model = unwrapped(model)
        train_mode(model)
        self.dtype = float_type(self.model)
        self.class_weights = _class_weights(recipe, self.train.labels, self.dtype)
        self.optimizer = _optimizer(self.model, recipe)
        self.schedule = _schedule(self.optimizer, recipe, self.total_steps)
        self.ema: AveragedModel | None = None
        if recipe.ema_decay is not None:
            average = get_ema_multi_avg_fn(recipe.ema_decay)
            # AveragedModel cannot copy weights that a hook computes
            own = duplicate(self.model, "target")
            self.ema = AveragedModel(own, group.device, multi_avg_fn=average, use_buffers=True)
        self.best_weights: dict[str, Any] | None = None
        self.infinite = infinite_in(self.model)
        self.augmentation_generator = torch.Generator(group.device)
        self.order: tuple[int, Tensor | None] = (-1, None)  # an epoch, and its order of images
        self.shares: dict[int, tuple[Tensor, Tensor]] = {}  # by the size of the batch
        self.forward = self._forward(small_maps)

    def _forward(self, small_maps: bool) -> Callable[[Tensor], Tensor]:
        """The network as the loop calls it."""
        forward = self.wrapper
        wrappers = [m for m in forward.modules() if unwrapped(m) is self.model]
        if self.group.size > 1 and not any(
            isinstance(m, DistributedDataParallel) for m in wrappers
        ):
            ids = [self.group.device] if self.group.device.type == "cuda" else None
            forward = DistributedDataParallel(forward, device_ids=ids)
        if not small_maps or any(map(_is_compiled, wrappers)):  # torch.compile chose its kernels
            return forward

        def with_products(images: Tensor) -> Tensor:
            with SmallMapsAsProducts():
                logits: Tensor = forward(images)
            return logits

        return with_products

    def autocast(self) -> Any:
        """The context that gives the forward pass the recipe's precision."""
        if self.recipe.precision == "float32":
            return nullcontext()
        # inside another autocast, as that of `fit`, its cache would keep the weights of old steps
        return torch.autocast(self.group.device.type, torch.bfloat16, cache_enabled=False)

    def batch(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """The images and labels of this process in a step, and the weight of each one's loss.

        DistributedDataParallel averages over the processes; with these weights that average is
        the mean over the whole batch. Augmentation is drawn for the whole batch, so it does not
        depend on the number of processes.
        """
        recipe = self.recipe
        rows = self._rows(step)
        share, weights = self._share(len(rows))
        labels = self.train.labels.index_select(0, rows)
        images = to_float(self.train.images.index_select(0, rows))  # images[rows] is much slower
        images = self._changed(images, labels, step)
        if len(share) < len(rows):
            images, labels = images[share], labels[share]
        images = recipe.preprocessing(images).to(self.dtype)
        if recipe.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        return images, labels, weights

    def _share(self, size: int) -> tuple[Tensor, Tensor]:
        """The places in a batch of this size that this process computes, and their weights."""
        if size not in self.shares:
            device = self.group.device
            share = torch.arange(size, device=device)[self.group.share]
            weight = self.group.size / size
            weights = torch.full((len(share),), weight, dtype=self.dtype, device=device)
            if not len(share):  # fewer images than processes: compute one of weight zero
                share, weights = F.pad(share, (0, 1)), F.pad(weights, (0, 1))
            self.shares[size] = share, weights
        return self.shares[size]

    def _changed(self, images: Tensor, labels: Tensor, step: int) -> Tensor:
        """The images of a whole batch after the recipe's random changes."""
        recipe, generator = self.recipe, self.augmentation_generator
        generator.manual_seed(random_seed(recipe.seed, "augmentation", step))
        images = restyle(images, labels, recipe.style, generator)
        if recipe.augmentation:
            images = augment(images, recipe.augmentation, generator)
        return corrupt(images, recipe.corruption, generator)

    def loss_weights(self, step: int, labels: Tensor, weights: Tensor) -> Tensor:
        """The weight of each image's loss: that of `batch` times that of its class.

        As in torch's cross-entropy, the weights of the classes have a mean of 1 over the batch.
        """
        if self.class_weights is None:
            return weights
        whole = self.class_weights[self.train.labels.index_select(0, self._rows(step))]
        return self.class_weights[labels] * weights / whole.mean()

    def seeded(self, step: int) -> AbstractContextManager[None]:
        """The context of a step's forward and backward pass, in which dropout draws its numbers."""
        seed = random_seed(self.recipe.seed, "step", step, self.group.rank)
        return seeded(seed, self.group.device)

    def _rows(self, step: int) -> Tensor:
        """The training images in the batch of a step, over all processes."""
        recipe = self.recipe
        epoch, position = divmod(step, self.history.steps_per_epoch)
        known, order = self.order
        if known != epoch or order is None:
            generator = torch.Generator("cpu").manual_seed(random_seed(recipe.seed, "order", epoch))
            order = torch.randperm(len(self.train), generator=generator, device="cpu")
            order = order.to(self.group.device)
            self.order = (epoch, order)
        return order[position * recipe.batch_size : (position + 1) * recipe.batch_size]

    @property
    def evaluated_model(self) -> nn.Module:
        """The network that is evaluated: the moving average, or else the network itself."""
        return self.model if self.ema is None else self.ema.module

    def evaluate(self) -> None:
        """Evaluates on the validation images, and remembers the best weights."""
        recipe, history, model = self.recipe, self.history, self.evaluated_model
        if self.validation is None:
            return
        self._share_buffers()
        logits = self.group.logits_of(
            model, self.validation, recipe.preprocessing, EVALUATION_BATCH
        )
        if not logits.isfinite().all():
            raise NotFiniteError(f"a logit of `validation` is not finite after step {history.step}")
        metrics = Metrics.from_logits(logits, self.validation.labels)
        point = ValidationPoint(
            step=history.step,
            epoch=history.step / history.steps_per_epoch,
            loss=metrics.loss,
            accuracy=metrics.accuracy,
        )
        history.evaluations.append(point)
        if recipe.select == "best" and history.best is point:
            self.best_weights = copy.deepcopy(whole_state(model))

    def stop_if(self, asked: object) -> None:
        """Stops every process if the first one is asked to, by True and by nothing else."""
        flag = self.group.sum(torch.tensor(int(plain(asked) is True), device="cpu"))
        if flag.item():
            self.history.stopped = STOPPED_BY_HOOK

    def average(self) -> None:
        """Adds the weights of a step to the moving average, if there is one."""
        if self.ema is None:
            return
        self.ema.update_parameters(self.model)
        copy_unaveraged(self.model, self.ema.module, self.infinite)

    def check_finite(self) -> None:
        """Checks the weights, which a step can spoil although its loss is finite.

        Raises:
            NotFiniteError: If a tensor holds infinity or NaN, unlike before the first step.
        """
        weights = [t for name, t in state_of(self.model).items() if name not in self.infinite]
        if not torch.stack([weight.isfinite().all() for weight in weights]).all():
            raise NotFiniteError(f"weights are not finite after step {self.history.step}")

    def finish(self) -> History:
        """Loads the selected weights into the network and puts it into eval mode."""
        self._share_buffers()
        selected = self.best_weights
        if selected is None and self.ema is not None:
            selected = whole_state(self.ema.module)
        if selected is not None:
            load_whole_state(self.model, selected)
        self.wrapper.eval()
        size = tuple(self.preprocessing(self.train.images[:1]).shape[1:])
        classes, preprocessing = self.train.classes, self.preprocessing
        record(self.model, preprocessing=preprocessing, input_size=size, classes=classes)
        self.optimizer.zero_grad()
        return self.history

    def _share_buffers(self) -> None:
        """Gives every process the BatchNorm statistics of the first."""
        self.group.broadcast([*self.model.buffers(), *self.evaluated_model.buffers()])

    def state(self) -> dict[str, Any]:
        """Everything that a checkpoint holds."""
        return {
            "recipe": self.recipe.to_dict(),
            "preprocessing": asdict(self.preprocessing),
            "classes": self.train.classes,
            "data": self.fingerprints,
            "teacher": self.teacher and self.teacher.digest,
            "model": whole_state(self.model),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "ema": None if self.ema is None else whole_state(self.ema),
            "best": self.best_weights,
            "history": packed(self.history),
        }

    def check_same_run(self, state: dict[str, Any]) -> None:
        """Checks that a checkpoint is by the same recipe, from the same data.

        Raises:
            ValueError: If it is not.
        """
        step = len(state["history"]["loss"])
        check_recipe(state["recipe"], self.recipe, step=step, total_steps=self.total_steps)
        if state["data"] != self.fingerprints:
            raise ValueError("it belongs to other training or validation images")
        if state.get("teacher") != (self.teacher and self.teacher.digest):
            raise ValueError("it belongs to another teacher")

    def load_state(self, state: dict[str, Any]) -> None:
        """Restores what `state` returned.

        Raises:
            ValueError: If it does not fit this run, which is then unchanged.
        """
        check_tensors(state["model"], self.model, "the network")
        if state["best"] is not None:
            if self.recipe.select != "best":
                raise ValueError("it has best weights, which this recipe does not keep")
            check_tensors(state["best"], self.model, "the best weights")
        check_optimizer(state["optimizer"], self.optimizer)
        self._check_untrained(state)
        history = replace(self.history, loss=[], accuracy=[], lr=[], evaluations=[])
        history.model = self.history.model
        unpack(state["history"], history, self.total_steps)
        check_schedule(state["schedule"], self.schedule, step=history.step)
        check_rates(state["optimizer"], state["schedule"], self.schedule)
        if (state["ema"] is None) != (self.ema is None):
            raise ValueError("it has a moving average, or this run has one; not both")
        if self.ema is not None:
            check_tensors(state["ema"], self.ema, "the moving average")
            load_whole_state(self.ema, state["ema"])
        load_whole_state(self.model, state["model"])
        self.infinite = infinite_in(self.model)
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.best_weights = state["best"]
        if history.stopped == STOPPED_BY_HOOK:
            history.stopped = ""  # the hook of this call may not stop
        self.history = history

    def _check_untrained(self, state: dict[str, Any]) -> None:
        """Checks that parameters of which the optimiser noted nothing are as they were.

        Raises:
            ValueError: If one was trained, so that its note is missing.
        """
        places = {p: at for at, p in enumerate(_parameters_of(self.optimizer))}
        noted = state["optimizer"]["state"]
        if not noted:
            return  # SGD without momentum notes nothing
        for name, parameter in self.model.named_parameters():
            is_missing = parameter in places and places[parameter] not in noted
            if is_missing and not torch.equal(state["model"][name], parameter):
                raise ValueError(f"its optimiser lacks what it noted of {name}")

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """The preprocessing to note on the network."""
        return preprocessing_for(self.train, self.recipe.preprocessing)

    @cached_property
    def fingerprints(self) -> list[int]:
        """Checksums of the training and validation images and labels; 0 for none."""
        return [0 if each is None else _checksum(each) for each in (self.train, self.validation)]


def _parameters_of(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [{"params": parameters, "lr": recipe.lr}]
    if recipe.head_lr is not None:
        head = head_parameters(model)
        rest = [p for p in parameters if all(p is not own for own in head)]
        groups = [{"params": rest, "lr": recipe.lr}, {"params": head, "lr": recipe.head_lr}]
    shared: dict[str, Any] = {"lr": recipe.lr, "weight_decay": recipe.weight_decay, "fused": True}
    if recipe.optimizer == "sgd":
        momentum, nesterov = recipe.momentum, recipe.nesterov
        return torch.optim.SGD(groups, momentum=momentum, nesterov=nesterov, **shared)
    kind = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
    return kind(groups, betas=recipe.betas, **shared)


def _class_weights(recipe: Recipe, labels: Tensor, dtype: torch.dtype) -> Tensor | None:
    if recipe.class_weights is None:
        return None
    if recipe.class_weights == "balanced":
        return 1 / labels.bincount().clamp(min=1).to(dtype)
    return torch.tensor(recipe.class_weights, dtype=dtype, device=labels.device)


def _schedule(
    optimizer: torch.optim.Optimizer, recipe: Recipe, total_steps: int
) -> lr_scheduler.LRScheduler:
    if recipe.schedule == "constant":
        return lr_scheduler.ConstantLR(optimizer, factor=1.0)
    if total_steps < 3:
        message = f"`schedule` (='onecycle') needs at least 3 steps; there are {total_steps}"
        raise ValueError(message)
    warmup = max(recipe.warmup, 2 / total_steps)  # torch divides by the steps of each phase
    highest = [float(group["lr"]) for group in optimizer.param_groups]
    return lr_scheduler.OneCycleLR(
        optimizer, highest, total_steps, pct_start=warmup, cycle_momentum=False
    )


def _is_compiled(module: nn.Module) -> bool:
    """Whether torch.compile made the module, or compiled it in place."""
    return hasattr(module, "_orig_mod") or module._compiled_call_impl is not None


def _checksum(digits: Digits) -> int:
    labels = zlib.crc32(digits.labels.cpu().numpy().tobytes())
    return zlib.crc32(digits.images.cpu().numpy().tobytes(), labels)
