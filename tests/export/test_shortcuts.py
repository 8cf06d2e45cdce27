"""Shortcuts folded into convolutions: the same function with fewer additions."""

import torch
from conftest import randomize_norms
from torch import nn

from mnist_zoo import digitnet_1k, digitnet_20k
from mnist_zoo.export.shortcuts import fold_shortcuts


class Shortcut(nn.Module):
    """A convolution, perhaps with a norm, and its input added to its output."""

    def __init__(self, conv, norm=None, add=torch.add, out=lambda y, z: z):
        super().__init__()
        self.conv, self.norm, self.add, self.out = conv, norm or nn.Identity(), add, out

    def forward(self, x):
        y = self.norm(self.conv(x))
        return self.out(y, self.add(y, x))


def additions(traced):
    return len(traced.graph.find_nodes(op="call_function", target=torch.ops.aten.add.Tensor))


def folded(model, x):
    """The additions before and after, and the largest change of the outputs."""
    model.eval()
    state = {name: values.clone() for name, values in model.state_dict().items()}
    traced = torch.export.export(model, (x,)).module()
    before = additions(traced)
    fold_shortcuts(traced)
    traced.graph.lint()
    assert all(torch.equal(values, state[name]) for name, values in model.state_dict().items())
    with torch.no_grad():
        return before, additions(traced), float((traced(x) - model(x)).abs().max())


def conv(size=3, **options):
    return nn.Conv2d(4, 4, size, padding=options.pop("padding", size // 2), **options)


FOLDED = {
    "conv": Shortcut(conv()),
    "norm": Shortcut(conv(bias=False), nn.BatchNorm2d(4)),
    "plain norm": Shortcut(conv(), nn.BatchNorm2d(4, affine=False)),
    "the other way round": Shortcut(conv(), add=lambda y, x: x + y),
    "1x1": Shortcut(conv(1)),
    "5x3": Shortcut(nn.Conv2d(4, 4, (5, 3), padding=(2, 1))),
    "dilated": Shortcut(conv(dilation=2, padding=2)),
}
KEPT = {
    "groups": Shortcut(conv(groups=2)),
    "even": Shortcut(nn.Conv2d(4, 4, 2, padding=1, dilation=2)),
    "strides": Shortcut(nn.Conv2d(4, 4, 3, stride=2, padding=5)),
    "twice": Shortcut(conv(), add=lambda y, x: torch.add(y, x, alpha=2)),
    "a number": Shortcut(conv(), add=lambda y, x: y + 1.0),
    "something else": Shortcut(conv(), add=lambda y, x: y + x.flip(2)),
    "used elsewhere": Shortcut(conv(), out=lambda y, z: y * z),
}


def test_additions_become_part_of_the_weights():
    plain = FOLDED["plain norm"].norm
    nn.init.uniform_(plain.running_var, 0.5, 1.5)
    randomize_norms(FOLDED["norm"])
    model = nn.Sequential(*FOLDED.values())
    before, after, change = folded(model, torch.randn(2, 4, 9, 9))
    assert (before, after) == (len(FOLDED), 0)
    assert change < 1e-3


def test_what_cannot_be_folded_stays():
    model = randomize_norms(nn.Sequential(*KEPT.values()))
    before, after, change = folded(model, torch.randn(2, 4, 9, 9))
    assert before == after == len(KEPT)
    assert change == 0


def test_a_norm_that_gives_nothing_keeps_its_shortcut():
    model = randomize_norms(Shortcut(conv(), nn.BatchNorm2d(4)))
    with torch.no_grad():
        model.norm.weight[1] = 0
    assert folded(model, torch.randn(1, 4, 9, 9))[:2] == (1, 1)


def test_networks_of_the_zoo_lose_the_additions_of_single_convolutions():
    x = torch.randn(2, 1, 28, 28)
    before, after, change = folded(randomize_norms(digitnet_20k()), x)
    assert (before, after) == (2, 0)
    assert change < 1e-4
    before, after, change = folded(randomize_norms(digitnet_1k()), x)  # convolutions in two parts
    assert before == after > 0
    assert change == 0
