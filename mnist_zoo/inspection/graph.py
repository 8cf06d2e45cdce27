"""`graph_of`: the graph of a network and of the blocks inside it, for diagrams."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from typing_extensions import override

from .copies import Inputs, meta_inputs, structural_copy
from .tracing import TRACING

# functions that a diagram leaves out: they compute nothing, and the next shape shows their effect
SILENT = {"check_input", "clone", "contiguous", "detach", "getattr", "getitem", "squeeze", "to"}
NAMES = {"iadd": "add", "imul": "mul", "cat": "concat", "rsub": "sub", "relu": "ReLU"}
INNER_BLOCKS = 4  # so many blocks of a block are shown; later ones are only counted
MORE = "more"


@dataclass(eq=False)
class Node:
    """A layer, a block or an operation.

    Attributes:
        name: Name of the module in the network; "" for an operation; ``"input"`` for the input,
            or the name of the argument if there are several inputs.
        kind: Name of the class or operation; ``"input"``; or ``"more"`` for blocks left out.
        detail: Kernel size, stride and groups; or what was left out.
        shape: Shape of the output, without the batch.
        params: Number of parameters inside, counted at the first call only.
        inputs: The nodes whose outputs are the inputs.
        inside: The graph of a block; None for a layer or an operation.
    """

    name: str
    kind: str
    detail: str
    shape: tuple[int, ...]
    params: int = 0
    inputs: list[Node] = field(default_factory=list)
    inside: Graph | None = None


@dataclass(frozen=True, eq=False)
class Repeat:
    """A row of nodes, from `first` to `last`, that occurs `times` times in sequence."""

    first: Node
    last: Node
    times: int


@dataclass(eq=False)
class Graph:
    """Nodes in the order of execution, inputs first."""

    nodes: list[Node]
    repeats: list[Repeat] = field(default_factory=list)

    def form(self) -> tuple[Any, ...]:
        """A key that is equal for graphs that differ only in names, shapes and parameter counts."""
        place = {node: number for number, node in enumerate(self.nodes)}
        return tuple(
            (node.kind, node.kind != MORE and node.detail, tuple(place[i] for i in node.inputs))
            for node in self.nodes
        )

    def blocks(self) -> Iterator[Node]:
        """One node for each kind and form of block, outer blocks first."""
        found: dict[tuple[str, tuple[Any, ...]], Node] = {}
        graphs = [self]
        for graph in graphs:  # grows
            for node in graph.nodes:
                if node.inside is not None:
                    key = (node.kind, node.inside.form())
                    if key not in found:
                        found[key] = node
                        graphs.append(node.inside)
        yield from found.values()


def graph_of(model: nn.Module, inputs: Inputs = None) -> Graph:
    """Returns the graph of a network and of its blocks; the network stays unchanged.

    ``nn.Sequential`` is not a node, but the modules in it are. Equal neighbours, or equal pairs
    of them, form one `Repeat`.

    Args:
        model: A network that torch.fx can trace, as every network of the zoo.
        inputs: Shapes or tensors, as in `mnist_zoo.summary`.

    Raises:
        ValueError: If the network cannot be traced, or if `inputs` is missing or is neither
            shapes nor tensors.
        TypeError: If `model` is not a network or cannot be copied.
        RuntimeError: If the network cannot process the input.

    Example:
        >>> from mnist_zoo import mini_resnet
        >>> from mnist_zoo.inspection.graph import graph_of
        >>> [node.kind for node in graph_of(mini_resnet()).nodes][:5]
        ['input', 'Conv2d', 'MaxPool2d', 'ReLU', 'ResidualBlock']
    """
    twin = structural_copy(model).eval()
    tensors = meta_inputs(twin, inputs, batch=2)
    with torch.no_grad(), torch.device("cpu"):
        run = _Interpreter(twin)
        try:
            run.run(*tensors)
        except Exception as error:
            raise RuntimeError(f"`model` failed: {error!s:.500}") from error
    return _folded(_nodes(twin, run))


class Tracer(fx.Tracer):
    """torch's tracer, which replaces `nn.Module.__call__`, but lets other threads call modules.

    To trace, hold `TRACING`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.thread = threading.get_ident()

    @override
    def call_module(
        self,
        m: nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        if threading.get_ident() != self.thread:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)


class _Tracer(Tracer):
    """Traces into plain rows of layers, not into other modules."""

    @override
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return type(m) is not nn.Sequential and not getattr(m, "plain_row", False)


class _Interpreter(fx.Interpreter):
    """Runs a traced network, and traces and runs each block of it separately."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__(_traced(module), garbage_collect_values=False)
        self.running: fx.Node | None = None
        self.insides: dict[fx.Node | None, list[Node]] = {}

    @override
    def run_node(self, n: fx.Node) -> Any:
        self.running = n
        return super().run_node(n)

    @override
    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        layer, node = self.fetch_attr(target), self.running
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            return args[0]  # the same shape; torch's rule is far slower
        if kwargs or not _is_block(layer):
            return super().call_module(target, args, kwargs)
        try:
            run = _Interpreter(layer)
        except ValueError:  # its inside is not shown
            return super().call_module(target, args, kwargs)
        output = run.run(*args)
        self.insides[node] = _nodes(layer, run)
        return output


def _traced(module: nn.Module) -> fx.GraphModule:
    try:
        with TRACING:
            return fx.GraphModule(module, _Tracer().trace(module))
    except Exception as error:  # of any type: whatever the network's code meets
        raise ValueError(
            f"`model` must be traceable by torch.fx; {type(module).__name__} is not: {error!s:.200}"
        ) from error


def _nodes(module: nn.Module, run: _Interpreter) -> list[Node]:
    """The nodes of a network after its run."""
    made: dict[fx.Node, Node] = {}
    counted: set[nn.Parameter] = set()
    several = sum(traced.op == "placeholder" for traced in run.graph.nodes) > 1
    for traced in run.graph.nodes:
        value = run.env.get(traced)
        inputs = list(dict.fromkeys(made[i] for i in traced.all_input_nodes if i in made))
        if not isinstance(value, Tensor) or traced.op == "output":
            continue
        if traced.op == "call_module":
            layer = module.get_submodule(traced.target)
            node = _of_module(traced.target, layer, tuple(value.shape[1:]), counted)
            if traced in run.insides:
                node.inside = _folded(_shortened(run.insides[traced]))
        elif traced.op == "placeholder":
            name = traced.name if several else "input"
            node = Node(name, "input", "", tuple(value.shape[1:]))
        else:
            node = _of_operation(traced, tuple(value.shape[1:]))
        silent = node.kind in (*SILENT, "Identity") or (node.kind == "concat" and len(inputs) == 1)
        if silent and inputs:
            made[traced] = inputs[0]
        else:
            node.inputs = inputs
            made[traced] = node
    return list(dict.fromkeys(made.values()))


def _is_block(layer: nn.Module) -> bool:
    """Whether it is composed of modules and is not a class of torch."""
    return any(layer.children()) and not type(layer).__module__.startswith("torch.nn")


def _of_module(
    name: str, layer: nn.Module, shape: tuple[int, ...], counted: set[nn.Parameter]
) -> Node:
    own = set(layer.parameters()) - counted
    counted |= own
    kernel, stride, groups = (
        getattr(layer, key, None) for key in ("kernel_size", "stride", "groups")
    )
    detail = _size(kernel)
    if "Conv" in type(layer).__name__ and stride not in (None, 1, (1, 1)):
        detail += f" /{stride[0] if isinstance(stride, tuple) else stride}"
    if groups not in (None, 1):
        detail += " depthwise" if groups == getattr(layer, "in_channels", 0) else f" in {groups}"
    params = sum(parameter.numel() for parameter in own)
    return Node(name, type(layer).__name__, detail, shape, params)


def _of_operation(traced: fx.Node, shape: tuple[int, ...]) -> Node:
    called = traced.target if isinstance(traced.target, str) else traced.target.__name__
    called = called.strip("_").rpartition(".")[2]
    kernel = traced.args[1] if "pool" in called and len(traced.args) > 1 else None
    return Node("", NAMES.get(called, called), _size(kernel), shape)


def _size(kernel: Any) -> str:
    if isinstance(kernel, int):
        kernel = (kernel, kernel)
    return "×".join(map(str, kernel)) if isinstance(kernel, tuple) else ""


def _shortened(nodes: list[Node]) -> list[Node]:
    """Replaces what follows the first few inner blocks by one node, but keeps the last node."""
    blocks = [place for place, node in enumerate(nodes) if node.inside is not None]
    joined = any(len(node.inputs) > 1 for node in nodes)
    if not joined or len(blocks) <= INNER_BLOCKS:
        return nodes
    first, last = blocks[INNER_BLOCKS], len(nodes) - 1
    kept, left_out = nodes[:first], nodes[first:last]
    used = {given for node in left_out for given in node.inputs}
    left = sum(node.inside is not None for node in left_out)
    more = Node("", MORE, f"{left} {nodes[first].kind}", left_out[-1].shape)
    more.params = sum(node.params for node in left_out)
    more.inputs = [node for node in kept if node in used]
    end = nodes[last]
    end.inputs = list(dict.fromkeys(more if i in left_out else i for i in end.inputs))
    return [*kept, more, end]


def _folded(nodes: list[Node]) -> Graph:
    """Folds equal pairs of neighbours, and then equal neighbours, into repeats."""
    nodes, repeats = list(nodes), []
    folded: set[Node] = set()
    for period in (2, 1):
        start = 1
        while start + 2 * period <= len(nodes):
            times = 1
            while _recurs(nodes, start, start + times * period, period, folded):
                times += 1
            if times > 1:
                kept, gone = nodes[start + period - 1], nodes[start + times * period - 1]
                del nodes[start + period : start + times * period]
                for node in nodes:
                    node.inputs = [kept if given is gone else given for given in node.inputs]
                repeats.append(Repeat(nodes[start], kept, times))
                folded |= {*nodes[start : start + period]}
            start += 1
    return Graph(nodes, repeats)


def _recurs(nodes: Sequence[Node], start: int, again: int, period: int, folded: set[Node]) -> bool:
    """Whether `period` nodes from `again` on equal those from `start` on, in a single line."""
    if again + period > len(nodes) or folded & {*nodes[start : again + period]}:
        return False
    if period == 2 and _looks(nodes[start]) == _looks(nodes[start + 1]):
        return False
    users = Counter(given for node in nodes for given in node.inputs)
    in_line = all(
        nodes[place].inputs == [nodes[place - 1]] and users[nodes[place - 1]] == 1
        for place in range(start + 1, again + period)
    )
    return in_line and all(
        _looks(nodes[start + i]) == _looks(nodes[again + i]) for i in range(period)
    )


def _looks(node: Node) -> tuple[Any, ...]:
    inside = node.inside and node.inside.form()
    return (node.kind, node.detail, node.shape, node.params, inside)
