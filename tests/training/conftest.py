"""Fixtures for the training tests."""

import pytest

from mnist_zoo import Augmentation, Recipe, fit, load_mnist


@pytest.fixture(scope="session")
def digits():
    return load_mnist("all", source="sample").split(300, 100, seed=0)


@pytest.fixture(scope="session")
def recipe():
    """A short run with every kind of state that a checkpoint must hold."""
    return Recipe(
        network="lenet5",
        optimizer="adam",
        lr=0.004,
        schedule="onecycle",
        batch_size=32,
        epochs=3,
        augmentation=Augmentation(rotation=10, elastic=20),
        ema_decay=0.9,
        eval_every=7,
        select="best",
    )


@pytest.fixture(scope="session")
def whole(digits, recipe):
    """The run of the recipe, to its end."""
    return fit(recipe, *digits, progress=False)
