"""The same network, faster to run: BatchNorm folded away, memory order, compilation, small maps."""

from __future__ import annotations

import copy
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.overrides import TorchFunctionMode

from ._checks import check_positive
from ._networks import shape_of
from .models.base import Classifier

__all__ = ["Optimization", "OptimizationStep", "fuse", "optimize"]

Network = TypeVar("Network", bound=nn.Module)
Run = Callable[[Tensor], object]

ROUNDS = 300  # of measurement, at most
SECONDS = 1.0  # of measurement for each of the things compared, about
GAIN = 0.98  # of the time before: a step that saves less is not kept
TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 0.1}


def fuse(model: Network) -> Network:
    """A copy in eval mode whose BatchNorms are part of the convolutions before them.

    For inference alone: the same function to float precision (1e-5), fewer operations. BatchNorms
    that follow anything but a plain convolution of their own stay, as do those with hooks.

    Args:
        model: A network that torch.fx can trace, as all of the zoo's; it stays as it is.

    Returns:
        The network's copy; `save_weights` does not take it.

    Raises:
        ValueError: If it cannot be traced.

    Source:
        Jacob et al. 2018, section 3.2; ``torch.nn.utils.fusion.fuse_conv_bn_eval``.
    """
    fused = copy.deepcopy(model).eval()
    for conv, norm in _pairs(fused):
        _replace(fused, conv, fuse_conv_bn_eval(conv, norm))
        _replace(fused, norm, nn.Identity())
    if isinstance(fused, Classifier):
        fused.factory, fused.options = None, {}  # save_weights could not make it anew
    return fused


def _pairs(model: nn.Module) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """The convolutions whose output goes to a BatchNorm and nowhere else, each run once."""
    try:
        nodes = list(torch.fx.symbolic_trace(model).graph.nodes)
    except Exception as error:  # of any type: whatever the network's code meets
        raise ValueError(
            f"`model` ({type(model).__name__}) must be traceable by torch.fx, without branches on "
            f"the values of tensors: {error!s:.200}"
        ) from error
    calls = [node for node in nodes if node.op == "call_module"]
    modules = {node: model.get_submodule(node.target) for node in calls}
    times = Counter(modules.values())
    pairs = []
    for node in calls:
        before, norm = next(iter(node.all_input_nodes), node), modules[node]
        conv = modules.get(before)
        if not isinstance(conv, nn.Conv2d) or not isinstance(norm, nn.BatchNorm2d):
            continue
        plain = type(conv) is nn.Conv2d and type(norm) is nn.BatchNorm2d and not _hooks(conv, norm)
        alone = times[conv] == times[norm] == len(before.users) == 1
        if plain and alone and norm.running_var is not None:
            pairs.append((conv, norm))
    return pairs


def _hooks(*modules: nn.Module) -> bool:
    return any(module._forward_hooks or module._forward_pre_hooks for module in modules)


def _replace(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Puts a module in the place of another, under each name that it goes by."""
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if module is old:
            model.set_submodule(name, new)


@dataclass(frozen=True)
class OptimizationStep:
    """What one step of `optimize` did.

    Attributes:
        name: Of the step.
        milliseconds: Median time of a forward pass with it.
        milliseconds_before: The same without it, measured in turns.
        largest_difference: Between its outputs and those of the network as it came.
        kept: Whether it saved time, and gives the network's outputs.
    """

    name: str
    milliseconds: float
    milliseconds_before: float
    largest_difference: float
    kept: bool


@dataclass(frozen=True)
class Optimization:
    """What `optimize` made, and what each step was worth.

    Attributes:
        model: The faster network, in eval mode.
        steps: What was tried, each step on top of those kept before it.
    """

    model: nn.Module
    steps: tuple[OptimizationStep, ...]

    def __repr__(self) -> str:
        lines = [f"{'step':<15}{'ms before':>10}{'after':>10}{'times':>8}{'difference':>12}"]
        lines += [
            f"{step.name:<15}{step.milliseconds_before:>10.3f}{step.milliseconds:>10.3f}"
            f"{step.milliseconds_before / step.milliseconds:>8.2f}"
            f"{step.largest_difference:>12.1e}{'' if step.kept else '  not kept'}"
            for step in self.steps
        ]
        return "\n".join(lines)


def optimize(
    model: nn.Module,
    input_size: tuple[int, int, int] | None = None,
    *,
    batch_size: int = 1,
    compile: bool = False,
) -> Optimization:
    """Makes a network faster on the device it is on, by steps that are kept where they save time.

    The steps: `fuse`, channels-last memory order and, on demand, ``torch.compile`` with its
    weights frozen. Each is measured beside what was best before it, in the same run, under
    ``torch.inference_mode``, as `predict` runs it.

    Args:
        model: A network that torch.fx can trace; it stays as it is.
        input_size: Shape (C, H, W) of an input; None for the network's own.
        batch_size: Pictures a forward pass for which it is to be fast.
        compile: Whether to compile, which takes up to a minute and needs a C++ compiler.

    Returns:
        The faster network, and what each step was worth.

    Raises:
        ValueError: If the network cannot be traced, or a size is less than 1.
        RuntimeError: If torch.compile fails.
    """
    check_positive(batch_size=batch_size)
    example = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    shape = (batch_size, *shape_of(model, input_size))
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(example)
    best: nn.Module = copy.deepcopy(model).eval()
    makers: dict[str, Callable[[nn.Module], nn.Module]] = {
        "fuse": fuse,
        "channels_last": lambda m: copy.deepcopy(m).to(memory_format=torch.channels_last),
    }
    if compile:
        makers["compile"] = lambda m: cast(
            nn.Module, torch.compile(m, options={"freezing": True}, fullgraph=True)
        )
    steps: list[OptimizationStep] = []
    with torch.inference_mode():
        expected = best(x)
    most = TOLERANCE[expected.dtype] * max(1.0, float(expected.abs().max()))
    for name, make in makers.items():
        candidate = make(best)
        with torch.inference_mode():
            difference = float((candidate(x) - expected).abs().max())
            before, after = latency([best, candidate], x)
        kept = after < GAIN * before and difference <= most
        steps.append(OptimizationStep(name, 1000 * after, 1000 * before, difference, kept))
        best = candidate if kept else best
    return Optimization(best, tuple(steps))


def latency(runs: Sequence[Run], x: Tensor) -> list[float]:
    """Median seconds that each takes for x; in turns, so that all meet the same machine."""
    for run in runs:
        run(x)
    start = time.perf_counter()
    times: list[list[float]] = [[] for _ in runs]
    while len(times[0]) < 3 or (
        len(times[0]) < ROUNDS and time.perf_counter() - start < SECONDS * len(runs)
    ):
        for run, found in zip(runs, times, strict=True):
            begin = time.perf_counter()
            run(x)
            _wait(x)
            found.append(time.perf_counter() - begin)
    return [statistics.median(found) for found in times]


def _wait(x: Tensor) -> None:
    if x.device.type != "cpu":
        torch.accelerator.synchronize(x.device)


class SmallMapsAsProducts(TorchFunctionMode):
    """While active, convolutions over very small maps on the CPU run as matrix products.

    Where a map is as wide as half its kernel (2×2 under 3×3) or less, every output sees every
    pixel, and the convolution is a linear layer of some of the kernel's weights: of one in nine
    for 3×3 on a single pixel. Kernels for convolutions gain nothing from that: at 28×28, most of
    a ResNet's training step goes by on maps of 2×2 and 1×1. Outputs and gradients agree to float
    precision; modules, their hooks and their state stay as they are.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is F.conv2d and not kwargs and len(args) == 7 and _sees_all(*args):
            return _as_product(*args[:3], stride=args[3][0])
        return func(*args, **(kwargs or {}))


def _sees_all(
    x: Tensor, weight: Tensor, bias: object, stride: object, padding: object, *rest: object
) -> bool:
    """Whether every output of the convolution sees every pixel, and the plain case is met."""
    size, reach = x.shape[-1], weight.shape[-1] // 2
    return (
        x.device.type == "cpu"
        and x.dim() == 4
        and x.shape[-2] == size <= reach + 1
        and weight.shape[-2:] == (2 * reach + 1, 2 * reach + 1)
        and stride in ((1, 1), (2, 2))
        and padding == (reach, reach)
        and rest == ((1, 1), 1)
    )


def _as_product(x: Tensor, weight: Tensor, bias: Tensor | None, *, stride: int) -> Tensor:
    """The convolution of maps (N, C, S, S) as a product with a row of weights for each output."""
    size, reach = x.shape[-1], weight.shape[-1] // 2
    seen = [slice(reach - place, reach - place + size) for place in range(0, size, stride)]
    rows = torch.stack([weight[:, :, i, j] for i in seen for j in seen])
    rows = rows.permute(0, 1, 3, 4, 2).flatten(2).flatten(0, 1)
    biases = None if bias is None else bias.repeat(len(seen) ** 2)
    y = F.linear(x.permute(0, 2, 3, 1).flatten(1), rows, biases)
    return y.view(len(x), len(seen), len(seen), len(weight)).permute(0, 3, 1, 2)
