"""Networks by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from .._checks import check_range
from .._names import Names, did_you_mean
from ..blocks.layers import no_data
from ..weights.manifest import manifest
from . import densenet, digitnet, lenet, mini, preact, resnet
from .base import Classifier

if TYPE_CHECKING:
    from .names import NetworkName

__all__ = ["get_model", "list_models"]

MODELS: dict[str, Callable[..., Classifier]] = {
    factory.__name__: factory
    for factory in (
        lenet.lenet5,
        lenet.lenet5_conv_residual,
        lenet.lenet5_fc_residual,
        digitnet.digitnet_1k,
        digitnet.digitnet_2k,
        digitnet.digitnet_6k,
        digitnet.digitnet_20k,
        digitnet.digitnet_50k,
        digitnet.digitnet_150k,
        digitnet.digitnet_400k,
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
    """The names of the networks, in the order of the documentation.

    Args:
        pattern: Shell wildcards that a name must match, such as ``"resnet*"``; None for all.
        pretrained: Whether to list only networks with pretrained weights for MNIST.
        max_params: Largest number of parameters; None for no limit.
        min_accuracy: Smallest mean test accuracy of the pretrained weights, from 0 to 1. Networks
            without pretrained weights are then left out.

    Returns:
        The names, which `get_model` takes; an empty list if no network matches. Printed, they are
        a table with a line about each network.

    Raises:
        ValueError: If `min_accuracy` is not between 0 and 1, or `max_params` is no number.

    Example:
        >>> from mnist_zoo import list_models
        >>> list_models("resnet[35]*")
        ['resnet34', 'resnet50', 'resnet50_separable']
        >>> list_models("mini*", max_params=40_000)
        ['mini_convnet']
    """
    if min_accuracy is not None:
        check_range(at_least=0, at_most=1, min_accuracy=min_accuracy)
    names = [name for name in MODELS if pattern is None or fnmatchcase(name, pattern)]
    if pretrained or min_accuracy is not None:
        accuracies = {record.network: record.accuracy_mean for record in manifest().values()}
        names = [name for name in names if accuracies.get(name, -1) >= (min_accuracy or 0)]
    if max_params is not None:
        check_range(max_params=max_params, finite=False)
        names = [name for name in names if _params(name) <= max_params]
    return Names({name: _about(name) for name in names})


def _about(name: str) -> str:
    """What the first line of a factory's documentation says."""
    return (MODELS[name].__doc__ or "").partition("\n")[0].partition(" Options: ")[0]


def _params(name: str) -> int:
    return sum(parameter.numel() for parameter in outline(name, {}).parameters())


def outline(name: str, options: Mapping[str, Any]) -> Classifier:
    """The network on device "meta": its tensors hold no data."""
    with no_data():
        return MODELS[name](weights=None, **options)


def get_model(name: NetworkName | str, **options: Any) -> Classifier:
    """Builds a network by its name.

    Args:
        name: One of the names that `list_models` gives.
        **options: Options of the factory of that name.

    Raises:
        ValueError: If there is no such network (the message suggests similar names), an option is
            out of range, or there are no such weights.
        TypeError: If the factory has no such option.
        ConversionError: If `weights` do not fit the network.
        WeightsError: If the file of the weights is damaged.
        FileNotFoundError: If the file does not exist or cannot be downloaded.

    Example:
        >>> from mnist_zoo import get_model
        >>> get_model("mini_resnet", num_classes=26).num_classes
        26
    """
    if name not in MODELS:
        hint = did_you_mean(name, MODELS) or "see list_models()"
        raise ValueError(f"`name` (={name!r}) must be the name of a network; {hint}")
    return MODELS[name](**options)
