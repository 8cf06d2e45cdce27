"""Reads and writes files of weights safely."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .._files import written_whole
from ..pictures.preprocessing import Preprocessing
from .pickles import PickleRefused, check_pickles
from .tensors import LayoutError, read_tensors

__all__ = ["WeightsError"]

MAX_FILE = 2 << 30  # bytes; the largest network here needs a quarter of a gigabyte
MAX_HEADER = 1 << 20  # bytes; the largest network here needs a tenth of a megabyte
UNSIGNED = b"0" * 64  # stands in the header while the checksum is computed
ONE_THREAD = 1 << 15  # numbers; for more, torch starts threads, which wait where cores are busy
WRAPPERS = ("state_dict", "model_state_dict", "model")


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


@dataclass(frozen=True)
class WeightsFile:
    """The content of one file of weights, which was read once, as it was checked."""

    path: Path
    state: Mapping[str, Any]
    info: FileInfo


def is_safetensors(path: Path) -> bool:
    """Whether the file's name ends in ``.safetensors``."""
    return path.suffix.lower() == ".safetensors"


def read_file(path: Path) -> WeightsFile:
    """Reads a safetensors file, or a state dict saved by ``torch.save``; runs no code in it.

    The file is opened and read once, so the state is the one that was checked, even if another
    process writes to the file meanwhile.

    Raises:
        FileNotFoundError: If there is no such file.
        WeightsError: If it is damaged or something else.
    """
    if is_safetensors(path):
        return read_safetensors(path)
    return WeightsFile(path, unpickle(read_content(path), path), FileInfo())


def read_safetensors(path: Path, sha256: str | None = None) -> WeightsFile:
    """Reads the tensors of a safetensors file and the description of their network.

    The file is opened and read once, so the tensors are those that were checked, even if
    another process writes to the file meanwhile.

    Args:
        path: The file.
        sha256: The checksum that the file must have; None for the one that it states, if any.
            Files of `save_model` state theirs.

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
        state, problem = {}, None
        try:
            state = read_tensors(file, entries, size - 8 - len(header), digest.update)
        except LayoutError as error:
            problem = error
            while rest := file.read(1 << 20):  # another checksum explains more
                digest.update(rest)
    if stated and digest.hexdigest() != stated:
        found = digest.hexdigest()
        raise WeightsError(f"'{path}' must have the SHA-256 {stated}; it has {found}")
    info = _parse_info(metadata, path)
    if problem:
        raise WeightsError(f"'{path}' must be a safetensors file; {problem}") from problem
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
        raise FileNotFoundError(
            f"no such file of weights: '{path!s:.200}'; a factory's `weights` may also be 'mnist', "
            "'imagenet', a network, a state dict, or a record of get_weights"
        )
    if not path.is_file():
        raise WeightsError(f"'{path}' must be a file; it is a directory or a device")
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_FILE:
            raise WeightsError(f"'{path}' must have at most {MAX_FILE:,} bytes; it has {size:,}")
        yield file, size


def unpickle(content: bytes, path: Path) -> Mapping[str, Any]:
    """The state dict in the content of a file of ``torch.save``.

    Raises:
        WeightsError: If it holds something else, or ``torch.save`` would not have written it.
    """
    try:
        check_pickles(content)
        state = torch.load(BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error) if isinstance(error, PickleRefused) else type(error).__name__
        raise WeightsError(
            f"'{path}' must hold a state dict, as torch.save(model.state_dict(), …) writes it, or "
            "be a .safetensors file; reading it without running the code that it may hold failed "
            f"({reason}). For a TorchScript file pass torch.jit.load(path). For a whole saved "
            "network that you trust, load it and pass the network"
        ) from error
    if not isinstance(state, Mapping):
        raise WeightsError(f"'{path}' must hold a state dict; it holds a {type(state).__name__}")
    return inner_state(state)


def inner_state(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """The state dict inside a training checkpoint, where it has one of the usual keys."""
    for key in WRAPPERS:
        if isinstance(inner := state.get(key), Mapping):
            return inner
    return state


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
        reason = f"its header is no JSON object ({error!s:.80})"
        raise WeightsError(f"'{path}' must be a safetensors file; {reason}") from error
    return entries


def _parse_metadata(metadata: Any, path: Path) -> dict[str, str]:
    """Checks the metadata of a safetensors file; a file of ours must state its checksum."""
    strings = isinstance(metadata, dict) and all(isinstance(x, str) for x in metadata.values())
    if not strings:
        raise WeightsError(f"'{path}' must have strings as metadata; it has {metadata!r:.80}")
    stated = metadata.get("sha256")
    if stated is None and metadata.keys() & {"network", "options", "preprocessing", "classes"}:
        raise WeightsError(f"'{path}' must state its SHA-256, as save_model writes it")
    if stated is not None and not re.fullmatch("[0-9a-f]{64}", stated):
        raise WeightsError(f"'{path}' must state a SHA-256; it has {stated!r:.80}")
    return dict(metadata)


def _parse_info(metadata: Mapping[str, str], path: Path) -> FileInfo:
    try:
        options = json.loads(metadata.get("options", "{}"))
        values = json.loads(metadata.get("preprocessing", "null"))
        preprocessing = None if values is None else Preprocessing(**values)
        classes = json.loads(metadata.get("classes", "null"))
    except (ValueError, TypeError, RecursionError) as error:
        raise WeightsError(f"'{path}' must describe its network: {error!s:.200}") from error
    if not isinstance(options, dict):
        raise WeightsError(f"'{path}' must have a dictionary of options; it has {options!r:.80}")
    named = isinstance(classes, list) and all(isinstance(name, str) for name in classes)
    if classes is not None and not named:
        raise WeightsError(f"'{path}' must have the names of its classes; it has {classes!r:.80}")
    names = tuple(classes) if classes else None
    return FileInfo(metadata.get("network"), options, preprocessing, names)


def is_finite(tensor: Tensor) -> bool:
    """Whether a tensor holds neither NaN nor infinity; floats need no mask of the same size."""
    if not tensor.is_floating_point() or not tensor.numel():
        return bool(tensor.isfinite().all())
    parts = tensor.flatten().split(ONE_THREAD)
    limits = [limit for part in parts for limit in part.aminmax()]
    return all(map(math.isfinite, torch.stack(limits).tolist()))


def write_safetensors(path: Path, state: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Writes tensors with their metadata and a checksum over every bit of the file."""
    from safetensors.torch import save

    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
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
