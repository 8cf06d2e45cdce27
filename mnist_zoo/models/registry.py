"""Networks by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import torch

from .._checks import did_you_mean
from ..blocks.layers import no_random_init
from ..models import densenet, lenet, mini, preact, resnet
from ..weights.manifest import manifest
from .base import Classifier

__all__ = ["get_model", "list_models"]

MODELS: dict[str, Callable[..., Classifier]] = {
    factory.__name__: factory
    for factory in (
        lenet.lenet5,
        lenet.lenet5_conv_residual,
        lenet.lenet5_fc_residual,
        mini.mini_convnet,
        densenet.mini_densenet,
        mini.mini_googlenet,
        mini.mini_resnet,
        resnet.plain18,
        resnet.plain34,
        resnet.resnet18,
        resnet.resnet34,
        resnet.resnet50,
        resnet.resnet50_separable,
        resnet.resnet101,
        resnet.resnet152,
        resnet.resnet_cnn,
        resnet.resnet_cnn_norm,
        preact.preact_resnet18,
        preact.preact_resnet34,
        preact.preact_resnet50,
        preact.preact_resnet20,
        preact.preact_resnet110,
        preact.preact_resnet164,
        densenet.densenet121,
        densenet.densenet161,
        densenet.densenet169,
        densenet.densenet201,
        densenet.densenet40_12,
        densenet.densenet_bc100_12,
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
    return sum(parameter.numel() for parameter in outline(name, {}).parameters())


def outline(name: str, options: Mapping[str, Any]) -> Classifier:
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
