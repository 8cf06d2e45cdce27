"""Range checks: what is a number, and which limit is named."""

import math
import re
from fractions import Fraction

import numpy as np
import pytest
import torch

from mnist_zoo import Augmentation, Preprocessing, Recipe, Transition, list_models, resnet18
from mnist_zoo._checks import check_positive, check_range, plain


@pytest.mark.parametrize(
    ("limits", "inside", "outside", "rule"),
    [
        ({"at_least": 0, "below": 1}, (0, 0.5), (-1e-9, 1, 10**400), "at least 0 and below 1"),
        ({"above": 0, "at_most": 1}, (1e-9, 1), (0, 1.1), "more than 0 and at most 1"),
        ({"at_least": 0, "at_most": 1}, (0, 1), (-1, 2), "between 0 and 1"),
        ({"above": 0}, (1e-9, 1e300, 10**300), (0, -1), "more than 0"),
        ({"at_least": 0, "at_most": 4, "whole": True}, (0, 4), (-1, 5), "between 0 and 4"),
    ],
)
def test_limits_are_named(limits, inside, outside, rule):
    for value in inside:
        check_range(**limits, size=value)
    for value in outside:
        with pytest.raises(ValueError, match=rf"^`size` \(={value!r}\) must be {rule}$"):
            check_range(**limits, size=value)


@pytest.mark.parametrize(
    "value", [np.float32(0.5), np.float64(0.5), np.float16(0.5), Fraction(1, 2)]
)
def test_numbers_of_other_packages_are_numbers(value):
    check_range(at_least=0, below=1, size=value)
    with pytest.raises(ValueError, match=r"must be a whole number, more than 0$"):
        check_range(above=0, whole=True, size=value)


def test_numpy_integers_are_whole_numbers():
    check_range(at_least=0, at_most=4, whole=True, size=np.int64(4))
    with pytest.raises(ValueError, match=r"must be between 0 and 4$"):
        check_range(at_least=0, at_most=4, whole=True, size=np.uint8(5))


NO_NUMBERS = [math.nan, np.float32("nan"), True, np.True_, "0.5", None, [0.5], 1j]


@pytest.mark.parametrize("value", NO_NUMBERS)
def test_no_numbers_are_refused(value):
    rule = rf"^`size` \(={re.escape(repr(value))}\) must be a finite number"
    with pytest.raises(ValueError, match=rule + ", at least 0 and below 1$"):
        check_range(at_least=0, below=1, size=value)
    with pytest.raises(ValueError, match=rule + "$"):
        check_range(size=value)


def test_infinity_is_refused_unless_it_is_allowed():
    for value in (math.inf, -math.inf):
        with pytest.raises(ValueError, match=r"must be a finite number$"):
            check_range(size=value)
    check_range(above=0, finite=False, size=math.inf)
    with pytest.raises(ValueError, match=r"must be more than 0$"):
        check_range(above=0, finite=False, size=-math.inf)


@pytest.mark.parametrize("value", [math.nan, True, "0.5", None])
@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("dropout", lambda value: resnet18(dropout=value)),
        ("compression", lambda value: Transition(4, value)),
        ("mean", lambda value: Preprocessing(mean=value)),
        ("std", lambda value: Preprocessing(std=value)),
        ("shear", lambda value: Augmentation(shear=value)),
        ("elastic_sigma", lambda value: Augmentation(elastic_sigma=value)),
        ("lr", lambda value: Recipe(network="mini_resnet", epochs=1, lr=value)),
        ("warmup", lambda value: Recipe(network="mini_resnet", epochs=1, lr=0.1, warmup=value)),
    ],
)
def test_every_check_refuses_no_numbers(name, use, value):
    with pytest.raises(ValueError, match=rf"^`{name}` \(=.+\) must be a finite number"):
        use(value)


def test_the_accuracy_of_a_list_is_checked():
    for value in (math.nan, True, "0.5"):
        with pytest.raises(ValueError, match=r"^`min_accuracy` \(=.+\) must be a finite number"):
            list_models(min_accuracy=value)


def test_recipes_with_numpy_numbers_are_written():
    numbers = {"lr": np.float32(0.5), "batch_size": np.int64(10)}
    recipe = Recipe(network="mini_resnet", epochs=1, **numbers)
    plain = Recipe(network="mini_resnet", epochs=1, lr=0.5, batch_size=10)
    assert Recipe.from_dict(recipe.to_dict()) == plain


def test_numbers_that_overflow_are_refused():
    for value in (10**400, -(10**400), Fraction(10**400)):
        with pytest.raises(ValueError, match=r"`size` .* must be a finite number"):
            check_range(size=value)
    for value in (2**63, 10**30):
        with pytest.raises(ValueError, match=r"`size` .* must be a whole number"):
            check_range(whole=True, size=value)
        with pytest.raises(ValueError, match=r"`size` .* must be at most 9223372036854775807"):
            check_positive(size=value)
    check_positive(size=2**63 - 1)
    check_range(whole=True, at_most=2**63 - 1, size=2**63 - 1)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (np.float32(5), float),
        (np.int64(5), int),
        (np.array(5.0), float),
        (torch.tensor(5), int),
        (torch.tensor(5.0, dtype=torch.bfloat16), float),
        (Fraction(5), float),
        (5, int),
        (5.0, float),
    ],
)
def test_scalars_become_pythons_numbers(value, kind):
    assert plain(value) == 5
    assert type(plain(value)) is kind


def test_what_is_no_number_stays_as_it_is():
    for value in (None, "5", (1, 2), np.array([1.0]), torch.ones(1)):
        assert plain(value) is value
    assert plain(np.True_) is True
