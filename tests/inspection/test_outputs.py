"""Outputs without data against those of the same forward with data."""

import contextlib

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mnist_zoo import summary

OPERATIONS = {
    "relu": lambda x, y: F.relu(x),
    "silu in place": lambda x, y: F.silu(x + 1, inplace=True),
    "gelu of a view": lambda x, y: F.gelu(x.transpose(0, -1)).transpose(0, -1),
    "sigmoid of integers": lambda x, y: torch.sigmoid(x.long()),
    "leaky ReLU": lambda x, y: F.leaky_relu(x, 0.2),
    "sum with a number": lambda x, y: x + 1,
    "product with an imaginary number": lambda x, y: x.float() * 1j,
    "dropout": lambda x, y: F.dropout(x, 0.5),
    "sum": lambda x, y: x + y,
    "sum in place": lambda x, y: (x + y).add_(y),
    "difference in other types": lambda x, y: x.half() - y,
    "product with integers": lambda x, y: x.long() * y.long(),
    "product with a number": lambda x, y: 2.5 * x,
    "normalised": lambda x, y: F.batch_norm(x, None, None, training=True),
    "normalised in eval mode": lambda x, y: F.batch_norm(x, x[0] * 0, x[0] * 0 + 1),
    "linear": lambda x, y: F.linear(x, torch.ones(5, x.shape[1]), torch.ones(5)),
}


@settings(deadline=None, max_examples=40)
@given(
    name=st.sampled_from(sorted(OPERATIONS)),
    width=st.integers(1, 4),
    one=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
)
def test_outputs_have_the_shape_and_type_that_torch_gives_them(name, width, one, dtype):
    """Against the same forward with data: summary states the shape, and the bytes of the output."""

    class Calling(nn.Module):
        def forward(self, x, y):
            return OPERATIONS[name](x, y)

    if name == "linear":
        dtype = torch.float32
    x, y = torch.rand(2, width).to(dtype), torch.rand(2, 1 if one else width).to(dtype)
    output = OPERATIONS[name](x, y)
    table = summary(Calling(), [x, y], quiet=True)
    assert table.rows[0].output_shape == (-1, *output.shape[1:])
    assert table.forward_backward_bytes == 2 * output[:1].nbytes


MOVES = ("stride", "padding", "dilation")
NUMBERS = st.integers(1, 3)
WINDOWS = {
    "convolution": lambda x, w, o: F.conv2d(x, w, None, *map(o.get, MOVES), o["groups"]),
    "convolution with a bias": lambda x, w, o: F.conv2d(x, w, w[:, 0, 0, 0], *map(o.get, MOVES)),
    "max pooling": lambda x, w, o: F.max_pool2d(
        x, w.shape[2:], *map(o.get, MOVES), ceil_mode=o["flag"]
    ),
    "max pooling without a stride": lambda x, w, o: F.max_pool2d(x, w.shape[2:]),
    "mean pooling": lambda x, w, o: F.avg_pool2d(
        x, w.shape[2:], o["stride"], o["padding"], ceil_mode=o["flag"]
    ),
    "joined": lambda x, w, o: torch.cat([x, x[:, :1], x], o["dim"]),
    "joined types": lambda x, w, o: torch.cat([x.long(), x], o["dim"]),
    "joined with nothing": lambda x, w, o: torch.cat([x, x.new_empty(0)], o["dim"]),
    "mean": lambda x, w, o: x.mean((o["dim"], -1), keepdim=o["flag"]),
    "mean of one axis": lambda x, w, o: x.mean(o["dim"]),
    "mean of all": lambda x, w, o: x.mean(),
    "mean in another type": lambda x, w, o: x.mean(1, dtype=torch.float64),
    "global average": lambda x, w, o: F.adaptive_avg_pool2d(x, 1),
}


@pytest.mark.parametrize("name", WINDOWS)
@settings(deadline=None, max_examples=40)
@given(
    channels=st.tuples(NUMBERS, NUMBERS, NUMBERS),
    kernel=st.tuples(st.integers(2, 4), st.integers(2, 4)),
    options=st.fixed_dictionaries(
        {
            "stride": NUMBERS,
            "padding": st.integers(0, 2),
            "dilation": st.integers(1, 2),
            "groups": NUMBERS,
            "dim": st.integers(-5, 4),
            "flag": st.booleans(),
        }
    ),
    order=st.sampled_from([torch.contiguous_format, torch.channels_last]),
    dtypes=st.tuples(*[st.sampled_from([torch.float32, torch.float64])] * 2),
)
def test_outputs_of_images_have_the_form_that_torch_gives_them(
    name, channels, kernel, options, order, dtypes
):
    """Shape, type and order in memory, as without our rules; and what torch refuses is refused."""
    inside, outside, groups = channels
    seen = []

    class Calling(nn.Module):
        def forward(self, x, weight):
            y = WINDOWS[name](x, weight, options)
            seen.append((y.shape, y.dtype, y.stride()))
            return y

    x = torch.rand(2, inside * groups, 5, 4, dtype=dtypes[0]).contiguous(memory_format=order)
    weight = torch.rand(outside, inside, *kernel, dtype=dtypes[1])
    try:
        Calling()(x.to("meta"), weight.to("meta"))
    except (RuntimeError, IndexError):
        with pytest.raises(RuntimeError, match=r"`model` failed in Calling.* itself"):
            summary(Calling(), [x, weight], quiet=True)
        return
    summary(Calling(), [x, weight], quiet=True)
    assert seen[1] == seen[0]
    with contextlib.suppress(RuntimeError):  # of types, which torch does not refuse without data
        Calling()(x, weight)
        assert seen[2][:2] == seen[0][:2]
