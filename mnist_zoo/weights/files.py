"""Reads and writes files of weights safely."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from .._files import written_whole
from .._names import printable
from ..pictures.familiarity import Familiarity, parse_familiarity
from ..pictures.preprocessing import MAX_SIDE, Preprocessing, parse_preprocessing
from .archives import Archive
from .nested import AmbiguousError, nested_state
from .pickles import Foreign, PickleRefused, StoredTensor
from .tensors import Layout, LayoutError, read_layout, read_tensors

__all__ = ["WeightsError"]

MAX_FILE = 2 << 30  # bytes; the largest network here needs a quarter of a gigabyte
MAX_HEADER = 1 << 20  # bytes; the largest network here needs a tenth of a megabyte
MAX_TENSORS = 512 << 20  # bytes, where no network says how large they may be
# these need a checksum
SIGNED = {"network", "options", "preprocessing", "classes", "tied", "familiarity"}
UNSIGNED = b"0" * 64  # stands in the header while the checksum is computed
ONE_THREAD = 1 << 15  # numbers; for more, torch starts threads, which wait where cores are busy
RUN = "mnist_zoo checkpoint"  # how the format of a checkpoint of `fit` begins


class WeightsError(ValueError):
    """Weights cannot be used; the message names the file and the reason. Nothing was changed.

    Example:
        >>> from pathlib import Path
        >>> from mnist_zoo import WeightsError, load_model
        >>> _ = Path("digits.safetensors").write_bytes(b"not weights")
        >>> try:
        ...     load_model("digits.safetensors")
        ... except WeightsError as error:
        ...     print(error)
        'digits.safetensors' must be a safetensors file; it ends within its header
    """


@dataclass(frozen=True)
class FileInfo:
    """Describes the network whose weights a file holds; None and {} where the file is silent."""

    network: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    preprocessing: Preprocessing | None = None
    classes: tuple[str, ...] | None = None
    tied: Mapping[str, str] = field(default_factory=dict)
    """Parameters that are the same as an earlier one, by their names."""
    familiarity: Familiarity | None = None


@dataclass(frozen=True)
class WeightsFile:
    """The content of one file of weights, which was read once, as it was checked."""

    path: Path
    state: Mapping[str, Any]
    info: FileInfo


def is_safetensors(path: Path) -> bool:
    """Whether the file's name ends in ``.safetensors``."""
    return path.suffix.lower() == ".safetensors"


def read_file(path: Path, most: int = MAX_FILE) -> WeightsFile:
    """Reads a safetensors file, or what ``torch.save`` saved; runs no code in it.

    The file is opened once, and every number is read once, into memory of its own, before it is
    checked. So another process that writes to the file meanwhile may spoil the reading, which is
    then an error, but not what was checked.

    Args:
        path: The file.
        most: The most bytes that its tensors may take.

    Raises:
        FileNotFoundError: If there is no such file.
        WeightsError: If it is damaged or something else, or its tensors take more.
    """
    if is_safetensors(path):
        return read_safetensors(path, most=most)
    with _opened(path) as (file, size):
        return read_saved(file, size, path, most)


def read_safetensors(
    path: Path,
    sha256: str | None = None,
    *,
    most: int = MAX_FILE,
    admit: Callable[[FileInfo, Layout], object] | None = None,
    check: Callable[[Mapping[str, Tensor]], object] | None = None,
) -> WeightsFile:
    """Reads the tensors of a safetensors file and the description of their network.

    The file is opened and read once, so the tensors are those that were checked, even if
    another process writes to the file meanwhile.

    Args:
        path: The file.
        sha256: The checksum that the file must have; None for the one that it states, if any.
            Files of `save_model` state theirs.
        most: The most bytes that its tensors may take.
        admit: Called with what the file says of its network and with the types and shapes of its
            tensors, before they are read; raises a WeightsError if they cannot be used.
        check: Called with the tensors; raises a WeightsError if they cannot be used. The checksum
            may still be computed meanwhile; if it is another, that is the error.

    Raises:
        FileNotFoundError: If there is no such file.
        WeightsError: If it is damaged or something else, or has another checksum.
    """
    with _opened(path) as (file, size):
        start, header = _read_header(file, size, path)
        entries = _parse_header(header, path)
        metadata = _parse_metadata(entries.pop("__metadata__", {}), path)
        stated = sha256 or metadata.get("sha256")
        zeroed = header if sha256 or not stated else header.replace(stated.encode(), UNSIGNED, 1)
        digest = hashlib.sha256(start + zeroed)
        state: Mapping[str, Tensor] = {}
        info, problem = FileInfo(), None
        try:
            info = _parse_info(metadata, path)
            layout = read_layout(entries, size - 8 - len(header))
            check_size(size, most, path)
            if admit:
                admit(info, layout)
            state = read_tensors(file, layout, digest.update, check)
        except (LayoutError, WeightsError) as error:
            problem = error
            while stated and (rest := file.read(1 << 20)):  # another checksum explains more
                digest.update(rest)
    if stated and digest.hexdigest() != stated:
        found = digest.hexdigest()
        raise WeightsError(f"'{path}' must have the SHA-256 {stated}; it has {found}")
    if isinstance(problem, LayoutError):
        raise WeightsError(
            f"'{path}' must be a safetensors file; {printable(str(problem))}"
        ) from problem
    if problem:
        raise problem
    return WeightsFile(path, state, info)


def read_content(path: Path) -> bytes:
    """Reads a whole file of weights, of at most `MAX_FILE` bytes.

    Raises:
        FileNotFoundError: If there is no such file.
        WeightsError: If it is a folder or a device, or larger.
    """
    with _opened(path) as (file, size):
        return file.read(size)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BufferedReader, int]]:
    """A file of weights and its size."""
    if not os.path.exists(path):  # Path.exists raises for an impossible name
        raise FileNotFoundError(f"no such file of weights: '{path!s:.200}'")
    if not path.is_file():
        raise WeightsError(f"'{path}' must be a file; it is a directory or a device")
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_FILE:
            raise WeightsError(f"'{path}' must have at most {MAX_FILE:,} bytes; it has {size:,}")
        yield file, size


def read_saved(file: BinaryIO, size: int, path: Path, most: int = MAX_FILE) -> WeightsFile:
    """The state dict in a file of ``torch.save``, and what is known of its network.

    Args:
        file: The file, open.
        size: Its size.
        path: Its name.
        most: The most bytes that its tensors may take.

    Raises:
        WeightsError: If it holds something else, or ``torch.save`` would not have written it.
    """
    try:
        archive = Archive(file, size)
        if not isinstance(archive.value, dict):
            kind = archive.value.what if isinstance(archive.value, Foreign) else "something else"
            raise PickleRefused(f"it holds no dictionary, but {kind!r:.80}")
        stored = inner_state(archive.value)
        tensors = {name: value for name, value in stored.items() if _is_stored(value)}
        check_size(archive.size_of(tensors), most, path)
        state = {**stored, **archive.read(tensors)}
        return WeightsFile(path, state, info_in(archive.value))
    except WeightsError:
        raise
    except AmbiguousError as error:
        raise WeightsError(f"'{path}' must hold one network; {printable(str(error))}") from error
    except Exception as error:
        reason = str(error) if isinstance(error, PickleRefused) else type(error).__name__
        raise WeightsError(
            f"'{path}' must hold a state dict, as torch.save(model.state_dict(), …) writes it, or "
            "be a .safetensors file; reading it without running the code that it may hold failed "
            f"({printable(reason)}). For a TorchScript file pass torch.jit.load(path). For a whole "
            "saved network that you trust, load it and pass the network"
        ) from error


def check_size(size: int, most: int, path: Path) -> None:
    """Raises WeightsError if the tensors of a file take more bytes than its network may have."""
    if size > most:
        raise WeightsError(
            f"'{path}' must hold at most {most:,} bytes of tensors for this network; it holds "
            f"{size:,}"
        )


def _is_stored(value: object) -> bool:
    return isinstance(value, StoredTensor)


def inner_state(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """The state dict inside a training checkpoint.

    Of a checkpoint of `fit` these are the weights that `fit` would return: the best ones where
    the recipe selects them, or else the average where it keeps one.

    Raises:
        AmbiguousError: If it holds several of the same names, and none is the average.
    """
    if not _is_run(state):
        return nested_state(state)
    kept = (state.get(key) for key in ("best", "ema", "model"))
    return next((inner for inner in kept if isinstance(inner, Mapping)), state)


def info_in(state: Mapping[str, Any]) -> FileInfo:
    """What a checkpoint of `fit` says of its network; nothing, if it is another's.

    Raises:
        ValueError: If it says something impossible.
        Exception: Of many types, if `fit` did not write it.
    """
    if not _is_run(state):
        return FileInfo()
    # an older version noted neither the network nor how its images were prepared
    preprocessing = parse_preprocessing(
        state.get("preprocessing", state["recipe"]["preprocessing"])
    )
    classes = parse_classes(state.get("classes"))
    network = state.get("network", {})
    if network.get("factory", "None") == "None":
        return FileInfo(preprocessing=preprocessing, classes=classes)
    return FileInfo(network["factory"], json.loads(network["options"]), preprocessing, classes)


def _is_run(state: Mapping[str, Any]) -> bool:
    return isinstance(kind := state.get("format"), str) and kind.startswith(RUN)


def _read_header(file: BufferedReader, size: int, path: Path) -> tuple[bytes, bytes]:
    """The first 8 bytes of a safetensors file, and the header, whose length they are."""
    start = file.read(8)
    length = int.from_bytes(start, "little")
    if len(start) < 8 or length > size - 8:
        raise WeightsError(f"'{path}' must be a safetensors file; it ends within its header")
    if length > MAX_HEADER:
        raise WeightsError(
            f"'{path}' must have a header of at most {MAX_HEADER:,} bytes; it has {length:,}"
        )
    return start, file.read(length)


def _parse_header(header: bytes, path: Path) -> dict[str, Any]:
    try:
        entries = json.loads(header)
        if not isinstance(entries, dict):
            raise TypeError(f"it is a {type(entries).__name__}")
    except (ValueError, TypeError, RecursionError) as error:
        reason = f"its header is no JSON object ({printable(f'{error!s:.80}')})"
        raise WeightsError(f"'{path}' must be a safetensors file; {reason}") from error
    return entries


def _parse_metadata(metadata: Any, path: Path) -> dict[str, str]:
    """Checks the metadata of a safetensors file; a file of ours must state its checksum."""
    strings = isinstance(metadata, dict) and all(isinstance(x, str) for x in metadata.values())
    if not strings:
        raise WeightsError(f"'{path}' must have strings as metadata; it has {metadata!r:.80}")
    stated = metadata.get("sha256")
    if stated is None and metadata.keys() & SIGNED:
        raise WeightsError(f"'{path}' must state its SHA-256, as save_model writes it")
    if stated is not None and not re.fullmatch("[0-9a-f]{64}", stated):
        raise WeightsError(f"'{path}' must state a SHA-256; it has {stated!r:.80}")
    return dict(metadata)


def _parse_info(metadata: Mapping[str, str], path: Path) -> FileInfo:
    try:
        options = json.loads(metadata.get("options", "{}"))
        tied = json.loads(metadata.get("tied", "{}"))
        values = json.loads(metadata.get("preprocessing", "null"))
        preprocessing = None if values is None else parse_preprocessing(values)
        classes = parse_classes(json.loads(metadata.get("classes", "null")))
        familiarity = parse_familiarity(metadata.get("familiarity"))
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        reason = printable(f"{error!s:.200}")
        raise WeightsError(f"'{path}' must describe its network: {reason}") from error
    if not isinstance(options, dict):
        raise WeightsError(f"'{path}' must have a dictionary of options; it has {options!r:.80}")
    if not isinstance(tied, dict) or not all(isinstance(name, str) for name in tied.values()):
        raise WeightsError(f"'{path}' must tie parameters by their names; it has {tied!r:.80}")
    if isinstance(size := options.get("image_size"), int) and size > MAX_SIDE:
        raise WeightsError(f"'{path}' must state an `image_size` of at most {MAX_SIDE}")
    return FileInfo(metadata.get("network"), options, preprocessing, classes, tied, familiarity)


def parse_classes(names: Any) -> tuple[str, ...] | None:
    """The names of classes that a file states; None for none.

    Raises:
        ValueError: If they are something else.
    """
    listed = isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names)
    if names is not None and not listed:
        raise ValueError(f"the names of its classes must be strings; it has {names!r:.80}")
    return tuple(names) if names else None


def is_finite(tensor: Tensor) -> bool:
    """Whether a tensor holds neither NaN nor infinity; floats need no mask of the same size."""
    if not tensor.is_floating_point() or not tensor.numel():
        return bool(tensor.isfinite().all())
    if tensor.numel() <= ONE_THREAD:
        return all(math.isfinite(limit.item()) for limit in tensor.aminmax())
    parts = tensor.flatten().split(ONE_THREAD)
    limits = [limit for part in parts for limit in part.aminmax()]
    return all(map(math.isfinite, torch.stack(limits).tolist()))


def write_safetensors(path: Path, state: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Writes tensors with their metadata and a checksum over every bit of the file."""
    from safetensors.torch import save

    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    seen: set[int] = set()
    for name, value in tensors.items():  # the package refuses tensors that share memory
        place = value.untyped_storage().data_ptr()
        tensors[name] = value.clone() if place in seen else value
        seen.add(place)
    content = _sort_metadata(save(tensors, {**metadata, "sha256": UNSIGNED.decode()}))
    digest = hashlib.sha256(content).hexdigest()
    with written_whole(path) as file:
        file.write(content.replace(UNSIGNED, digest.encode(), 1))


def _sort_metadata(content: bytes) -> bytes:
    """Sorts the metadata of a safetensors file, whose order the package leaves to chance."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors are aligned to 8 bytes
    return len(text).to_bytes(8, "little") + text + content[end:]
