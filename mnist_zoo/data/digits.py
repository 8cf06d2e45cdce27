"""Labelled images in memory, and splitting them into random parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Digits"]


@dataclass(frozen=True, eq=False)
class Digits:
    """Labelled images, all in memory.

    ``len(digits)`` is the number of images. ``digits[index]`` selects images as `Digits`; the
    index is a slice, a list, or a tensor of positions or a mask.

    Attributes:
        images: uint8 (N, C, H, W), 0 for the background; MNIST has (N, 1, 28, 28).
        labels: int64 (N,), the classes from 0.
        writers: int64 (N,), the writer of each digit, if the data set names them (QMNIST does).
        classes: Names of the classes, in their order; None for "0", "1" and so on.

    Raises:
        ValueError: If a tensor has another dtype or shape, or a class has no name.

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
        if self.images.dtype != torch.uint8 or self.images.dim() != 4:
            got = f"{self.images.dtype} {tuple(self.images.shape)}"
            raise ValueError(f"`images` must be torch.uint8 (N, C, H, W), got {got}")
        for name, tensor in (("labels", self.labels), ("writers", self.writers)):
            if tensor is None:
                continue
            if tensor.dtype != torch.int64 or tensor.shape != self.images.shape[:1]:
                got = f"{tensor.dtype} {tuple(tensor.shape)}"
                raise ValueError(f"`{name}` must be torch.int64 ({len(self)},), got {got}")
        self._check_classes()

    def _check_classes(self) -> None:
        names = self.classes
        if names is None:
            return
        given = isinstance(names, Sequence) and not isinstance(names, str)
        if not given or not all(isinstance(name, str) and name for name in names):
            raise ValueError(f"`classes` (={names!r:.80}) must be the names of the classes")
        object.__setattr__(self, "classes", tuple(names))
        if len(set(names)) < len(names):
            raise ValueError(f"`classes` (={names!r:.80}) must differ from each other")
        if len(self) and int(self.labels.max()) >= len(names):
            raise ValueError(f"`classes` must name class {int(self.labels.max())}, too")

    def __len__(self) -> int:
        return self.images.shape[0]

    def __getitem__(self, index: slice | Sequence[int] | Tensor) -> Digits:
        writers = None if self.writers is None else self.writers[index]
        return Digits(self.images[index], self.labels[index], writers, self.classes)

    def __repr__(self) -> str:
        classes = self.labels.unique().numel()
        return f"Digits({len(self):,} of {tuple(self.images.shape[1:])}, {classes} classes)"

    def to(self, device: torch.device | str) -> Digits:
        """The same images on another device."""
        writers = None if self.writers is None else self.writers.to(device)
        return Digits(self.images.to(device), self.labels.to(device), writers, self.classes)

    def split(self, *sizes: int, seed: int = 0, groups: Tensor | None = None) -> tuple[Digits, ...]:
        """Draws disjoint random parts; the same seed gives the same parts.

        Without groups every part is stratified: it has the class shares of the whole, to within
        one image. With groups, such as `writers`, no group is in two parts: a part takes whole
        groups until it has at least its size.

        Args:
            *sizes: Number of images in each part. The rest belongs to no part.
            seed: Seed of the random numbers.
            groups: int64 (N,), the group of each image.

        Returns:
            The parts, each in the order of the whole.

        Raises:
            ValueError: If a size is less than 1, or there are too few images or groups.
        """
        for size in sizes:
            if not size > 0:
                raise ValueError(f"`sizes` (={sizes!r}) must be at least 1 each")
        if sum(sizes) > len(self):
            raise ValueError(f"`sizes` (={sizes!r}) must add up to at most {len(self)}")
        if groups is not None and groups.shape != self.labels.shape:
            raise ValueError(f"`groups` must have the shape ({len(self)},), got {groups.shape}")
        generator = torch.Generator().manual_seed(seed)
        if groups is None:
            order = _stratified_order(self.labels.cpu(), generator)
            parts = order[: sum(sizes)].split(list(sizes))
        else:
            parts = _whole_groups(groups.cpu(), sizes, generator)
        return tuple(self[part.sort().values.to(self.labels.device)] for part in parts)


def _stratified_order(labels: Tensor, generator: torch.Generator) -> Tensor:
    """A random order in which every run of neighbours has the class shares of the whole.

    Images are sorted by their relative position within their class: the third of ten has 0.25.
    """
    shuffled = torch.randperm(len(labels), generator=generator, device="cpu")
    place = torch.empty(len(labels), dtype=torch.float64, device="cpu")
    for label in labels.unique():
        members = shuffled[labels[shuffled] == label]
        rank = torch.arange(len(members), dtype=torch.float64, device="cpu")
        place[members] = (rank + 0.5) / len(members)
    return shuffled[place[shuffled].argsort(stable=True)]


def _whole_groups(groups: Tensor, sizes: Sequence[int], generator: torch.Generator) -> list[Tensor]:
    """Positions of the images in each part: whole groups, at least as many images as its size."""
    numbers, group_of = groups.unique(return_inverse=True)
    drawn = torch.randperm(len(numbers), generator=generator, device="cpu")
    counts = torch.bincount(group_of)[drawn].cumsum(0)
    parts, first, before = [], 0, 0
    for size in sizes:
        last = int(torch.searchsorted(counts, before + size))
        if last >= len(numbers):
            raise ValueError(f"`sizes` (={tuple(sizes)!r}) ask for more than the groups hold")
        parts.append(torch.isin(group_of, drawn[first : last + 1]).nonzero().squeeze(1))
        first, before = last + 1, int(counts[last])
    return parts
