"""Mistakes that newcomers make: each error names the argument and says what to write instead."""

import re

import numpy as np
import pytest
import torch
from torch import nn

import mnist_zoo
from mnist_zoo import (
    ensemble,
    evaluate,
    fit_familiarity,
    from_torchvision,
    fuse,
    get_model,
    lenet5,
    list_models,
    load_mnist,
    load_model,
    mini_resnet,
    optimize,
    plots,
    predict,
    profile,
    read_digits,
    resnet18,
    resnet50,
    save_model,
    summary,
    to_torchvision,
)
from mnist_zoo.export import export

NET = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(2704, 10))
SAMPLE = load_mnist("test", source="sample")
ARRAY = np.zeros((1, 1, 28, 28), np.float32)


@pytest.mark.parametrize("name", list_models())
def test_factory_called_with_a_position_shows_the_keyword(name):
    factory = getattr(mnist_zoo, name)
    for value, keyword in (("mnist", "weights='mnist'"), (10, "num_classes=10")):
        with pytest.raises(TypeError, match=re.escape(f"such as {name}({keyword})")):
            factory(value)
    with pytest.raises(TypeError, match=f"{name} has no option 'pretrained'; .* weights='mnist'"):
        factory(pretrained=True)


@pytest.mark.parametrize(
    ("weights", "kind", "way"),
    [
        ("MNIST", FileNotFoundError, "did you mean 'mnist'"),
        ("ImageNet", FileNotFoundError, "did you mean 'imagenet'"),
        ("IMAGENET1K_V1", FileNotFoundError, "did you mean 'imagenet'"),
        ("DEFAULT", FileNotFoundError, "`weights` may be 'mnist', 'imagenet', a file"),
        ("mnist.pth", FileNotFoundError, "no such file of weights: 'mnist.pth'; `weights` may be"),
        (True, TypeError, r"`weights` \(=True\) must be 'mnist', 'imagenet', a file"),
        (False, TypeError, r"`weights` \(=False\) must be .* or None"),
    ],
)
def test_wrong_weights_name_the_right_ones(weights, kind, way):
    for factory in (mini_resnet, resnet18):
        with pytest.raises(kind, match=way):
            factory(weights=weights)


def test_weights_that_a_network_lacks_name_those_of_torchvision():
    with pytest.raises(ValueError, match="not for resnet50; torchvision's are weights='imagenet'"):
        resnet50(weights="mnist")


@pytest.mark.parametrize("model", [lenet5(), resnet18()], ids=["lenet5", "resnet18"])
@pytest.mark.parametrize("x", [ARRAY, ARRAY.tolist(), None], ids=["array", "list", "none"])
def test_network_given_no_tensor_names_predict(model, x):
    for call in (model, model.forward_features):
        with pytest.raises(TypeError, match=r"expected a tensor, got \w+; predict\(\) takes"):
            call(x)


@pytest.mark.parametrize("measure", [summary, profile])
@pytest.mark.parametrize("model", [mini_resnet(), NET], ids=["mini_resnet", "own"])
def test_shape_with_a_batch_shows_the_one_without(measure, model):
    with pytest.raises(RuntimeError, match=r"without the batch, such as \(1, 28, 28\)"):
        measure(model, (1, 1, 28, 28))
    assert measure(model, (1, 28, 28))


def test_input_size_with_a_batch_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"shape \(C, H, W\), without the batch"):
        optimize(mini_resnet(), (1, 1, 28, 28))
    with pytest.raises(ValueError, match=r"shape \(C, H, W\), without the batch"):
        export(mini_resnet(), tmp_path / "x.onnx", input_size=(1, 1, 28, 28))


@pytest.mark.parametrize(
    "call",
    [
        profile,
        summary,
        fuse,
        optimize,
        to_torchvision,
        plots.draw,
        plots.filters,
        lambda model: plots.feature_maps(model, torch.zeros(1, 28, 28), "conv1"),
        lambda model: predict(model, "digit.png"),
        lambda model: read_digits(model, "digit.png"),
        lambda model: evaluate(model, SAMPLE),
        lambda model: fit_familiarity(model, SAMPLE),
        lambda model: from_torchvision(model, {}),
        lambda model: save_model(model, "x.safetensors"),
        lambda model: export(model, "x.onnx"),
    ],
)
def test_what_is_no_network_is_refused_with_the_way_to_one(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for model, way in (
        ("mini_resnet", r"get_model\('mini_resnet'\)"),
        ("digit.png", "get_model"),
        (mini_resnet, r"mini_resnet\(\)"),
        (42, "get_model"),
    ):
        with pytest.raises(TypeError, match=f"`model` .* must be a network, such as {way} makes"):
            call(model)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("models", [mini_resnet(), "mini_resnet", ["mini_resnet"], [mini_resnet]])
def test_ensemble_of_no_list_of_networks_shows_one(models):
    with pytest.raises(TypeError, match=r"`models` .*(such as|list of networks)"):
        ensemble(models)


@pytest.mark.parametrize("is_there", [True, False])
def test_load_model_of_another_kind_of_file_names_the_factories(tmp_path, is_there):
    path = tmp_path / "x.pth"
    if is_there:
        torch.save(mini_resnet().state_dict(), path)
    with pytest.raises(mnist_zoo.WeightsError, match=r"file of save_model; .*weights='"):
        load_model(path)


def test_save_model_of_a_network_without_a_factory_names_torch_save(tmp_path):
    for model in (NET, mnist_zoo.MiniResNet(), fuse(get_model("mini_convnet"))):
        with pytest.raises(ValueError, match=r"made by a factory .* torch\.save"):
            save_model(model, tmp_path / "x.safetensors")
    assert not list(tmp_path.iterdir())
