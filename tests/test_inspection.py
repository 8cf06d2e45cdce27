"""Tables and counts against torchsummary, thop and the reports; and nothing is touched."""

import contextlib
import copy
import io
import random
import re
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchsummary
from conftest import randomize_norms
from hypothesis import given, settings
from hypothesis import strategies as st
from test_conversion import Net
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from mnist_zoo import (
    BasicBlock,
    InceptionA,
    ModelSummary,
    ResidualBlock,
    compare,
    get_model,
    lenet5,
    list_models,
    mini_googlenet,
    mini_resnet,
    profile,
    resnet18,
    summary,
)

# as the reports state them: multiply-accumulates for one image of that size
MACS = [
    ("mini_googlenet", 28, 6_019_200),
    ("mini_resnet", 28, 2_013_184),
    ("resnet18", 28, 33_184_000),
    ("resnet18", 224, 1_744_850_944),
    ("resnet50", 28, 78_755_072),
    ("resnet50", 224, 4_053_039_104),
    ("resnet_cnn", 28, 260_881_408),
]


def theirs(model, size):
    """What torchsummary itself prints, on real data."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        torchsummary.summary(model, size, device="cpu")
    return printed.getvalue().rstrip("\n")


# --- the figures ----------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "size", "macs"), MACS)
def test_macs_are_the_reports(name, size, macs):
    assert profile(get_model(name), (1, size, size)).macs == macs


@pytest.mark.filterwarnings("ignore:distutils:DeprecationWarning")
def test_profile_counts_what_thop_counts_on_the_network_itself(network):
    from thop import profile as thop_profile

    size = network.input_size
    macs, params = profile(network)
    their_macs, their_params = thop_profile(network, (torch.randn(1, *size),), verbose=False)
    idle = sum(p.numel() for p in network.parameters() if not p.requires_grad)
    assert macs == their_macs
    assert params == their_params + idle == sum(p.numel() for p in network.parameters())


def test_flops_are_two_a_multiply_accumulate_of_convolutions_and_linear_layers(network):
    cost = profile(network)
    macs = sum(layer.macs for layer in cost.by_layer.values() if layer.type in ("Conv2d", "Linear"))
    assert cost.flops == 2 * macs


def test_summary_is_what_torchsummary_prints(network):
    model = copy.deepcopy(network)
    if any(not p.requires_grad for p in model.parameters()):
        pytest.skip("torchsummary does not see layers that do not run")
    assert str(summary(network, quiet=True)) == theirs(model, network.input_size)


@pytest.mark.parametrize("name", ["mini_googlenet", "mini_resnet", "plain18"])
def test_golden_tables(name, golden):
    golden(f"{name}_summary", str(summary(get_model(name), quiet=True)))


# the reports' trees, but for class names, the empty `shortcut` and the adaptive average pool
@pytest.mark.parametrize("name", ["lenet5_conv_residual", "lenet5_fc_residual", "resnet50"])
def test_golden_trees(name, golden):
    golden(f"{name}_structure", repr(get_model(name)).replace(" bias=True, track", " track"))


def test_golden_costs(golden):
    golden("comparison", str(compare(list_models())))
    golden("profile", repr(profile(mini_googlenet())))


def test_summary_with_conv_biases_has_the_rows_of_the_report():
    table = summary(resnet18(conv_bias=True), (1, 32, 32), quiet=True)
    layers = ("Conv2d", "BatchNorm2d", "MaxPool2d", "AdaptiveAvgPool2d", "Linear")
    ours = [(r.type, list(r.output_shape), r.params) for r in table.rows if r.type in layers]
    printed = theirs(Net(in_channels=1, bias=True), (1, 32, 32))
    rows = re.findall(r"(\w+)-\d+ +\[([-\d, ]+)\] +([\d,]+)", printed)
    reported = [
        (kind, [int(n) for n in shape.split(",")], int(params.replace(",", "")))
        for kind, shape, params in rows
        if kind in layers
    ]
    assert ours == reported
    assert len(ours) == 43
    assert table.total_params == table.trainable_params == 11_180_170


def test_one_by_one_convolutions_save_a_tenfold():
    """The report's argument: 192 → 32 channels by 5×5 on 28×28, straight or through 16 by 1×1."""
    straight = nn.Conv2d(192, 32, 5, padding=2)
    narrow = nn.Sequential(nn.Conv2d(192, 16, 1), nn.Conv2d(16, 32, 5, padding=2))
    size = (192, 28, 28)
    assert profile(straight, size).macs == 120_422_400
    assert profile(narrow, size).macs == 12_443_648


# --- summary --------------------------------------------------------------------------------


def test_summary_prints_unless_quiet(capsys):
    table = summary(mini_resnet())
    assert capsys.readouterr().out == f"{table}\n"
    assert isinstance(summary(mini_resnet(), quiet=True), ModelSummary)
    assert capsys.readouterr().out == ""
    assert repr(table) == "<ModelSummary of MiniResNet: 41,514 parameters>"


def test_summary_holds_rows_totals_and_sizes():
    table = summary(mini_resnet(), quiet=True)
    assert [row.name for row in table.rows[:5]] == [
        "conv1", "mp", "rblock1.conv1", "rblock1.conv2", "rblock1",
    ]  # fmt: skip
    assert sum(row.params for row in table.rows) == table.total_params == 41_514
    assert table.input_bytes == 28 * 28 * 4
    assert table.params_bytes == 41_514 * 4
    outputs = 16 * 24 * 24 + 4 * 16 * 12 * 12 + 32 * 8 * 8 + 4 * 32 * 4 * 4 + 10
    assert table.forward_backward_bytes == 2 * outputs * 4
    assert table.total_bytes == table.input_bytes + table.params_bytes + 2 * outputs * 4


def test_html_of_a_summary_escapes_and_holds_every_row():
    html = summary(mini_resnet(), quiet=True)._repr_html_()
    assert html.count("<tr>") == 1 + 11 + 1
    assert "<td>rblock1.conv1</td><td>Conv2d</td><td>[-1, 16, 12, 12]</td><td>2,320</td>" in html


def test_what_does_not_run_is_told():
    table = summary(get_model("plain18"), quiet=True)
    assert table.total_params == 11_175_370
    assert table.non_trainable_params == 173_824
    assert len(table.unlisted) == 9
    assert "In no row: layer2.0.downsample.0.weight, " in str(table)
    assert "In no row" not in str(summary(mini_resnet(), quiet=True))


# --- any network ----------------------------------------------------------------------------


class Odd(nn.Module):
    """Several inputs, nested outputs, parameters of other names, shared and idle ones."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(3))
        self.shared = nn.Linear(4, 4)
        self.again = self.shared
        self.tied = nn.Linear(4, 4, bias=False)
        self.tied.weight = self.shared.weight
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.lstm = nn.LSTM(4, 5, batch_first=True)
        self.idle = nn.Linear(7, 7)
        self.none = NoTensor()

    def forward(self, a, b):
        x = self.again(self.shared(a)) + self.tied(b)
        x, _ = self.attention(x, x, x)
        y, (h, c) = self.lstm(x)
        self.none(x)
        return {"y": y, "states": [h, c], "gain": self.gain}


class NoTensor(nn.Module):
    def forward(self, x):
        return None


ODD_PARAMETERS = 3 + 20 + (48 + 12 + 20) + (80 + 100 + 40) + 56


def test_odd_networks_are_summed_up_right():
    table = summary(Odd(), [(6, 4), (6, 4)], quiet=True)
    assert table.total_params == ODD_PARAMETERS == sum(p.numel() for p in Odd().parameters())
    rows = {(row.name, row.type): row for row in table.rows}
    assert [row.params for row in table.rows if row.name == "shared"] == [20, 0]
    assert rows["tied", "Linear"].params == 0
    assert rows["attention", "MultiheadAttention"].params == 48 + 12
    assert rows["lstm", "LSTM"].output_shape == ((-1, 6, 5), (-1, 2, 5), (-1, 2, 5))
    assert rows["none", "NoTensor"].output_shape == ()
    assert table.input_bytes == 2 * 6 * 4 * 4
    assert table.unlisted[0] == "gain"
    assert str(table).count("\n") == 3 + len(table.rows) + 10


def test_odd_networks_are_profiled_right():
    cost = profile(Odd(), [(6, 4), (6, 4)])
    assert cost.params == ODD_PARAMETERS
    assert cost.by_layer["shared"].macs == 2 * 6 * 4 * 4  # called twice
    assert cost.by_layer["tied"].macs == 6 * 4 * 4
    assert "again" not in cost.by_layer
    assert cost.by_layer["idle"].macs == 0
    assert cost.by_layer["attention"].params == 48 + 12
    assert sum(layer.params for layer in cost.by_layer.values()) == cost.params
    assert cost.macs == sum(layer.macs for layer in cost.by_layer.values())
    assert cost.by_layer["attention"].macs == cost.by_layer[""].macs == 0
    assert cost.by_layer["lstm"].macs == cost.macs - 2 * 96 - 96
    assert cost.uncounted["add"] == 1
    assert cost.uncounted["bmm"] == 2
    assert "clone" not in cost.uncounted


@pytest.mark.parametrize("shared", [nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.ReLU())])
def test_what_two_modules_share_counts_once_a_call(shared):
    cost = profile(nn.Sequential(nn.Sequential(shared), nn.Sequential(shared)), (4,))
    assert (cost.macs, cost.params) == (2 * 16, 20)
    assert cost.flops == 2 * cost.macs


def test_uncounted_names_types_and_functions():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 4, 3)
            self.act = nn.GELU()
            self.flatten = nn.Flatten()

        def forward(self, x):
            x = self.act(self.act(self.conv(x)))
            return torch.sigmoid(self.flatten(x)) @ torch.ones(4 * 26 * 26, 2)

    cost = profile(Mixed(), (1, 28, 28))
    assert cost.uncounted == {"GELU": 2, "sigmoid": 1, "mm": 1}
    assert "no rule in thop: GELU ×2, sigmoid ×1, mm ×1" in repr(cost)
    assert cost.flops == 2 * (4 * 26 * 26 * 9 + 4 * 26 * 26 * 2)


def test_a_subclass_of_a_layer_with_a_rule_is_uncounted():
    class MyConv(nn.Conv2d):
        pass

    cost = profile(nn.Sequential(MyConv(1, 2, 3)), (1, 5, 5))
    assert (cost.macs, cost.uncounted) == (0, {"MyConv": 1})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions(dtype):
    table = summary(mini_resnet().to(dtype), quiet=True)
    assert table.params_bytes == 41_514 * torch.empty(0, dtype=dtype).itemsize
    assert table.input_bytes == 28 * 28 * torch.empty(0, dtype=dtype).itemsize
    assert profile(mini_resnet().to(dtype)).macs == 2_013_184


def test_networks_on_another_device():
    assert profile(mini_resnet().to("meta")).macs == 2_013_184
    assert str(summary(mini_resnet().to("meta"), quiet=True)) == str(
        summary(mini_resnet(), quiet=True)
    )


def test_integer_inputs_come_as_tensors():
    model = nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 2))
    tokens = torch.zeros(1, 5, dtype=torch.long)
    assert profile(model, tokens).macs == 5 * 4 * 2
    assert summary(model, tokens, quiet=True).rows[-1].output_shape == (-1, 5, 2)
    assert profile(Odd(), (torch.zeros(1, 6, 4), torch.zeros(1, 6, 4))).params == ODD_PARAMETERS


def test_a_single_layer_is_a_network():
    assert profile(nn.Linear(3, 4), (3,)).by_layer[""].macs == 12
    table = summary(nn.Linear(3, 4), (3,), quiet=True)
    assert [(row.type, row.params) for row in table.rows] == [("Linear", 16)]


def test_a_network_without_parameters():
    assert summary(nn.Flatten(), (1, 2, 3), quiet=True).total_params == 0
    assert tuple(profile(nn.Flatten(), (1, 2, 3))) == (0, 0)


def test_blocks_of_ones_own():
    blocks = (ResidualBlock(1, 8, stride=2), InceptionA(8), BasicBlock(88, 16))
    model = nn.Sequential(*blocks, nn.Flatten(), nn.LazyLinear(10))
    with pytest.raises(ValueError, match=r"must be initialised; 4\.weight waits"):
        profile(model, (1, 28, 28))
    model(torch.randn(2, 1, 28, 28))
    assert profile(model, (1, 28, 28)).params == sum(p.numel() for p in model.parameters())


def test_large_pictures_cost_nothing():
    table = summary(resnet18(in_channels=3), (3, 4320, 7680), quiet=True)
    assert table.input_bytes == 3 * 4320 * 7680 * 4


def test_wrapped_and_weight_normed_networks():
    normed = lenet5()
    weight_norm(normed.conv1)
    for model, params, macs in [
        (torch.compile(lenet5()), 44_426, 281_640),
        (normed, 44_432, 195_240),
    ]:
        cost = profile(model, (1, 28, 28))
        assert (cost.params, cost.macs, cost.flops) == (params, macs, 2 * 281_640)
        assert summary(model, (1, 28, 28), quiet=True).total_params == params
    assert cost.uncounted["convolution"] == 1


# --- nothing is touched ---------------------------------------------------------------------


def fingerprint(model):
    """All that a count must leave as it was."""
    hooks = [
        [list(hooks) for key, hooks in sorted(vars(module).items()) if "_hooks" in key]
        for module in model.modules()
    ]
    numpy_state = np.random.get_state()[1].tobytes()
    return {
        "state": {k: v.clone() for k, v in model.state_dict().items()},
        "tensors": [id(t) for t in [*model.parameters(), *model.buffers()]],
        "modes": [module.training for module in model.modules()],
        "trained": [p.requires_grad for p in model.parameters()],
        "gradients": [p.grad for p in model.parameters()],
        "devices": [p.device for p in model.parameters()],
        "hooks": hooks,
        "attributes": [sorted(vars(module)) for module in model.modules()],
        "random": (torch.get_rng_state().tolist(), random.getstate(), numpy_state),
    }


def assert_untouched(model, before):
    after = fingerprint(model)
    state, state_before = after.pop("state"), before.pop("state")
    assert list(state) == list(state_before)
    assert all(torch.equal(state[k], state_before[k]) for k in state)
    assert after == before


@pytest.mark.parametrize("count", [lambda m: summary(m, quiet=True), profile])
def test_networks_stay_as_they_are(network, count):
    network.train()
    network.forward_features(torch.randn(2, *network.input_size))
    next(network.children()).eval()
    next(network.parameters()).requires_grad_(False)
    network.register_forward_hook(lambda *_: pytest.fail("a hook of the network ran"))
    before = fingerprint(network)
    count(network)
    assert_untouched(network, before)


class Hostile(nn.Module):
    """Draws, counts, remembers and changes itself in its forward; perhaps raises."""

    def __init__(self, raises, tensors, norm, shared, dtype):
        super().__init__()
        self.first = nn.Sequential(nn.Linear(4, 4), norm(4), nn.Dropout(0.5))
        self.second = self.first if shared else nn.Linear(4, 4)
        self.register_buffer("steps", torch.zeros(1))
        self.register_buffer("total_ops", torch.zeros(1))
        self.scale = torch.ones(4, dtype=dtype)  # neither parameter nor buffer
        self.tied = self.first[0].weight
        self.seen = []
        self.raises = raises
        self.tensors = tensors
        self.to(dtype)

    def forward(self, x):
        self.seen.append(x)
        self.steps += 1
        self.training = not self.training
        torch.rand(3, device="cpu"), random.random(), np.random.rand()
        x = self.second(self.first(x * self.scale)) + torch.zeros(4, dtype=x.dtype)
        x = F.dropout(x, 0.5) + torch.randn_like(x)
        if self.raises == "error":
            raise KeyError("hostile")
        if self.raises == "data" and x.sum() > 0:
            return None
        if self.raises == "shape":
            self.second(torch.zeros(2, 3, dtype=x.dtype))
        return {0: x, 1: {"a": x, 2: [x, None]}, 2: (x,)}[self.tensors]


@settings(deadline=None)
@given(
    raises=st.sampled_from([None, "error", "data", "shape"]),
    tensors=st.integers(0, 2),
    norm=st.sampled_from([nn.BatchNorm1d, nn.LayerNorm]),
    shared=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    modes=st.lists(st.booleans(), min_size=6, max_size=6),
    frozen=st.lists(st.booleans(), min_size=6, max_size=6),
    count=st.sampled_from([lambda m, s: summary(m, s, quiet=True), profile]),
)
def test_hostile_networks_stay_as_they_are(
    raises, tensors, norm, shared, dtype, modes, frozen, count
):
    model = Hostile(raises, tensors, norm, shared, dtype)
    for module, mode in zip(model.modules(), modes, strict=False):
        module.training = mode
    for p, freeze in zip(model.parameters(), frozen, strict=False):
        p.requires_grad_(not freeze)
    model.first.register_forward_hook(lambda *_: pytest.fail("a hook of the network ran"))
    model.first.register_forward_pre_hook(lambda *_: pytest.fail("a hook of the network ran"))
    before = fingerprint(model)
    if raises is None:
        assert count(model, (4,)) is not None
    else:
        place = r"layer '(first\.0|second)', Linear" if raises == "shape" else "Hostile itself"
        with pytest.raises(RuntimeError, match=f"`model` failed in {place}"):
            count(model, (4,))
    assert model.seen == []
    assert_untouched(model, before)


def closure_over(layer):
    model = nn.Sequential(layer)
    model.forward = lambda x: layer(x).softmax(1)
    return model


class Teacher(nn.Module):
    """Refuses to be copied, as frozen teachers do."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(4)

    def __deepcopy__(self, memo):
        torch.rand(3)
        return self

    def forward(self, x):
        return self.norm(x)


@pytest.mark.parametrize("count", [lambda m, s: summary(m, s, quiet=True), profile])
def test_networks_that_cannot_be_copied_stay_as_they_are(count):
    for model, error, message in [
        (nn.Sequential(Teacher()), TypeError, "cannot be copied: '0' forbids it"),
        (
            closure_over(nn.BatchNorm1d(4)),
            RuntimeError,
            "reaches the network itself, past its copy",
        ),
    ]:
        before = fingerprint(model)
        with pytest.raises(error, match=message):
            count(model, (4,))
        assert_untouched(model, before)


@pytest.mark.parametrize("count", [lambda m, s: summary(m, s, quiet=True), profile])
def test_switches_thrown_through_a_closure_are_thrown_back(count):
    layer = nn.Linear(4, 4)
    model = nn.Sequential(layer)
    model.forward = lambda x: (layer.eval(), layer.requires_grad_(False), x)[-1]
    before = fingerprint(model)
    count(model, (4,))
    assert_untouched(model, before)


MEAN = torch.full((4,), 0.1)


class Constants(nn.Module):
    """Uses constants from outside itself, and their values."""

    def forward(self, x):
        for i in torch.arange(2):
            x = x + int(i) * MEAN
        return x @ torch.from_numpy(np.eye(4, 3, dtype="float32"))


class Auxiliary(nn.Module):
    """Has a head that runs in training alone, as GoogLeNet has."""

    def __init__(self):
        super().__init__()
        self.aux = nn.Linear(4, 2)

    def forward(self, x):
        return (x, self.aux(x)) if self.training else x


def test_summary_runs_in_the_networks_mode_and_profile_in_eval():
    assert [row.name for row in summary(Auxiliary(), (4,), quiet=True).rows] == ["aux"]
    assert summary(Auxiliary().eval(), (4,), quiet=True).rows[0].type == "Auxiliary"
    assert profile(Auxiliary(), (4,)).macs == 0


class OwnState(nn.Module):
    """Makes its first hidden state by itself, moves its input, and calls a layer by keyword."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(28, 8, batch_first=True)
        self.fc = nn.Linear(8, 2)

    def forward(self, x):
        x = x.to("cpu").cpu().squeeze(1)
        h = torch.zeros(1, len(x), 8)
        x, _ = self.lstm(x, (h, h))
        return self.fc(input=x[:, -1])


@pytest.mark.filterwarnings("ignore:distutils:DeprecationWarning")
def test_networks_that_make_their_own_state_and_move_their_input():
    from thop import profile as thop_profile

    lstm = nn.Sequential(nn.LSTM(28, 8, batch_first=True))
    macs, _ = thop_profile(lstm, (torch.randn(1, 28, 28),), verbose=False)
    assert profile(OwnState(), (1, 28, 28)).macs == macs + 8 * 2
    assert summary(OwnState(), (1, 28, 28), quiet=True).rows[-1].output_shape == (-1, 2)


class Named(nn.Module):
    """Uses thop's names for things of its own."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.fc.total_params = 20
        self.total_ops = nn.Parameter(torch.ones(4))
        self.register_buffer("total_params", torch.ones(3, 4))

    def forward(self, x):
        return self.fc(x * self.total_ops) @ self.total_params.T


def test_thops_names_are_free_for_others():
    cost = profile(Named(), (4,))
    assert (cost.macs, cost.params, cost.flops) == (16, 24, 2 * (16 + 12))
    assert summary(Named(), (4,), quiet=True).total_params == 24


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_constants_and_default_devices(device):
    with torch.device(device):
        assert summary(Constants(), (4,), quiet=True).rows[0].output_shape == (-1, 3)
        assert profile(Constants(), (4,)).flops == 2 * 4 * 3
        assert profile(lenet5()).macs == 281_640
        assert str(summary(lenet5(), quiet=True)).startswith("-----")


def test_compiled_layers_are_counted_as_what_they_are():
    model = nn.Sequential(torch.compile(lenet5(), backend="eager"))
    assert profile(model, (1, 28, 28)).macs == 281_640
    assert summary(model, (1, 28, 28), quiet=True).total_params == 44_426
    assert profile(nn.DataParallel(lenet5())).macs == 281_640


@pytest.mark.filterwarnings("ignore:.*torch.ao:DeprecationWarning")
def test_layers_with_a_rule_and_modules_inside():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Linear(26, 2))
    model[0].observer = nn.Identity()
    model[1].lora = nn.Linear(26, 2)
    cost = profile(model, (1, 28, 28))
    assert cost.macs == 4 * 26 * 26 * 9 + 4 * 26 * 26 * 2
    assert cost.params == 40 + 54 + 54


def test_tables_from_several_threads_are_right_and_standard_output_stays():
    stdout, table = sys.stdout, summary(mini_resnet(), quiet=True)
    with ThreadPoolExecutor(4) as pool:
        texts = set(pool.map(str, [table] * 40))
    assert texts == {str(table)}
    assert sys.stdout is stdout


def test_an_error_names_the_layer_and_what_it_was_given():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Sequential(nn.ReLU(), nn.Linear(7, 2)))
    for count in (summary, profile):
        message = r"`model` failed in layer '1\.1', Linear\(.*\), given \(\d, 4, 26, 26\): "
        with pytest.raises(RuntimeError, match=message):
            count(model, (1, 28, 28))
    with pytest.raises(RuntimeError, match=r"expected an input of shape \(N, 1, 28, 28\), got"):
        summary(mini_resnet(), (3, 28, 28))


@pytest.mark.parametrize("count", [summary, profile])
@pytest.mark.parametrize("size", [28, (0, 3), (1.5,), [], "28", [(1, 28), None], ()])
def test_sizes_that_are_none(count, size):
    with pytest.raises(ValueError, match=r"` \(=.*\) must be a shape such as \(C, H, W\)"):
        count(lenet5(), size)


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.parametrize("count", [summary, profile])
def test_what_is_no_network(count):
    with pytest.raises(ValueError, match="must be given: Linear has no `input_size`"):
        count(nn.Linear(3, 4))
    with pytest.raises(TypeError, match=r"`model` must be an nn\.Module in Python, not str"):
        count("resnet18", (1, 28, 28))
    with pytest.raises(TypeError, match="not RecursiveScriptModule"):
        count(torch.jit.script(nn.Linear(3, 4)), (3,))
    with pytest.raises(TypeError, match="must be in Python; '0' is a RecursiveScriptModule"):
        count(nn.Sequential(torch.jit.script(nn.Linear(3, 4))), (3,))
    sparse = nn.Linear(3, 4)
    sparse.register_buffer("mask", torch.eye(3).to_sparse())
    with pytest.raises(TypeError, match=r"must have dense tensors; mask is torch\.sparse"):
        count(sparse, (3,))
    model = nn.Linear(3, 4)
    model.file = open(__file__)  # noqa: SIM115
    with model.file, pytest.raises(TypeError, match=r"`model` \(Linear\) cannot be copied"):
        count(model, (3,))


# --- comparison -----------------------------------------------------------------------------


def test_comparison_as_text_markdown_and_rows():
    table = compare(["lenet5", mini_resnet()])
    assert [(row.name, row.params, row.macs) for row in table.rows] == [
        ("lenet5", 44_426, 281_640),
        ("MiniResNet", 41_514, 2_013_184),
    ]
    assert str(table).splitlines()[2].split() == [
        "MiniResNet", "1×28×28", "41,514", "2,013,184", "4,026,368", "0.16",
    ]  # fmt: skip
    assert (
        table.markdown().splitlines()[0]
        == "| network | input | parameters | MACs | FLOPs | size (MB) |"
    )
    assert table.markdown() == table._repr_markdown_()
    named = compare({"a": resnet18(), "b": randomize_norms(resnet18(conv_bias=True))})
    assert [row.name for row in named.rows] == ["a", "b"]
    assert compare({"a": "lenet5"}).rows[0].params == 44_426
    with pytest.raises(ValueError, match="did you mean 'lenet5'"):
        compare(["lenet"])
    with pytest.raises(TypeError, match=r"`models` \(='lenet5'\) must be several"):
        compare("lenet5")
    with pytest.raises(RuntimeError, match="a: `model` failed"):
        compare({"a": lenet5()}, (3, 28, 28))


def test_comparison_draws_no_random_numbers_and_tells_networks_apart():
    before = torch.get_rng_state()
    compare(["lenet5", "resnet18"])
    assert torch.equal(before, torch.get_rng_state())
    shared = nn.Linear(100, 100)
    table = compare([nn.Sequential(shared, shared), nn.Sequential(shared)], (100,))
    assert [row.name for row in table.rows] == ["Sequential", "Sequential (2)"]
    assert [row.size_bytes for row in table.rows] == [10_100 * 4] * 2


def test_comparison_marks_what_thop_misses():
    attention = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    table = compare({"attention": attention, "linear": nn.Linear(8, 8)}, (4, 8))
    assert [row.macs_incomplete for row in table.rows] == [True, False]
    assert f"{table.rows[0].macs:,}*" in str(table)
    assert str(table).endswith("* without products that thop has no rule for")
