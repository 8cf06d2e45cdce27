"""Residual units with every order and every shortcut, against the formulas in the paper."""

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from conftest import randomize_norms, slow_if
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mnist_zoo import BasicBlock, Bottleneck, ResidualUnit
from mnist_zoo.blocks.units import GATES, ORDERS, SHORTCUTS

PREACTIVATED = ("act_only_preactivation", "preactivation")
VARIANTS = [(order, "identity") for order in ORDERS] + [("original", s) for s in SHORTCUTS[1:]]
channels = st.integers(1, 5)


def made(inplanes=8, planes=8, stride=1, **options):
    """A unit in eval mode whose norms have random statistics."""
    return randomize_norms(ResidualUnit(inplanes, planes, stride, **options)).eval()


# --- every order -----------------------------------------------------------------------------


def conv(layer, x):
    return F.conv2d(x, layer.weight, layer.bias, layer.stride, layer.padding)


def norm(layer, x):
    mean, var = layer.running_mean, layer.running_var
    return F.batch_norm(x, mean, var, layer.weight, layer.bias, eps=layer.eps)


def residual(unit, order, x, activated=False):
    """The branch in figure 4 of the paper; `activated` leaves out its first activation."""
    count = sum(isinstance(module, nn.Conv2d) for module in unit.branch)
    for number in range(1, count + 1):
        layer = getattr(unit.branch, f"conv{number}")
        after = getattr(unit.branch, f"norm{number}", None)
        first, last = number == 1 and activated, number == count
        if order == "original":
            x = norm(after, conv(layer, x))
            x = x if last else x.relu()
        elif order == "norm_after_addition":
            x = conv(layer, x)
            x = x if last else norm(after, x).relu()
        elif order == "act_before_addition":
            x = norm(after, conv(layer, x)).relu()
        elif order == "act_only_preactivation":
            x = norm(after, conv(layer, x if first else x.relu()))
        else:
            x = conv(layer, x if first else norm(after, x).relu())
    return x


def after_sum(unit, order, x):
    if order == "norm_after_addition":
        x = norm(unit.after.norm, x)
    return x.relu() if order in ("original", "norm_after_addition") else x


@pytest.mark.parametrize("bottleneck", [False, True])
@pytest.mark.parametrize("order", ORDERS)
def test_each_order_matches_the_figure_in_the_paper(order, bottleneck):
    unit = made(8, 2 if bottleneck else 8, order=order, bottleneck=bottleneck)
    x = torch.randn(2, 8, 5, 5)
    before = x.clone()
    assert torch.equal(unit(x), after_sum(unit, order, residual(unit, order, x) + x))
    assert torch.equal(x, before)


@pytest.mark.parametrize("bottleneck", [False, True])
@pytest.mark.parametrize(("planes", "stride"), [(3, 1), (8, 2), (3, 2)])
@pytest.mark.parametrize("order", ORDERS)
def test_where_the_shape_changes_both_paths_share_the_first_activation(
    order, planes, stride, bottleneck
):
    unit = made(8, planes, stride, order=order, bottleneck=bottleneck)
    x = torch.randn(2, 8, 5, 5)
    h = norm(unit.before.norm1, x) if order == "preactivation" else x
    h = h.relu() if order in PREACTIVATED else h
    shortcut = conv(unit.shortcut.conv, h)
    if order in ("original", "act_before_addition", "act_only_preactivation"):
        shortcut = norm(unit.shortcut.norm, shortcut)
    assert len(unit.shortcut) == 1 + hasattr(unit.shortcut, "norm")
    inner = residual(unit, order, h, activated=True)
    assert torch.equal(unit(x), after_sum(unit, order, inner + shortcut))


@pytest.mark.parametrize("order", ORDERS)
def test_an_activated_input_is_not_activated_again(order):
    unit = made(order=order, activated=True)
    x = torch.randn(2, 8, 5, 5)
    assert not len(unit.before)
    inner = residual(unit, order, x, activated=True)
    assert torch.equal(unit(x), after_sum(unit, order, inner + x))
    whole, part = (set(ResidualUnit(8, 8, order=order, activated=a).state_dict()) for a in (0, 1))
    dropped = {"branch.norm1.weight", "branch.norm1.bias"} if order == "preactivation" else set()
    assert {name for name in whole - part if name.endswith(("weight", "bias"))} == dropped


def torchvision_name(name):
    for ours, theirs in [("shortcut.conv", "downsample.0"), ("shortcut.norm", "downsample.1")]:
        name = name.replace(ours, theirs)
    return name.removeprefix("branch.").replace("norm", "bn")


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
def test_the_original_order_matches_the_original_block(block, stride):
    unit = randomize_norms(ResidualUnit(8, 4, stride, bottleneck=block is Bottleneck))
    theirs = block(8, 4, stride)
    state = {torchvision_name(name): value for name, value in unit.state_dict().items()}
    theirs.load_state_dict(state, strict=True)
    assert (unit.expansion, unit.out_channels) == (theirs.expansion, theirs.out_channels)
    x = torch.randn(3, 8, 6, 6)
    outputs = unit(x), theirs(x)
    assert torch.equal(*outputs)
    for output in outputs:
        output.square().sum().backward()
    for name, p in unit.named_parameters():
        assert torch.equal(p.grad, theirs.get_parameter(torchvision_name(name)).grad), name


# --- every shortcut --------------------------------------------------------------------------

X = torch.randn(2, 8, 5, 5, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("shortcut", "scales"),
    [
        ("identity", (1, 1)),
        ("scaling", (0.5, 0.5)),
        ("shortcut_scaling", (1, 0.5)),
        ("residual_scaling", (0.5, 1)),
    ],
)
def test_constant_scaling(shortcut, scales):
    unit = made(shortcut=shortcut)
    assert torch.equal(unit(X), (scales[0] * unit.branch(X) + scales[1] * X).relu())


@pytest.mark.parametrize("shortcut", GATES)
def test_gates_depend_on_the_input(shortcut):
    unit = made(shortcut=shortcut)
    layer = unit.merge.gate
    assert (layer.bias == -6).all()
    nn.init.normal_(layer.bias)
    gate = torch.sigmoid(F.conv2d(X, layer.weight, layer.bias))
    inner = unit.branch(X)
    inner = gate * inner if shortcut == "exclusive_gating" else inner
    assert torch.equal(unit(X), (inner + (1 - gate) * X).relu())


def test_conv_shortcut():
    unit = made(shortcut="conv")
    path = norm(unit.shortcut.norm, conv(unit.shortcut.conv, X))
    assert torch.equal(unit(X), (unit.branch(X) + path).relu())


def test_dropout_shortcut():
    unit = made(shortcut="dropout")
    assert torch.equal(unit(X), (unit.branch(X) + X).relu())
    unit.shortcut.train()
    torch.manual_seed(1)
    found = unit(X)
    torch.manual_seed(1)
    assert torch.equal(found, (unit.branch(X) + F.dropout(X, 0.5)).relu())


def open_fully(unit):
    """Sets scales to 1, gates open, convolutions to the identity."""
    for module in unit.shortcut:
        if isinstance(module, nn.Conv2d):
            nn.init.dirac_(module.weight)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
            module.reset_running_stats()
            module.eps = 0.0
    if hasattr(unit.merge, "gate"):
        nn.init.zeros_(unit.merge.gate.weight)
        nn.init.constant_(unit.merge.gate.bias, -1e4)  # whose sigmoid is 0
    elif unit.merge is not None:
        unit.merge.residual = unit.merge.shortcut = 1.0


OPEN = [shortcut for shortcut in SHORTCUTS if shortcut != "exclusive_gating"]


@pytest.mark.parametrize("bottleneck", [False, True])
@pytest.mark.parametrize(
    ("order", "shortcut"),
    [
        (order, shortcut)
        for order, shortcut in product(ORDERS, OPEN)
        if shortcut != "conv" or order not in PREACTIVATED  # it is activated there
    ],
)
def test_a_fully_open_shortcut_is_the_identity(order, shortcut, bottleneck):
    planes = 2 if bottleneck else 8
    unit = made(8, planes, order=order, shortcut=shortcut, bottleneck=bottleneck)
    plain = ResidualUnit(8, planes, order=order, bottleneck=bottleneck).eval()
    plain.load_state_dict({k: v for k, v in unit.state_dict().items() if k in plain.state_dict()})
    open_fully(unit)
    assert torch.equal(unit(X), plain(X))


@pytest.mark.parametrize(("planes", "stride"), [(8, 1), (8, 2), (4, 1)])
def test_an_exclusive_gate_chooses_residual_or_shortcut(planes, stride):
    unit = made(8, planes, stride, shortcut="exclusive_gating")
    nn.init.zeros_(unit.merge.gate.weight)
    for bias, path in ((1e4, unit.branch), (-1e4, unit.shortcut)):
        nn.init.constant_(unit.merge.gate.bias, bias)
        assert torch.equal(unit(X), path(X).relu())


# --- any unit --------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    st.sampled_from([*ORDERS]),
    st.sampled_from(SHORTCUTS),
    st.booleans(),
    channels,
    channels,
    st.integers(1, 3),
    st.integers(1, 7),
)
def test_shapes(order, shortcut, bottleneck, inside, outside, stride, size):
    unit = made(inside, outside, stride, order=order, shortcut=shortcut, bottleneck=bottleneck)
    side = -(-size // stride)
    out = unit(torch.randn(2, inside, size, size))
    assert out.shape == (2, outside * unit.expansion, side, side)
    assert unit.out_channels == out.shape[1]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("order", "shortcut"), VARIANTS)
def test_every_parameter_and_the_input_receive_a_gradient(order, shortcut, stride):
    unit = ResidualUnit(8, 8, stride, order=order, shortcut=shortcut)
    x = torch.randn(3, 8, 6, 6, requires_grad=True)
    unit(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in unit.parameters())
    assert all(p.grad.any() for p in unit.parameters())
    assert x.grad.any()


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore:The TorchScript type system:UserWarning")  # fx's own
@pytest.mark.parametrize(
    ("order", "shortcut", "stride"),
    [
        slow_if((stride == 1) == (shortcut == "identity"), order, shortcut, stride)
        for order, shortcut in VARIANTS
        for stride in (1, 2)
    ],
)
def test_units_are_scripted_traced_and_exported(order, shortcut, stride):
    unit = made(8, 8, stride, order=order, shortcut=shortcut)
    expected = unit(X)
    assert torch.allclose(torch.jit.script(unit)(X), expected, atol=1e-5)
    assert torch.allclose(torch.jit.trace(unit, X)(X), expected, atol=1e-5)
    graph = torch.fx.symbolic_trace(unit)
    assert torch.equal(graph(X), expected)
    assert torch.allclose(torch.jit.script(graph)(X), expected, atol=1e-5)
    assert torch.allclose(torch.export.export(unit, (X,)).module()(X), expected, atol=1e-5)


def test_inplace_activations_do_not_change_the_input():
    unit = made(order="preactivation", norm_layer=nn.Identity)
    before = X.clone()
    unit(X)
    assert torch.equal(X, before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": "post"}, r"`order` \(='post'\) must be one of 'original', .*'preactivation'"),
        ({"order": "preactivations"}, r"did you mean 'preactivation'\?"),
        ({"order": None}, r"`order` \(=None\) must be one of"),
        ({"shortcut": "gate"}, r"`shortcut` \(='gate'\) must be one of 'identity', .*'dropout'"),
        ({"shortcut": ["conv"]}, r"`shortcut` \(=\['conv'\]\) must be one of"),
        ({"stride": 0}, r"`stride` \(=0\) must be a whole number of at least 1"),
        ({"planes": 1.5}, r"`planes` \(=1.5\) must be"),
        ({"inplanes": -1}, r"`inplanes` \(=-1\) must be"),
    ],
)
def test_errors_name_impossible_options(options, message):
    with pytest.raises(ValueError, match=message):
        ResidualUnit(**{"inplanes": 4, "planes": 4, **options})
