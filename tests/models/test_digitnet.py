"""DigitNets: their budgets, against plain torch, and refused stages."""

import pytest
import torch
from conftest import randomize_norms
from torch.nn import functional as F

from mnist_zoo import DigitNet, get_model, list_models, profile

NAMES = list_models("digitnet_*")


def budget(name):
    return 1000 * int(name.removeprefix("digitnet_").removesuffix("k"))


def parameters(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_network_keeps_to_its_budget(name):
    model = get_model(name)
    macs, params = profile(model)
    assert 0.75 * budget(name) < params == parameters(model) <= budget(name)
    assert macs <= 15_000_000


def test_budgets_rise_in_the_documented_order():
    assert list(map(budget, NAMES)) == [1000, 2000, 6000, 20_000, 50_000, 150_000, 400_000]


@pytest.mark.parametrize("separable", [False, True])
@pytest.mark.parametrize("repeats", [1, 3])
def test_forward_equals_plain_torch(separable, repeats):
    torch.manual_seed(0)
    stages = ((4, 4), (6, 6, 8))
    model = randomize_norms(DigitNet(stages, separable=separable, repeats=repeats)).eval()
    x = inputs = torch.rand(3, 1, 28, 28)
    weights = iter(model.state_dict().items())

    def following(suffix):
        name, value = next(weights)
        assert name.endswith(suffix)
        return value

    channels, first = 1, True
    for widths in stages:
        if not first:
            x = F.max_pool2d(x, 2)
        for place, width in enumerate(widths):
            shortcut = width == channels and place > 0
            kernels = [following("weight") for _ in range(1 + (separable and not first))]
            for _ in range(repeats if shortcut else 1):
                out = F.conv2d(x, kernels[0], padding=1, groups=x.shape[1] // kernels[0].shape[1])
                for pointwise in kernels[1:]:
                    out = F.conv2d(out, pointwise)
                scale, shift, mean, variance = (
                    following(end) for end in ("weight", "bias", "running_mean", "running_var")
                )
                following("num_batches_tracked")
                out = F.batch_norm(out, mean, variance, scale, shift)
                x = (out + x if shortcut else out).relu()
            channels, first = width, False
    logits = F.linear(x.mean((2, 3)), following("fc.weight"), following("fc.bias"))
    assert torch.allclose(model(inputs), logits, atol=1e-5)
    assert model.forward_features(inputs).shape == (3, 8, 14, 14)


def test_images_of_other_sizes_are_taken():
    model = DigitNet([(4,), (4,), (8,)], image_size=4).eval()
    for side in (4, 5, 32):
        assert model(torch.zeros(2, 1, side, side)).shape == (2, 10)


@pytest.mark.parametrize(
    ("stages", "options", "rule"),
    [
        ([], {}, r"`stages` \(=\[\]\) must be a non-empty list or tuple"),
        ("8", {}, "`stages` .* must be a non-empty list"),
        ([8, 8], {}, "`stages` .* must hold non-empty lists or tuples of channels"),
        ([(8,), ()], {}, "`stages` .* must hold non-empty lists"),
        ([(8, 0)], {}, r"`stages` \(=0\) must be a whole number of at least 1"),
        ([(8,)] * 3, {"image_size": 3}, r"`image_size` \(=3\) must be at least 4"),
        ([(8,)], {"in_channels": 0}, "`in_channels`"),
        ([(8,)], {"repeats": 0}, r"`repeats` \(=0\) must be a whole number of at least 1"),
    ],
)
def test_impossible_networks_are_refused(stages, options, rule):
    with pytest.raises(ValueError, match=rule):
        DigitNet(stages, **options)
