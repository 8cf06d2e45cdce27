"""Networks that read values of their own, hold generators, and return outputs of any form."""

from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune

from mnist_zoo import compare, lenet5, profile, summary

COUNTS = [lambda m: summary(m, (3,), quiet=True).total_params, lambda m: profile(m, (3,)).params]


class Reading(nn.Linear):
    """A linear layer whose output is changed by a function of the network."""

    def __init__(self, change, **tensors):
        super().__init__(3, 3)
        self.change, self.constants = change, {}
        for name, tensor in tensors.items():
            if isinstance(tensor, nn.Parameter):
                setattr(self, name, tensor)
            elif name == "constant":
                self.constants[name] = tensor
            else:
                self.register_buffer(name, tensor)

    def forward(self, x):
        return self.change(self, super().forward(x))


READING = {
    "stride": Reading(lambda m, x: x[:, :: int(m.stride)], stride=torch.tensor(2)),
    "flag": Reading(lambda m, x: x if m.ready else -x, ready=torch.tensor(True)),
    "flag that is set": Reading(
        lambda m, x: x if m.ready.fill_(1).item() else -x, ready=torch.tensor(0)
    ),
    "sizes": Reading(lambda m, x: x.view(*m.sizes.tolist()), sizes=torch.tensor([-1, 3, 1])),
    "range": Reading(lambda m, x: x.clamp(*map(float, m.range)), range=torch.tensor([0.0, 6.0])),
    "limit": Reading(lambda m, x: x * m.many.sum().item(), many=torch.ones(64)),
    "constant": Reading(
        lambda m, x: x.repeat(1, int(m.constants["constant"])), constant=torch.tensor(2)
    ),
    "mask": Reading(lambda m, x: x[:, m.mask], mask=torch.tensor([True, False, True])),
    "gate": Reading(lambda m, x: x if m.gate > 0 else -x, gate=nn.Parameter(torch.ones(()))),
    "values of the input": Reading(lambda m, x: x + m.shift, shift=torch.ones(3)),
    "float64": Reading(lambda m, x: x + float(m.shift), shift=torch.ones((), dtype=torch.float64)),
}


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", READING)
def test_networks_may_read_small_tensors_of_their_own(name, count):
    model = READING[name]
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    assert count(model) == sum(p.numel() for p in model.parameters())
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


def test_values_change_shapes():
    assert summary(READING["stride"], (3,), quiet=True).rows[0].output_shape == (-1, 2)
    assert summary(READING["mask"], (3,), quiet=True).rows[0].output_shape == (-1, 2)


def test_large_tensors_hold_no_data():
    model = Reading(lambda m, x: x * m.many.sum().item(), many=torch.ones(65))
    with pytest.raises(RuntimeError, match=r"in Reading.* itself: .*meta"):
        profile(model, (3,))


class Noisy(nn.Module):
    def __init__(self, draw, at):
        super().__init__()
        self.fc, self.draw = nn.Linear(3, 3), draw
        generator = torch.Generator().manual_seed(0)
        self.held = {"attribute": generator, "list": [generator]}[at]

    def forward(self, x):
        generator = self.held[0] if isinstance(self.held, list) else self.held
        return self.fc(self.draw(x, generator))


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("at", ["attribute", "list"])
@pytest.mark.parametrize(
    "draw",
    [
        lambda x, g: x + torch.rand(x.shape, generator=g),
        lambda x, g: x + torch.randn(x.shape, generator=g, device=x.device),
        lambda x, g: x * torch.bernoulli(x, generator=g),
        lambda x, g: x[:, torch.randperm(3, generator=g)],
        lambda x, g: x + torch.empty_like(x).uniform_(generator=g),
        lambda x, g: x * float(torch.rand((), generator=g)),
    ],
)
def test_networks_may_hold_a_generator(count, at, draw):
    model = Noisy(draw, at)
    generator = model.held[0] if at == "list" else model.held
    before = generator.get_state()
    assert count(model) == 12
    assert torch.equal(generator.get_state(), before)


class Token(nn.Module):
    """Gives a module a view of a parameter."""

    def __init__(self):
        super().__init__()
        self.query, self.norm = nn.Parameter(torch.zeros(1, 3)), nn.LayerNorm(3)
        self.fc = nn.Linear(3, 10)

    def forward(self, x):
        return self.fc(x + self.norm(self.query.expand(len(x), -1)))


class Energy(nn.Module):
    """Differentiates in its forward, by a parameter."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 3)

    def forward(self, x):
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(self.fc(x).sum(), self.fc.weight)
        return self.fc(x) + slope.sum()


@pytest.mark.parametrize("frozen", [True, False])
def test_views_of_parameters_and_gradients_in_the_forward(frozen):
    model = Token().requires_grad_(not frozen)
    assert profile(model, (3,)).flops == compare([model], (3,)).rows[0].flops == 2 * 30
    assert summary(model, (3,), quiet=True).trainable_params == (0 if frozen else 49)
    assert profile(Energy(), (3,)).params == 12


def test_profile_leaves_no_hook_on_the_modules_of_others():
    seen = []

    class Looking(nn.Linear):
        def forward(self, x):
            module = nn.modules.module
            seen.append(len(module._global_forward_hooks) + len(module._global_forward_pre_hooks))
            return super().forward(x)

    profile(Looking(3, 3), (3,))
    assert seen == [0]


def test_pruned_networks_count_as_the_whole_ones():
    model = lenet5()
    prune.l1_unstructured(model.conv1, "weight", 0.5)
    assert tuple(profile(model)) == tuple(profile(lenet5()))
    assert summary(model, quiet=True).total_params == 44_426


@dataclass
class Output:
    logits: torch.Tensor
    loss: torch.Tensor


class Returning(nn.Module):
    def __init__(self, form):
        super().__init__()
        self.form = form

    def forward(self, x):
        return self.form(x)


SHAPES = st.lists(st.integers(1, 99), max_size=3).map(tuple)


@settings(deadline=None, max_examples=30)
@given(st.lists(SHAPES, max_size=4))
def test_rows_state_outputs_of_any_ranks(shapes):
    """A shape () is a number; each other one gets a batch."""
    form = lambda x: [x.new_ones(2, *shape) if shape else x.sum() for shape in shapes]  # noqa: E731
    table = summary(nn.Sequential(Returning(form)), (3,), quiet=True)
    (row,) = table.rows
    assert row.output_shape == tuple((-1, *shape) if shape else () for shape in shapes)
    line = f"{'Returning-1':>20}  {[list(s) for s in row.output_shape]!s:>25} {0:>15}"
    assert str(table).splitlines()[3] == line


@pytest.mark.parametrize(
    ("form", "shape", "text"),
    [
        (lambda x: x.sum(), (), "[]"),
        (lambda x: None, (), "[]"),
        (lambda x: Output(x, x.sum()), ((-1, 3), ()), "[[-1, 3], []]"),
        (lambda x: {"y": x, "n": [x[..., None]]}, ((-1, 3), (-1, 3, 1)), "[[-1, 3], [-1, 3, 1]]"),
        (lambda x: (x, 7, "text"), ((-1, 3),), "[[-1, 3]]"),
        (lambda x: x, (-1, 3), "[-1, 3]"),
    ],
)
def test_rows_state_outputs_of_any_form(form, shape, text):
    table = summary(nn.Sequential(Returning(form)), (3,), quiet=True)
    assert [row.output_shape for row in table.rows] == [shape]
    assert (
        str(table).splitlines()[3].split("Returning-1")[1].strip() == f"{text:>25} {0:>15}".strip()
    )
    assert table._repr_html_().count("<tr>") == 3


@pytest.mark.parametrize("empty", [nn.Sequential(), nn.Sequential(nn.Sequential())])
def test_a_network_without_rows_has_a_table(empty, capsys):
    table = summary(empty, (3,))
    assert (table.rows, table.total_params) == ((), 0)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["Layer", "(type)", "Output", "Shape", "Param", "#"]
    assert lines[2] == lines[3] == "=" * 64
    assert lines[4] == "Total params: 0"


KERNELS = st.integers(1, 4)


@settings(deadline=None, max_examples=60)
@given(
    transposed=st.booleans(),
    rank=st.integers(1, 3),
    groups=st.integers(1, 3),
    channels=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    kernel=KERNELS,
    stride=KERNELS,
    padding=st.integers(0, 1),
    dilation=st.integers(1, 2),
    bias=st.booleans(),
)
def test_macs_of_convolutions_are_half_of_the_flops(
    transposed, rank, groups, channels, kernel, stride, padding, dilation, bias
):
    kind = getattr(nn, f"Conv{'Transpose' * transposed}{rank}d")
    inside, outside = (groups * count for count in channels)
    options = {"groups": groups, "dilation": dilation, "bias": bias}
    layer = kind(inside, outside, kernel, stride, padding, **options)
    cost = profile(layer, (inside, *(9, 8, 7)[:rank]))
    assert cost.flops == 2 * cost.macs
    assert not cost.uncounted
    if transposed:
        pixels = torch.Size((9, 8, 7)[:rank]).numel()
        assert cost.macs == pixels * layer.weight.numel()


def test_transposed_convolutions_without_a_rule_are_named():
    class Own(nn.ConvTranspose2d):
        pass

    class Functional(nn.ConvTranspose2d):
        def forward(self, x):
            return F.conv_transpose2d(x, self.weight, stride=4)

    for model in (Own(3, 8, 4, stride=4), Functional(3, 8, 4, stride=4)):
        assert profile(model, (3, 7, 7)).uncounted == {type(model).__name__: 1}
        row = compare([model], (3, 7, 7)).rows[0]
        assert (row.macs, row.macs_incomplete) == (0, True)
