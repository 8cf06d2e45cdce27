"""Plots of what is inside a network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .._checks import check_positive, did_you_mean
from .._networks import eval_mode, unwrapped
from ._style import SIGNED, largest_of, new_figure, tiles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["feature_maps", "filters"]

MATRIX = 16  # channels; of more, kernels are averaged over the input channels


def filters(model: nn.Module, layer: str | None = None, *, limit: int = 64) -> Figure:
    """The kernels of a convolution, on one scale of colours with white at 0.

    With one input channel (or one a group) the kernels stand in a grid, numbered row by row. With
    more, up to 16 either way, there is a column for each output channel and a row for each input
    channel. Beyond that the grid shows each output channel by the mean of its kernels over
    the input channels.

    Args:
        model: Any network.
        layer: Name of the `torch.nn.Conv2d`, as of ``named_modules``; None for the first one.
        limit: Output channels shown, at most: the first ones.

    Returns:
        The figure.

    Raises:
        ValueError: If there is no such layer, or it is no Conv2d.
        ModuleNotFoundError: If matplotlib is not installed.
    """
    check_positive(limit=limit)
    name, conv = _convolution(unwrapped(model), layer)
    weight = conv.weight.detach().float().cpu()
    kernels = weight[:limit]
    title = f"{name}: {_part(len(kernels), len(weight), 'kernels')}" + _size(weight)
    inputs = weight.shape[1]
    if 1 < inputs <= MATRIX and len(kernels) <= MATRIX:
        return _matrix(kernels, title)
    if inputs > 1:
        title += f",\nmean over {inputs} input channels"
    return _grid(kernels.mean(1), title, signed=True)


def _convolution(model: nn.Module, layer: str | None) -> tuple[str, nn.Conv2d]:
    found = {name: m for name, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    if layer is None:
        if not found:
            raise ValueError(f"`model` must have a Conv2d; {type(model).__name__} has none")
        return next(iter(found.items()))
    module = _submodule(model, layer)
    if not isinstance(module, nn.Conv2d):
        kind = type(module).__name__
        raise ValueError(f"`layer` (={layer!r}) must be a Conv2d; it is a {kind}")
    return layer, module


def _submodule(model: nn.Module, name: str) -> nn.Module:
    modules = dict(model.named_modules(remove_duplicate=False))
    if name not in modules:
        known = did_you_mean(name, modules) or "see named_modules()"
        raise ValueError(f"`layer` (={name!r}) must be the name of a layer; {known}")
    return modules[name]


def _part(shown: int, total: int, what: str) -> str:
    return f"{total} {what}" if shown == total else f"the first {shown} of {total} {what}"


def _size(maps: Tensor) -> str:
    return f" of {maps.shape[-2]}×{maps.shape[-1]}"


def _grid(maps: Tensor, title: str, *, signed: bool) -> Figure:
    """Maps (count, H, W) row by row; the ticks tell the number of each."""
    count = len(maps)
    columns = count if count <= 8 else 2 ** math.ceil(math.log2(count) / 2)
    figure, axes, across, down = _tiled([*maps.numpy()], columns, largest_of(maps), signed)
    axes.set_title(title)
    if len(down) == 1:
        axes.set_xticks(across, map(str, range(columns)))
        axes.set_xlabel("channel")
        return figure
    axes.set_xticks(across, [f"+{column}" for column in range(columns)])
    axes.set_yticks(down, [str(row * columns) for row in range(len(down))])
    axes.set_ylabel("channel")
    return figure


def _matrix(kernels: Tensor, title: str) -> Figure:
    """Kernels (outputs, inputs, H, W), a column for each output."""
    outputs, inputs = kernels.shape[:2]
    pictures = [*kernels.transpose(0, 1).flatten(0, 1).numpy()]
    figure, axes, across, down = _tiled(pictures, outputs, largest_of(kernels), signed=True)
    axes.set_xticks(across, map(str, range(outputs)))
    axes.set_yticks(down, map(str, range(inputs)))
    axes.set(xlabel="output channel", ylabel="input channel", title=title)
    return figure


def _tiled(
    pictures: Sequence[Any], columns: int, highest: float, signed: bool
) -> tuple[Figure, Axes, list[float], list[float]]:
    """A figure of tiles with their bar of colours, and the middles of columns and rows."""
    rows = math.ceil(len(pictures) / columns)
    ratio = pictures[0].shape[0] / pictures[0].shape[1]
    tile = min(0.9, 8 / columns, 8 / (rows * ratio))
    figure = new_figure(
        max(3.5, 1.1 * tile * columns + 1.5), max(1.8, 1.1 * tile * rows * ratio + 1)
    )
    axes = figure.add_subplot()
    lowest, colours = (-highest, SIGNED) if signed else (0.0, "viridis")
    across, edges = tiles(axes, pictures, columns, cmap=colours, vmin=lowest, vmax=highest)
    figure.colorbar(axes.images[0], ax=axes, aspect=25, pad=0.02)
    return figure, axes, across, [edge - ratio / 2 for edge in edges]


def feature_maps(model: nn.Module, picture: Tensor, layer: str, *, limit: int = 64) -> Figure:
    """What a layer makes of one picture, in eval mode, all maps on one scale of colours.

    Maps with negative values are blue below 0, white at 0 and red above; others go from dark at 0
    to bright. The network's modes and hooks stay as they were.

    Args:
        model: Any network of one input.
        picture: A picture (C, H, W) as the network expects it: float, after its `Preprocessing`.
            It is moved to the network's device and type.
        layer: Name of a submodule, as of ``named_modules``. Of one that runs several times the
            first run is shown.
        limit: Maps shown, at most: the first ones.

    Returns:
        The figure.

    Raises:
        ValueError: If the picture has another shape or type, there is no such layer, it does not
            run, or what it gives is not (N, C, H, W).
        ModuleNotFoundError: If matplotlib is not installed.
    """
    check_positive(limit=limit)
    if not isinstance(picture, Tensor) or picture.dim() != 3 or not picture.is_floating_point():
        got = f"{picture.dtype} {tuple(picture.shape)}" if isinstance(picture, Tensor) else picture
        raise ValueError(f"`picture` must be float (C, H, W), as Preprocessing gives it, got {got}")
    maps = _output_of(unwrapped(model), layer, picture)
    shown = maps[0, :limit]
    title = f"{layer}: {_part(len(shown), maps.shape[1], 'maps')}{_size(maps)}"
    return _grid(shown, title, signed=bool((shown < 0).any()))


def _output_of(model: nn.Module, layer: str, picture: Tensor) -> Tensor:
    """The layer's first output (1, C, H, W), float32 on the CPU."""
    outputs: list[Any] = []

    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        if not outputs:  # a copy: an in-place ReLU may come next
            outputs.append(output.clone() if isinstance(output, Tensor) else output)

    like = next(model.parameters(), picture)
    handle = _submodule(model, layer).register_forward_hook(keep)
    try:
        with eval_mode(model), torch.inference_mode():
            model(picture[None].to(like))
    finally:
        handle.remove()
    if not outputs:
        raise ValueError(f"`layer` (={layer!r}) must run in the forward pass; it does not")
    output = outputs[0]
    if not isinstance(output, Tensor) or output.dim() != 4:
        got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(f"`layer` (={layer!r}) must give maps (N, C, H, W), but gives {got}")
    return output.float().cpu()
