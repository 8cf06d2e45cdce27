"""Recipes: the settings of the reports, conversion to JSON and back, and refused values."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from conftest import slow_if

from mnist_zoo import (
    Augmentation,
    Recipe,
    fit,
    get_recipe,
    list_models,
    list_recipes,
    load_mnist,
)


@pytest.fixture(params=list_recipes())
def recipe(request) -> Recipe:
    """Each recipe in turn."""
    return get_recipe(request.param)


def is_large(name):
    """Whether its network has millions of parameters; one of these trains by default."""
    return name != "resnet18_mnist" and get_recipe(name).network.startswith(("plain", "resnet"))


def test_dictionary_and_json_give_the_recipe_back(recipe):
    changed = recipe.replace(sizes=(9, 2, 3), betas=(0.8, 0.9), ema_decay=0.9)
    without_network = recipe.replace(network=None, options={})
    for each in (recipe, changed, without_network):
        assert Recipe.from_dict(each.to_dict()) == each
        assert Recipe.from_json(each.to_json()) == each


@pytest.mark.parametrize("name", [slow_if(is_large(name), name) for name in list_recipes()])
def test_every_recipe_trains(name):
    digits = load_mnist(source="sample")[:24]
    recipe = get_recipe(name, batch_size=8, epochs=1)
    history = fit(recipe, digits, digits[:8], progress=False)
    assert history.step == 3
    assert all(value.isfinite().all() for value in history.model.state_dict().values())
    assert recipe.reference


def test_changing_a_recipe_does_not_change_the_next_one():
    with pytest.raises(AttributeError):
        get_recipe("mini_resnet_report").lr = 1.0
    assert get_recipe("mini_resnet_report", epochs=3).epochs == 3
    assert get_recipe("mini_resnet_report").epochs == 5


def test_recipes_are_listed_and_wrong_names_are_refused():
    assert list_recipes("lenet5*") == [n for n in list_recipes() if n.startswith("lenet5")]
    assert list_recipes("nothing") == []
    with pytest.raises(ValueError, match=r"`name` \(='mini_resnet'\).*'mini_resnet_report'"):
        get_recipe("mini_resnet")
    assert {get_recipe(name).network for name in list_recipes()} <= set(list_models())


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"network": "resnet19"}, r"`network` \(='resnet19'\) must be one of .* 'resnet1\d'"),
        ({"source": "cifar"}, "`source`"),
        ({"optimizer": "sdg"}, r"`optimizer` \(='sdg'\) must be one of 'sgd', 'adam', .*; .*'sgd'"),
        ({"schedule": "linear"}, "`schedule`"),
        ({"precision": "float16"}, "`precision`"),
        ({"select": "first"}, "`select`"),
        ({"epochs": 0}, r"`epochs` \(=0\) must be a whole number of at least 1"),
        ({"epochs": 1.5}, "`epochs`"),
        ({"batch_size": -1}, "`batch_size`"),
        ({"eval_every": 0}, "`eval_every`"),
        ({"lr": 0}, r"`lr` \(=0\) must be more than 0"),
        ({"lr": math.nan}, "`lr`"),
        ({"lr": "0.1"}, r"`lr` \(='0.1'\) must be a finite number, more than 0"),
        ({"weight_decay": -1e-4}, "`weight_decay`"),
        ({"momentum": 1.0}, r"`momentum` \(=1.0\) must be at least 0 and below 1"),
        ({"label_smoothing": 1}, "`label_smoothing`"),
        ({"betas": (0.9, 1.0)}, "`beta2`"),
        ({"betas": (-0.1, 0.9)}, "`beta1`"),
        ({"warmup": 1.0}, "`warmup`"),
        ({"ema_decay": 1.0}, "`ema_decay`"),
        ({"ema_decay": 0.0}, "`ema_decay`"),
        ({"nesterov": True, "momentum": 0.0}, "`nesterov`"),
        ({"optimizer": "adam"}, r"`momentum` \(=0.5\) is for SGD; `betas` are those of adam"),
        ({"seed": -1}, "`seed`"),
        ({"seed": 1.5}, "`seed`"),
        ({"sizes": (1, 2)}, r"`sizes` \(=\(1, 2\)\) must be a tuple of 3"),
        ({"sizes": (100, 10, 5.5)}, r"`sizes` \(=5.5\)"),
        ({"betas": (0.9,)}, r"`betas` \(=\(0.9,\)\) must be a tuple of 2"),
        ({"channels_last": "False"}, r"`channels_last` \(='False'\) must be True or False"),
        ({"augmentation": {"rotation": 10}}, "`augmentation` .* must be of type Augmentation"),
        ({"preprocessing": None}, "`preprocessing`"),
        ({"sizes": (100, 0, 100)}, "`sizes`"),
        ({"sampling": "last"}, r"`sampling` \(='last'\) must be one of 'random', 'first'"),
        ({"options": {"depth": 3}}, r"`options` \(={'depth': 3}\) do not fit mini_resnet"),
        ({"options": {"image_size": 3}}, "`options`.*`image_size`"),
        ({"options": {"stem": "3x3"}, "network": None}, "`options` .* need a `network`"),
    ],
)
def test_impossible_values_are_refused(changes, rule):
    recipe = get_recipe("mini_resnet_report")
    with pytest.raises(ValueError, match=rule):
        recipe.replace(**changes)
    assert recipe == get_recipe("mini_resnet_report")


def test_unknown_fields_are_refused_with_a_suggestion():
    recipe = get_recipe("mini_resnet_report")
    with pytest.raises(TypeError, match=r"Recipe has no field 'epoch'; did you mean 'epochs'"):
        recipe.replace(epoch=3)
    with pytest.raises(TypeError, match=r"^Augmentation has no field 'rotate'"):
        Recipe.from_dict({**recipe.to_dict(), "augmentation": {"rotate": 3}})
    with pytest.raises(ValueError, match="Expecting"):
        Recipe.from_json("{")
    with pytest.raises(ValueError, match=r"`text` \(='\[1\]'\) must be a JSON object"):
        Recipe.from_json("[1]")


def test_own_recipe_keeps_its_options_in_json():
    recipe = Recipe(
        network="resnet18",
        options={"stem": "3x3"},
        lr=0.1,
        epochs=2,
        augmentation=Augmentation(rotation=5),
    )
    assert Recipe.from_json(recipe.to_json()).options == {"stem": "3x3"}
    assert recipe.batch_size == 64


TAKEN = {"lr": 0.5, "momentum": 0.5, "weight_decay": 0.25, "batch_size": 50, "epochs": 2}
TAKEN |= {"eval_every": 3, "seed": 7, "ema_decay": 0.5, "betas": (0.5, 0.75), "sizes": (5, 3, 2)}
TAKEN |= {"nesterov": True, "label_smoothing": 0.125, "warmup": 0.25}


@pytest.mark.parametrize("maker", [np.asarray, torch.tensor, "numpy scalar", Fraction])
def test_numbers_of_other_libraries_become_pythons(maker):
    def made(value):
        if isinstance(value, tuple):
            return tuple(map(made, value))
        if maker is Fraction:
            return Fraction(value) if isinstance(value, float) else value
        return np.asarray(value)[()] if maker == "numpy scalar" else maker(value)

    recipe = Recipe(
        **{key: made(value) for key, value in TAKEN.items()},
        augmentation=Augmentation(rotation=made(5.0), shift=made(2)),
    )
    plain = Recipe(**TAKEN, augmentation=Augmentation(rotation=5.0, shift=2))
    assert recipe == plain
    assert repr(recipe) == repr(plain)
    assert recipe.to_json() == plain.to_json()


@pytest.mark.parametrize("value", [np.ones(1), torch.ones(2), None, "0.1", np.nan, True])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(ValueError, match="`lr`"):
        Recipe(lr=value, epochs=1)
    with pytest.raises(ValueError, match="`rotation`"):
        Augmentation(rotation=value)
