"""Faster inference: BatchNorm folded into convolutions, memory format, compilation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar, cast

import torch
from torch import Tensor, nn
from torch.fx import Node
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ._checks import check_positive
from ._networks import check_computes, check_network, shape_of, unwrapped
from .inspection.graph import Tracer
from .inspection.latency import latency
from .inspection.tracing import TRACING, duplicate
from .models.base import Classifier

__all__ = ["Optimization", "OptimizationStep", "fuse", "optimize"]

Network = TypeVar("Network", bound=nn.Module)
GAIN = 0.98  # a step is kept if its time is less than this part of the time before
TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 0.1}


def fuse(model: Network) -> Network:
    """Returns a copy in eval mode whose BatchNorms are folded into the convolutions before them.

    The copy is for inference only: it computes the same function to float precision (1e-5) with
    fewer operations. A BatchNorm is folded if it directly follows a plain convolution whose output
    goes nowhere else, neither of the two has hooks or a `forward` that was set on it, or
    stays in training mode, and the network reads their tensors nowhere else.

    Args:
        model: A network that torch.fx can trace, as every network of the zoo; it stays unchanged.

    Returns:
        The copy, without what wraps the network (DataParallel, torch.compile). `save_model` does
        not accept it.

    Raises:
        TypeError: If `model` is no network.
        ValueError: If the network cannot be copied or traced.

    Source:
        Jacob et al. 2018, section 3.2; ``torch.nn.utils.fusion.fuse_conv_bn_eval``.

    Example:
        >>> import torch
        >>> from mnist_zoo import fuse, resnet18
        >>> model = resnet18().eval()
        >>> fused = fuse(model)
        >>> fused.bn1
        Identity()
        >>> x = torch.randn(2, 1, 28, 28)
        >>> torch.allclose(fused(x), model(x), atol=1e-5)
        True
    """
    check_network(model=model)
    fused = duplicate(cast(Network, unwrapped(model))).eval()
    for conv, norm in _pairs(fused):
        _replace(fused, conv, fuse_conv_bn_eval(conv, norm))
        _replace(fused, norm, nn.Identity())
    if isinstance(fused, Classifier):
        fused.factory, fused.options = None, {}  # save_model could not rebuild it
    return fused


def _pairs(model: nn.Module) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """The convolutions whose output goes only to a BatchNorm, neither called or read elsewhere."""
    try:
        with TRACING:
            nodes = list(Tracer().trace(model).nodes)
    except Exception as error:  # of any type: the code of the network may raise anything
        raise ValueError(
            f"`model` ({type(model).__name__}) must be traceable by torch.fx, without branches on "
            f"the values of tensors: {error!s:.200}"
        ) from error
    calls = [node for node in nodes if node.op == "call_module"]
    reads = [node for node in nodes if node.op == "get_attr" and not _uses_no_values(node)]
    read = {model.get_submodule(node.target.rpartition(".")[0]) for node in reads}
    modules = {node: model.get_submodule(node.target) for node in calls}
    times = Counter(modules.values())
    pairs = []
    for node in calls:
        before, norm = next(iter(node.all_input_nodes), node), modules[node]
        conv = modules.get(before)
        if not isinstance(conv, nn.Conv2d) or not isinstance(norm, nn.BatchNorm2d):
            continue
        plain = type(conv) is nn.Conv2d and type(norm) is nn.BatchNorm2d
        alone = times[conv] == times[norm] == len(before.users) == 1 and not read & {conv, norm}
        changed = _changed(conv, norm) or conv.training or norm.training
        if plain and alone and norm.running_var is not None and not changed:
            pairs.append((conv, norm))
    return pairs


def _uses_no_values(node: Node) -> bool:
    """Whether the network uses only the device, dtype or shape of a tensor that it reads."""
    return all(
        user.target is getattr and user.args[1] in ("device", "dtype", "shape")
        for user in node.users
    )


def _changed(*modules: nn.Module) -> bool:
    """Whether one does more than its class: by hooks, or a forward that was set on it."""
    return any(
        module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
        for module in modules
    )


def _replace(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Replaces a module by another under every name that it has."""
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if module is old:
            model.set_submodule(name, new)


@dataclass(frozen=True)
class OptimizationStep:
    """The result of one step of `optimize`.

    Attributes:
        name: Name of the step.
        milliseconds: Median time of a forward pass with the step.
        milliseconds_before: Median time without it, measured in turns with it.
        largest_difference: Largest difference between the outputs with the step and those of the
            original network.
        kept: Whether the step saved time and kept the outputs.

    Example:
        >>> from mnist_zoo import mini_convnet, optimize
        >>> step = optimize(mini_convnet()).steps[0]
        >>> step.name, step.largest_difference < 1e-4
        ('fuse', True)
    """

    name: str
    milliseconds: float
    milliseconds_before: float
    largest_difference: float
    kept: bool


@dataclass(frozen=True)
class Optimization:
    """The result of `optimize`; its repr is a table of the steps.

    Attributes:
        model: The faster network, in eval mode.
        steps: The steps tried, each on top of those kept before it.

    Example:
        >>> from mnist_zoo import mini_convnet, optimize
        >>> optimization = optimize(mini_convnet())
        >>> print(optimization)
        step            ms before     after   times  difference
        fuse                  ...
        channels_last         ...
        >>> optimization.model.training
        False
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
    """Makes a network faster on its current device; keeps each step that saves time.

    The steps are `fuse`, the channels-last memory format and, with `compile`, ``torch.compile``
    with frozen weights. Each step is measured in turns with the best network before it, under
    ``torch.inference_mode``, which `predict` uses too.

    Args:
        model: A network that torch.fx can trace and that gives one tensor; it stays unchanged.
        input_size: Shape (C, H, W) of one input; None for the network's own.
        batch_size: Number of images per forward pass to optimize for.
        compile: Whether to try ``torch.compile``, which takes up to a minute and needs a C++
            compiler.

    Returns:
        The faster network, and the measurements of each step.

    Raises:
        TypeError: If `model` is no network.
        ValueError: If the network cannot be copied or traced, holds no data, does not accept the
            input or gives no floating-point tensor, or if a size is less than 1.
        RuntimeError: If ``torch.compile`` fails.

    Example:
        >>> from mnist_zoo import mini_convnet, optimize
        >>> optimization = optimize(mini_convnet(), batch_size=8)
        >>> [step.name for step in optimization.steps]
        ['fuse', 'channels_last']
        >>> model = optimization.model
    """
    check_positive(batch_size=batch_size)
    check_network(model=model)
    model = unwrapped(model)
    check_computes(model=model)
    shape = (batch_size, *shape_of(model, input_size))
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator, device="cpu", dtype=torch.float32)
    x = x.to(next((p for p in model.parameters() if p.is_floating_point()), x))
    best: nn.Module = duplicate(model).eval()
    makers: dict[str, Callable[[nn.Module], nn.Module]] = {
        "fuse": fuse,
        "channels_last": lambda m: duplicate(m).to(memory_format=torch.channels_last),
    }
    if compile:
        makers["compile"] = lambda m: cast(
            nn.Module, torch.compile(m, options={"freezing": True}, fullgraph=True)
        )
    steps: list[OptimizationStep] = []
    with torch.inference_mode():
        expected = _output(best, x)
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


def _output(model: nn.Module, x: Tensor) -> Tensor:
    """The output for a batch; ValueError where there is none that can be compared."""
    name = f"`model` ({type(model).__name__})"
    try:
        output = model(x)
    except Exception as error:  # of any type: the code of the network may raise anything
        rule = f"{name} must accept images of shape {tuple(x.shape)}"
        raise ValueError(f"{rule}: {error!s:.300}") from error
    if not isinstance(output, Tensor) or output.dtype not in TOLERANCE:
        got = output.dtype if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(f"{name} must give one tensor of floating-point numbers, got {got}")
    return output
