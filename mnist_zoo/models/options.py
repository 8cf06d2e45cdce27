"""The options that every factory takes, and the functions that factories build networks with."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypedDict

from .build import Network, WeightsLike, build


class FactoryOptions(TypedDict, total=False):
    """The options of every factory; each family adds its own in a subclass.

    A factory declares ``**options: Unpack[…]`` with the subclass, so that type checkers and editors
    know every option.
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
    """Builds one variant of a family of networks.

    Args:
        name: Name of the factory.
        make: Makes the network from the options and `fixed`.
        options: The options that the user passed.
        known: Names of the family's own options; the user may pass these and `FactoryOptions`.
        unrecorded: Name of an option that only training needs; ``model.options`` and weights
            files do not contain it.
        imagenet: Whether torchvision has a network of the same name and architecture.
        **fixed: Arguments of `make` that define the variant. The user's options override them.
    """
    given: dict[str, Any] = {"weights": None, "in_channels": 1, "num_classes": 10, **options}
    if unrecorded in given:
        fixed[unrecorded] = given.pop(unrecorded)  # `build` records only what it is given
    return build(name, partial(make, **fixed), imagenet=imagenet, known=known, **given)


def build_small(
    name: str, make: Callable[..., Network], options: SmallOptions, **fixed: Any
) -> Network:
    """Builds a network whose options are `SmallOptions`."""
    given: SmallOptions = {"image_size": 28, **options}
    return build_variant(name, make, given, known=("image_size",), **fixed)
