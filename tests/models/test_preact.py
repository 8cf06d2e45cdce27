"""Pre-activation ResNets: the figures in the paper, the first and last unit, other orders."""

import pytest
import torch
import torch.nn.functional as F
from conftest import randomize_norms
from torch import nn

from mnist_zoo import PreActResNet, from_torchvision, get_model, load_model, resnet18, save_model
from mnist_zoo.blocks.units import ORDERS, SHORTCUTS


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def depth(model):
    """Layers in a row: without the convolutions on the shortcuts."""
    layers = [name for name, m in model.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    return sum("shortcut" not in name for name in layers)


@pytest.mark.parametrize(
    ("name", "count"), [("preact_resnet110", 1_730_522), ("preact_resnet164", 1_703_258)]
)
def test_parameters_match_the_paper(name, count):
    """1.7 million each, with three channels."""
    model = get_model(name, in_channels=3)
    assert parameters(model) == count
    assert f"{count / 1e6:.1f}" == "1.7"
    assert f"preact_resnet{depth(model)}" == name


@pytest.mark.parametrize("name", ["preact_resnet18", "preact_resnet34", "preact_resnet50"])
def test_full_preactivation_lacks_only_the_norms_on_the_shortcuts(name):
    original, model = get_model(name.removeprefix("preact_")), get_model(name)
    norms = [m for n, m in original.named_modules() if n.endswith("downsample.1")]
    assert parameters(original) - parameters(model) == sum(map(parameters, norms))
    assert f"preact_resnet{depth(model)}" == name


def test_widths_strides_and_feature_maps_match_the_paper():
    for name, expansion in (("preact_resnet110", 1), ("preact_resnet164", 4)):
        with torch.device("meta"):
            model = get_model(name, in_channels=3, image_size=32).eval()
            x = model.stem(torch.empty(1, 3, 32, 32))
            assert x.shape == (1, 16, 32, 32)
            for width, side, stage in zip((16, 32, 64), (32, 16, 8), model.stages, strict=True):
                x = stage(x)
                assert x.shape == (1, width * expansion, side, side)
                assert len(stage) == 18


def test_first_and_last_unit_match_the_appendix():
    """One activation comes before the first unit splits, one more after the last sum."""
    model = randomize_norms(PreActResNet.small(8)).eval()
    (first,), (second,), (third,) = model.stages

    def activated(layer, x):
        return layer(x).relu()

    x = torch.randn(2, 1, 12, 12)
    h = activated(model.stem.norm, model.stem.conv(x))
    h = h + first.branch.conv2(activated(first.branch.norm2, first.branch.conv1(h)))
    for unit in (second, third):
        a = activated(unit.before.norm1, h)
        inner = unit.branch.conv2(activated(unit.branch.norm2, unit.branch.conv1(a)))
        h = inner + unit.shortcut.conv(a)
    features = activated(model.last.norm, h)
    assert torch.equal(model.forward_features(x), features)
    assert torch.equal(model(x), model.fc(F.adaptive_avg_pool2d(features, 1).flatten(1)))


@pytest.mark.parametrize("order", ORDERS)
def test_layers_after_the_last_unit(order):
    last = PreActResNet.small(8, order=order).last
    expected = {"act_only_preactivation": ["act"], "preactivation": ["norm", "act"]}
    assert [name for name, _ in last.named_children()] == expected.get(order, [])


def resnet_name(name):
    words = [
        ("stem.conv", "conv1"),
        ("stem.norm", "bn1"),
        ("stages.stage", "layer"),
        ("shortcut.conv", "downsample.0"),
        ("shortcut.norm", "downsample.1"),
        ("branch.", ""),
        ("norm", "bn"),
    ]
    for ours, theirs in words:
        name = name.replace(ours, theirs)
    return name


@pytest.mark.parametrize("stem", ["7x7", "3x3", "3x3-pool"])
def test_the_original_order_gives_the_resnet(stem):
    model = randomize_norms(get_model("preact_resnet18", order="original", stem=stem)).eval()
    state = {resnet_name(name): value for name, value in model.state_dict().items()}
    original = resnet18(stem=stem).eval()
    original.load_state_dict(state, strict=True)
    x = torch.randn(2, 1, 28, 28)
    assert torch.equal(model(x), original(x))
    assert torch.equal(model.forward_features(x), original.forward_features(x))


@pytest.mark.parametrize("bottleneck", [False, True])
@pytest.mark.parametrize("shortcut", SHORTCUTS)
@pytest.mark.parametrize("order", ORDERS)
def test_every_order_with_every_shortcut_learns(order, shortcut, bottleneck):
    model = PreActResNet.small(
        11 if bottleneck else 8,
        bottleneck=bottleneck,
        widths=(4, 4, 8),
        order=order,
        shortcut=shortcut,
    )
    F.cross_entropy(model(torch.randn(3, 1, 12, 12)), torch.tensor([1, 2, 3])).backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert p.grad.isfinite().all(), name


def test_order_and_shortcut_are_saved(tmp_path):
    model = get_model("preact_resnet18", order="original", shortcut="exclusive_gating").eval()
    save_model(model, tmp_path / "model.safetensors")
    back = load_model(tmp_path / "model.safetensors")
    assert back.options["shortcut"] == "exclusive_gating"
    x = torch.randn(2, 1, 28, 28)
    assert torch.equal(back(x), model(x))


def test_the_stem_adapts_to_grey_images():
    grey, colour = (PreActResNet.small(8, in_channels=channels).eval() for channels in (1, 3))
    assert from_torchvision(grey, colour).adapted == ("stem.conv.weight",)
    x = torch.randn(2, 1, 12, 12)
    assert torch.allclose(grey(x), colour(x.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-5)


def test_custom_activation_and_norm():
    model = PreActResNet.small(8, act_layer=nn.GELU, norm_layer=lambda c: nn.GroupNorm(4, c))
    kinds = {type(module) for module in model.modules()}
    assert {nn.GELU, nn.GroupNorm} <= kinds
    assert not {nn.ReLU, nn.BatchNorm2d} & kinds
    assert model(torch.randn(2, 1, 12, 12)).shape == (2, 10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": "post"}, r"`order` \(='post'\) must be one of 'original'"),
        ({"shortcut": "gate"}, r"`shortcut` \(='gate'\) must be one of 'identity'"),
        ({"stem": "5x5"}, r"`stem` \(='5x5'\) must be one of '7x7', '3x3', '3x3-pool'"),
        ({"norm_layer": None}, r"`norm_layer` \(=None\) must be a class or function"),
        ({"act_layer": nn.ReLU()}, r"`act_layer` \(=ReLU\(\)\) must be"),
    ],
)
@pytest.mark.parametrize("name", ["preact_resnet18", "preact_resnet164"])
def test_errors_name_impossible_options(name, options, message):
    with pytest.raises(ValueError, match=message):
        get_model(name, **options)


@pytest.mark.parametrize(
    ("depth", "bottleneck", "rule"),
    [
        (109, False, r"`depth` \(=109\) must be 6n \+ 2 for a whole n of at least 1"),
        (2, False, r"`depth` \(=2\) must be 6n \+ 2"),
        (109, True, r"`depth` \(=109\) must be 9n \+ 2"),
        (0, False, r"`depth` \(=0\) must be a whole number of at least 1"),
        (8.0, False, r"`depth` \(=8.0\) must be a whole number"),
    ],
)
def test_errors_name_impossible_depths(depth, bottleneck, rule):
    with pytest.raises(ValueError, match=rule):
        PreActResNet.small(depth, bottleneck=bottleneck)


@pytest.mark.parametrize(
    ("layers", "widths", "rule"),
    [
        ([2, 2], [4, 4, 4], r"`layers` \(=\[2, 2\]\) must be as long as `widths`"),
        (2, [4], r"`layers` \(=2\) must be a non-empty list"),
        ([], [], r"`layers` \(=\[\]\) must be a non-empty list"),
        ([0], [4], r"`layers` \(=0\) must be a whole number"),
        ([1], [4.5], r"`widths` \(=4.5\) must be a whole number"),
    ],
)
def test_errors_name_impossible_layers(layers, widths, rule):
    with pytest.raises(ValueError, match=rule):
        PreActResNet(layers, widths)
