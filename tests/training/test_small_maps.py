"""Convolutions over very small maps as matrix products."""

import contextlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mnist_zoo import Digits, Recipe, fit, get_model
from mnist_zoo.training.small_maps import SmallMapsAsProducts


def convolves(y):
    """Whether a convolution is among the operations that computed a tensor."""
    nodes = [y.grad_fn]
    while nodes:
        node = nodes.pop()
        if node is not None:
            if "Convolution" in node.name():
                return True
            nodes += [parent for parent, _ in node.next_functions]
    return False


@settings(deadline=None)
@given(
    reach=st.integers(0, 3),
    inner=st.integers(0, 3),
    stride=st.integers(1, 2),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 5)),
    bias=st.booleans(),
    order=st.sampled_from([torch.contiguous_format, torch.channels_last]),
)
def test_product_equals_the_convolution_of_small_maps(reach, inner, stride, shape, bias, order):
    batch, channels, outputs = shape
    size, kernel = min(inner, reach) + 1, 2 * reach + 1
    conv = nn.Conv2d(channels, outputs, kernel, stride, reach, bias=bias).double()
    x = torch.randn(batch, channels, size, size).double().to(memory_format=order)
    found = []
    for mode in (contextlib.nullcontext(), SmallMapsAsProducts()):
        leaf = x.clone().requires_grad_()
        with mode:
            y = conv(leaf)
        # the gradient of the sum of squares depends on every output
        found.append((y, *torch.autograd.grad(y.square().sum(), (leaf, *conv.parameters()))))
    assert convolves(found[0][0])
    assert not convolves(found[1][0])
    for expected, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({}, (3, 3)),
        ({}, (2, 1)),
        ({"padding": 0}, (3, 3)),
        ({"padding": "same"}, (2, 2)),
        ({"padding_mode": "circular"}, (2, 2)),
        ({"dilation": 2, "padding": 2}, (2, 2)),
        ({"groups": 2}, (2, 2)),
        ({"stride": 3}, (2, 2)),
        ({"kernel_size": (3, 5), "padding": (1, 2)}, (2, 2)),
    ],
    ids=str,
)
def test_other_convolutions_are_not_replaced(options, shape):
    conv = nn.Conv2d(4, 6, **{"kernel_size": 3, "padding": 1, **options})
    x = torch.randn(2, 4, *shape)
    with SmallMapsAsProducts():
        y = conv(x)
    assert convolves(y)
    assert torch.equal(y, conv(x))


def test_products_do_not_change_the_output_of_any_network(network, pictures):
    network, pictures = network.double().eval(), pictures.double()
    with SmallMapsAsProducts():
        found = network(pictures)
    torch.testing.assert_close(found, network(pictures))


@pytest.mark.parametrize(("name", "found"), [("mini_resnet", False), ("resnet18", True)])
def test_fit_looks_for_small_maps_only_in_networks_that_have_them(name, found, monkeypatch):
    digits = Digits(torch.zeros(4, 1, 28, 28, dtype=torch.uint8), torch.arange(4))
    entered = []
    enter = SmallMapsAsProducts.__enter__
    monkeypatch.setattr(SmallMapsAsProducts, "__enter__", lambda s: entered.append(s) or enter(s))
    fit(get_model(name), digits, recipe=Recipe(lr=0.01, batch_size=2, epochs=3), progress=False)
    assert len(entered) == (1 + 6 if found else 1)  # the look before the first step; each step


def test_products_follow_autocast():
    conv, x = nn.Conv2d(4, 6, 3, padding=1), torch.randn(2, 4, 2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        expected = conv(x)
        with SmallMapsAsProducts():
            y = conv(x)
    assert y.dtype == expected.dtype == torch.bfloat16
    torch.testing.assert_close(y, expected, rtol=0.05, atol=0.05)
