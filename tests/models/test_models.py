"""Abilities of every registered network, and the figures in the reports."""

import copy
import io
import pickle
import re
import warnings
from functools import partial

import pytest
import torch
import torch.nn.functional as F
import torchvision
from conftest import each_network, randomize_norms
from models_cases import close, expected_and_got
from torch import nn

import mnist_zoo
from mnist_zoo import Bottleneck, ResNet, get_model, list_models, mini_resnet, resnet18
from mnist_zoo.models.registry import MODELS, outline

PLAIN = ("plain18", "plain34")

# as in the reports
PARAMETERS = {
    "lenet5": 44_426,
    "lenet5_conv_residual": 49_098,
    "lenet5_fc_residual": 304_106,
    "mini_googlenet": 97_298,
    "mini_resnet": 41_514,
    "plain18": 11_175_370,
    "resnet18": 11_175_370,
    "resnet34": 21_283_530,
    "resnet50": 23_522_250,
    "resnet101": 42_514_378,
    "resnet152": 58_158_026,
    "resnet_cnn": 21_280_970,
    "resnet_cnn_norm": 21_286_602,
}


def parameters(model):
    return sum(p.numel() for p in model.parameters())


# --- figures in the reports -----------------------------------------------------------------


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_match_the_reports(name):
    assert parameters(outline(name, {})) == PARAMETERS[name]


def test_conv_biases_give_the_parameters_in_the_report():
    assert parameters(resnet18(conv_bias=True)) == 11_180_170


def test_depthwise_convolutions_save_the_expected_parameters():
    saved = sum(
        module.conv2.weight.numel() - 9 * module.conv2.out_channels
        for module in get_model("resnet50").modules()
        if isinstance(module, Bottleneck)
    )
    assert parameters(get_model("resnet50_separable")) == PARAMETERS["resnet50"] - saved


@pytest.mark.parametrize("name", list_models())
def test_docstrings_state_the_parameters(name):
    stated = re.search(r"([\d,]+) parameters", MODELS[name].__doc__)
    assert int(stated[1].replace(",", "")) == parameters(outline(name, {}))


@pytest.mark.parametrize("name", PLAIN)
def test_docstrings_of_plain_networks_state_the_idle_parameters(name):
    idle = sum(p.numel() for p in get_model(name).parameters() if not p.requires_grad)
    assert f"{idle:,} of them idle" in MODELS[name].__doc__


# --- abilities of every network -------------------------------------------------------------


def test_forward_gives_one_logit_per_class(network, pictures):
    assert network(pictures).shape == (3, network.num_classes)
    assert network.input_size == (network.in_channels, network.image_size, network.image_size)


def test_every_trained_parameter_receives_a_gradient(network, pictures):
    F.cross_entropy(network.train()(pictures), torch.tensor([1, 2, 3])).backward()
    for name, p in network.named_parameters():
        if p.requires_grad:
            assert p.grad is not None, name
            assert p.grad.isfinite().all(), name
            assert p.grad.any(), name


def test_only_the_idle_shortcuts_of_plain_networks_are_frozen(network):
    frozen = [name for name, p in network.named_parameters() if not p.requires_grad]
    plain = isinstance(network, ResNet) and not network.layer1[0].residual
    assert frozen == [n for n, _ in network.named_parameters() if plain and "downsample" in n]


def test_a_batch_gives_the_same_logits_as_single_images(network, pictures):
    singles = torch.cat([network(picture[None]) for picture in pictures])
    assert close(network(pictures), singles)


def test_forward_is_features_then_head(network, pictures):
    features = network.forward_features(pictures)
    before = network.forward_head(features, pre_logits=True)
    classifier = network.get_classifier()
    assert torch.equal(network(pictures), network.forward_head(features))
    assert torch.equal(network(pictures), classifier(before))


def test_state_dict_round_trip(request, network, pictures):
    other = get_model(request.node.callspec.params["network"]).eval()
    assert not torch.equal(other(pictures), network(pictures))
    other.load_state_dict(network.state_dict(), strict=True)
    assert torch.equal(other(pictures), network(pictures))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies(network, pictures, copied):
    other = copied(network)
    assert torch.equal(other(pictures), network(pictures))
    assert not set(map(id, other.parameters())) & set(map(id, network.parameters()))


def test_channels_last(network, pictures):
    other = copy.deepcopy(network).to(memory_format=torch.channels_last)
    assert close(other(pictures.to(memory_format=torch.channels_last)), network(pictures))


def test_bf16_autocast(network, pictures):
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(pictures)
    assert logits.dtype == torch.bfloat16
    assert close(logits.float(), network(pictures), atol=0.1)


@pytest.mark.parametrize("name", each_network())
def test_other_channels_classes_and_sizes(name):
    network = get_model(name, in_channels=3, num_classes=7, image_size=32).eval()
    assert network.input_size == (3, 32, 32)
    assert network(torch.randn(2, 3, 32, 32)).shape == (2, 7)


def test_width_widens_every_layer_of_mini_convnet():
    plain, wide = get_model("mini_convnet"), get_model("mini_convnet", width=32)
    for mine, other in zip(wide.parameters(), plain.parameters(), strict=True):
        doubled = [size if size in (1, 3, 4, 10) else 2 * size for size in other.shape]
        assert list(mine.shape) == doubled
    assert wide(torch.rand(2, 1, 28, 28)).shape == (2, 10)
    assert wide.options["width"] == 32
    with pytest.raises(ValueError, match=r"`width` \(=0\) must be"):
        get_model("mini_convnet", width=0)


def test_same_seed_gives_the_same_weights():
    for name in [*list_models("[lm]*"), "resnet18"]:
        torch.manual_seed(1)
        first = get_model(name).state_dict()
        torch.manual_seed(1)
        second = get_model(name).state_dict()
        assert all(torch.equal(first[key], second[key]) for key in first), name


def test_convolutions_are_initialised_as_in_he_et_al():
    for name, p in resnet18().named_parameters():
        if p.dim() == 4:
            fan_out = p.shape[0] * p.shape[2] * p.shape[3]
            assert p.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05), name


# --- options and mistakes -------------------------------------------------------------------


def test_errors_state_the_expected_and_the_actual_input(network, pictures):
    with pytest.raises(ValueError, match=expected_and_got(network, 5)):
        network(torch.randn(1, 5, *network.input_size[1:]))
    with pytest.raises(ValueError, match=r"expected .*\(N, 1, .*got \(1, \d+, \d+\)"):
        network(pictures[0])
    with pytest.raises(ValueError, match=r"floating-point numbers, got torch\.uint8; predict\(\)"):
        network(pictures.byte())
    size = network.image_size
    if network.any_size:
        assert network(torch.randn(1, 1, size + 5, size + 2)).shape == (1, 10)
    else:
        with pytest.raises(
            ValueError, match=rf"\(N, 1, {size}, {size}\), got \(1, 1, 29, {size}\)"
        ):
            network(torch.randn(1, 1, 29, size))


def test_reset_classifier_keeps_device_dtype_and_mode(network):
    network = network.double().eval()
    network.reset_classifier(26)
    classifier = network.get_classifier()
    assert network.num_classes == 26
    assert not classifier.training
    assert classifier.weight.dtype == torch.float64
    assert network(torch.randn(2, *network.input_size).double()).shape == (2, 26)
    network.to("meta").train().reset_classifier(3)
    classifier = network.get_classifier()
    assert classifier.weight.is_meta
    assert classifier.training
    with pytest.raises(ValueError, match=r"`num_classes` \(=0\) must be"):
        network.reset_classifier(0)
    assert network.num_classes == 3
    setattr(network, network.classifier_name, nn.Identity())
    with pytest.raises(
        TypeError, match=f"`{network.classifier_name}` must be an nn.Linear; it is a"
    ):
        network.reset_classifier(4)


@pytest.mark.parametrize("name", list_models())
@pytest.mark.parametrize("option", ["in_channels", "num_classes", "image_size"])
@pytest.mark.parametrize("value", [0, -1, 2.5, True])
def test_errors_name_impossible_numbers(name, option, value):
    with pytest.raises(ValueError, match=rf"`{option}` \(={value}\) must be"):
        get_model(name, **{option: value})


def test_errors_name_too_small_image_sizes():
    with pytest.raises(ValueError, match=r"`image_size` \(=15\) must be at least 16"):
        mini_resnet(image_size=15)
    assert mini_resnet(image_size=16)(torch.randn(1, 1, 16, 16)).shape == (1, 10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stem": "5x5"}, r"`stem` \(='5x5'\) must be one of '7x7', '3x3', '3x3-pool'"),
        ({"dropout": 1.0}, r"`dropout` \(=1.0\) must be at least 0 and below 1"),
        ({"dropout": -0.1}, r"`dropout` \(=-0.1\) must be"),
        ({"block": nn.Linear}, r"`block` \(=<class .*Linear'>\) must be BasicBlock"),
        ({"block": "basic"}, r"`block` \(='basic'\) must be"),
        ({"act_layer": "relu"}, r"`act_layer` \(='relu'\) must be a class or function"),
        ({"act_layer": nn.ReLU()}, r"`act_layer` \(=ReLU\(\)\) must be"),
        ({"norm_layer": None}, r"`norm_layer` \(=None\) must be"),
        ({"stem_act_layer": nn.ReLU()}, r"`stem_act_layer` \(=ReLU\(\)\) must be a class or"),
        ({"dropout": "a"}, r"`dropout` \(='a'\) must be"),
        ({"stem": [7]}, r"`stem` \(=\[7\]\) must be"),
        ({"zero_init_residual": True, "residual": False}, r"`zero_init_residual` .* `residual`"),
        ({"zero_init_residual": True, "norm_layer": nn.Identity}, r"Identity has none"),
    ],
)
def test_errors_name_impossible_options(options, message):
    with pytest.raises(ValueError, match=message):
        resnet18(**options)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_zero_init_residual_zeroes_the_same_norms_as_torchvision(name):
    ours = get_model(name, zero_init_residual=True)
    theirs = torchvision.models.get_model(name, zero_init_residual=True)
    zero = [key for key, value in theirs.named_parameters() if not value.any()]
    assert [key for key, value in ours.named_parameters() if not value.any()] == zero
    assert "zero_init_residual" not in ours.options


def test_resnet_needs_four_layer_counts():
    for layers in ([2, 2], 2):
        with pytest.raises(ValueError, match=r"`layers` \(=.*\) must be four numbers"):
            ResNet(Bottleneck, layers)
    for depth in (0, 2.0):
        with pytest.raises(ValueError, match=rf"`layers` \(={depth}\) must be a whole number"):
            ResNet(Bottleneck, [2, 2, 2, depth])


@pytest.mark.parametrize(("stem", "size"), [("7x7", 1), ("3x3", 4), ("3x3-pool", 2)])
def test_stems(stem, size):
    network = resnet18(stem=stem)
    assert network.forward_features(torch.randn(2, 1, 28, 28)).shape == (2, 512, size, size)


def test_dropout_acts_only_in_training():
    torch.manual_seed(0)
    network = resnet18(dropout=0.5)
    features = torch.randn(4, 512, 1, 1).abs()
    assert (network.forward_head(features, pre_logits=True) == 0).float().mean() > 0.4
    assert (network.eval().forward_head(features, pre_logits=True) != 0).all()


def test_custom_block_activation_and_norm():
    network = resnet18(
        block=Bottleneck, act_layer=nn.GELU, norm_layer=lambda channels: nn.GroupNorm(8, channels)
    )
    kinds = {type(module) for module in network.modules()}
    assert {nn.GELU, nn.GroupNorm, Bottleneck} <= kinds
    assert not {nn.ReLU, nn.BatchNorm2d} & kinds
    assert network(torch.randn(2, 1, 28, 28)).shape == (2, 10)


def test_the_stem_may_have_an_activation_of_its_own():
    def kinds(network):
        return type(network.relu), {type(block.relu) for block in network.layer1}

    assert kinds(resnet18()) == (nn.ReLU, {nn.ReLU})
    assert kinds(resnet18(act_layer=nn.GELU)) == (nn.GELU, {nn.GELU})
    assert kinds(resnet18(stem_act_layer=nn.GELU)) == (nn.GELU, {nn.ReLU})
    cnn = get_model("resnet_cnn", act_layer=nn.SiLU)
    assert kinds(cnn) == (nn.LeakyReLU, {nn.SiLU})
    assert cnn.relu.negative_slope == 0.01
    assert kinds(get_model("resnet_cnn", stem_act_layer=None)) == (nn.ReLU, {nn.ReLU})


def test_a_plain_network_is_the_resnet_without_the_sums():
    torch.manual_seed(3)
    residual = randomize_norms(resnet18()).eval()
    plain = get_model("plain18", weights=residual.state_dict()).eval()
    x = torch.randn(2, 64, 8, 8)
    block, same = residual.layer2[0], plain.layer2[0]
    inner = block.bn2(block.conv2(F.relu(block.bn1(block.conv1(x)))))
    assert torch.equal(same(x), F.relu(inner))
    assert torch.equal(block(x), F.relu(inner + block.downsample(x)))


def test_missing_weights_are_an_error():
    with pytest.raises(ValueError, match=r"`weights` \(='imagenet'\) is for torchvision's ResNets"):
        mini_resnet(weights="imagenet")
    for name in ("nowhere.pth", "DEFAULT"):
        with pytest.raises(
            FileNotFoundError, match=f"no such file of weights: '{name}'; `weights` may be"
        ):
            mini_resnet(weights=name)


def test_weights_from_a_file(tmp_path):
    model = mini_resnet()
    torch.save(model.state_dict(), tmp_path / "mini.pth")
    other = mini_resnet(weights=tmp_path / "mini.pth")
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True)
    )


def test_adapted_weights_give_a_warning_at_the_caller():
    state = resnet18(num_classes=26).state_dict()
    for factory in (resnet18, partial(get_model, "resnet18")):
        with pytest.warns(
            UserWarning, match=r"to ResNet: .*\n.* fc\.weight .*re-initialised"
        ) as told:
            factory(weights=state)
        assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        resnet18(weights={**state, "total_ops": torch.zeros(1)}, num_classes=26)


def test_loading_weights_draws_no_random_numbers(tmp_path):
    source = resnet18().state_dict()
    before = torch.get_rng_state()
    resnet18(weights=source)
    assert torch.equal(before, torch.get_rng_state())


def test_whole_models_save_and_load():
    buffer = io.BytesIO()
    torch.save(mini_resnet(), buffer)
    buffer.seek(0)
    assert isinstance(torch.load(buffer, weights_only=False), mnist_zoo.MiniResNet)
