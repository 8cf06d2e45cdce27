"""The Inception module: shapes, branches, and impossible options."""

import pytest
import torch
import torch.nn.functional as F
from blocks_cases import channels
from hypothesis import given
from hypothesis import strategies as st

from mnist_zoo import InceptionA


@given(channels, channels, st.tuples(channels, channels), st.tuples(channels, channels, channels))
def test_shapes_of_inception(inside, first, second, third):
    layer = InceptionA(inside, branch1x1=first, branch5x5=second, branch3x3=third, branch_pool=2)
    out = layer(torch.randn(2, inside, 5, 6))
    assert out.shape == (2, first + second[1] + third[2] + 2, 5, 6) == (2, layer.out_channels, 5, 6)


def test_inception_concatenates_its_branches_in_order():
    layer = InceptionA(3)
    assert layer.out_channels == 88
    x = torch.randn(2, 3, 6, 6)
    out = layer(x)
    assert torch.equal(out[:, :16], layer.branch1x1(x))
    assert torch.equal(out[:, 16:40], layer.branch5x5_2(layer.branch5x5_1(x)))
    assert torch.equal(out[:, 40:64], layer.branch3x3_3(layer.branch3x3_2(layer.branch3x3_1(x))))
    assert torch.equal(out[:, 64:], layer.branch_pool(F.avg_pool2d(x, 3, 1, 1)))


@pytest.mark.parametrize(
    ("option", "value", "shown"),
    [
        ("branch1x1", 0, "0"),
        ("branch5x5", (16, 0), "0"),
        ("branch3x3", (0, 1, 1), "0"),
        ("branch5x5", (16, 24, 99), r"\(16, 24, 99\)"),
        ("branch3x3", (16, 24), r"\(16, 24\)"),
        ("branch5x5", 16, "16"),
    ],
)
def test_errors_name_impossible_branches(option, value, shown):
    with pytest.raises(ValueError, match=rf"`{option}` \(={shown}\) must be"):
        InceptionA(4, **{option: value})
