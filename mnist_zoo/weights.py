"""Weights that ship: what is known of each file, and safe reading and writing of files."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import pickletools
import re
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from ._checks import did_you_mean
from ._files import written_whole
from .preprocessing import PictureTransform, Preprocessing

__all__ = ["Weights", "WeightsError", "get_weights"]

CHECKPOINTS = Path(__file__).parent / "checkpoints"
MAX_FILE = 2 << 30  # bytes; the largest network here needs a quarter of a gigabyte
MAX_HEADER = 1 << 20  # bytes; it needs a tenth of a megabyte
MAX_MEMBERS = 60_000  # of a zip archive
MAX_NESTED = 10_000  # values that a tuple in a pickle holds, and those that it holds hold
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
        accuracies: Test accuracy of each seed's network, before its rounding to half precision,
            from 0 to 1; this file's seed comes first.
        nll: Negative log-likelihood a test digit, in nats, of this file.
        calibration_error: Expected calibration error over 15 bins on the test digits.
        params: Number of parameters.
        macs: Multiply-accumulates of one picture.
        training_seconds: Time that training took, without evaluation.
        machine: The machine that trained it.
    """

    name: str
    network: str
    options: Mapping[str, Any] = field(hash=False)
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

    Returns:
        The record: file, recipe, preprocessing and measured figures.

    Raises:
        ValueError: If there are none of that name; the message names those that there are.
    """
    found = manifest().get(name) or manifest().get(f"{name}.mnist")
    if found is None:
        known = ", ".join(manifest())
        hint = did_you_mean(name, manifest()) or f"there are {known}"
        raise ValueError(f"`name` (={name!r}) must be the name of weights that ship; {hint}")
    return found


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


def read_safetensors(path: Path, sha256: str | None = None) -> tuple[dict[str, Tensor], Origin]:
    """The tensors of a safetensors file, and what it says of their network.

    Its checksum must be the one given, or else the one it states; files of `save_weights` do. It
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
    made = _origin(metadata, path)
    try:
        return load(content), made
    except (SafetensorError, OSError, RuntimeError, ValueError, TypeError, KeyError) as error:
        raise WeightsError(f"'{path}' must be a safetensors file: {error!s:.200}") from error


def origin(path: Path) -> Origin:
    """What a safetensors file says of its network, of which nothing else is read.

    Raises:
        FileNotFoundError: If there is no such file.
        WeightsError: If it is something else, or says it in another way than this library.
    """
    _check_is_file(path)
    with path.open("rb") as file:
        return _origin(_metadata(_read_header(file, path), path), path)


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
        raise WeightsError(f"'{path}' must state its SHA-256, as save_weights writes it")
    if stated is not None and not re.fullmatch("[0-9a-f]{64}", stated):
        raise WeightsError(f"'{path}' must state a SHA-256; it has {stated!r:.80}")
    return metadata


@dataclass(frozen=True)
class Origin:
    """What a file says of the network whose weights it holds; None and {} where it says nothing."""

    network: str | None
    options: Mapping[str, Any]
    preprocessing: Preprocessing | None


def _origin(metadata: Mapping[str, str], path: Path) -> Origin:
    try:
        options = json.loads(metadata.get("options", "{}"))
        values = json.loads(metadata.get("preprocessing", "null"))
        preprocessing = None if values is None else Preprocessing(**values)
    except (ValueError, TypeError, RecursionError) as error:
        raise WeightsError(f"'{path}' must say what its network is: {error!s:.200}") from error
    if not isinstance(options, dict):
        raise WeightsError(f"'{path}' must have a dictionary of options; it has {options!r:.80}")
    return Origin(metadata.get("network"), options, preprocessing)


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
        archive = _check_pickles(path)
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


def _check_pickles(path: Path) -> bool:
    """Refuses what torch.save would not have written; tells whether it is a zip archive."""
    with path.open("rb") as file:
        archive = file.read(4) == b"PK\3\4"  # as torch itself decides
        if not archive:
            file.seek(0)
            for _ in range(5):  # the older format: five pickles, then the data
                _check_pickle(file)
            return False
        members = _count_members(file)
    with zipfile.ZipFile(path) as opened:
        entries = opened.infolist()
        if len(entries) != members:
            raise WeightsError("it miscounts its parts")
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise WeightsError("it is compressed")
        if sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise WeightsError("its parts overlap")
        for entry in entries:
            if entry.filename.lower().endswith("/data.pkl"):  # torch does not look at the case
                with opened.open(entry) as pickle:  # a byte at a time would be slow from there
                    _check_pickle(io.BytesIO(pickle.read(MAX_HEADER + 1000)))
    return True


def _count_members(file: BinaryIO) -> int:
    """How many members a zip archive says it has, in the one place where all readers look."""
    end = file.seek(0, os.SEEK_END)
    file.seek(max(end - 98, 0))
    tail = file.read().rjust(98, b"\0")
    if tail[-22:-18] != b"PK\5\6" or tail[-2:] != b"\0\0":
        raise WeightsError("its end is missing, or something follows it")
    members, size = struct.unpack("<HI", tail[-12:-6])
    if tail[-42:-38] == b"PK\6\7":  # the 64-bit records, which torch.save writes, too
        if tail[-98:-94] != b"PK\6\6" or struct.unpack("<Q", tail[-34:-26])[0] != end - 98:
            raise WeightsError("it has two tables of contents")
        members, size = struct.unpack("<QQ", tail[-66:-50])
    if members > MAX_MEMBERS or size > 200 * MAX_MEMBERS:
        raise WeightsError(f"it has more than {MAX_MEMBERS:,} parts")
    return int(members)


CALLS = re.compile(
    r"collections OrderedDict|torch (Size|device|\w+Storage|b?float\d+|u?int\d+|bool)|"
    r"torch\.storage UntypedStorage|torch\._utils _rebuild_(tensor|tensor_v2|parameter)|"
    r"torch\.nn\.parameter Parameter"
)
"""What the pickle of a state dict calls."""


def _check_pickle(file: Any) -> None:
    """Refuses one pickle that is long, calls anything else, or nests tuples deep.

    `torch.load` runs no code of a file, but it may ask for any amount of memory, and hash tuples
    that hold each other for ever. So the stack is followed here, with a weight for each value.
    """
    start = file.tell()
    stack: list[Any] = []
    memo: dict[Any, Any] = {}
    mark = pickletools.markobject
    for op, arg, place in pickletools.genops(file):
        if place - start > MAX_HEADER:
            raise WeightsError(f"it describes its tensors in more than {MAX_HEADER:,} bytes")
        if "GLOBAL" in op.name and not CALLS.fullmatch(str(arg)):
            raise WeightsError(f"it calls {arg!r:.80}")
        if "PUT" in op.name:
            memo[arg] = stack[-1]
            continue
        taken, weights = list(op.stack_before), []
        if mark in taken:
            while (value := stack.pop()) is not mark:
                weights.append(value)
            taken = taken[: taken.index(mark)]
        weights += [stack.pop() for _ in taken]
        if "GET" in op.name:
            stack.append(memo[arg])
            continue
        weight = 1 + sum(weights) if "TUPLE" in op.name else 1
        if weight > MAX_NESTED:
            raise WeightsError("it nests tuples too deep")
        stack += [mark if kind is mark else weight for kind in op.stack_after]


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
