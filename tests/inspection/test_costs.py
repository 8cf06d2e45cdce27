"""Costs against those that thop counts and those of the reports."""

import pytest
import torch
from inspection_cases import ODD_PARAMETERS, Odd
from torch import nn

from mnist_zoo import (
    get_model,
    mini_googlenet,
    profile,
    resnet18,
    summary,
)

# multiply-accumulates per image of that size, as the reports state them
MACS = [
    ("mini_googlenet", 28, 6_019_200),
    ("mini_resnet", 28, 2_013_184),
    ("resnet18", 28, 33_184_000),
    ("resnet18", 224, 1_744_850_944),
    ("resnet50", 28, 78_755_072),
    ("resnet50", 224, 4_053_039_104),
    ("resnet_cnn", 28, 260_881_408),
]


@pytest.mark.parametrize(("name", "size", "macs"), MACS)
def test_macs_equal_those_of_the_reports(name, size, macs):
    assert profile(get_model(name), (1, size, size)).macs == macs


@pytest.mark.filterwarnings("ignore:distutils:DeprecationWarning")
def test_profile_counts_the_same_as_thop(network):
    from thop import profile as thop_profile

    size = network.input_size
    macs, params = profile(network)
    their_macs, their_params = thop_profile(network, (torch.randn(1, *size),), verbose=False)
    idle = sum(p.numel() for p in network.parameters() if not p.requires_grad)
    assert macs == their_macs
    assert params == their_params + idle == sum(p.numel() for p in network.parameters())


def test_flops_are_twice_the_macs_of_convolutions_and_linear_layers(network):
    cost = profile(network)
    macs = sum(layer.macs for layer in cost.by_layer.values() if layer.type in ("Conv2d", "Linear"))
    assert cost.flops == 2 * macs


def test_golden_costs(golden, comparison):
    golden("comparison", str(comparison))
    golden("profile", repr(profile(mini_googlenet())))


def test_profile_of_an_odd_network():
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
def test_shared_modules_count_once_per_call(shared):
    cost = profile(nn.Sequential(nn.Sequential(shared), nn.Sequential(shared)), (4,))
    assert (cost.macs, cost.params) == (2 * 16, 20)
    assert cost.flops == 2 * cost.macs


def test_uncounted_lists_layer_types_and_functions():
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


def test_summary_of_a_large_image_needs_no_memory():
    table = summary(resnet18(in_channels=3), (3, 4320, 7680), quiet=True)
    assert table.input_bytes == 3 * 4320 * 7680 * 4


class Auxiliary(nn.Module):
    """Has a head that runs in training mode only, as GoogLeNet does."""

    def __init__(self):
        super().__init__()
        self.aux = nn.Linear(4, 2)

    def forward(self, x):
        return (x, self.aux(x)) if self.training else x


def test_summary_runs_in_the_mode_of_the_network_and_profile_in_eval_mode():
    assert [row.name for row in summary(Auxiliary(), (4,), quiet=True).rows] == ["aux"]
    assert summary(Auxiliary().eval(), (4,), quiet=True).rows[0].type == "Auxiliary"
    assert profile(Auxiliary(), (4,)).macs == 0


class Named(nn.Module):
    """Has attributes with the names that thop uses."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.fc.total_params = 20
        self.total_ops = nn.Parameter(torch.ones(4))
        self.register_buffer("total_params", torch.ones(3, 4))

    def forward(self, x):
        return self.fc(x * self.total_ops) @ self.total_params.T


def test_networks_may_use_the_names_of_thop():
    cost = profile(Named(), (4,))
    assert (cost.macs, cost.params, cost.flops) == (16, 24, 2 * (16 + 12))
    assert summary(Named(), (4,), quiet=True).total_params == 24


@pytest.mark.filterwarnings("ignore:.*torch.ao:DeprecationWarning")
def test_layers_with_a_rule_in_thop_may_contain_modules():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Linear(26, 2))
    model[0].observer = nn.Identity()
    model[1].lora = nn.Linear(26, 2)
    cost = profile(model, (1, 28, 28))
    assert cost.macs == 4 * 26 * 26 * 9 + 4 * 26 * 26 * 2
    assert cost.params == 40 + 54 + 54
