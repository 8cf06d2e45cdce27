"""The graphs of networks, compared with their known structure."""

import pytest
import torch
from torch import nn

from mnist_zoo import (
    DenseBlock,
    InceptionA,
    ResidualBlock,
    ResidualUnit,
    get_model,
    mini_resnet,
    profile,
    resnet18,
    resnet50,
)
from mnist_zoo.inspection.graph import graph_of


def kinds(graph):
    return [node.kind for node in graph.nodes]


def edges(graph):
    place = {node: number for number, node in enumerate(graph.nodes)}
    return [[place[given] for given in node.inputs] for node in graph.nodes]


def test_graph_of_mini_resnet_is_a_chain_of_layers_and_blocks():
    graph = graph_of(mini_resnet())
    assert kinds(graph) == [
        "input",
        "Conv2d",
        "MaxPool2d",
        "ReLU",
        "ResidualBlock",
        "Conv2d",
        "MaxPool2d",
        "ReLU",
        "ResidualBlock",
        "flatten",
        "Linear",
    ]
    assert edges(graph) == [[], *([place] for place in range(10))]
    assert [node.shape for node in graph.nodes[:3]] == [(1, 28, 28), (16, 24, 24), (16, 12, 12)]
    assert [node.params for node in graph.nodes[1:5]] == [416, 0, 0, 4640]
    assert graph.nodes[1].detail == "5×5"


def test_a_residual_sum_joins_the_branch_and_the_input():
    graph = graph_of(ResidualBlock(4), (4, 8, 8))
    assert kinds(graph) == ["input", "Conv2d", "ReLU", "Conv2d", "add", "ReLU"]
    assert sorted(edges(graph)[4]) == [0, 3]


def test_a_projection_is_on_the_shortcut():
    graph = graph_of(ResidualBlock(4, 8, stride=2), (4, 8, 8))
    (joined,) = [node for node in graph.nodes if node.kind == "add"]
    names = {node.name for node in joined.inputs}
    assert names == {"conv2", "downsample"}
    assert {node.detail for node in graph.nodes if node.name in ("conv1", "downsample")} == {
        "3×3 /2",
        "1×1 /2",
    }


def test_branches_end_in_one_concatenation():
    graph = graph_of(InceptionA(10), (10, 12, 12))
    last = graph.nodes[-1]
    assert last.kind == "concat"
    assert last.shape == (88, 12, 12)
    assert [node.name for node in last.inputs] == [
        "branch1x1",
        "branch5x5_2",
        "branch3x3_3",
        "branch_pool",
    ]
    assert [node.detail for node in graph.nodes if node.kind == "avg_pool2d"] == ["3×3"]


def test_equal_blocks_are_folded():
    repeats = {r.first.name: (r.last.name, r.times) for r in graph_of(resnet50()).repeats}
    assert repeats == {
        "layer1.1": ("layer1.1", 2),
        "layer2.1": ("layer2.1", 3),
        "layer3.1": ("layer3.1", 5),
        "layer4.1": ("layer4.1", 2),
    }


def test_equal_pairs_are_folded():
    repeats = {
        r.first.name: (r.last.name, r.times) for r in graph_of(get_model("resnet_cnn_norm")).repeats
    }
    assert repeats == {
        "layer1.1": ("layer1.2", 2),
        "layer2.1": ("layer2.2", 3),
        "layer3.1": ("layer3.2", 5),
        "layer4.1": ("layer4.2", 2),
    }


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "preact_resnet20", "lenet5"])
def test_parameters_of_the_nodes_add_up(name):
    model = get_model(name)
    graph = graph_of(model)
    times = dict.fromkeys(graph.nodes, 1)
    for repeat in graph.repeats:
        first, last = graph.nodes.index(repeat.first), graph.nodes.index(repeat.last)
        times.update(dict.fromkeys(graph.nodes[first : last + 1], repeat.times))
    total = sum(times[node] * node.params for node in graph.nodes)
    assert total == sum(parameter.numel() for parameter in model.parameters())
    assert graph.nodes[-1].shape == (10,)


def test_blocks_gives_each_form_once():
    assert [block.name for block in graph_of(resnet18()).blocks()] == ["layer1.0", "layer2.0"]
    blocks = [block.kind for block in graph_of(get_model("mini_densenet")).blocks()]
    assert blocks == ["DenseBlock", "Transition", "DenseLayer"]


def test_a_gate_is_a_block_with_three_inputs():
    graph = graph_of(nn.Sequential(ResidualUnit(4, 4, shortcut="shortcut_gating")), (4, 8, 8))
    unit, gate = graph.blocks()
    assert [unit.kind, gate.kind] == ["ResidualUnit", "GatedSum"]
    assert kinds(gate.inside)[:3] == ["input"] * 3
    assert [node.name for node in gate.inside.nodes[:3]] == ["x", "residual", "shortcut"]
    assert "sub" in kinds(gate.inside)


def test_the_first_of_many_inner_blocks_are_shown():
    graph = graph_of(nn.Sequential(DenseBlock(8, 9, 4)), (8, 6, 6))
    inside = next(graph.blocks()).inside
    assert kinds(inside).count("DenseLayer") == 4
    (more,) = [node for node in inside.nodes if node.kind == "more"]
    assert more.detail == "5 DenseLayer"
    inner = [node.params for node in inside.nodes]
    assert sum(inner) == profile(DenseBlock(8, 9, 4), (8, 6, 6)).params
    assert inside.nodes[-1].shape == (8 + 9 * 4, 6, 6)


def test_a_shared_layer_counts_at_its_first_call_only():
    layer = nn.Linear(3, 3)
    graph = graph_of(nn.Sequential(layer, nn.Tanh(), layer), (3,))
    assert [node.params for node in graph.nodes] == [0, 12, 0, 0]


def test_the_network_stays_unchanged():
    model = resnet18().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    graph_of(model)
    assert model.training
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x):
        return self.layer(x) if x.sum() > 0 else x


class Counting(Branching):
    def forward(self, x):
        for _ in range(int(x.shape[0])):
            x = self.layer(x)
        return x


def test_untraceable_networks_are_refused_and_untraceable_blocks_have_no_inside():
    with pytest.raises(ValueError, match=r"`model` must be traceable by torch.fx; Branching"):
        graph_of(Branching(), (3,))
    graph = graph_of(nn.Sequential(Counting(), nn.Tanh()), (3,))
    assert kinds(graph) == ["input", "Counting", "Tanh"]
    assert graph.nodes[1].inside is None
    assert graph.nodes[1].params == 12


def test_impossible_arguments():
    with pytest.raises(ValueError, match=r"`inputs` must be given"):
        graph_of(nn.Linear(2, 2))
    with pytest.raises(RuntimeError, match=r"`model` failed"):
        graph_of(resnet18(), (3, 28, 28))
    with pytest.raises(TypeError, match=r"`model` .* must be a network"):
        graph_of(torch.relu, (3,))


class _Parts(nn.Module):
    """Gives two tensors in a tuple, or in a dict."""

    def __init__(self, named):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3)
        self.conv2 = nn.Conv2d(1, 4, 3)
        self.named = named

    def forward(self, x):
        first, second = self.conv1(x), self.conv2(x)
        return {0: first, 1: second} if self.named else (first, second)


class _Sum(nn.Module):
    """Adds the parts that a layer gives."""

    def __init__(self, parts):
        super().__init__()
        self.parts = parts

    def forward(self, x):
        parts = self.parts(x)
        return parts[0] + parts[1]


@pytest.mark.parametrize("named", [False, True])
def test_a_block_that_gives_several_tensors_is_drawn_with_its_lines(named):
    graph = graph_of(_Sum(_Parts(named)), (1, 8, 8))
    assert kinds(graph) == ["input", "_Parts", "add"]
    assert edges(graph) == [[], [0], [1]]
    assert graph.nodes[1].shape == (4, 6, 6)
    assert graph.nodes[1].params == 80
    assert kinds(graph.nodes[1].inside) == ["input", "Conv2d", "Conv2d"]


class _Sequence(nn.Module):
    """Reads the rows of an image one by one, or all at once."""

    def __init__(self, kind):
        super().__init__()
        self.rows = kind(28, 16, batch_first=True)
        self.head = nn.Linear(16, 10)

    def forward(self, x):
        rows, _ = self.rows(x[:, 0])
        return self.head(rows[:, -1])


@pytest.mark.parametrize(("kind", "params"), [(nn.LSTM, 2944), (nn.GRU, 2208), (nn.RNN, 736)])
def test_recurrent_layers_are_drawn(kind, params):
    graph = graph_of(_Sequence(kind), (1, 28, 28))
    assert kinds(graph) == ["input", kind.__name__, "Linear"]
    assert edges(graph) == [[], [0], [1]]
    assert graph.nodes[1].shape == (28, 16)
    assert graph.nodes[1].params == params


class _Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(28, 4, batch_first=True)

    def forward(self, x):
        rows = x[:, 0]
        seen, _ = self.attention(rows, rows, rows)
        return (rows + seen).max(1).values


def test_attention_and_functions_that_give_several_tensors_are_drawn():
    graph = graph_of(_Attention(), (1, 28, 28))
    assert kinds(graph) == ["input", "MultiheadAttention", "add", "max"]
    assert edges(graph) == [[], [0], [0, 1], [2]]
    assert graph.nodes[-1].shape == (28,)


class _OwnTensors(nn.Module):
    """Reads a type, a buffer and a parameter of its own."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.scale = nn.Parameter(torch.ones(4, 1, 1))
        self.register_buffer("mean", torch.zeros(1, 1, 1))

    def forward(self, x):
        x = x.to(self.conv.weight.dtype) - self.mean
        return self.conv(x) * self.scale


def test_tensors_that_a_network_reads_are_drawn_with_their_whole_shape_and_parameters():
    graph = graph_of(_OwnTensors(), (1, 8, 8))
    found = [(node.kind, node.shape, node.params) for node in graph.nodes[1:]]
    assert found == [
        ("mean", (1, 1, 1), 0),
        ("sub", (1, 8, 8), 0),
        ("Conv2d", (4, 6, 6), 40),
        ("scale", (4, 1, 1), 4),
        ("mul", (4, 6, 6), 0),
    ]
