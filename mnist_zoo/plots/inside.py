"""Plots of the inside of a network: its filters and feature maps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .._checks import check_positive
from .._modes import eval_mode
from .._names import did_you_mean
from .._networks import check_network, unwrapped
from ._style import draw_tiles, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["feature_maps", "filters"]

MATRIX_LIMIT = 16  # with more channels, kernels are averaged over the input channels


def filters(model: nn.Module, layer: str | None = None, *, limit: int = 64) -> Figure:
    """Shows the kernels of a convolution, on one colour scale with white at 0.

    The layout depends on the number of channels:

    - one input channel (or one per group): a grid of kernels, numbered row by row;
    - up to 16 inputs and 16 outputs shown: a column per output and a row per input channel;
    - more: a grid with one kernel per output channel, the mean over its input channels.

    Args:
        model: Any network.
        layer: Name of a `torch.nn.Conv2d`, as in ``named_modules``; None for the first one.
        limit: Largest number of output channels shown; later ones are left out.

    Returns:
        The figure.

    Raises:
        TypeError: If `model` is no network.
        ValueError: If there is no such layer, or it is not a Conv2d.
        ModuleNotFoundError: If matplotlib is not installed.

    Example:
        >>> from mnist_zoo import mini_resnet, plots
        >>> model = mini_resnet(weights="mnist")
        >>> plots.filters(model).savefig("filters.png")
        >>> plots.filters(model, "conv2", limit=16).savefig("conv2.png")
    """
    check_network(model=model)
    check_positive(limit=limit)
    name, conv = _convolution(unwrapped(model), layer)
    weight = conv.weight.detach().float().cpu()
    kernels = weight[:limit]
    title = f"{name}: {_count(len(kernels), len(weight), 'kernels')} of {_size(weight)}"
    inputs = weight.shape[1]
    if 1 < inputs <= MATRIX_LIMIT and len(kernels) <= MATRIX_LIMIT:
        return _draw_matrix(kernels, title)
    if inputs > 1:
        title += f",\nmean over {inputs} input channels"
    return _draw_grid(kernels.mean(1), title, signed=True)


def feature_maps(model: nn.Module, picture: Tensor, layer: str, *, limit: int = 64) -> Figure:
    """Shows the output of a layer for one image, in eval mode, on one colour scale.

    If any value is negative, the scale goes from blue (negative) over white (0) to red (positive);
    otherwise from dark (0) to bright. Training modes and hooks of the network stay as they are.

    Args:
        model: Any network with one input.
        picture: An image (C, H, W) as the network expects it: float, after its `Preprocessing`.
            It is converted to the device and data type of the network.
        layer: Name of a submodule, as in ``named_modules``. If it runs several times, the first
            run is shown.
        limit: Largest number of maps shown; later ones are left out.

    Returns:
        The figure.

    Raises:
        TypeError: If `model` is no network.
        ValueError: If `picture` is not a float tensor (C, H, W), there is no such layer, the layer
            does not run, or its output is not (N, C, H, W).
        ModuleNotFoundError: If matplotlib is not installed.

    Example:
        >>> from mnist_zoo import Preprocessing, load_mnist, mini_resnet, plots
        >>> digits = load_mnist("test", source="sample")
        >>> image = Preprocessing()(digits.images[:1])[0]
        >>> figure = plots.feature_maps(mini_resnet(weights="mnist"), image, "rblock1")
        >>> figure.savefig("rblock1.png")
    """
    check_network(model=model)
    check_positive(limit=limit)
    if not isinstance(picture, Tensor) or picture.dim() != 3 or not picture.is_floating_point():
        got = f"{picture.dtype} {tuple(picture.shape)}" if isinstance(picture, Tensor) else picture
        raise ValueError(f"`picture` must be float (C, H, W), as Preprocessing gives it, got {got}")
    maps = _first_output(unwrapped(model), layer, picture)
    shown = maps[0, :limit]
    title = f"{layer}: {_count(len(shown), maps.shape[1], 'maps')} of {_size(maps)}"
    return _draw_grid(shown, title, signed=bool((shown < 0).any()))


def _convolution(model: nn.Module, layer: str | None) -> tuple[str, nn.Conv2d]:
    """Finds the Conv2d of that name, or the first one, and returns it with its name."""
    if layer is None:
        for name, module in model.named_modules():
            if isinstance(module, nn.Conv2d):
                return name, module
        raise ValueError(f"`model` must have a Conv2d; {type(model).__name__} has none")
    module = _submodule(model, layer)
    if not isinstance(module, nn.Conv2d):
        kind = type(module).__name__
        raise ValueError(f"`layer` (={layer!r}) must be a Conv2d; it is a {kind}")
    return layer, module


def _submodule(model: nn.Module, layer: str) -> nn.Module:
    modules = dict(model.named_modules(remove_duplicate=False))
    if layer not in modules:
        hint = did_you_mean(layer, modules) or "see named_modules()"
        raise ValueError(f"`layer` (={layer!r}) must be the name of a layer; {hint}")
    return modules[layer]


def _first_output(model: nn.Module, layer: str, picture: Tensor) -> Tensor:
    """Runs the network, and returns the layer's first output (1, C, H, W), float32 on the CPU."""
    outputs: list[Any] = []

    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        if not outputs:  # a copy, because an in-place ReLU may follow
            outputs.append(output.clone() if isinstance(output, Tensor) else output)

    reference = next(model.parameters(), picture)  # for device and data type
    handle = _submodule(model, layer).register_forward_hook(keep)
    try:
        with eval_mode(model), torch.inference_mode():
            model(picture[None].to(reference))
    finally:
        handle.remove()
    if not outputs:
        raise ValueError(f"`layer` (={layer!r}) must run in the forward pass; it does not")
    output = outputs[0]
    if not isinstance(output, Tensor) or output.dim() != 4:
        got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(f"`layer` (={layer!r}) must give maps (N, C, H, W), but gives {got}")
    return output.float().cpu()


def _count(shown: int, total: int, plural: str) -> str:
    return f"{total} {plural}" if shown == total else f"the first {shown} of {total} {plural}"


def _size(maps: Tensor) -> str:
    return f"{maps.shape[-2]}×{maps.shape[-1]}"


def _draw_grid(maps: Tensor, title: str, *, signed: bool) -> Figure:
    """Draws maps (count, H, W) row by row.

    In several rows, a map's channel is the sum of the labels of its row and column: 16 and "+3".
    """
    count = len(maps)
    columns = count if count <= 8 else 2 ** math.ceil(math.log2(count) / 2)  # nearly a square
    highest = _largest_magnitude(maps)
    figure, axes, column_xs, row_ys = _draw_maps([*maps.numpy()], columns, highest, signed=signed)
    axes.set_title(title)
    if len(row_ys) == 1:
        axes.set_xticks(column_xs, map(str, range(columns)))
        axes.set_xlabel("channel")
        return figure
    axes.set_xticks(column_xs, [f"+{column}" for column in range(columns)])
    axes.set_yticks(row_ys, [str(row * columns) for row in range(len(row_ys))])
    axes.set_ylabel("channel")
    return figure


def _draw_matrix(kernels: Tensor, title: str) -> Figure:
    """Draws kernels (outputs, inputs, H, W), a column per output and a row per input."""
    outputs, inputs = kernels.shape[:2]
    maps = [*kernels.transpose(0, 1).flatten(0, 1).numpy()]
    highest = _largest_magnitude(kernels)
    figure, axes, column_xs, row_ys = _draw_maps(maps, outputs, highest, signed=True)
    axes.set_xticks(column_xs, map(str, range(outputs)))
    axes.set_yticks(row_ys, map(str, range(inputs)))
    axes.set(xlabel="output channel", ylabel="input channel", title=title)
    return figure


def _largest_magnitude(values: Tensor) -> float:
    """The largest finite magnitude, or 1 if no finite value differs from 0."""
    finite = values[values.isfinite()]
    return finite.abs().amax().item() if finite.any() else 1.0


def _draw_maps(
    maps: Sequence[Any], columns: int, highest: float, *, signed: bool
) -> tuple[Figure, Axes, list[float], list[float]]:
    """Makes a figure of arrays (H, W) with a colour bar, from 0 or, if signed, from -highest.

    Returns:
        The figure, its axes, the x of the middle of each column and the y of that of each row.
    """
    rows = math.ceil(len(maps) / columns)
    ratio = maps[0].shape[0] / maps[0].shape[1]  # height by width
    tile = min(0.9, 8 / columns, 8 / (rows * ratio))  # width of a map in inches
    width, height = 1.1 * tile * columns + 1.5, 1.1 * tile * rows * ratio + 1
    figure = new_figure(max(3.5, width), max(1.8, height))
    axes = figure.add_subplot()
    lowest, colours = (-highest, "RdBu_r") if signed else (0.0, "viridis")
    style: dict[str, Any] = {"cmap": colours, "vmin": lowest, "vmax": highest}
    column_xs, lower_edges = draw_tiles(axes, maps, columns, **style)
    figure.colorbar(axes.images[0], ax=axes, aspect=25, pad=0.02)
    return figure, axes, column_xs, [edge - ratio / 2 for edge in lower_edges]
