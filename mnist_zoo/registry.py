"""Networks by name, and from files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from . import models
from ._checks import did_you_mean
from ._networks import state_of, unwrapped
from .blocks import no_random_init
from .models.base import Classifier
from .weights import (
    WeightsError,
    is_finite,
    is_safetensors,
    manifest,
    read_safetensors,
    write_safetensors,
)

__all__ = ["get_model", "list_models", "load", "save_weights"]

FLOATS = (None, torch.float16, torch.bfloat16, torch.float32, torch.float64)

MODELS: dict[str, Callable[..., Classifier]] = {
    factory.__name__: factory
    for factory in (
        models.lenet5,
        models.lenet5_conv_residual,
        models.lenet5_fc_residual,
        models.mini_convnet,
        models.mini_densenet,
        models.mini_googlenet,
        models.mini_resnet,
        models.plain18,
        models.plain34,
        models.resnet18,
        models.resnet34,
        models.resnet50,
        models.resnet50_separable,
        models.resnet101,
        models.resnet152,
        models.resnet_cnn,
        models.resnet_cnn_norm,
        models.preact_resnet18,
        models.preact_resnet34,
        models.preact_resnet50,
        models.preact_resnet20,
        models.preact_resnet110,
        models.preact_resnet164,
        models.densenet121,
        models.densenet161,
        models.densenet169,
        models.densenet201,
        models.densenet40_12,
        models.densenet_bc100_12,
    )
}


def list_models(
    pattern: str | None = None,
    *,
    pretrained: bool = False,
    max_params: int | None = None,
    min_accuracy: float | None = None,
) -> list[str]:
    """The names of the networks, in the order in which the zoo presents them.

    Args:
        pattern: Shell wildcards that a name must match, such as ``"resnet*"``; None for all.
        pretrained: Whether to leave out those without weights that ship.
        max_params: Most parameters; None for any number.
        min_accuracy: Least mean test accuracy of the weights that ship, from 0 to 1; it leaves
            out networks that have none.

    Returns:
        The names, which `get_model` takes; empty where none matches.

    Raises:
        ValueError: If `min_accuracy` is not between 0 and 1.
    """
    if min_accuracy is not None and not 0 <= min_accuracy <= 1:
        raise ValueError(f"`min_accuracy` (={min_accuracy!r}) must be between 0 and 1")
    names = [name for name in MODELS if pattern is None or fnmatchcase(name, pattern)]
    if pretrained or min_accuracy is not None:
        shipped = {record.network: record.accuracy_mean for record in manifest().values()}
        names = [name for name in names if shipped.get(name, -1) >= (min_accuracy or 0)]
    if max_params is not None:
        names = [name for name in names if _params(name) <= max_params]
    return names


def _params(name: str) -> int:
    return sum(parameter.numel() for parameter in _outline(name, {}).parameters())


def _outline(name: str, options: Mapping[str, Any]) -> Classifier:
    """The network without data in its tensors."""
    with torch.device("meta"), no_random_init():
        return MODELS[name](weights=None, **options)


def get_model(name: str, **options: Any) -> Classifier:
    """Builds a network by its name: ``get_model("resnet18", num_classes=26)``.

    Args:
        name: One of `list_models`.
        **options: Those of the factory of that name.

    Raises:
        ValueError: If there is no such network; the message suggests the nearest names.
    """
    if name not in MODELS:
        hint = did_you_mean(name, MODELS) or "see list_models()"
        raise ValueError(f"`name` (={name!r}) must be the name of a network; {hint}")
    return MODELS[name](**options)


def save_weights(
    model: nn.Module, path: str | os.PathLike[str], *, dtype: torch.dtype | None = None
) -> None:
    """Writes a network of the zoo into one safetensors file, from which `load` makes it anew.

    The file holds the tensors, the factory's name and options, the preprocessing, and a checksum
    over all of it. It is written beside its place first, so that the path holds all or nothing.

    Args:
        model: A network made by a factory of the zoo; it may be wrapped by DataParallel,
            DistributedDataParallel or torch.compile.
        path: The file; its name must end in ``.safetensors``.
        dtype: Type in which floating-point numbers are stored, such as ``torch.float16`` for half
            the size; None for the network's own. `load` gives float32 back in any case.

    Raises:
        ValueError: If the network was not made by a factory, an option of it is no plain value,
            its tensors are not those that the factory gave it, or it holds NaN or infinity;
            nothing is written.
    """
    path = Path(path).expanduser()
    if dtype not in FLOATS:
        raise ValueError(f"`dtype` (={dtype!r}) must be one of {', '.join(map(str, FLOATS))}")
    if not is_safetensors(path):
        raise ValueError(f"`path` (='{path}') must end in .safetensors")
    model = unwrapped(model)
    if not isinstance(model, Classifier) or model.factory not in MODELS:
        raise ValueError(
            f"`model` ({type(model).__name__}) must be made by a factory of the zoo, with options "
            "that are plain numbers and strings"
        )
    options = {**model.options, "num_classes": model.num_classes}
    state = {
        name: value.to(dtype or value.dtype) if value.is_floating_point() else value
        for name, value in state_of(model).items()
    }
    outline = state_of(_outline(model.factory, options))
    if _shapes(state) != _shapes(outline):
        raise ValueError(f"`model` must have the tensors that {model.factory} gives it")
    for name, value in state.items():
        if value.is_meta or not is_finite(value):
            kind = f", as {dtype}" if dtype else ""
            raise ValueError(f"`model` must hold finite numbers{kind}; {name} does not")
    metadata = {"network": model.factory, "options": json.dumps(options)}
    if model.preprocessing is not None:
        metadata["preprocessing"] = json.dumps(asdict(model.preprocessing))
    write_safetensors(path, state, metadata)


def load(path: str | os.PathLike[str]) -> Classifier:
    """Makes the network that `save_weights` wrote, in eval mode. No code of the file runs.

    Args:
        path: The file.

    Raises:
        WeightsError: If the file is damaged, or was not written by `save_weights`.
        FileNotFoundError: If it does not exist.
    """
    path = Path(path).expanduser()
    tensors, made = read_safetensors(path)
    if made.network not in MODELS:
        named = f"{made.network!r:.80}"
        raise WeightsError(f"'{path}' must name a network of the zoo; it names {named}")
    try:
        outline = _outline(made.network, made.options)
    except Exception as error:  # of many types: whatever foreign options lead to
        reason = f"its options do not suit {made.network}: {error!s:.200}"
        raise WeightsError(f"'{path}' must be a file of save_weights; {reason}") from error
    if _shapes(tensors) != _shapes(state_of(outline)):  # before memory is asked for
        raise WeightsError(f"'{path}' must hold the tensors that its options give {made.network}")
    size = made.preprocessing.image_size if made.preprocessing else outline.image_size
    if size != outline.image_size and not outline.any_size:
        raise WeightsError(f"'{path}' must make pictures of its network's size; it makes {size}")
    return get_model(made.network, weights=path, **made.options).eval()


def _shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in state.items()}
