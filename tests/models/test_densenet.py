"""DenseNets: equality with torchvision, the figures in the paper, and impossible options."""

import re

import pytest
import torch
import torchvision
from conftest import randomize_norms
from conversion_cases import DENSENETS, same_state
from densenet_cases import gradients, learn
from torch import nn

from mnist_zoo import (
    ConversionError,
    DenseNet,
    from_torchvision,
    get_model,
    load_model,
    mini_densenet,
    resnet18,
    save_model,
    to_torchvision,
)


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def layers(model):
    return sum(isinstance(module, (nn.Conv2d, nn.Linear)) for module in model.modules())


@pytest.mark.parametrize("name", DENSENETS)
def test_the_name_states_the_number_of_layers(name):
    with torch.device("meta"):
        assert f"densenet{layers(get_model(name))}" == name


def test_dropout_matches_torchvision():
    theirs = torchvision.models.densenet121(drop_rate=0.3, num_classes=10)
    ours = get_model("densenet121", in_channels=3, dropout=0.3)
    from_torchvision(ours, theirs)
    x = torch.randn(3, 3, 32, 32)
    assert torch.equal(learn(ours, x), learn(theirs, x))
    assert all(map(torch.equal, gradients(ours), gradients(theirs)))


def test_mini_densenet_converts_to_torchvision_and_back():
    ours, again = mini_densenet(), mini_densenet()
    theirs = torchvision.models.DenseNet(8, (4, 4, 4), 16, num_classes=10)
    theirs.load_state_dict(to_torchvision(ours), strict=True)
    from_torchvision(again, theirs)
    assert same_state(again.state_dict(), ours.state_dict())


def test_torchvision_files_with_old_parameter_names_load(tmp_path):
    theirs = randomize_norms(torchvision.models.densenet121())
    old = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12]\.)", r"\1.\2", name): value
        for name, value in theirs.state_dict().items()
        if "num_batches_tracked" not in name
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, tmp_path / "old.pth")
    ours = get_model(
        "densenet121", in_channels=3, num_classes=1000, weights=tmp_path / "old.pth"
    ).eval()
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(ours(x), theirs.eval()(x))


@pytest.mark.parametrize(
    ("name", "options", "what"),
    [
        ("densenet40_12", {}, "no bottleneck in features.denseblock1.denselayer1.conv1.weight"),
        ("densenet_bc100_12", {}, "no features.norm0.weight"),
        ("mini_densenet", {"compression": 0.7}, "not half the channels in features.transition1"),
        ("mini_densenet", {"norm_layer": nn.InstanceNorm2d}, "no features.norm0.weight"),
        (
            "mini_densenet",
            {"norm_layer": lambda channels: nn.GroupNorm(1, channels)},
            "no features.norm0.running_mean",
        ),
    ],
)
def test_conversion_to_torchvision_refuses_other_tensors(name, options, what):
    with pytest.raises(ConversionError, match=f"torchvision DenseNet; it has {what}"):
        to_torchvision(get_model(name, **options))


def test_convolutions_are_initialised_as_in_torchvision():
    model = get_model("densenet121")
    for name, p in model.named_parameters():
        if p.dim() == 4:
            fan_in = p[0].numel()
            assert p.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.1), name
    assert not model.classifier.bias.any()


@pytest.mark.parametrize(
    ("name", "depth", "count", "stated"),
    [("densenet40_12", 40, 1_019_722, "1.0"), ("densenet_bc100_12", 100, 769_162, "0.8")],
)
def test_parameters_match_the_paper(name, depth, count, stated):
    """Table 2, in millions, with three channels."""
    model = get_model(name, in_channels=3)
    assert parameters(model) == count
    assert f"{count / 1e6:.1f}" == stated
    assert layers(model) == depth


def test_feature_maps_match_the_paper():
    for name, stem, widths in (
        ("densenet40_12", 16, (160, 304, 448)),
        ("densenet_bc100_12", 24, (216, 300, 342)),
    ):
        with torch.device("meta"):
            model = get_model(name, in_channels=3, image_size=32).eval()
            x = model.features.conv0(torch.empty(1, 3, 32, 32))
            assert x.shape == (1, stem, 32, 32)
            for number, (width, side) in enumerate(zip(widths, (32, 16, 8), strict=True), 1):
                x = model.features.get_submodule(f"denseblock{number}")(x)
                assert x.shape == (1, width, side, side)
                if number < 3:
                    x = model.features.get_submodule(f"transition{number}")(x)


def test_mini_densenet_is_small():
    assert parameters(mini_densenet()) <= 60_000


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_memory_efficient_networks_can_be_traced_scripted_and_exported():
    model = randomize_norms(mini_densenet(memory_efficient=True)).eval()
    x = torch.randn(2, 1, 28, 28)
    expected = model(x)
    assert torch.equal(torch.fx.symbolic_trace(model)(x), expected)
    assert torch.allclose(torch.jit.script(model)(x), expected, atol=1e-5)
    assert torch.allclose(torch.jit.trace(model, x)(x), expected, atol=1e-5)
    assert torch.allclose(torch.export.export(model, (x,)).module()(x), expected, atol=1e-5)


def test_files_do_not_record_memory_efficient(tmp_path):
    model = mini_densenet(memory_efficient=True, growth_rate=4)
    assert model.options == {"in_channels": 1, "num_classes": 10, "growth_rate": 4}
    save_model(model, tmp_path / "model.safetensors")
    back = load_model(tmp_path / "model.safetensors")
    assert same_state(back.state_dict(), model.state_dict())
    again = mini_densenet(
        weights=tmp_path / "model.safetensors", growth_rate=4, memory_efficient=True
    )
    assert again.features.denseblock1.memory_efficient


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"growth_rate": 0}, r"`growth_rate` \(=0\) must be a whole number of at least 1"),
        ({"stem_channels": 0}, r"`stem_channels` \(=0\) must be"),
        ({"compression": 0}, r"`compression` \(=0\) must be more than 0 and at most 1"),
        ({"compression": 1.5}, r"`compression` \(=1.5\) must be"),
        ({"compression": float("nan")}, r"`compression` \(=nan\) must be"),
        ({"compression": "half"}, r"`compression` \(='half'\) must be"),
        ({"dropout": 1.0}, r"`dropout` \(=1.0\) must be at least 0 and below 1"),
        ({"stem": "5x5"}, r"`stem` \(='5x5'\) must be one of '7x7', '3x3', '3x3-pool'"),
        ({"norm_layer": None}, r"`norm_layer` \(=None\) must be a class or function"),
        ({"act_layer": nn.ReLU()}, r"`act_layer` \(=ReLU\(\)\) must be"),
    ],
)
@pytest.mark.parametrize("name", ["densenet121", "densenet40_12", "mini_densenet"])
def test_errors_name_impossible_options(name, options, message):
    with pytest.raises(ValueError, match=message):
        get_model(name, **options)


@pytest.mark.parametrize(
    ("name", "smallest"), [("densenet121", 29), ("mini_densenet", 7), ("densenet40_12", 4)]
)
def test_errors_name_image_sizes_that_leave_no_pixel(name, smallest):
    with pytest.raises(
        ValueError, match=rf"`image_size` \(={smallest - 1}\) must be at least {smallest}"
    ):
        get_model(name, image_size=smallest - 1)
    model = get_model(name, image_size=smallest).eval()
    assert model.forward_features(torch.randn(1, 1, smallest, smallest)).shape[2:] == (1, 1)
    with pytest.raises(RuntimeError, match="too small"):
        model(torch.randn(1, 1, smallest - 1, smallest - 1))


@pytest.mark.parametrize(
    ("depth", "bottleneck", "rule"),
    [
        (41, False, r"`depth` \(=41\) must be 3n \+ 4 for a whole n of at least 1"),
        (4, False, r"`depth` \(=4\) must be 3n \+ 4"),
        (43, True, r"`depth` \(=43\) must be 6n \+ 4"),
        (0, True, r"`depth` \(=0\) must be a whole number of at least 1"),
    ],
)
def test_errors_name_impossible_depths(depth, bottleneck, rule):
    with pytest.raises(ValueError, match=rule):
        DenseNet.small(depth, bottleneck=bottleneck)


@pytest.mark.parametrize(
    ("layers", "rule"),
    [([], r"`layers` \(=\[\]\)"), (6, r"`layers` \(=6\)"), ([6, 0], r"`layers` \(=0\) must be")],
)
def test_errors_name_impossible_layers(layers, rule):
    with pytest.raises(ValueError, match=rule):
        DenseNet(layers)


def test_only_torchvision_networks_have_imagenet_weights():
    with pytest.raises(ValueError, match=r"torchvision's ResNets and DenseNets"):
        get_model("densenet40_12", weights="imagenet")
    with pytest.raises(ConversionError, match="must fit DenseNet"):
        get_model("densenet121", weights=resnet18().state_dict())
