"""Weights that ship: what is known of each file, and safe reading and writing of files."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import get_ident
from typing import Any, BinaryIO

import torch
from torch import Tensor

from .blocks import did_you_mean
from .preprocessing import PictureTransform, Preprocessing

__all__ = ["Weights", "WeightsError", "get_weights"]

CHECKPOINTS = Path(__file__).parent / "checkpoints"
MAX_HEADER = 4 << 20  # bytes; the largest network here needs a tenth of a megabyte
MAX_MEMBERS = 60_000  # of a zip archive: more need its 64-bit form
UNSIGNED = "0" * 64  # stands for the checksum while it is computed
WRAPPERS = ("state_dict", "model_state_dict", "model")


class WeightsError(ValueError):
    """Weights cannot be used; the message names the file and the reason, nothing was changed."""


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Weights that ship with the library: what they are, and what was measured of them.

    Attributes:
        name: The network's name and what it was trained on: ``"mini_resnet.mnist"``.
        network: Name of the network.
        options: Options of its factory.
        file: Name of the file.
        sha256: The file's checksum.
        size: Bytes of the file.
        recipe: Name of the recipe that trained it, one of `list_recipes`.
        seed: The recipe's seed.
        preprocessing: Size and normalisation of the pictures.
        correct: How many of MNIST's 10,000 test digits this very file recognises.
        accuracies: Test accuracy of each seed's network, this file's first, from 0 to 1.
        nll: Negative log-likelihood a test digit, in nats, of this file.
        calibration_error: Expected calibration error over 15 bins on the test digits.
        params: Number of parameters.
        macs: Multiply-accumulates of one picture.
        training_seconds: Time that training took, without evaluation.
        machine: The machine that trained it.
    """

    name: str
    network: str
    options: Mapping[str, Any]
    file: str
    sha256: str
    size: int
    recipe: str
    seed: int
    preprocessing: Preprocessing
    correct: int
    accuracies: tuple[float, ...]
    nll: float
    calibration_error: float
    params: int
    macs: int
    training_seconds: float
    machine: str

    @property
    def path(self) -> Path:
        """Where the file lies."""
        return CHECKPOINTS / self.file

    @property
    def accuracy(self) -> float:
        """Part of MNIST's test digits that this file recognises, from 0 to 1."""
        return self.correct / 10_000

    @property
    def accuracy_mean(self) -> float:
        """Mean test accuracy over the seeds."""
        return sum(self.accuracies) / len(self.accuracies)

    @property
    def accuracy_sd(self) -> float:
        """Standard deviation of the test accuracy over the seeds (with n - 1)."""
        return torch.tensor(self.accuracies, dtype=torch.float64).std().item()

    def transforms(self) -> PictureTransform:
        """From any pictures of digits to the network's input; a torchvision-style transform."""
        return PictureTransform(self.preprocessing)

    def state_dict(self) -> dict[str, Tensor]:
        """The tensors of the file, whose checksum is checked.

        Raises:
            WeightsError: If the file is not what it was when it was measured.
            FileNotFoundError: If it does not exist.
        """
        return read_safetensors(self.path, self.sha256)[0]


@cache
def manifest() -> dict[str, Weights]:
    """The weights that ship, by name."""
    records = json.loads((CHECKPOINTS / "manifest.json").read_text("utf-8"))
    return {record["name"]: _from_record(record) for record in records}


def _from_record(record: dict[str, Any]) -> Weights:
    preprocessing = Preprocessing(**record["preprocessing"])
    accuracies = tuple(record["accuracies"])
    return Weights(**{**record, "preprocessing": preprocessing, "accuracies": accuracies})


def get_weights(name: str) -> Weights:
    """The record of weights that ship.

    Args:
        name: ``"mini_resnet.mnist"``, or the network's name alone for its ``.mnist``.

    Raises:
        ValueError: If there are none of that name; the message names those that there are.
    """
    found = manifest().get(name) or manifest().get(f"{name}.mnist")
    if found is None:
        known = ", ".join(manifest())
        hint = did_you_mean(name, manifest()) or f"there are {known}"
        raise ValueError(f"`name` (={name!r}) must be the name of weights that ship; {hint}")
    return found


# --- Files -----------------------------------------------------------------------------------


def read_file(path: Path) -> Mapping[str, Any]:
    """The state dict in a file of either kind, read without running any code it may hold.

    Raises:
        FileNotFoundError: If there is no such file.
        WeightsError: If it is none, damaged, or holds NaN or infinity.
    """
    _check_is_file(path)
    state = read_safetensors(path)[0] if path.suffix == ".safetensors" else _read_pickled(path)
    for name, value in state.items():
        if isinstance(value, Tensor) and not _is_finite(value):
            raise WeightsError(f"'{path}' must hold finite numbers; {name} has NaN or infinity")
    return state


def read_safetensors(
    path: Path, sha256: str | None = None
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a safetensors file.

    Its checksum must be the one given, or else the one in its metadata, where there is one.

    Raises:
        FileNotFoundError: If there is no such file.
        WeightsError: If it is damaged or something else.
    """
    from safetensors import SafetensorError, safe_open

    _check_is_file(path)
    metadata = read_metadata(path)
    stated = sha256 or metadata.get("sha256")
    if stated is not None:
        found = _checksum(path, "" if sha256 else stated)
        if found != stated:
            raise WeightsError(f"'{path}' must have the SHA-256 {stated}, it has {found}")
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise WeightsError(f"'{path}' must be a safetensors file: {error}") from error


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file, of which nothing else is read.

    Raises:
        FileNotFoundError: If there is no such file.
        WeightsError: If it is something else.
    """
    _check_is_file(path)
    with path.open("rb") as file:
        header = _read_header(file, path)
    try:
        metadata = json.loads(header).get("__metadata__", {})
    except (ValueError, AttributeError, RecursionError) as error:
        reason = f"its header is no JSON object ({error})"
        raise WeightsError(f"'{path}' must be a safetensors file; {reason}") from error
    strings = isinstance(metadata, dict) and all(isinstance(x, str) for x in metadata.values())
    if not strings:
        raise WeightsError(f"'{path}' must have strings as metadata; it has {metadata!r:.80}")
    return metadata


@dataclass(frozen=True)
class Origin:
    """What a file says of the network whose weights it holds; None and {} where it says nothing."""

    network: str | None
    options: Mapping[str, Any]
    preprocessing: Preprocessing | None


def origin(path: Path) -> Origin:
    """What a safetensors file says of its network.

    Raises:
        FileNotFoundError: If there is no such file.
        WeightsError: If it is something else, or says it in another way than this library.
    """
    metadata = read_metadata(path)
    try:
        options = json.loads(metadata.get("options", "{}"))
        values = json.loads(metadata.get("preprocessing", "null"))
        preprocessing = None if values is None else Preprocessing(**values)
    except (ValueError, TypeError, RecursionError) as error:
        raise WeightsError(f"'{path}' must say what its network is: {error}") from error
    if not isinstance(options, dict):
        raise WeightsError(f"'{path}' must have a dictionary of options; it has {options!r:.80}")
    return Origin(metadata.get("network"), options, preprocessing)


def _check_is_file(path: Path) -> None:
    if not path.exists():
        raise FileNotFoundError(
            f"no such file of weights: '{path}'; a factory's `weights` may also be 'mnist', "
            "'imagenet', a network, a state dict, or a record of get_weights"
        )
    if not path.is_file():
        raise WeightsError(f"'{path}' must be a file; it is a directory or a device")


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


def _checksum(path: Path, signature: str) -> str:
    """The file's SHA-256; its own signature, if it has one, counted as zeros."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        if signature:
            header = _read_header(file, path)
            file.seek(0)
            digest.update(file.read(8) + header.replace(signature.encode(), UNSIGNED.encode(), 1))
            file.seek(8 + len(header))
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _is_finite(tensor: Tensor) -> bool:
    if tensor.is_meta or tensor.is_quantized or tensor.layout != torch.strided:
        return True  # refused, with a reason of its own, where it is to be used
    return not tensor.is_floating_point() or bool(tensor.isfinite().all())


def _read_pickled(path: Path) -> Mapping[str, Any]:
    """The state dict in a file of torch.save."""
    try:
        archive = zipfile.is_zipfile(path)  # files in torch's older format cannot be mapped
        if archive:
            _check_archive(path)
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=archive)
    except Exception as error:
        reason = str(error) if isinstance(error, WeightsError) else type(error).__name__
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


def _check_archive(path: Path) -> None:
    """Refuses a zip archive that unpacks to more than torch.save would have written."""
    with path.open("rb") as file:
        file.seek(-22, os.SEEK_END)
        members = struct.unpack("<H", file.read(22)[10:12])[0]
    if members > MAX_MEMBERS:
        raise WeightsError(f"it has more than {MAX_MEMBERS:,} parts")
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise WeightsError("it is compressed")
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise WeightsError("its parts overlap")
    if any(e.filename.endswith("/data.pkl") and e.file_size > MAX_HEADER for e in entries):
        raise WeightsError(f"it describes its tensors in more than {MAX_HEADER:,} bytes")


def write_safetensors(path: Path, state: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Writes tensors with their metadata and a checksum over every bit of the file."""
    from safetensors.torch import save

    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    content = save(tensors, {**metadata, "sha256": UNSIGNED})
    digest = hashlib.sha256(content).hexdigest()
    with written_whole(path) as file:
        file.write(content.replace(UNSIGNED.encode(), digest.encode(), 1))


@contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which takes the path's place when all of it is on the disk, or never."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}-{get_ident()}.part")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if os.name == "posix":  # the new name, too, is to be on the disk
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
