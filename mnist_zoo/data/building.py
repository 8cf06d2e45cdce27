"""Arrays of images from what users have: data sets, folders of images, tables."""

from __future__ import annotations

import gzip
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Subset

from .._checks import check_data
from .._files import check_no_device, expanded
from .._names import printable
from ..pictures.reading import in_order, read_pictures
from .digits import listed_names

MAX_LABEL = 1 << 24  # in a table, whose numbers are float32
Arrays = tuple[Any, Any, Any]
"""Images, labels, and names of the classes or None, as `Digits.from_arrays` takes them."""


def images_of(values: Any) -> Tensor:
    """Images in any form that `Digits.from_arrays` takes, as uint8 (N, C, H, W)."""
    check_data(images=values)
    if isinstance(values, Tensor):
        images = values.detach().cpu()
        last = images.dim() == 4 and images.shape[1] not in (1, 3, 4)
    else:
        try:
            array = np.asarray(values)
        except ValueError as error:
            raise ValueError(f"`images` must be of one size: {error!s:.100}") from error
        if array.dtype.kind not in "biuf":
            raise ValueError(f"`images` must be numbers; they have dtype {array.dtype}")
        if (array.dtype.kind == "u" and array.itemsize > 1) or array.itemsize > 8:
            array = array.astype(np.float64)  # torch computes little with these
        images = torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("=")))
        last = images.dim() == 4 and images.shape[3] in (1, 3, 4)
    shape = tuple(images.shape)
    if images.dim() == 2:
        side = math.isqrt(shape[1])
        images = images.view(-1, side, side) if side * side == shape[1] else images
    images = images.movedim(3, 1) if last else images
    images = images.unsqueeze(1) if images.dim() == 3 else images
    if images.dim() != 4 or images.shape[1] not in (1, 3, 4):
        rule = "must be (N, H, W), (N, H, W, C), (N, C, H, W), or rows of the pixels of squares"
        raise ValueError(f"`images` {rule}; they have shape {shape}")
    return _as_bytes(images).contiguous()


def _as_bytes(images: Tensor) -> Tensor:
    """Values in 0…1, or whole numbers in 0…255, as uint8."""
    if not images.numel():
        return images.to(torch.uint8)
    if images.is_complex():
        raise ValueError(f"`images` must be real numbers; they are {images.dtype}")
    if images.dtype == torch.bool:
        return images.to(torch.uint8) * 255
    if images.dtype in (torch.uint16, torch.uint32, torch.uint64) or (
        images.is_floating_point() and images.dtype not in (torch.float32, torch.float64)
    ):
        images = images.double()  # torch computes little with these
    low, high = (value.item() for value in images.aminmax())
    if low >= 0 and high <= 1:  # False for NaN
        return (images * 255).round().to(torch.uint8)
    is_whole = not images.is_floating_point() or bool((images == images.round()).all())
    if not (low >= 0 and high <= 255 and is_whole):
        raise ValueError(
            "`images` must hold values in 0…1, or whole numbers in 0…255; they reach from "
            f"{low:.7g} to {high:.7g} (normalise in the recipe's preprocessing, not before)"
        )
    return images.to(torch.uint8)


def from_pairs(dataset: Any) -> Arrays:
    """What `Digits.from_dataset` makes digits of."""
    if hasattr(dataset, "dataset") and hasattr(dataset, "batch_size"):
        raise ValueError("`dataset` must be a data set, not its loader: use loader.dataset")
    if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        kind = type(dataset).__name__
        raise ValueError(f"`dataset` must have a length and items; it is a {kind}")
    pictures, labels = [], []
    for place in range(len(dataset)):
        pair = dataset[place]
        if not isinstance(pair, Sequence) or len(pair) != 2:
            raise ValueError(f"item {place} of `dataset` must be an image and its class")
        picture = pair[0]
        if (
            isinstance(picture, np.ndarray)
            and picture.ndim == 3
            and picture.shape[2] not in (1, 3, 4)
        ):
            picture = torch.from_numpy(picture)  # (C, H, W)
        pictures.append(picture)
        labels.append(pair[1])
    return _stacked(pictures), labels, _names_of(dataset)


def _names_of(dataset: Any) -> tuple[str, ...] | None:
    """The names of the classes of a data set, also of one that is made of others.

    Raises:
        ValueError: If those others have different classes.
    """
    if isinstance(dataset, Subset):
        return _names_of(dataset.dataset)
    if isinstance(dataset, ConcatDataset):
        found = {_names_of(part) for part in dataset.datasets} - {None}
        if len(found) > 1:
            parts = " and ".join(sorted(map(str, found)))
            raise ValueError(
                f"`dataset` must be made of parts of the same classes, not {parts:.200}"
            )
        return next(iter(found), None)
    names = listed_names(getattr(dataset, "classes", None))
    if names is None or all(name.startswith(f"{label} - ") for label, name in enumerate(names)):
        return None  # torchvision's MNIST calls the digits "0 - zero" and so on
    # which makes other classes of these
    return None if getattr(dataset, "target_transform", None) else names


def from_folder(path: str | os.PathLike[str]) -> Arrays:
    """What `Digits.from_folder` makes digits of."""
    folder = expanded(path)
    if not folder.is_dir():
        raise ValueError(f"`path` (='{folder}') must be a folder")
    classes = sorted(part.name for part in folder.iterdir() if _is_shown(part) and part.is_dir())
    files = [
        (file, label)
        for label, name in enumerate(classes)
        for file in sorted((folder / name).iterdir())
        if _is_shown(file)
    ]
    if not files:
        raise ValueError(f"`path` (='{folder}') must hold folders of images, one for each class")
    images = _stacked([file for file, _ in files])
    return images, [label for _, label in files], classes


def _is_shown(path: Path) -> bool:
    return not path.name.startswith(".")


def _stacked(pictures: list[Any]) -> Tensor:
    """Images of one size, of any kind that `as_mnist` takes, as a tensor (N, C, H, W)."""
    if not pictures:
        raise ValueError("there must be at least one image")
    batches, name_of = read_pictures(pictures)
    if {batch.shape[1] for _, batch in batches} == {1, 3}:
        batches = [(places, batch.expand(-1, 3, -1, -1)) for places, batch in batches]
    if len({batch.dtype for _, batch in batches}) > 1:  # each has a range of its own
        batches = [(places, _as_bytes(batch)) for places, batch in batches]
    first = tuple(batches[0][1].shape[1:])
    for places, batch in batches:
        if tuple(batch.shape[1:]) != first:
            shapes = f"{tuple(batch.shape[1:])}; {name_of(0)} is {first}"
            rule = "must have one size and the same channels (transparency is one)"
            raise ValueError(f"all images {rule}: {name_of(places[0])} is {shapes}")
    return in_order(batches)


def from_csv(path: str | os.PathLike[str]) -> Arrays:
    """What `Digits.from_csv` makes digits of."""
    file = expanded(path)
    check_no_device(file)
    text: dict[str, Any] = {"encoding": "utf-8-sig"}  # spreadsheets begin it with a mark
    with gzip.open(file, "rt", **text) if file.suffix == ".gz" else file.open(**text) as lines:
        try:
            names = [name.strip().strip('"') for name in lines.readline().split(",")]
            # pandas numbers columns without names
            is_named = not all(map(_is_number, names)) or names == [*map(str, range(len(names)))]
        except (OSError, EOFError, ValueError) as error:
            raise ValueError(f"{file}: cannot be read: {error}") from error
    if is_named and "label" not in names:
        found = printable(f"{', '.join(names[:5]):.80}")
        raise ValueError(f"{file}: must have a column named label; it has {found} …")
    column = names.index("label") if is_named else 0
    if math.isqrt(len(names) - 1) ** 2 != len(names) - 1 or len(names) == 1:
        rule = "a label and the pixels of a square image in each line"
        raise ValueError(f"{file}: must have {rule}; it has {len(names)} columns")
    try:
        rows = np.loadtxt(file, np.float32, delimiter=",", skiprows=int(is_named), ndmin=2, **text)
    except (OSError, EOFError, ValueError) as error:
        raise ValueError(f"{file}: cannot be read: {printable(f'{error!s:.200}')}") from error
    if rows.shape[1] != len(names):
        columns = f"{rows.shape[1]} columns after the first line, which has {len(names)}"
        raise ValueError(f"{file}: has {columns}")
    labels = rows[:, column]
    if not ((labels == labels.round()) & (labels < MAX_LABEL)).all():
        raise ValueError(f"{file}: must have whole numbers below {MAX_LABEL:,} as labels")
    if not is_named and np.ptp(labels) == 0 and np.ptp(rows[:, -1]) > 0:  # as in UCI's optdigits
        rule = "the label in the first column, or a line that names the column label"
        raise ValueError(
            f"{file}: must have {rule}; the first column is {labels[0]:g} in each line"
        )
    return np.delete(rows, column, 1), labels.astype(np.int64), None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
