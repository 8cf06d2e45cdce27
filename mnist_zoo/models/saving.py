"""Saves networks to files and loads them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm
from torch.nn.modules.dropout import _DropoutNd as Dropout

from .._files import check_place, expanded
from .._names import printable
from .._networks import check_network, class_names, state_of, stated_classes, unwrapped
from ..pictures.preprocessing import MAX_SIDE
from ..weights.files import (
    FileInfo,
    WeightsError,
    WeightsFile,
    is_finite,
    is_safetensors,
    read_safetensors,
    write_safetensors,
)
from ..weights.fitting import why_unusable
from ..weights.tensors import Layout
from .base import Classifier
from .registry import MODELS, outline

__all__ = ["load_model", "save_model"]

TRAINING_ONLY = re.compile(r"(, )?\b(momentum|inplace)=[^,]*")  # in what a layer prints of itself
FLOATS = (None, torch.float16, torch.bfloat16, torch.float32, torch.float64)


def save_model(
    model: nn.Module, path: str | os.PathLike[str], *, dtype: torch.dtype | None = None
) -> None:
    """Saves a network of the zoo to one safetensors file, from which `load_model` makes it again.

    The file holds the tensors, the factory's name and options, the preprocessing, the names of the
    classes, the record of familiarity, which parameters are tied, and a checksum of everything. It
    replaces an older file only once all of it is written.

    Args:
        model: A network made by a factory of the zoo; it may be wrapped by DataParallel,
            DistributedDataParallel or torch.compile.
        path: The file; its name must end in ``.safetensors``.
        dtype: Type in which floating-point numbers are stored, such as ``torch.float16`` for half
            the size; None for the network's own. `load_model` returns float32 in any case.

    Raises:
        TypeError: If `model` is no network.
        ValueError: If the network was not made by a factory, or one of its options is not a plain
            value, or its tensors or layers are not the ones that the factory made, or it holds NaN
            or infinity, or its images are larger than 4,096×4,096, or `path` is a folder or a
            device; nothing is written.
        FileNotFoundError: If the folder of `path` does not exist.

    Example:
        >>> from mnist_zoo import mini_resnet, save_model
        >>> save_model(mini_resnet(num_classes=26), "letters.safetensors")
    """
    path = expanded(path)
    if dtype not in FLOATS:
        raise ValueError(f"`dtype` (={dtype!r}) must be one of {', '.join(map(str, FLOATS))}")
    if not is_safetensors(path):
        raise ValueError(f"`path` (='{path}') must end in .safetensors")
    check_place(path)
    check_network(model=model)
    model = unwrapped(model)
    if not isinstance(model, Classifier) or model.factory not in MODELS:
        raise ValueError(
            f"`model` ({type(model).__name__}) must be made by a factory of the zoo, with options "
            "that are plain numbers and strings; save another network by "
            "torch.save(model.state_dict(), …)"
        )
    options = {**model.options, "num_classes": int(model.num_classes)}
    preprocessing = model.preprocessing
    for size in (model.image_size, preprocessing.image_size if preprocessing else 1):
        if size > MAX_SIDE:
            raise ValueError(f"`model` must be for images of at most {MAX_SIDE} pixels a side")
    bare = outline(model.factory, options)
    own = state_of(model)
    if others := sorted(_shapes(own).items() ^ _shapes(state_of(bare)).items()):
        raise ValueError(
            f"`model` must have the tensors that {model.factory} gives it; {others[0][0]} differs "
            "(for other classes call reset_classifier before training)"
        )
    if other := sorted(_layers(model).items() ^ _layers(bare).items()):
        raise ValueError(
            f"`model` must have the layers that {model.factory} gives it, because load_model "
            f"rebuilds those; {other[0][0] or 'the network itself'} differs from them"
        )
    state = {
        name: value.to(dtype or value.dtype) if value.is_floating_point() else value
        for name, value in own.items()
    }
    for name, value in state.items():
        if value.is_meta or not is_finite(value):
            kind = f", as {dtype}" if dtype else ""
            raise ValueError(f"`model` must hold finite numbers{kind}; {name} does not")
    metadata = {"network": model.factory, "options": json.dumps(options)}
    if preprocessing is not None:
        metadata["preprocessing"] = json.dumps(asdict(preprocessing))
    if names := stated_classes(model):
        metadata["classes"] = json.dumps(class_names(names, model.num_classes))
    if model.familiarity is not None:
        metadata["familiarity"] = model.familiarity.to_text()
    if tied := _tied(model):
        metadata["tied"] = json.dumps(tied)
    write_safetensors(path, state, metadata)


def _layers(model: nn.Module) -> dict[str, str]:
    """What each module computes in eval mode, by its name."""
    layers = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if not isinstance(module, (Dropout, nn.Identity)):
            kind = "norm" if isinstance(module, BatchNorm) else type(module).__qualname__
            layers[name] = f"{kind} {TRAINING_ONLY.sub('', module.extra_repr())}"
    return layers


def _tied(model: nn.Module) -> dict[str, str]:
    """The parameters that are the same as an earlier one, by their names."""
    first: dict[nn.Parameter, str] = {}
    tied = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if first.setdefault(parameter, name) != name:
            tied[name] = first[parameter]
    return tied


def load_model(path: str | os.PathLike[str]) -> Classifier:
    """Makes the network that `save_model` saved, in eval mode. No code in the file runs.

    The file is read once, so the network gets the tensors that were checked.

    Args:
        path: The file.

    Raises:
        WeightsError: If the file is damaged, or `save_model` did not write it.
        FileNotFoundError: If the file does not exist.

    Example:
        >>> from mnist_zoo import load_model, mini_resnet, save_model
        >>> save_model(mini_resnet(num_classes=26), "letters.safetensors")
        >>> load_model("letters.safetensors").num_classes
        26
    """
    path = expanded(path)
    if not is_safetensors(path):
        raise WeightsError(
            f"'{path}' must be a .safetensors file of save_model; for another file of weights call "
            f"the network's factory, such as mini_resnet(weights='{path}')"
        )
    made: list[Classifier] = []
    values: dict[str, Tensor] = {}
    file = read_safetensors(
        path,
        admit=lambda info, layout: made.append(_bare(path, info, layout)),
        check=lambda state: values.update(_fitted(path, state, made[0])),
    )
    (model,) = made
    _tie(values, file, model)
    model.load_state_dict(values, assign=True)
    model.preprocessing, model.classes = file.info.preprocessing, file.info.classes
    model.familiarity = file.info.familiarity
    return model.eval()


def _bare(path: Path, info: FileInfo, layout: Layout) -> Classifier:
    """The network that a file describes, without data.

    Raises:
        WeightsError: If there is no such network, or the file has other tensors.
    """
    network = info.network
    if network not in MODELS:
        raise WeightsError(f"'{path}' must name a network of the zoo; it names {network!r:.80}")
    try:
        model = outline(network, info.options)
    except Exception as error:  # foreign options lead to errors of many types
        reason = f"its options do not suit {network}: {printable(f'{error!s:.200}')}"
        raise WeightsError(f"'{path}' must be a file of save_model; {reason}") from error
    if {name: shape for name, (_, shape) in layout.items()} != _shapes(state_of(model)):
        raise WeightsError(f"'{path}' must hold the tensors that its options give {network}")
    size = info.preprocessing.image_size if info.preprocessing else model.image_size
    if size != model.image_size and not model.any_size:
        raise WeightsError(f"'{path}' must make images of its network's size; it makes {size}")
    names = info.classes
    if names and len(names) != model.num_classes:
        raise WeightsError(f"'{path}' must name {model.num_classes} classes; it names {len(names)}")
    return model


def _fitted(path: Path, state: Mapping[str, Tensor], model: Classifier) -> dict[str, Tensor]:
    """The tensors of a file as the network, which has no data, takes them.

    Raises:
        WeightsError: If one is of another kind, or holds NaN or infinity.
    """
    values = {}
    device = torch.get_default_device()
    for name, tensor in state_of(model).items():
        value = state[name]
        if reason := why_unusable(value, tensor):
            raise WeightsError(f"'{path}' must fit {model.factory}; {name}: {reason}")
        values[name] = value.to(device, tensor.dtype)
        if not is_finite(values[name]):
            raise WeightsError(f"'{path}' must hold finite numbers; {name} does not")
    return values


def _tie(values: dict[str, Tensor], file: WeightsFile, model: Classifier) -> None:
    """Makes one parameter of those that were one when the network was saved."""
    parameters = {name for name, _ in model.named_parameters()}
    for name, first in file.info.tied.items():
        same = {name, first} <= parameters and name != first
        if not same or not torch.equal(values[name], values[first]):
            reason = f"it ties {name!r:.80} to {first!r:.80}"
            raise WeightsError(f"'{file.path}' must tie parameters that are equal; {reason}")
        if not isinstance(values[first], nn.Parameter):
            values[first] = nn.Parameter(values[first])
        values[name] = values[first]


def _shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}
