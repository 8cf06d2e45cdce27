"""Labelled images in memory, and how they are split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Digits"]


@dataclass(frozen=True, eq=False)
class Digits:
    """Pictures and their classes, all in memory.

    ``len(digits)`` counts the pictures; ``digits[index]``, with a slice, a list or a tensor of
    positions or a mask, gives those pictures as `Digits` again.

    Attributes:
        images: uint8 (N, C, H, W), 0 for the background; MNIST's are (N, 1, 28, 28).
        labels: int64 (N,), the classes from 0.
        writers: int64 (N,), who wrote each digit, where the data set tells (QMNIST); else None.

    Raises:
        ValueError: If the tensors are of another kind, or not equally long.
    """

    images: Tensor
    labels: Tensor
    writers: Tensor | None = None

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

    def __len__(self) -> int:
        return self.images.shape[0]

    def __getitem__(self, index: slice | Sequence[int] | Tensor) -> Digits:
        writers = None if self.writers is None else self.writers[index]
        return Digits(self.images[index], self.labels[index], writers)

    def __repr__(self) -> str:
        classes = self.labels.unique().numel()
        return f"Digits({len(self):,} of {tuple(self.images.shape[1:])}, {classes} classes)"

    def to(self, device: torch.device | str) -> Digits:
        """The same pictures on another device."""
        writers = None if self.writers is None else self.writers.to(device)
        return Digits(self.images.to(device), self.labels.to(device), writers)

    def split(self, *sizes: int, seed: int = 0, groups: Tensor | None = None) -> tuple[Digits, ...]:
        """Draws disjoint parts at random, the same ones for the same seed.

        Without groups every part is stratified: its share of each class is that of the whole, to
        within a picture. With groups, such as `writers`, no group falls into two parts; a part
        then takes whole groups until it has at least its size.

        Args:
            *sizes: Pictures in each part. What they leave over belongs to no part.
            seed: Of the draw.
            groups: int64 (N,), the group of each picture.

        Returns:
            The parts, each in the order of the whole.

        Raises:
            ValueError: If a size is less than 1, or there are too few pictures or groups.
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
    """A random order in which every run of neighbours has the classes of the whole.

    A picture's place is how far through its class it stands: the third of ten at 0.25.
    """
    shuffled = torch.randperm(len(labels), generator=generator)
    place = torch.empty(len(labels), dtype=torch.float64)
    for label in labels.unique():
        members = shuffled[labels[shuffled] == label]
        place[members] = (torch.arange(len(members), dtype=torch.float64) + 0.5) / len(members)
    return shuffled[place[shuffled].argsort(stable=True)]


def _whole_groups(groups: Tensor, sizes: Sequence[int], generator: torch.Generator) -> list[Tensor]:
    """Positions of the parts, each made of whole groups and at least of its size."""
    numbers, group_of = groups.unique(return_inverse=True)
    drawn = torch.randperm(len(numbers), generator=generator)
    counts = torch.bincount(group_of)[drawn].cumsum(0)
    parts, first, before = [], 0, 0
    for size in sizes:
        last = int(torch.searchsorted(counts, before + size))
        if last >= len(numbers):
            raise ValueError(f"`sizes` (={tuple(sizes)!r}) ask for more than the groups hold")
        parts.append(torch.isin(group_of, drawn[first : last + 1]).nonzero().squeeze(1))
        first, before = last + 1, int(counts[last])
    return parts
