"""Building modules without random weights."""

import torch
from torch import nn

from mnist_zoo.blocks.layers import no_random_init


def test_no_random_init_draws_nothing_and_keeps_constants():
    before = torch.get_rng_state()
    with no_random_init():
        layers = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Linear(3, 4), nn.BatchNorm2d(5))
        nn.init.xavier_normal_(torch.empty(2, 2)), nn.init.trunc_normal_(torch.empty(2, 2))
        nn.init.kaiming_normal_(tensor=torch.empty(2, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(layers[2].weight, torch.ones(5))
    nn.Linear(3, 4)
    assert not torch.equal(before, torch.get_rng_state())
