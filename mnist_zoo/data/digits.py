"""Labelled images in memory, and splitting them into random parts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from .._checks import check_data, check_range, plain

__all__ = ["Digits"]


@dataclass(frozen=True, eq=False)
class Digits:
    """Labelled images, all in memory.

    ``len(digits)`` is the number of images. ``digits[index]`` selects images as `Digits`; the
    index is a slice, a list, or a tensor of positions or a mask.

    Attributes:
        images: uint8 (N, C, H, W), 0 for the background; MNIST has (N, 1, 28, 28).
        labels: int64 (N,), the classes from 0. Lists, NumPy arrays and tensors of any integer type
            are converted.
        writers: int64 (N,), the writer of each digit, if the data set names them (QMNIST does).
        classes: Names of the classes, in their order; None for "0", "1" and so on.

    Raises:
        ValueError: If a tensor has another dtype or shape, or a class is negative or has no name.

    Example:
        >>> import torch
        >>> from mnist_zoo import Digits
        >>> images = torch.zeros(100, 1, 28, 28, dtype=torch.uint8)
        >>> train, validation = Digits(images, torch.arange(100) % 10).split(80, 20)
        >>> validation
        Digits(20 of (1, 28, 28), 10 classes)
    """

    images: Tensor
    labels: Tensor
    writers: Tensor | None = None
    classes: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        images = self.images
        if not isinstance(images, Tensor) or images.dtype != torch.uint8 or images.dim() != 4:
            got = f"{getattr(images, 'dtype', '')} {tuple(getattr(images, 'shape', ()))}"
            hint = "Digits.from_arrays converts other forms"
            raise ValueError(f"`images` must be torch.uint8 (N, C, H, W), got {got}; {hint}")
        check_data(images=images)
        if 0 in images.shape[1:]:
            raise ValueError(f"`images` must have pixels; their shape is {tuple(images.shape)}")
        object.__setattr__(self, "labels", _whole_numbers("labels", self.labels, images))
        if self.writers is not None:
            object.__setattr__(self, "writers", _whole_numbers("writers", self.writers, images))
        if len(images) and (lowest := int(self.labels.min())) < 0:
            raise ValueError(f"`labels` must be the classes from 0; the smallest is {lowest}")
        self._check_classes()

    def _check_classes(self) -> None:
        names = self.classes
        if names is None:
            return
        names = listed_names(names)
        if names is None:
            raise ValueError(f"`classes` (={self.classes!r:.80}) must be the names of the classes")
        object.__setattr__(self, "classes", names)
        if len(set(names)) < len(names):
            raise ValueError(f"`classes` (={names!r:.80}) must differ from each other")
        if len(self) and int(self.labels.max()) >= len(names):
            raise ValueError(f"`classes` must name class {int(self.labels.max())}, too")

    @classmethod
    def from_arrays(cls, images: Any, labels: Any, classes: Any = None) -> Digits:
        """Makes them of NumPy arrays, tensors, lists, or pandas' frames and series.

        Args:
            images: (N, H, W), (N, H, W, C), rows (N, H·W) of square images, or a tensor or array
                (N, C, H, W). Values are in 0…1, or whole numbers in 0…255.
            labels: N whole numbers, the classes from 0.
            classes: Names of the classes, as in `Digits.classes`.

        Raises:
            ValueError: If the shapes or values are others.
        """
        from .building import images_of

        return cls(images_of(images), labels, None, classes)

    @classmethod
    def from_dataset(cls, dataset: Any) -> Digits:
        """Makes them of all of a torch ``Dataset`` of pairs: a PIL image, tensor or array; a class.

        Raises:
            ValueError: If the items are no such pairs, or the images are normalised or of several
                sizes.
        """
        from .building import from_pairs

        return cls.from_arrays(*from_pairs(dataset))

    @classmethod
    def from_folder(cls, path: str | os.PathLike[str]) -> Digits:
        """Reads image files from a folder that holds a folder for each class, named after it.

        Classes and images are sorted by name, as in torchvision's ``ImageFolder``. All images must
        have one size, and stay as they are; grey ones among coloured ones become RGB.

        Raises:
            ValueError: If there are none, or one cannot be read or has another size.
        """
        from .building import from_folder

        return cls.from_arrays(*from_folder(path))

    @classmethod
    def from_csv(cls, path: str | os.PathLike[str]) -> Digits:
        """Reads a table of pixels, one image per line, such as Kaggle's ``label,pixel0,pixel1,…``.

        The label is in the column named ``label``; without a line of names, in the first one. The
        file may be packed, with a name that ends in ``.gz``.

        Raises:
            ValueError: If the file is no such table of square images.
            FileNotFoundError: If there is none.
        """
        from .building import from_csv

        return cls.from_arrays(*from_csv(path))

    def __len__(self) -> int:
        return self.images.shape[0]

    def __getitem__(self, index: slice | Sequence[int] | Tensor) -> Digits:
        index = _places(index, len(self))
        writers = None if self.writers is None else self.writers[index]
        return Digits(self.images[index], self.labels[index], writers, self.classes)

    def __repr__(self) -> str:
        classes = self.labels.unique().numel()
        return f"Digits({len(self):,} of {tuple(self.images.shape[1:])}, {classes} classes)"

    def to(self, device: torch.device | str) -> Digits:
        """The same images on another device."""
        writers = None if self.writers is None else self.writers.to(device)
        return Digits(self.images.to(device), self.labels.to(device), writers, self.classes)

    def split(self, *sizes: float, seed: int = 0, groups: Any = None) -> tuple[Digits, ...]:
        """Draws disjoint random parts; the same seed gives the same parts.

        Without groups every part is stratified: it has the class shares of the whole, to within
        two images of each class. With groups, such as `writers`, no group is in two parts: a part
        takes whole groups, at least one, until it has at least its size, or until the parts so far
        have their shares.

        Args:
            *sizes: Number of images in each part; or, as floats, its share of the whole:
                ``split(0.8, 0.2)``. The rest belongs to no part.
            seed: Seed of the random numbers.
            groups: The group of each image (N,): whole numbers of any type.

        Returns:
            The parts, each in the order of the whole.

        Raises:
            ValueError: If a part would be empty, or there are too few images or groups.
        """
        counts, are_shares = _counts(sizes, len(self))
        seed = plain(seed)
        check_range(whole=True, seed=seed)
        generator = torch.Generator("cpu").manual_seed(seed)
        if groups is not None:
            groups = _whole_numbers("groups", groups, self.images)
        if groups is None:
            order = _stratified_order(self.labels.cpu(), generator)
            parts = order[: sum(counts)].split(counts)
        else:
            parts = _whole_groups(groups.cpu(), counts, generator, are_shares=are_shares)
        return tuple(self[part.sort().values.to(self.labels.device)] for part in parts)


def listed_names(values: Any) -> tuple[str, ...] | None:
    """Names in a list, an array, or anything else with an order; None if they are none."""
    if not isinstance(values, Iterable) or isinstance(values, (str, bytes, Mapping, Set)):
        return None
    names = tuple(values)
    if not all(isinstance(name, str) and name for name in names):
        return None
    return tuple(map(str, names))  # NumPy has a kind of its own


def check_digits(**arguments: object) -> None:
    """Raises TypeError for the first argument that is no `Digits`."""
    others = {name: value for name, value in arguments.items() if not isinstance(value, Digits)}
    for name, value in others.items():
        hint = "from_arrays(images, labels)"
        if isinstance(value, Dataset):
            hint = "from_dataset(dataset)"
        elif hasattr(value, "dataset"):
            hint = "from_dataset(loader.dataset)"
        elif isinstance(value, (str, os.PathLike)):
            hint = "from_folder(path) or Digits.from_csv(path)"
        hint = f"it is a {type(value).__name__}: make them by Digits.{hint}"
        raise TypeError(f"`{name}` must be Digits; {hint}")


def check_labels(classes: int, **data: Digits | None) -> None:
    """Checks that every label is a class of the network.

    Raises:
        ValueError: If one is not; the message names the argument that holds it.
    """
    for name, digits in data.items():
        if digits is None:
            continue
        lowest, highest = (int(limit) for limit in digits.labels.aminmax())
        if lowest < 0 or highest >= classes:
            raise ValueError(
                f"`{name}` has an image of class {lowest if lowest < 0 else highest}; the classes "
                f"of the network are 0 to {classes - 1}"
            )


def _places(index: Any, count: int) -> Any:
    """The slice, list, or tensor of positions or a mask, that an index means.

    Raises:
        TypeError: If it is something else; torch makes places of fractions, and a mask of bytes.
    """
    if isinstance(index, slice):
        backwards = index.step is not None and index.step < 0
        return list(range(count))[index] if backwards else index
    if not isinstance(index, (Tensor, tuple, str)):
        array = np.asarray(index)
        if array.ndim == 1 and (array.dtype.kind in "biu" or not array.size):
            index = torch.from_numpy(array.astype(np.bool_ if array.dtype == bool else np.int64))
    kind = getattr(index, "dtype", None)
    if kind not in (torch.bool, torch.int16, torch.int32, torch.int64) or index.dim() != 1:
        hint = f", as [{index}]" if isinstance(index, (int, np.integer)) else ""
        rule = f"must be a slice, a list or a tensor{hint}, of positions or a mask"
        raise TypeError(f"`index` (={index!s:.80}) {rule}")
    return index


def _whole_numbers(name: str, values: Any, images: Tensor) -> Tensor:
    """A list, array or tensor of any integer type as int64 (N,); lists go to the images' device."""
    check_data(**{name: values})
    if not isinstance(values, Tensor):
        array = np.asarray(values)
        if array.dtype.kind in "iu" or not array.size:
            values = torch.from_numpy(array.astype(np.int64)).to(images.device)
        elif any(isinstance(value, str) for value in array.flat[:1]):
            raise ValueError(
                f"`{name}` must be whole numbers; they are text: convert them by int()"
            )
    kind, shape = getattr(values, "dtype", type(values).__name__), np.shape(values)
    whole = (torch.uint8, torch.int8, torch.int16, torch.uint16, torch.int32, torch.uint32)
    if kind not in (*whole, torch.int64, torch.uint64) or shape != (len(images),):
        rule = f"must be whole numbers ({len(images)},), got {kind} {tuple(shape)}"
        raise ValueError(f"`{name}` {rule}")
    return values.long()


def _counts(sizes: tuple[float, ...], total: int) -> tuple[list[int], bool]:
    """The numbers of images in the parts of `total` images, and whether `sizes` are shares."""
    values = np.array([size.item() if hasattr(size, "item") else size for size in sizes])
    if values.ndim != 1 or values.dtype.kind not in "iuf":
        raise ValueError(f"`sizes` (={sizes!r}) must be numbers, as in split(800, 200)")
    are_shares = values.dtype.kind == "f"
    if are_shares:
        if not (values > 0).all() or not values.sum() <= 1 + 1e-9:
            raise ValueError(f"`sizes` (={sizes!r}) must be shares that add up to at most 1")
        values = np.diff((values.cumsum() * total).round(), prepend=0)
    counts = [int(value) for value in values]
    if min(counts, default=1) < 1:
        raise ValueError(f"`sizes` (={sizes!r}) must be at least 1 each")
    if sum(counts) > total:
        raise ValueError(f"`sizes` (={sizes!r}) must add up to at most {total}")
    return counts, are_shares


def _stratified_order(labels: Tensor, generator: torch.Generator) -> Tensor:
    """A random order in which every run of neighbours has the class shares of the whole.

    Images are sorted by their relative position within their class: the third of ten has 0.25.
    """
    shuffled = torch.randperm(len(labels), generator=generator, device="cpu")
    place = torch.empty(len(labels), dtype=torch.float64, device="cpu")
    for label in labels.unique():
        members = shuffled[labels[shuffled] == label]
        ranks = torch.arange(len(members), dtype=torch.float64, device="cpu")
        place[members] = (ranks + 0.5) / len(members)
    return shuffled[place[shuffled].argsort(stable=True)]


def _whole_groups(
    groups: Tensor, sizes: Sequence[int], generator: torch.Generator, *, are_shares: bool
) -> list[Tensor]:
    """Positions of the images in each part: whole groups, of at least as many images as its size.

    Shares are of the whole: what a part has beyond its own, the next one need not have.
    """
    numbers, group_of = groups.unique(return_inverse=True)
    drawn = torch.randperm(len(numbers), generator=generator, device="cpu")
    counts = torch.bincount(group_of)[drawn].cumsum(0)
    parts, first, before, shared = [], 0, 0, 0
    for size in sizes:
        shared += size
        wanted = shared if are_shares else before + size
        last = max(first, int(torch.searchsorted(counts, wanted)))
        if last >= len(numbers):
            raise ValueError(f"`sizes` (={tuple(sizes)!r} images): groups are too few or too large")
        parts.append(torch.isin(group_of, drawn[first : last + 1]).nonzero().squeeze(1))
        first, before = last + 1, int(counts[last])
    return parts
