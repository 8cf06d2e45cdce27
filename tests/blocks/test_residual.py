"""Residual blocks: shapes, sums computed by hand, and impossible options."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from blocks_cases import channels
from conftest import randomize_norms
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mnist_zoo import BasicBlock, Bottleneck, InceptionA, ResidualBlock, SeparableBottleneck

BLOCKS = [ResidualBlock, BasicBlock, Bottleneck, SeparableBottleneck]


@settings(deadline=None)
@given(st.sampled_from(BLOCKS), channels, channels, st.integers(1, 3), st.integers(1, 9))
def test_shapes(block, inside, outside, stride, size):
    layer = block(inside, outside, stride)
    out = layer.eval()(torch.randn(2, inside, size, size))
    side = -(-size // stride)
    assert out.shape == (2, outside * getattr(layer, "expansion", 1), side, side)
    assert layer.out_channels == out.shape[1]
    assert (out >= 0).all()


def test_identity_shortcut_of_a_residual_block():
    layer = ResidualBlock(4)
    x = torch.randn(2, 4, 5, 5)
    assert layer.downsample is None
    assert torch.equal(layer(x), F.relu(layer.conv2(F.relu(layer.conv1(x))) + x))


@pytest.mark.parametrize(("outside", "stride"), [(6, 1), (4, 2)])
def test_projected_shortcut_of_a_residual_block(outside, stride):
    layer = ResidualBlock(4, outside, stride)
    x = torch.randn(2, 4, 5, 5)
    inner = layer.conv2(F.relu(layer.conv1(x)))
    assert torch.equal(layer(x), F.relu(inner + layer.downsample(x)))


@pytest.mark.parametrize("block", [ResidualBlock, BasicBlock])
def test_a_shortcut_may_be_pooled_where_the_size_changes(block):
    """One of two ways that the report on the simple ResNet names; the other is no shortcut."""
    layer = block(4, 4, 2).eval()
    x = torch.randn(2, 4, 6, 6)
    inner = {}
    layer.conv2.register_forward_hook(lambda module, args, out: inner.update(out=out))
    layer.downsample = nn.AvgPool2d(2)
    out = layer(x)
    branch = inner["out"] if block is ResidualBlock else layer.bn2(inner["out"])
    assert torch.equal(out, F.relu(branch + F.avg_pool2d(x, 2)))


@pytest.mark.parametrize(
    ("ours", "name", "options"),
    [
        (BasicBlock, "BasicBlock", {}),
        (Bottleneck, "Bottleneck", {}),
        (Bottleneck, "Bottleneck", {"dilation": 2}),
        (Bottleneck, "Bottleneck", {"groups": 32, "base_width": 4}),
        (Bottleneck, "Bottleneck", {"base_width": 128}),
    ],
)
@pytest.mark.parametrize("stride", [1, 2])
def test_blocks_match_torchvision(ours, name, options, stride):
    block = getattr(torchvision.models.resnet, name)
    downsample = nn.Sequential(
        nn.Conv2d(64, 64 * block.expansion, 1, stride, bias=False),
        nn.BatchNorm2d(64 * block.expansion),
    )
    shaped = stride != 1 or block.expansion != 1
    theirs = block(64, 64, stride, downsample if shaped else None, **options)
    randomize_norms(theirs)
    layer = ours(64, 64, stride, **options)
    layer.load_state_dict(theirs.state_dict(), strict=True)
    assert repr(layer) == repr(theirs)
    x = torch.randn(2, 64, 7, 7)
    assert torch.equal(layer(x), theirs(x))


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck, SeparableBottleneck])
def test_a_plain_block_has_an_idle_shortcut(block):
    layer = block(8, 4, 2, residual=False).eval()
    assert set(layer.state_dict()) == set(block(8, 4, 2).state_dict())
    x = torch.randn(1, 8, 6, 6)
    before = layer(x)
    nn.init.constant_(layer.downsample[1].bias, 1e3)
    assert torch.equal(layer(x), before)
    assert all(p.requires_grad == ("downsample" not in n) for n, p in layer.named_parameters())


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck, SeparableBottleneck])
def test_optional_conv_biases_start_at_zero(block):
    convs = [m for m in block(8, 4, 2, conv_bias=True).modules() if isinstance(m, nn.Conv2d)]
    assert all(torch.equal(conv.bias, torch.zeros_like(conv.bias)) for conv in convs)
    assert all(m.bias is None for m in block(8, 4, 2).modules() if isinstance(m, nn.Conv2d))


def test_separable_bottleneck_is_depthwise_then_pointwise():
    layer = SeparableBottleneck(16, 8)
    assert layer.conv2.groups == layer.conv2.in_channels == 8
    assert layer.conv2.weight.shape == (8, 1, 3, 3)
    assert layer.conv3.kernel_size == (1, 1)
    x = torch.randn(1, 8, 5, 5)
    by_channel = [
        F.conv2d(x[:, c : c + 1], layer.conv2.weight[c : c + 1], padding=1) for c in range(8)
    ]
    assert torch.allclose(layer.conv2(x), torch.cat(by_channel, 1), atol=1e-6)


def test_blocks_compose_with_gradients_to_every_parameter():
    model = nn.Sequential(
        ResidualBlock(1, 8),
        ResidualBlock(8, 16, stride=2),
        InceptionA(16),
        BasicBlock(88, 32, stride=2),
        Bottleneck(32, 8),
        SeparableBottleneck(32, 16, stride=2),
    )
    model(torch.randn(2, 1, 28, 28)).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("value", [0, -2, 1.5])
def test_errors_name_impossible_numbers(block, value):
    with pytest.raises(ValueError, match=rf"`in\w+` \(={value}\) must be a whole number"):
        block(value, 4)
    with pytest.raises(ValueError, match=rf"`stride` \(={value}\) must be a whole number"):
        block(4, 4, value)


def test_a_bottleneck_without_channels_is_an_error():
    with pytest.raises(ValueError, match=r"`base_width` \(=1\) times `planes` \(=8\) must be"):
        Bottleneck(8, 8, base_width=1)


def test_a_separable_bottleneck_refuses_groups():
    with pytest.raises(ValueError, match=r"`groups` \(=4\) must be 1"):
        SeparableBottleneck(64, 16, groups=4)
