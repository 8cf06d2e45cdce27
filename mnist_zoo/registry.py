"""Networks by name."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

from . import models
from .blocks import did_you_mean
from .models import Classifier

__all__ = ["get_model", "list_models"]

MODELS: dict[str, Callable[..., Classifier]] = {
    factory.__name__: factory
    for factory in (
        models.lenet5,
        models.lenet5_conv_residual,
        models.lenet5_fc_residual,
        models.mini_convnet,
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
    )
}


def list_models(pattern: str | None = None) -> list[str]:
    """The names of the networks, in the order in which the zoo presents them.

    Args:
        pattern: Shell wildcards that a name must match, such as ``"resnet*"``; None for all.

    Returns:
        The names, which `get_model` takes; empty where none matches.
    """
    return [name for name in MODELS if pattern is None or fnmatchcase(name, pattern)]


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
