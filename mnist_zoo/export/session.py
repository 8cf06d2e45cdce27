"""`Session`: an exported file as a network, run by ONNX Runtime or ExecuTorch."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from .._checks import check_positive
from .._files import expanded
from .._names import printable
from ..models.inputs import check_input
from ..pictures.preprocessing import MAX_SIDE, Preprocessing, parse_preprocessing
from .program import INPUT, LOGITS, PROBABILITIES, ExportError, Opened, Pixels, need, square_shape

__all__ = ["Session", "load_session"]

EXECUTORCH = b"ET12"  # in its files, from the fifth byte on
MAX_CHANNELS = 64  # of an input, as far as a file is believed


class Session(nn.Module):
    """A network in a file of ONNX or ExecuTorch, run by its runtime; `load_session` creates it.

    `predict`, `evaluate` and `ensemble` accept it like any other network. It has no parameters.

    Attributes:
        path: The file.
        input_size: Shape (C, H, W) of one input.
        num_classes: Number of classes.
        classes: Names of the classes.
        preprocessing: Size and normalisation of its images; for a file that normalises uint8
            images itself, no normalisation.
        pixels: Type of the numbers that the file takes, ``"float32"`` or ``"uint8"``.
        output: What the file gives, ``"logits"`` or ``"probabilities"``.

    Shape:
        (N, C, H, W) → logits (N, num_classes). If the file returns probabilities, the logits
        are their logarithms.

    Raises:
        ExportError: If the runtime cannot read the file, or `export` did not write it.

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

    def __init__(self, path: Path, opened: Opened) -> None:
        super().__init__()
        try:
            stated = json.loads(opened.stated)
            self.preprocessing = parse_preprocessing(stated["preprocessing"])
            self.classes = tuple(map(str, stated["classes"]))
            self.input_size = square_shape(self, tuple(opened.shape[1:]))
            self.output = PROBABILITIES if stated["output"] == PROBABILITIES else LOGITS
            if opened.count != len(self.classes):
                raise ValueError(f"it gives {opened.count} numbers for {len(self.classes)} classes")
            _check_input(opened, self.input_size, self.preprocessing)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            reason = printable(f"{error!s:.300}")
            raise ExportError(
                f"'{path}' must be a file that mnist_zoo.export wrote: {reason}"
            ) from error
        self.path = path
        self.in_channels = self.input_size[0]
        self.num_classes = len(self.classes)
        self.pixels: Pixels = "uint8" if opened.dtype == torch.uint8 else "float32"
        self._opened = opened

    @override
    def forward(self, x: Tensor) -> Tensor:
        """Maps images (N, C, H, W) to logits (N, num_classes) on the device of the images.

        Raises:
            ValueError: If the images do not have the shape that the file expects, are not
                floating-point numbers, or are not in 0…1 for a file that normalises them itself.
            ExportError: If the runtime fails.
        """
        return self.with_familiarity(x)[0]

    def with_familiarity(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Also gives the familiarity (N,) of images (N, C, H, W), where the file tells it."""
        check_input(x, self.in_channels, self.input_size[1])
        found = [self._opened.run(batch) for batch in self.batches(x)]
        outputs = found[0] if len(found) == 1 else self._joined(found)
        if not x.is_cpu:
            outputs = [output.to(x.device) for output in outputs]
        values, familiarity = outputs[0], outputs[1] if len(outputs) == 2 else None
        if self.output == PROBABILITIES:
            values = values.clamp(min=torch.finfo(values.dtype).tiny).log()
        return values, familiarity

    def _joined(self, batches: Sequence[Sequence[Tensor]]) -> list[Tensor]:
        """The outputs of several batches, or of none, as those of one."""
        none = torch.empty(0, self.num_classes, device="cpu", dtype=torch.float32)
        empty = [none, none[:, 0]] if self.gives_familiarity() else [none]
        return [torch.cat(outputs) for outputs in zip(empty, *batches, strict=True)]

    def gives_familiarity(self) -> bool:
        """Whether the file tells the familiarity of images."""
        return self._opened.gives_familiarity

    def batches(self, x: Tensor) -> Sequence[Tensor]:
        """Images (N, C, H, W) in the numbers and batches that the file takes."""
        images = x
        if x.requires_grad or x.dtype != torch.float32 or not x.is_cpu:  # each takes time
            images = x.detach().to("cpu", torch.float32)
        if self.pixels == "uint8":
            _check_fractions(images)
            images = images.mul(255).round().clamp(0, 255).to(torch.uint8)
        images = images.contiguous()
        one_at_a_time = len(images) != 1 and self._opened.shape[0] == 1
        return [image[None] for image in images] if one_at_a_time else [images]

    @override
    def extra_repr(self) -> str:
        """The name of the file."""
        return f"'{self.path}'"

    @override
    def __getstate__(self) -> dict[str, Any]:
        raise TypeError("a Session cannot be copied or pickled; load its file again")


def _check_fractions(images: Tensor) -> None:
    """Raises ValueError for images that are not in 0…1, but for rounding."""
    low, high = (limit.item() for limit in images.aminmax()) if images.numel() else (0.0, 1.0)
    if not (low >= -0.01 and high <= 1.01):  # NaN is neither
        raise ValueError(
            "the file of the Session normalises images itself; they must be in 0…1, as its own "
            f"`preprocessing` gives them, not in {low:.3g}…{high:.3g}"
        )


def _check_input(opened: Opened, size: tuple[int, int, int], preprocessing: Preprocessing) -> None:
    """Raises ValueError for an input of another form than `export` gives it."""
    if opened.name != INPUT:
        raise ValueError(f"its input is {opened.name}")
    if opened.dtype not in (torch.float32, torch.uint8):
        raise ValueError(f"its input must be of float32 or uint8 numbers; it is of {opened.dtype}")
    if isinstance(batch := opened.shape[0], int) and batch != 1:
        raise ValueError(f"with `batch` None or 1; its batch is {batch}")
    if size[0] > MAX_CHANNELS or size[1] > MAX_SIDE:
        raise ValueError(f"its input is of shape {size}, more than {MAX_SIDE} pixels a side")
    if preprocessing.image_size != size[1]:
        raise ValueError(
            f"its images must have the size of its input, {size[1]}; they have "
            f"{preprocessing.image_size}"
        )


def load_session(path: str | os.PathLike[str], *, threads: int | None = None) -> Session:
    """Loads a file of ONNX or ExecuTorch that `export` or `quantize` wrote, to run it.

    Such a file is a program. Load only files that you trust: one of a stranger may use any amount
    of time and memory, even while it is loaded. What is checked here is only that its input, its
    classes and its images are such as `export` states them, and of an ONNX file that all its
    numbers are in the file itself, and that it has no loop.

    Args:
        path: The file.
        threads: Number of threads per forward pass; None for the runtime's own choice, one per
            core at first. ExecuTorch has one number for all files of a process: set it while no
            other file of its kind is run.

    Returns:
        The network, which `predict`, `evaluate` and `ensemble` accept.

    Raises:
        ExportError: If the runtime cannot read the file, or `export` did not write it.
        FileNotFoundError: If the file does not exist.
        ValueError: If `threads` is less than 1.
        ImportError: If the runtime is missing; the message names the extra that installs it.

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
    path = expanded(path)
    if not os.path.exists(path):  # Path.exists raises for an impossible name
        raise FileNotFoundError(f"`path` (='{path!s:.200}'): no such file")
    if not path.is_file():
        raise ExportError(f"'{path}' must be a file")
    content = path.read_bytes()
    if path.suffix == ".pte" or content[4:8] == EXECUTORCH:
        from . import executorch

        need("executorch", "executorch.runtime")
        return Session(path, executorch.opened(content, threads, f"'{path}'"))
    from . import onnx_file

    need("onnx", "onnxruntime")
    return Session(path, onnx_file.opened(content, threads, f"'{path}'"))
