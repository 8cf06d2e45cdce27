"""Reading and writing files of weights safely."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from .._files import written_whole
from ..pictures.preprocessing import Preprocessing
from .pickles import PickleRefused, check_pickles

__all__ = ["WeightsError"]

MAX_FILE = 2 << 30  # bytes; the largest network here needs a quarter of a gigabyte
MAX_HEADER = 1 << 20  # bytes; it needs a tenth of a megabyte
UNSIGNED = "0" * 64  # stands for the checksum while it is computed
WRAPPERS = ("state_dict", "model_state_dict", "model")


class WeightsError(ValueError):
    """Weights cannot be used; the message names the file and the reason, nothing was changed."""


def read_file(path: Path) -> Mapping[str, Any]:
    """The state dict in a file of either kind, read without running any code it may hold.

    Raises:
        FileNotFoundError: If there is no such file.
        WeightsError: If it is none, or damaged.
    """
    return read_safetensors(path)[0] if is_safetensors(path) else _read_pickled(path)


def is_safetensors(path: Path) -> bool:
    """Whether the file's name says so."""
    return path.suffix.lower() == ".safetensors"


def read_safetensors(path: Path, sha256: str | None = None) -> tuple[dict[str, Tensor], FileInfo]:
    """The tensors of a safetensors file, and what it says of their network.

    Its checksum must be the one given, or else the one it states; files of `save_model` do. It
    is read once, so that what was checked is what is used, whoever writes meanwhile.

    Raises:
        FileNotFoundError: If there is no such file.
        WeightsError: If it is damaged or something else.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    _check_is_file(path)
    with path.open("rb") as file:
        header = _read_header(file, path)
        file.seek(0)
        content = file.read()
    metadata = _metadata(header, path)
    stated = sha256 or metadata.get("sha256")
    if stated is not None:
        zeroed = header if sha256 else header.replace(stated.encode(), UNSIGNED.encode(), 1)
        digest = hashlib.sha256(content[:8] + zeroed)
        digest.update(memoryview(content)[8 + len(header) :])
        if digest.hexdigest() != stated:
            found = digest.hexdigest()
            raise WeightsError(f"'{path}' must have the SHA-256 {stated}, it has {found}")
    made = _parse_info(metadata, path)
    try:
        return load(content), made
    except (SafetensorError, OSError, RuntimeError, ValueError, TypeError, KeyError) as error:
        raise WeightsError(f"'{path}' must be a safetensors file: {error!s:.200}") from error


def read_info(path: Path) -> FileInfo:
    """What a safetensors file says of its network, of which nothing else is read.

    Raises:
        FileNotFoundError: If there is no such file.
        WeightsError: If it is something else, or says it in another way than this library.
    """
    _check_is_file(path)
    with path.open("rb") as file:
        return _parse_info(_metadata(_read_header(file, path), path), path)


def _metadata(header: bytes, path: Path) -> dict[str, str]:
    """The metadata in the header of a safetensors file; those of ours must be signed."""
    try:
        metadata = json.loads(header).get("__metadata__", {})
    except (ValueError, AttributeError, RecursionError) as error:
        reason = f"its header is no JSON object ({error!s:.80})"
        raise WeightsError(f"'{path}' must be a safetensors file; {reason}") from error
    strings = isinstance(metadata, dict) and all(isinstance(x, str) for x in metadata.values())
    if not strings:
        raise WeightsError(f"'{path}' must have strings as metadata; it has {metadata!r:.80}")
    stated = metadata.get("sha256")
    if stated is None and metadata.keys() & {"network", "options", "preprocessing"}:
        raise WeightsError(f"'{path}' must state its SHA-256, as save_model writes it")
    if stated is not None and not re.fullmatch("[0-9a-f]{64}", stated):
        raise WeightsError(f"'{path}' must state a SHA-256; it has {stated!r:.80}")
    return metadata


@dataclass(frozen=True)
class FileInfo:
    """What a file says of the network whose weights it holds; None and {} where it says nothing."""

    network: str | None
    options: Mapping[str, Any]
    preprocessing: Preprocessing | None


def _parse_info(metadata: Mapping[str, str], path: Path) -> FileInfo:
    try:
        options = json.loads(metadata.get("options", "{}"))
        values = json.loads(metadata.get("preprocessing", "null"))
        preprocessing = None if values is None else Preprocessing(**values)
    except (ValueError, TypeError, RecursionError) as error:
        raise WeightsError(f"'{path}' must say what its network is: {error!s:.200}") from error
    if not isinstance(options, dict):
        raise WeightsError(f"'{path}' must have a dictionary of options; it has {options!r:.80}")
    return FileInfo(metadata.get("network"), options, preprocessing)


def _check_is_file(path: Path) -> None:
    if not os.path.exists(path):  # Path.exists raises for what is no name
        raise FileNotFoundError(
            f"no such file of weights: '{path!s:.200}'; a factory's `weights` may also be 'mnist', "
            "'imagenet', a network, a state dict, or a record of get_weights"
        )
    if not path.is_file():
        raise WeightsError(f"'{path}' must be a file; it is a directory or a device")
    if path.stat().st_size > MAX_FILE:
        raise WeightsError(f"'{path}' must have at most {MAX_FILE:,} bytes")


def _read_header(file: BinaryIO, path: Path) -> bytes:
    """The header of a safetensors file, between its own length and the tensors."""
    start = file.read(8)
    size = os.fstat(file.fileno()).st_size
    length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
    if length > size - 8:
        raise WeightsError(f"'{path}' must be a safetensors file; it ends within its header")
    if length > MAX_HEADER:
        raise WeightsError(
            f"'{path}' must have a header of at most {MAX_HEADER:,} bytes; it has {length:,}"
        )
    return file.read(length)


def _read_pickled(path: Path) -> Mapping[str, Any]:
    """The state dict in a file of torch.save."""
    _check_is_file(path)
    try:
        archive = check_pickles(path)
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=archive)
    except Exception as error:
        reason = str(error) if isinstance(error, PickleRefused) else type(error).__name__
        raise WeightsError(
            f"'{path}' must hold a state dict, as torch.save(model.state_dict(), …) writes it, or "
            "be a .safetensors file; reading it without running the code that it may hold failed "
            f"({reason}). Of a TorchScript file pass torch.jit.load(path); of a "
            "whole saved network, if you trust it, the network"
        ) from error
    if not isinstance(state, Mapping):
        raise WeightsError(f"'{path}' must hold a state dict; it holds a {type(state).__name__}")
    return inner_state(state)


def inner_state(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """The state dict inside a training checkpoint, where it lies under a usual key."""
    for key in WRAPPERS:
        if isinstance(inner := state.get(key), Mapping):
            return inner
    return state


def is_finite(tensor: Tensor) -> bool:
    """Whether a tensor holds neither NaN nor infinity; of floats without a mask of their size."""
    if not tensor.is_floating_point() or not tensor.numel():
        return bool(tensor.isfinite().all())
    return all(map(math.isfinite, torch.stack(tensor.aminmax()).tolist()))


def write_safetensors(path: Path, state: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Writes tensors with their metadata and a checksum over every bit of the file."""
    from safetensors.torch import save

    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    content = _in_order(save(tensors, {**metadata, "sha256": UNSIGNED}))
    digest = hashlib.sha256(content).hexdigest()
    with written_whole(path) as file:
        file.write(content.replace(UNSIGNED.encode(), digest.encode(), 1))


def _in_order(content: bytes) -> bytes:
    """A safetensors file with its metadata sorted; the package leaves their order to chance."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors are aligned to 8 bytes
    return len(text).to_bytes(8, "little") + text + content[end:]
