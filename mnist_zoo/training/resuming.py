"""Whether a checkpoint is of this run, and whether what it holds can be used."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ConstantLR, LRScheduler

from .._networks import OWN_STATE, state_of, tensors_of, unsaved_buffers
from ..models.base import Classifier
from ..weights.files import is_finite
from .history import History, ValidationPoint
from .recipe import Recipe

CURVES = ("loss", "accuracy", "lr")
POINT = ("step", "epoch", "loss", "accuracy")
# Of each optimiser, by parameter: what it keeps of the parameter's shape.
MEMORY = {"sgd": {"momentum_buffer"}, "adam": {"exp_avg", "exp_avg_sq"}}
# By network, the weights that the last run in this process left in it, and those it had begun with.
LEFT: WeakKeyDictionary[nn.Module, tuple[str, str]] = WeakKeyDictionary()


def described(network: nn.Module) -> dict[str, str]:
    """What a network is: texts by which a checkpoint recognises it."""
    frozen = [name for name, p in network.named_parameters() if not p.requires_grad]
    # of other networks these attributes may mean anything, and print other addresses each time
    ours = network if isinstance(network, Classifier) else None
    return {
        "class": type(network).__qualname__,
        "layers": re.sub(r" at 0x[0-9a-f]+", "", str(network)),
        "factory": str(getattr(ours, "factory", None)),
        "options": json.dumps(getattr(ours, "options", None), sort_keys=True, default=repr),
        "frozen": ", ".join(frozen) or "nothing",
    }


def digest_of(network: nn.Module) -> str:
    """A digest of all tensors of a network."""
    found = hashlib.blake2b(digest_size=16)
    for name, tensor in state_of(network).items():
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        numbers = tensor.detach().cpu().contiguous().reshape(-1)
        found.update(numbers.view(torch.uint8).numpy().data)
    return found.hexdigest()


def starts_of(network: nn.Module) -> tuple[str, ...]:
    """Digests of the weights with which a run of this network may have begun.

    They are the weights that it has now; and if those are what a run of this process left, then
    also the ones with which that run began.
    """
    now = digest_of(network)
    left, began = LEFT.get(network, ("", ""))
    return (now, began) if left == now else (now,)


def check_recipe(theirs: Mapping[str, Any], ours: Recipe, *, step: int, total_steps: int) -> None:
    """Checks that a run is by this recipe, or by one with another number of constant epochs.

    Raises:
        ValueError: If it is not.
    """
    plain = ours.to_dict()
    defaults = Recipe(lr=1.0, epochs=1).to_dict()  # an older version had fewer fields
    theirs = {**defaults, **theirs, "reference": plain["reference"]}
    if unknown := theirs.keys() - plain.keys():
        raise ValueError(f"its recipe has unknown fields: {', '.join(map(repr, unknown))}")
    other = [k for k in plain if theirs[k] != plain[k]]
    if other == ["epochs"]:
        if ours.schedule == "constant" and step <= total_steps:
            return
        reason = f"it was trained for {theirs['epochs']} epochs, not {ours.epochs}"
        if ours.schedule != "constant":
            reason += (
                f", and with schedule={ours.schedule!r} each learning rate depends on that; train "
                "anew in another folder, or use schedule='constant', with which a run can go on"
            )
        raise ValueError(reason)
    if other:
        values = [f"{k} is {theirs[k]!r:.200}, not {plain[k]!r:.200}" for k in other]
        raise ValueError(f"it belongs to another recipe: {', '.join(values)}")


def check_network(theirs: Mapping[str, str], ours: Mapping[str, str]) -> None:
    """Checks that a run is of this network.

    Raises:
        ValueError: If it is not; the message names what differs.
    """
    for key, own in ours.items():
        if (found := str(theirs.get(key))) == own:
            continue
        if key == "layers":
            found, own = _first_difference(found, own)
        raise ValueError(
            f"it belongs to another network: {key} {_is_or_are(key)} {found:.200}, not {own:.200}"
        )


def check_start(theirs: object, ours: Sequence[object]) -> None:
    """Checks that a run began with the same weights.

    Raises:
        ValueError: If it did not.
    """
    if theirs not in ours:
        raise ValueError(
            "it belongs to a network with other initial weights; to resume it, build the network "
            "with the same ones (fit(recipe) does, or call torch.manual_seed before building it); "
            "to train this one, use another folder"
        )


def check_tensors(found: object, network: nn.Module, name: str) -> None:
    """Checks that a state dict fits the network's own, and is finite where that is.

    Buffers that the state dict leaves out may have any shape, or be missing; a state of a module's
    own may be anything.

    Raises:
        ValueError: If names, shapes or types differ, or a number is infinite or none.
    """
    own, unsaved = network.state_dict(), unsaved_buffers(network)
    wrong = ValueError(f"its tensors of {name} are those of another network")
    if not isinstance(found, Mapping):
        raise wrong
    saved = {key: value for key, value in found.items() if key not in unsaved}
    buffers = [value for key, value in found.items() if key in unsaved]
    if _kinds(saved) != _kinds(own) or not all(isinstance(buffer, Tensor) for buffer in buffers):
        raise wrong
    finite = {k for k, v in {**own, **dict(tensors_of(network))}.items() if _is_finite_tensor(v)}
    if any(isinstance(found[k], Tensor) and not is_finite(found[k]) for k in finite & found.keys()):
        raise ValueError(f"its tensors of {name} are not finite")


def check_schedule(found: Any, schedule: LRScheduler, *, step: int) -> None:
    """Checks the state of a schedule of the learning rate.

    Raises:
        ValueError: If it is another schedule, or that of another step.
    """
    own = schedule.state_dict()
    fixed = own.keys() - {"last_epoch", "_step_count", "_last_lr"}
    same = found.keys() == own.keys() and all(
        found[key] == own[key] for key in fixed if "_is_" not in key and "_called_" not in key
    )
    if not same or found["last_epoch"] != step or found["_step_count"] != step + 1:
        raise ValueError("its schedule is that of another recipe or step")


def check_rates(found: Mapping[str, Any], schedule: Mapping[str, Any], ours: LRScheduler) -> None:
    """Checks that the learning rates of an optimiser are those of its schedule.

    Raises:
        ValueError: If they are others, or no rates of this recipe.
    """
    rates = [group["lr"] for group in found["param_groups"]]
    highest = [group.get("max_lr", group["initial_lr"]) for group in ours.optimizer.param_groups]
    if rates != schedule["_last_lr"] or not all(
        isinstance(rate, float) and 0 <= rate <= most * (1 + 1e-9)
        for rate, most in zip(rates, highest, strict=True)
    ):
        raise ValueError("its learning rates are not those of its schedule")
    if isinstance(ours, ConstantLR) and rates != highest:
        raise ValueError("its learning rates are those of another recipe")


def check_optimizer(found: Any, optimizer: torch.optim.Optimizer) -> None:
    """Checks the state of an optimiser, which torch's fused kernels would take for right.

    Raises:
        ValueError: If it is of other parameters or settings.
    """
    wrong = ValueError("its optimiser is that of another network or recipe")
    own = optimizer.state_dict()
    settings = [_without_rates(group) for group in found["param_groups"]]
    if settings != [_without_rates(group) for group in own["param_groups"]]:
        raise wrong
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    is_sgd = isinstance(optimizer, torch.optim.SGD)
    memory = MEMORY["sgd" if is_sgd else "adam"]
    for index, entry in found["state"].items():
        if index not in range(len(parameters)) or entry.keys() - {"step"} != memory:
            raise wrong
        parameter = parameters[index]
        for name, value in entry.items():
            if name == "step":
                fits = value.shape == () and value.dtype == torch.float32
            elif value is None:  # SGD's, without momentum
                fits = True
            else:
                fits = value.shape == parameter.shape and value.dtype == parameter.dtype
                fits = fits and _strides(value) == _strides(parameter)
            if not fits:
                raise wrong


def packed(history: History) -> dict[str, Any]:
    """A history as a checkpoint holds it: the curves as tensors, of whatever length."""
    points = [[float(getattr(point, key)) for key in POINT] for point in history.evaluations]
    shape = (len(points), len(POINT))
    curves = {key: _doubles(getattr(history, key)) for key in CURVES}
    return {
        **curves,
        "evaluations": _doubles([x for row in points for x in row]).view(shape),
        "seconds": history.seconds,
        "stopped": history.stopped,
    }


def unpack(values: Mapping[str, Any], history: History, total_steps: int) -> None:
    """Puts what `packed` returned into a history.

    Raises:
        ValueError: If it is not the history of a run of at most so many steps.
    """
    curves, points = [values[key] for key in CURVES], values["evaluations"]
    steps = curves[0].numel()
    if any(c.shape != (steps,) or c.dtype != torch.float64 for c in curves):
        raise ValueError("the curves of its history differ in length")
    if points.dtype != torch.float64:
        raise ValueError("its history has points of another type")
    if steps > total_steps or points.shape[1:] != (len(POINT),) or len(points) > steps:
        raise ValueError("its history is longer than the run")
    for key, curve in zip(CURVES, curves, strict=True):
        setattr(history, key, curve.tolist())
    history.evaluations = [
        ValidationPoint(int(step), *rest) for step, *rest in points.double().tolist()
    ]
    history.seconds, history.stopped = float(values["seconds"]), values["stopped"]
    if not 0 <= history.seconds < math.inf or not isinstance(history.stopped, str):
        raise ValueError("its history is none of a run")


def _is_finite_tensor(value: object) -> bool:
    return isinstance(value, Tensor) and is_finite(value)


def _kinds(state: Mapping[str, Any]) -> dict[str, Any]:
    """What each entry is; a state of a module's own may become anything while it trains."""
    return {
        name: None
        if name.rpartition(".")[2] == OWN_STATE
        else (value.shape, value.dtype)
        if isinstance(value, Tensor)
        else type(value)
        for name, value in state.items()
    }


def _without_rates(group: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a group of parameters that do not change from step to step."""
    return {k: v for k, v in group.items() if k not in ("lr", "max_lr", "min_lr", "initial_lr")}


def _strides(tensor: Tensor) -> list[int]:
    """The order of the numbers in memory; the stride of an axis of length 1 says nothing."""
    pairs = zip(tensor.stride(), tensor.shape, strict=True)
    return [stride for stride, count in pairs if count > 1]


def _doubles(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, device="cpu")


def _first_difference(one: str, other: str) -> tuple[str, str]:
    """The first line in which two texts differ."""
    lines, others = [*one.splitlines(), ""], [*other.splitlines(), ""]
    pairs = zip(lines, others, strict=False)
    return next(((a.strip(), b.strip()) for a, b in pairs if a != b), ("longer", "shorter"))


def _is_or_are(key: str) -> str:
    return "are" if key in ("options", "layers") else "is"
