"""Networks by name."""

import copy

import pytest
import torch
from conftest import public_names

import mnist_zoo
from mnist_zoo import Classifier, get_model, list_models, list_recipes, mini_resnet
from mnist_zoo.models.registry import MODELS


def test_every_factory_of_the_package_is_registered():
    factories = {
        name: getattr(mnist_zoo, name)
        for name in public_names(mnist_zoo)
        if getattr(getattr(mnist_zoo, name), "__module__", "").startswith("mnist_zoo.models.")
        and name.islower()
        and name not in ("get_model", "list_models", "load_model", "save_model")
    }
    assert factories == MODELS


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("mini*", ["mini_convnet", "mini_densenet", "mini_googlenet", "mini_resnet"]),
        ("plain??", ["plain18", "plain34"]),
        ("resnet[35]*", ["resnet34", "resnet50", "resnet50_separable"]),
        ("Mini*", []),
        ("vgg*", []),
    ],
)
def test_wildcards(pattern, names):
    assert list_models(pattern) == names


def test_without_a_pattern_all_are_listed():
    assert list_models() == list(MODELS)
    list_models().clear()
    assert list_models()


def test_get_model_takes_the_options_of_the_factory():
    model = get_model("mini_resnet", num_classes=26, in_channels=3, image_size=32)
    assert isinstance(model, Classifier)
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 26)
    torch.manual_seed(1)
    one = get_model("mini_resnet")
    torch.manual_seed(1)
    assert torch.equal(one.fc.weight, mini_resnet().fc.weight)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("resnet81", "did you mean 'resnet18'"),
        ("mini-resnet", "did you mean 'mini_resnet'"),
        ("xyz", r"see list_models\(\)"),
        ("", r"see list_models\(\)"),
        ("bc100", "did you mean 'densenet_bc100_12'"),
    ],
)
def test_unknown_names_get_a_hint(name, hint):
    with pytest.raises(ValueError, match=rf"`name` \(='{name}'\) must be .*{hint}"):
        get_model(name)


@pytest.mark.parametrize("name", list_models())
def test_unknown_options_and_positional_arguments_are_refused(name):
    with pytest.raises(TypeError, match="colour"):
        get_model(name, colour=True)
    with pytest.raises(TypeError, match="keywords only"):
        MODELS[name]("imagenet")


@pytest.mark.parametrize(
    ("name", "option", "hint"),
    [
        ("resnet18", "colour", "it has weights, in_channels, num_classes, image_size"),
        ("densenet121", "growth", "did you mean 'growth_rate'"),
        ("preact_resnet18", "in_chans", "did you mean 'in_channels'"),
    ],
)
def test_unknown_options_get_a_hint(name, option, hint):
    with pytest.raises(TypeError, match=f"{name} has no option '{option}'; {hint}"):
        get_model(name, **{option: 1})
    with pytest.raises(ValueError, match="did you mean 'exclusive_gating' or 'shortcut_gating'"):
        get_model("preact_resnet18", shortcut="gating")


@pytest.mark.parametrize("listed", [list_models, list_recipes])
def test_names_are_a_list_and_print_as_a_table(listed):
    names = listed("mini_resnet*")
    assert names == [*names]
    assert repr(names) == repr([*names])
    for name, line in zip(names, str(names).splitlines(), strict=True):
        assert line.startswith(f"{name} ")
        assert line.endswith(".")
        assert "Options:" not in line
    assert str(listed("nothing")) == ""
    assert str(copy.copy(names)) == str(names)
