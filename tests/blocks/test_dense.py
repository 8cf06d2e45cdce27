"""Dense layers, blocks and transitions, and the memory-efficient form of a block."""

import pytest
import torch
import torch.nn.functional as F
from conftest import randomize_norms
from conversion_cases import same_state, twins
from densenet_cases import gradients, learn
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mnist_zoo import (
    DenseBlock,
    DenseLayer,
    Transition,
    get_model,
    mini_densenet,
)

numbers = st.integers(1, 6)


@settings(deadline=None)
@given(numbers, numbers, numbers, st.booleans(), st.integers(1, 6))
def test_shapes(inside, depth, growth_rate, bottleneck, size):
    x = torch.randn(2, inside, size, size)
    layer = DenseLayer(inside, growth_rate, bottleneck=bottleneck).eval()
    assert layer(x).shape == (2, growth_rate, size, size)
    block = DenseBlock(inside, depth, growth_rate, bottleneck=bottleneck).eval()
    out = block(x)
    assert out.shape == (2, inside + depth * growth_rate, size, size)
    assert (layer.out_channels, block.out_channels) == (growth_rate, out.shape[1])
    assert torch.equal(out[:, :inside], x)


@settings(deadline=None)
@example(100, 29)  # 100 times 0.29 is 28.999…
@given(st.integers(1, 200), st.integers(1, 100))
def test_transitions_round_the_number_of_channels_down(channels, percent):
    part = percent / 100
    if channels * percent < 100:
        with pytest.raises(ValueError, match=rf"`compression` \(={part}\) times `in_channels`"):
            Transition(channels, part)
    else:
        layer = Transition(channels, part)
        assert layer.out_channels == layer.conv.out_channels == channels * percent // 100


@pytest.mark.parametrize("bottleneck", [False, True])
def test_every_layer_sees_the_features_of_all_layers_before(bottleneck):
    block = randomize_norms(DenseBlock(5, 3, 4, bottleneck=bottleneck)).eval()
    x = torch.randn(2, 5, 6, 6)
    before = x.clone()
    features = [x]
    for number in range(1, 4):
        layer = block[f"denselayer{number}"]
        h = F.conv2d(
            layer.norm1(torch.cat(features, 1)).relu(),
            layer.conv1.weight,
            padding=0 if bottleneck else 1,
        )
        if bottleneck:
            assert h.shape[1] == 4 * 4
            h = F.conv2d(layer.norm2(h).relu(), layer.conv2.weight, padding=1)
        features.append(h)
    assert torch.equal(block(x), torch.cat(features, 1))
    assert torch.equal(x, before)


def test_a_transition_computes_the_written_out_formula():
    layer = randomize_norms(Transition(6)).eval()
    x = torch.randn(2, 6, 7, 7)
    h = F.conv2d(layer.norm(x).relu(), layer.conv.weight)
    assert torch.equal(layer(x), F.avg_pool2d(h, 2))
    assert layer(x).shape == (2, 3, 3, 3)


@pytest.mark.parametrize("bottleneck", [False, True])
def test_memory_efficient_changes_no_output_gradient_or_statistic(bottleneck):
    options = {"dropout": 0.2, "bottleneck": bottleneck}
    plain = mini_densenet(**options)
    saving = mini_densenet(**options, memory_efficient=True)
    saving.load_state_dict(plain.state_dict())
    x = torch.randn(4, 1, 28, 28)
    assert torch.equal(learn(plain, x), learn(saving, x))
    assert all(map(torch.equal, gradients(plain), gradients(saving)))
    assert same_state(plain.state_dict(), saving.state_dict())
    assert torch.equal(plain.eval()(x), saving.eval()(x))


def test_memory_efficient_gradients_match_torchvision():
    ours, theirs = twins("densenet121", num_classes=10, memory_efficient=True)
    saving = get_model("densenet121", in_channels=3, memory_efficient=True)
    saving.load_state_dict(ours.state_dict())
    x = torch.randn(3, 3, 32, 32)
    assert torch.equal(learn(saving, x), learn(theirs, x))
    assert all(map(torch.equal, gradients(saving), gradients(theirs)))


def test_memory_efficient_recomputes_each_layer_for_the_backward_pass():
    block = DenseBlock(4, 3, 2, memory_efficient=True)
    calls = []
    for layer in block.values():
        layer.norm1.register_forward_hook(lambda *_: calls.append(None))
    x = torch.randn(2, 4, 5, 5, requires_grad=True)
    loss = block(x).square().sum()
    assert len(calls) == 3
    loss.backward(retain_graph=True)
    assert len(calls) == 6
    loss.backward()
    assert len(calls) == 9
    assert all(int(layer.norm1.num_batches_tracked) == 1 for layer in block.values())
    with torch.no_grad():
        block(x)
    block.eval()(x).sum().backward()
    assert len(calls) == 15


@pytest.mark.parametrize("block", [DenseLayer, DenseBlock, Transition])
@pytest.mark.parametrize("value", [0, -2, 1.5])
def test_errors_name_impossible_numbers(block, value):
    numbers = (value, 2) if block is DenseBlock else (value,)
    with pytest.raises(ValueError, match=rf"`in_channels` \(={value}\) must be a whole number"):
        block(*numbers)
    if block is DenseBlock:
        with pytest.raises(ValueError, match=rf"`depth` \(={value}\) must be a whole number"):
            block(4, value)
    if block is not Transition:
        with pytest.raises(ValueError, match=rf"`growth_rate` \(={value}\) must be a whole"):
            block(4, **({"depth": 2} if block is DenseBlock else {}), growth_rate=value)
