"""How a factory builds a network."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any, Literal, TypeAlias, TypeVar

from torch import Tensor, nn

from .._checks import plain
from .._files import expanded
from .._names import check_known, did_you_mean, printable
from .._networks import stated_classes, unwrapped
from ..blocks.layers import no_random_init
from ..pictures.preprocessing import Preprocessing
from ..weights.conversion import Source, fill, most_bytes
from ..weights.files import FileInfo, WeightsFile, info_in, read_file, read_safetensors
from ..weights.manifest import Weights, manifest
from ..weights.report import ConversionError
from .base import Classifier

WeightsLike: TypeAlias = Source | Literal["mnist", "imagenet"] | None
"""A factory's ``weights``: None (random), ``"mnist"`` (ours), ``"imagenet"`` (torchvision's), or
any source of a conversion."""
CHOICES = (
    "'mnist', 'imagenet', a file, a network, a state dict, a record of get_weights, a member of a "
    "torchvision weights enum, or None"
)
SIZES = ("in_channels", "num_classes", "image_size")  # weights adapt to them, or do not fit


def _levels_to_the_user() -> int:
    """How many frames above the caller the first frame outside this package is."""
    package, level = __name__.partition(".")[0], 1
    frame = sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] == package:
        frame, level = frame.f_back, level + 1
    return level


Network = TypeVar("Network", bound=Classifier)


def build(
    name: str,
    make: Callable[..., Network],
    weights: WeightsLike,
    *,
    imagenet: bool = False,
    known: Iterable[str] = (),
    **options: Any,
) -> Network:
    """Makes a network, random or with the given weights, which are then its only initialisation.

    Args:
        name: Name of the factory.
        make: Makes the network from the options.
        weights: None, ``"mnist"``, ``"imagenet"``, or a source of `mnist_zoo.from_torchvision`.
        imagenet: Whether torchvision has a network of the same name and architecture.
        known: Names of the options that the factory takes as ``**options``; none where Python
            checks them against its signature.
        **options: Options of the factory.

    Raises:
        TypeError: If the factory has no such option, or `weights` is none of these.
        ValueError: If `weights` is ``"mnist"`` or ``"imagenet"``, and there are none.
        ConversionError: If the weights do not fit the network.
        WeightsError: If `weights` is a file that is damaged.
        FileNotFoundError: If `weights` is a file that does not exist.
    """
    if known:
        taken = ("weights", "in_channels", "num_classes", *known)
        check_known(f"{name} has no option", options, taken)
    options = {option: plain(value) for option, value in options.items()}
    if weights is None:
        model = make(**options)
    else:
        with no_random_init():
            model = make(**options)
        source, info = _source(name, weights, imagenet, options, model)
        adopt = isinstance(source, WeightsFile)  # whose tensors are nobody else's
        report = fill(model, source, argument="weights", adopt=adopt)
        changed = {*report.adapted, *report.skipped}
        if changed:
            changed &= {*model.state_dict()}
        if changed and not isinstance(source, Enum):
            message = f"`weights` were adapted to {type(model).__name__}: {report}"
            warnings.warn(message, stacklevel=_levels_to_the_user())
        model.preprocessing = info.preprocessing
        if info.classes and len(info.classes) == model.num_classes:
            model.classes = info.classes
        if not changed:
            model.familiarity = info.familiarity
    if all(isinstance(value, bool | int | float | str) for value in options.values()):
        model.factory, model.options = name, options
    return model


def _source(
    name: str, weights: Source | str, imagenet: bool, options: Mapping[str, Any], model: Classifier
) -> tuple[Source | WeightsFile, FileInfo]:
    """The source for the network of that name, a file already read, and what it is about."""
    if isinstance(weights, str) and weights == "mnist":
        record = manifest().get(f"{name}.mnist")
        if record is None:
            known = ", ".join(record.network for record in manifest().values())
            other = "; torchvision's are weights='imagenet'" if imagenet else ""
            raise ValueError(f"`weights` (='mnist') exist for {known}; not for {name}{other}")
        return _read(record)
    if isinstance(weights, str) and weights == "imagenet":
        if not imagenet:
            raise ValueError("`weights` (='imagenet') is for torchvision's ResNets and DenseNets")
        from torchvision.models import get_model_weights

        return get_model_weights(name)["DEFAULT"], FileInfo()
    if isinstance(weights, Weights):
        info = FileInfo(weights.network, weights.options, weights.preprocessing)
        _check_info(info, weights.name, name, options)
        return _read(weights)
    if isinstance(weights, (str, os.PathLike)):
        file = _read_named(weights, most_bytes(model))
        _check_info(file.info, str(weights), name, options)
        size = file.info.preprocessing and file.info.preprocessing.image_size
        if size and size != model.image_size and not model.any_size:
            reason = f"'{weights}' makes images of {size}×{size}"
            raise ConversionError(f"`weights` must be for the network's images; {reason}")
        return file, file.info
    if isinstance(weights, Mapping):
        info = info_in(weights)
        _check_info(info, "the checkpoint", name, options)
        return weights, info
    if not isinstance(weights, (nn.Module, Enum)):
        raise TypeError(f"`weights` (={weights!r:.80}) must be {CHOICES}")
    network = unwrapped(weights) if isinstance(weights, nn.Module) else None
    noted = getattr(network, "preprocessing", None)
    return weights, FileInfo(
        preprocessing=noted if isinstance(noted, Preprocessing) else None,
        classes=stated_classes(network) if network is not None else None,
        familiarity=network.familiarity if isinstance(network, Classifier) else None,
    )


def _read_named(name: str | os.PathLike[str], most: int) -> WeightsFile:
    """The file of that name; the error, if there is none, says what `weights` may be."""
    path = expanded(name)
    try:
        return read_file(path, most)
    except FileNotFoundError as error:
        near = "" if path.suffix else did_you_mean(path.name.lower(), ("mnist", "imagenet"), 1)
        raise FileNotFoundError(f"{error}; {near or f'`weights` may be {CHOICES}'}") from None


def _read(record: Weights) -> tuple[Mapping[str, Tensor], FileInfo]:
    """The tensors of pretrained weights, and what the record and the file say of them."""
    file = read_safetensors(record.path, record.sha256)
    info = FileInfo(preprocessing=record.preprocessing, familiarity=file.info.familiarity)
    return file.state, info


def _check_info(info: FileInfo, label: str, name: str, options: Mapping[str, Any]) -> None:
    """Raises ConversionError if weights are of another network, or one with other options."""
    if info.network not in (name, None):
        reason = f"'{label}' is of {info.network!r:.80}"
        raise ConversionError(f"`weights` must be those of {name}; {reason}")
    for option, value in info.options.items():
        if option not in SIZES and options.get(option) != value:
            reason = f"'{label}' was made with `{printable(option):.80}` (={value!r:.80})"
            raise ConversionError(f"`weights` must be of the same options; {reason}")
