"""Building modules without random weights."""

import pytest
import torch
from torch import nn

from mnist_zoo import BasicBlock, resnet18
from mnist_zoo.blocks.layers import no_random_init

SHAPE = (8, 8, 3, 3)
INITIALISERS = {
    "uniform_": nn.init.uniform_,
    "normal_": nn.init.normal_,
    "trunc_normal_": lambda w: nn.init.trunc_normal_(w, std=0.02),
    "trunc_normal_ far": lambda w: nn.init.trunc_normal_(w, mean=1, std=0.02, a=1.03, b=1.05),
    "xavier_uniform_": nn.init.xavier_uniform_,
    "xavier_normal_": nn.init.xavier_normal_,
    "kaiming_uniform_": nn.init.kaiming_uniform_,
    "kaiming_normal_": nn.init.kaiming_normal_,
    "orthogonal_": nn.init.orthogonal_,
    "sparse_": lambda w: nn.init.sparse_(w.view(8, 72), 0.5),
    "dirac_": nn.init.dirac_,
    "eye_": lambda w: nn.init.eye_(w.view(8, 72)),
    "constant_": lambda w: nn.init.constant_(w, 3.0),
    "ones_": nn.init.ones_,
    "zeros_": nn.init.zeros_,
    "exponential_": lambda w: w.data.exponential_(),
    "until small": lambda w: next(w for _ in iter(int, 1) if nn.init.normal_(w).std() < 1.1),
    "until large": lambda w: next(w for _ in iter(int, 1) if w.data.uniform_().max() > 0.9),
}


def test_no_random_init_draws_nothing_and_keeps_constants():
    before = torch.get_rng_state()
    with no_random_init():
        layers = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Linear(3, 4), nn.BatchNorm2d(5))
        resnet18()
        nn.init.xavier_normal_(nn.Parameter(torch.empty(2, 2)))
        nn.init.kaiming_normal_(tensor=nn.Parameter(torch.empty(2, 2)))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(layers[2].weight, torch.ones(5))
    nn.Linear(3, 4)
    assert not torch.equal(before, torch.get_rng_state())


def test_a_parameter_in_the_place_of_one_that_is_gone_is_not_drawn_either():
    before = torch.get_rng_state()
    places = set()
    with no_random_init():
        for _ in range(20):
            weight = nn.Parameter(torch.empty(2, 2))
            places.add(id(weight))
            nn.init.normal_(weight)
            del weight
    assert len(places) < 20  # so that this test says something
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", INITIALISERS)
def test_another_initialisation_of_a_layer_is_the_same_in_the_mode(name):
    weights = []
    for mode in (no_random_init, torch.no_grad):  # no_grad changes nothing here
        with mode():
            layer = nn.Conv2d(8, 8, 3)
            layer.weight.data.fill_(1e9)  # as memory may be after some work
            torch.manual_seed(1)
            with torch.no_grad():
                INITIALISERS[name](layer.weight)
        weights.append(layer.weight)
    assert torch.equal(*weights)


@pytest.mark.parametrize("name", INITIALISERS)
def test_a_factory_with_weights_ends_whatever_its_block_draws_by(name):
    class Block(BasicBlock):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            if self.conv2.weight.shape == (64, 64, 3, 3):
                self.extra = nn.Parameter(torch.full(SHAPE, 1e9))
                with torch.no_grad():
                    INITIALISERS[name](self.extra)

    model = resnet18(block=Block)
    again = resnet18(block=Block, weights=model)
    states = model.state_dict(), again.state_dict()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
