"""`graph_of`: the graph of a network and of the blocks inside it, for diagrams."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, fx, nn
from typing_extensions import override

from .copies import Inputs, meta_inputs, structural_copy
from .running import Trace, tensors_in
from .tracing import TRACING

# functions that a diagram leaves out: they compute no values, and the shape of the next node shows
# what they change
SILENT = {"check_input", "clone", "contiguous", "detach", "getattr", "getitem", "squeeze", "to"}
NAMES = {"iadd": "add", "imul": "mul", "cat": "concat", "rsub": "sub", "relu": "ReLU"}
INNER_BLOCKS = 4  # largest number of blocks shown inside a block; later ones are only counted
MORE = "more"


@dataclass(eq=False)
class Node:
    """A layer, a block or an operation.

    Attributes:
        name: Name of the module in the network; "" for an operation; ``"input"`` for the input,
            or the name of the argument if there are several inputs.
        kind: Name of the class or operation; ``"input"``; or ``"more"`` for blocks left out.
        detail: Kernel size, stride and groups; for ``"more"``, number and kind of the blocks.
        shape: Shape of the output without the batch axis; of the first output if there are several.
        params: Number of parameters inside; a shared parameter counts in its first node only.
        inputs: The nodes whose outputs this node takes.
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
    """The nodes from `first` to `last`, which stand for `times` equal groups in a row."""

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
        number_of = {node: number for number, node in enumerate(self.nodes)}
        return tuple(
            (
                node.kind,
                "" if node.kind == MORE else node.detail,
                tuple(number_of[source] for source in node.inputs),
            )
            for node in self.nodes
        )

    def blocks(self) -> Iterator[Node]:
        """One node for each kind and form of block, outer blocks first."""
        found: dict[tuple[str, tuple[Any, ...]], Node] = {}
        graphs = [self]
        for graph in graphs:  # and those that the loop appends
            for node in graph.nodes:
                if node.inside is not None:
                    key = (node.kind, node.inside.form())
                    if key not in found:
                        found[key] = node
                        graphs.append(node.inside)
        yield from found.values()


def graph_of(model: nn.Module, inputs: Inputs = None) -> Graph:
    """Returns the graph of a network and of its blocks; the network stays unchanged.

    ``nn.Sequential`` is not a node, but the modules in it are. Equal nodes in a row, or equal pairs
    of nodes, become one `Repeat`.

    Args:
        model: A network that torch.fx can trace, such as any of the zoo.
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
    interpreter = _Interpreter(twin)
    with Trace(model, twin, lambda *_: None).guarded():
        interpreter.run(*tensors)
    return _folded(_nodes(twin, interpreter))


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
    """Takes every module for one node, except ``nn.Sequential`` and classes with `plain_row`."""

    @override
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return type(m) is not nn.Sequential and not getattr(m, "plain_row", False)


class _Interpreter(fx.Interpreter):
    """Traces and runs a network; does the same for each of its blocks, and keeps their nodes."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__(_traced(module), garbage_collect_values=False)
        self.current: fx.Node | None = None
        self.insides: dict[fx.Node | None, list[Node]] = {}

    @override
    def run_node(self, n: fx.Node) -> Any:
        self.current = n
        return super().run_node(n)

    @override
    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        layer = self.fetch_attr(target)
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            return args[0]  # only the shape matters; torch would compute it far more slowly
        if kwargs or not _is_block(layer):
            return super().call_module(target, args, kwargs)
        try:
            inner = _Interpreter(layer)
        except ValueError:  # not traceable: the block is shown without its inside
            return super().call_module(target, args, kwargs)
        output = inner.run(*args)
        self.insides[self.current] = _nodes(layer, inner)
        return output


def _traced(module: nn.Module) -> fx.GraphModule:
    try:
        with TRACING:
            return fx.GraphModule(module, _Tracer().trace(module))
    except Exception as error:  # tracing runs the network's code, which may raise anything
        raise ValueError(
            f"`model` must be traceable by torch.fx; {type(module).__name__} is not: {error!s:.200}"
        ) from error


def _nodes(module: nn.Module, interpreter: _Interpreter) -> list[Node]:
    """The nodes of a module that the interpreter has run."""
    node_of: dict[fx.Node, Node] = {}  # for a silent function, the node of its input
    counted: set[nn.Parameter] = set()
    traced_nodes = interpreter.graph.nodes
    several = sum(traced.op == "placeholder" for traced in traced_nodes) > 1
    for traced in traced_nodes:
        tensors = tensors_in(interpreter.env.get(traced))
        if not tensors or traced.op == "output" or _is_unused(traced, interpreter):
            continue
        shape = tuple(tensors[0].shape[1:])  # a layer may give several, as an LSTM does
        sources = (node_of[source] for source in traced.all_input_nodes if source in node_of)
        inputs = list(dict.fromkeys(sources))  # each once
        if traced.op == "call_module":
            layer = module.get_submodule(traced.target)
            node = _of_module(traced.target, layer, shape, counted)
            if traced in interpreter.insides:
                node.inside = _folded(_shortened(interpreter.insides[traced]))
        elif traced.op == "placeholder":
            name = traced.name if several else "input"
            node = Node(name, "input", "", shape)
        elif traced.op == "get_attr":
            node = _of_attribute(traced, tensors[0], counted)
        else:
            node = _of_operation(traced, shape)
        silent = node.kind in (*SILENT, "Identity") or (node.kind == "concat" and len(inputs) == 1)
        if silent and inputs:
            node_of[traced] = inputs[0]
        else:
            node.inputs = inputs
            node_of[traced] = node
    return list(dict.fromkeys(node_of.values()))


def _is_block(layer: nn.Module) -> bool:
    """Whether a module contains others and its class is not one of torch."""
    return any(layer.children()) and not type(layer).__module__.startswith("torch.nn")


def _of_module(
    name: str, layer: nn.Module, shape: tuple[int, ...], counted: set[nn.Parameter]
) -> Node:
    new = set(layer.parameters()) - counted
    counted |= new
    kernel, stride, groups = (
        getattr(layer, key, None) for key in ("kernel_size", "stride", "groups")
    )
    detail = _size(kernel)
    if "Conv" in type(layer).__name__ and stride not in (None, 1, (1, 1)):
        detail += f" /{stride[0] if isinstance(stride, tuple) else stride}"
    if groups not in (None, 1):
        detail += " depthwise" if groups == getattr(layer, "in_channels", 0) else f" in {groups}"
    params = sum(parameter.numel() for parameter in new)
    return Node(name, type(layer).__name__, detail, shape, params)


def _is_unused(traced: fx.Node, interpreter: _Interpreter) -> bool:
    """Whether a tensor of the network is read for its type, device or shape only."""
    used = (tensors_in(interpreter.env.get(user)) for user in traced.users)
    return traced.op == "get_attr" and not any(used)


def _of_attribute(traced: fx.Node, tensor: Tensor, counted: set[nn.Parameter]) -> Node:
    """The node of a parameter or buffer that a forward reads; it has no batch."""
    new = {tensor} - counted if isinstance(tensor, nn.Parameter) else set()
    counted |= new
    name = str(traced.target).rpartition(".")[2]
    return Node("", name, "", tuple(tensor.shape), sum(p.numel() for p in new))


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
    """Keeps the first few inner blocks and the last node; one "more" node replaces all between.

    Nodes in a chain, without joining branches, all stay: `_folded` shortens them.
    """
    blocks = [number for number, node in enumerate(nodes) if node.inside is not None]
    branches_join = any(len(node.inputs) > 1 for node in nodes)
    if not branches_join or len(blocks) <= INNER_BLOCKS:
        return nodes
    first = blocks[INNER_BLOCKS]  # the first to leave out
    kept, left_out, last = nodes[:first], nodes[first:-1], nodes[-1]
    used = {source for node in left_out for source in node.inputs}
    block_count = sum(node.inside is not None for node in left_out)
    more = Node("", MORE, f"{block_count} {nodes[first].kind}", left_out[-1].shape)
    more.params = sum(node.params for node in left_out)
    more.inputs = [node for node in kept if node in used]
    sources = (more if source in left_out else source for source in last.inputs)
    last.inputs = list(dict.fromkeys(sources))
    return [*kept, more, last]


def _folded(nodes: list[Node]) -> Graph:
    """The graph, with equal pairs of nodes in a row, then equal nodes in a row, as repeats."""
    nodes, repeats = list(nodes), []
    folded: set[Node] = set()
    for period in (2, 1):
        start = 1  # after the input
        while start + 2 * period <= len(nodes):
            times = 1
            while _recurs(nodes, start, start + times * period, period, folded):
                times += 1
            if times > 1:  # keep the first group, which takes the place of the last
                stop, end = start + period, start + times * period
                kept, replaced = nodes[stop - 1], nodes[end - 1]
                del nodes[stop:end]
                for node in nodes:
                    node.inputs = [kept if i is replaced else i for i in node.inputs]
                repeats.append(Repeat(nodes[start], kept, times))
                folded |= {*nodes[start:stop]}
            start += 1
    return Graph(nodes, repeats)


def _recurs(nodes: Sequence[Node], start: int, again: int, period: int, folded: set[Node]) -> bool:
    """Whether the `period` nodes from `start` on occur again from `again` on, in one chain."""
    end = again + period
    if end > len(nodes) or folded & {*nodes[start:end]}:
        return False
    if period == 2 and _looks(nodes[start]) == _looks(nodes[start + 1]):
        return False  # equal nodes, not a pair
    users = Counter(source for node in nodes for source in node.inputs)
    is_chain = all(
        nodes[number].inputs == [nodes[number - 1]] and users[nodes[number - 1]] == 1
        for number in range(start + 1, end)
    )
    return is_chain and all(
        _looks(nodes[start + i]) == _looks(nodes[again + i]) for i in range(period)
    )


def _looks(node: Node) -> tuple[Any, ...]:
    """All that a diagram shows of a node except its name."""
    inside = node.inside and node.inside.form()
    return (node.kind, node.detail, node.shape, node.params, inside)
