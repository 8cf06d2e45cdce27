"""The options that every factory takes, and the one call that a factory's body is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypedDict

from .build import Network, WeightsLike, build


class FactoryOptions(TypedDict, total=False):
    """The options of every factory; the TypedDict of each family adds its own.

    Type checkers and editors know every option of ``**options: Unpack[…]`` by its TypedDict.
    """

    weights: WeightsLike
    in_channels: int
    num_classes: int


class SmallOptions(FactoryOptions, total=False):
    """The options of the LeNet-5 and mini networks."""

    image_size: int


def build_variant(
    name: str,
    make: Callable[..., Network],
    options: FactoryOptions,
    *,
    known: Iterable[str],
    unrecorded: str = "",
    imagenet: bool = False,
    **fixed: Any,
) -> Network:
    """Builds a network of a family.

    Args:
        name: Name of the factory.
        make: Makes the network from the options.
        options: The options that the user gave.
        known: Names of the family's own options.
        unrecorded: Name of an option that concerns training only; files and records leave it out.
        imagenet: Whether torchvision has a network of the same name and architecture.
        **fixed: The variant's own values of options; those that the user gave override them.
    """
    given: dict[str, Any] = {"weights": None, "in_channels": 1, "num_classes": 10, **options}
    if unrecorded in given:
        fixed[unrecorded] = given.pop(unrecorded)
    return build(name, partial(make, **fixed), imagenet=imagenet, known=known, **given)


def build_small(
    name: str, make: Callable[..., Network], options: SmallOptions, **fixed: Any
) -> Network:
    """Builds a network whose options are `SmallOptions`."""
    given: SmallOptions = {"image_size": 28, **options}
    return build_variant(name, make, given, known=("image_size",), **fixed)
