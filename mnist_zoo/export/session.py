"""`Session`: an exported ONNX file as a network, run by ONNX Runtime."""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from .._checks import check_positive
from .._names import printable
from .._networks import shape_of
from ..models.inputs import check_input
from ..pictures.preprocessing import MAX_SIDE, Preprocessing, parse_preprocessing
from .programs import check_program

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["ExportError", "Session", "load_session"]

INPUT = "digits"
LOGITS, PROBABILITIES = "logits", "probabilities"
METADATA = "mnist_zoo"
MAX_CHANNELS = 64  # of an input, as far as a file is believed


class ExportError(ValueError):
    """A network cannot be exported, or an exported file cannot be read; the message says why.

    Example:
        >>> from pathlib import Path
        >>> from mnist_zoo.export import ExportError, load_session
        >>> size = Path("text.onnx").write_text("not a network")
        >>> try:
        ...     load_session("text.onnx")
        ... except ExportError as error:
        ...     print(error)
        'text.onnx' cannot be read by ONNX Runtime: ...
    """


def square_shape(model: nn.Module, input_size: tuple[int, ...] | None) -> tuple[int, int, int]:
    """The shape (C, S, S) of one input; `Preprocessing` produces square images."""
    shape = shape_of(model, input_size)
    if shape[1] != shape[2]:
        raise ValueError(f"`input_size` (={shape}) must be square, with H equal to W")
    return shape


def need(*packages: str) -> None:
    """Raises ImportError for the first package that is not installed."""
    for package in packages:
        try:
            importlib.import_module(package)
        except ModuleNotFoundError as error:
            message = f'ONNX needs the package {package}: pip install "mnist-zoo[onnx]"'
            raise ImportError(message, name=package) from error


class Session(nn.Module):
    """A network in an ONNX file, run by ONNX Runtime; `load_session` creates it.

    `predict`, `evaluate` and `ensemble` accept it like any other network. It has no parameters.

    Attributes:
        path: The file.
        input_size: Shape (C, H, W) of one input.
        num_classes: Number of classes.
        classes: Names of the classes.
        preprocessing: Size and normalisation of its images.

    Shape:
        (N, C, H, W) → logits (N, num_classes). If the file returns probabilities, the logits
        are their logarithms.

    Raises:
        ExportError: If ONNX Runtime cannot read the file, or `export` did not write it.

    Example:
        >>> import torch
        >>> from mnist_zoo import lenet5
        >>> from mnist_zoo.export import export, load_session
        >>> report = export(lenet5(), "lenet5.onnx")
        >>> session = load_session("lenet5.onnx")
        >>> session
        Session('lenet5.onnx')
        >>> session.input_size, session.num_classes
        ((1, 28, 28), 10)
        >>> session(torch.zeros(3, 1, 28, 28)).shape
        torch.Size([3, 10])
    """

    def __init__(self, path: Path, content: bytes, threads: int | None = None) -> None:
        super().__init__()
        self._session = onnx_session(content, threads, f"'{path}'")
        try:
            (given,), (output,) = self._session.get_inputs(), self._session.get_outputs()
            stated = json.loads(self._session.get_modelmeta().custom_metadata_map[METADATA])
            self.preprocessing = parse_preprocessing(stated["preprocessing"])
            self.classes = tuple(map(str, stated["classes"]))
            batch, *shape = given.shape
            self.input_size = square_shape(self, tuple(shape))
            if given.name != INPUT or output.shape[1] != len(self.classes):
                raise ValueError(f"it maps {given.name} to {output.shape}")
            _check_input(given.type, batch, self.input_size, self.preprocessing)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            reason = printable(f"{error!s:.300}")
            raise ExportError(
                f"'{path}' must be a file that mnist_zoo.export wrote: {reason}"
            ) from error
        self.path = path
        self.in_channels = self.input_size[0]
        self.num_classes = len(self.classes)
        self._gives_probabilities = output.name == PROBABILITIES

    @override
    def forward(self, x: Tensor) -> Tensor:
        """Maps images (N, C, H, W) to logits (N, num_classes) on the device of the images.

        Raises:
            ValueError: If the images do not have the shape that the file expects, or are not
                floating-point numbers.
            ExportError: If ONNX Runtime fails.
        """
        check_input(x, self.in_channels, self.input_size[1])
        values = run_onnx(self._session, x).to(x.device)
        if self._gives_probabilities:
            return values.clamp(min=torch.finfo(values.dtype).tiny).log()
        return values

    @override
    def extra_repr(self) -> str:
        """The name of the file."""
        return f"'{self.path}'"

    @override
    def __getstate__(self) -> dict[str, Any]:
        raise TypeError("a Session cannot be copied or pickled; load its file again")


def _check_input(
    dtype: str, batch: object, size: tuple[int, int, int], preprocessing: Preprocessing
) -> None:
    """Raises ValueError for an input of another form than `export` gives it."""
    if dtype != "tensor(float)":
        raise ValueError(f"its input must be tensor(float); it is {dtype}")
    if isinstance(batch, int):
        raise ValueError(f"it must take any number of images at a time; it takes {batch}")
    if size[0] > MAX_CHANNELS or size[1] > MAX_SIDE:
        raise ValueError(f"its input is of shape {size}, more than {MAX_SIDE} pixels a side")
    if preprocessing.image_size != size[1]:
        raise ValueError(
            f"its images must have the size of its input, {size[1]}; they have "
            f"{preprocessing.image_size}"
        )


def load_session(path: str | os.PathLike[str], *, threads: int | None = None) -> Session:
    """Loads an ONNX file that `export` or `quantize` wrote, to run it with ONNX Runtime.

    An ONNX file is a program. Load only files that you trust: one of a stranger may use any amount
    of time and memory, even while it is loaded. What is checked here is only that its input, its
    classes and its images are such as `export` states them, that all its numbers are in the file
    itself, and that it has no loop.

    Args:
        path: The file.
        threads: Number of threads per forward pass; None for one per core.

    Returns:
        The network, which `predict`, `evaluate` and `ensemble` accept.

    Raises:
        ExportError: If ONNX Runtime cannot read the file, or `export` did not write it.
        FileNotFoundError: If the file does not exist.
        ValueError: If `threads` is less than 1.
        ImportError: If ONNX Runtime is missing; ``pip install "mnist-zoo[onnx]"``.

    Example:
        >>> import torch
        >>> from mnist_zoo import lenet5, predict
        >>> from mnist_zoo.export import export, load_session
        >>> report = export(lenet5(weights="mnist"), "lenet5.onnx")
        >>> model = load_session("lenet5.onnx")
        >>> image = torch.zeros(1, 28, 28)
        >>> image[:, 4:24, 13:15] = 1  # a vertical stroke
        >>> predict(model, image).digit
        1
    """
    if threads is not None:
        check_positive(threads=threads)
    path = Path(path).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"`path` (='{path}'): no such file")
    if not path.is_file():
        raise ExportError(f"'{path}' must be a file")
    need("onnxruntime")
    return Session(path, path.read_bytes(), threads)


def onnx_session(
    content: bytes, threads: int | None, name: str = "the file"
) -> onnxruntime.InferenceSession:
    """Loads a model into ONNX Runtime; `name` stands for it in the message of an error."""
    import onnxruntime

    try:
        check_program(content)
    except ValueError as error:
        raise ExportError(f"{name} cannot be read by ONNX Runtime: {error}") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3  # only errors
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # of many types, which ONNX Runtime does not document
        reason = printable(f"{error!s:.300}")
        raise ExportError(f"{name} cannot be read by ONNX Runtime: {reason}") from error


def run_onnx(session: onnxruntime.InferenceSession, x: Tensor) -> Tensor:
    """The first output for a batch; tensors are on the CPU."""
    values = x.detach().to("cpu", torch.float32).contiguous().numpy()
    try:
        outputs = session.run(None, {INPUT: values})
    except Exception as error:  # of many types, which ONNX Runtime does not document
        reason = printable(f"{error!s:.300}")
        raise ExportError(f"ONNX Runtime cannot run the network: {reason}") from error
    return torch.from_numpy(outputs[0])
