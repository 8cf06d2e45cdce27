"""Filters and feature maps, read from the figure; the network does not change."""

import copy
import math

import numpy as np
import pytest
import torch
from plots_cases import drawn, labels_of, numpy, shown
from torch import nn

from mnist_zoo import lenet5, mini_resnet, resnet18
from mnist_zoo.plots.inside import feature_maps, filters


def test_filters_shows_the_first_convolution_by_default():
    model = lenet5()
    figure = drawn(filters(model))
    assert (np.array(shown(figure)) == numpy(model.conv1.weight[:, 0])).all()
    assert figure.axes[0].get_title() == "conv1: 6 kernels of 5×5"


def test_filters_share_one_scale_with_0_in_the_middle():
    model = lenet5()
    highest = model.conv1.weight.abs().max().item()
    limits = {image.get_clim() for image in filters(model).axes[0].images}
    assert limits == {(-highest, highest)}


def test_filters_with_few_channels_form_a_matrix():
    model = lenet5()
    figure = drawn(filters(model, "conv2"))
    by_input = model.conv2.weight.transpose(0, 1).flatten(0, 1)
    assert (np.array(shown(figure)) == numpy(by_input)).all()
    assert figure.axes[0].get_xlabel() == "output channel"
    assert len(figure.axes[0].get_xticks()) == 16
    assert len(figure.axes[0].get_yticks()) == 6


def test_filters_with_many_channels_are_averaged():
    model = mini_resnet()
    figure = drawn(filters(model, "conv2", limit=20))
    assert np.allclose(shown(figure), numpy(model.conv2.weight[:20].mean(1)), atol=1e-7)
    expected = "conv2: the first 20 of 32 kernels of 5×5,\nmean over 16 input channels"
    assert figure.axes[0].get_title() == expected
    assert labels_of(figure.axes[0].get_yticklabels()) == ["0", "8", "16"]


def test_filters_that_are_all_zero_or_nan():
    conv = nn.Conv2d(1, 4, 3)
    nn.init.zeros_(conv.weight)
    drawn(filters(nn.Sequential(conv)))
    nn.init.constant_(conv.weight, math.nan)
    drawn(filters(nn.Sequential(conv)))


def test_filters_errors():
    with pytest.raises(ValueError, match=r"`model` must have a Conv2d; Sequential has none"):
        filters(nn.Sequential(nn.Linear(2, 2)))
    with pytest.raises(ValueError, match=r"`layer` \(='fc1'\) must be a Conv2d; it is a Linear"):
        filters(lenet5(), "fc1")
    with pytest.raises(ValueError, match=r"`layer` \(='conv11'\) .* did you mean .*'conv1'"):
        filters(lenet5(), "conv11")
    with pytest.raises(ValueError, match=r"`limit` \(=0\)"):
        filters(lenet5(), limit=0)


def test_feature_maps_are_the_output_of_the_layer(picture):
    model = mini_resnet().eval()
    with torch.no_grad():
        expected = model.rblock1(model.mp(model.conv1(picture[None]).relu()))[0]
    figure = drawn(feature_maps(model, picture, "rblock1"))
    assert np.allclose(shown(figure), numpy(expected), atol=1e-6)
    assert figure.axes[0].get_title() == "rblock1: 16 maps of 12×12"
    assert {image.get_clim()[0] for image in figure.axes[0].images} == {0.0}


def test_feature_maps_before_an_inplace_relu_with_a_limit(picture):
    model = resnet18().eval()
    with torch.no_grad():
        expected = model.bn1(model.conv1(picture[None]))[0, :10]
    figure = drawn(feature_maps(model, picture, "bn1", limit=10))
    assert expected.min() < 0
    assert np.allclose(shown(figure), numpy(expected), atol=1e-5)
    low, high = figure.axes[0].images[0].get_clim()
    assert low == -high
    assert "the first 10 of 64 maps" in figure.axes[0].get_title()


def test_feature_maps_of_a_layer_that_runs_twice_are_of_the_first_run(picture):
    assert "16 maps of 12×12" in feature_maps(mini_resnet(), picture, "mp").axes[0].get_title()


def test_feature_maps_in_double_precision(picture):
    drawn(feature_maps(mini_resnet().double(), picture, "conv1"))


def test_feature_maps_of_a_wrapped_network(picture):
    model = mini_resnet()
    assert len(shown(feature_maps(nn.DataParallel(model), picture, "conv1"))) == 16


def states(model):
    """The modes and hooks, which must not change."""
    hooks = [len(module._forward_hooks) for module in model.modules()]
    return [module.training for module in model.modules()], hooks


@pytest.mark.parametrize("fails", [False, True])
def test_feature_maps_do_not_change_the_network(picture, fails):
    model = resnet18().train()
    model.layer1.eval()
    before, weights = states(model), copy.deepcopy(model.state_dict())
    if fails:
        with pytest.raises(ValueError, match="expected an input of shape"):
            feature_maps(model, torch.zeros(2, 28, 28), "layer2")
    else:
        feature_maps(model, picture, "layer2")
    assert states(model) == before
    assert all(value.equal(weights[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_feature_maps_errors(picture):
    model = mini_resnet()
    with pytest.raises(ValueError, match=r"`layer` \(='rblock3'\) .* did you mean 'rblock"):
        feature_maps(model, picture, "rblock3")
    with pytest.raises(ValueError, match=r"`layer` \(='xyz'\) .* see named_modules"):
        feature_maps(model, picture, "xyz")
    with pytest.raises(ValueError, match=r"`layer` \(='fc'\) must give maps .* gives \(1, 10\)"):
        feature_maps(model, picture, "fc")
    with pytest.raises(ValueError, match=r"`picture` must be float \(C, H, W\).*\(1, 1, 28, 28\)"):
        feature_maps(model, picture[None], "conv1")
    with pytest.raises(ValueError, match=r"`picture` must be float .* torch.uint8"):
        feature_maps(model, torch.zeros(1, 28, 28, dtype=torch.uint8), "conv1")
    with pytest.raises(ValueError, match=r"`limit` \(=-1\)"):
        feature_maps(model, picture, "conv1", limit=-1)
    model.spare = nn.Conv2d(1, 1, 1)
    with pytest.raises(ValueError, match=r"`layer` \(='spare'\) must run"):
        feature_maps(model, picture, "spare")


def test_feature_maps_of_a_layer_with_two_outputs(picture):
    class TwoOutputs(nn.Module):
        def forward(self, x):
            return x, x

    with pytest.raises(ValueError, match=r"`layer` \(='0'\) must give maps .* gives tuple"):
        feature_maps(nn.Sequential(TwoOutputs()), picture, "0")
