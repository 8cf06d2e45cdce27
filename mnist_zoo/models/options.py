"""The options that every factory takes, and the functions that factories build networks with."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial, wraps
from typing import Any, ParamSpec, TypedDict

from .build import Network, WeightsLike, build

P = ParamSpec("P")


def keywords_only(make: Callable[P, Network]) -> Callable[P, Network]:
    """A factory that shows those who call it as another library's what to write instead."""
    name = make.__name__

    @wraps(make)
    def called(*args: P.args, **options: P.kwargs) -> Network:
        if args:
            option = "num_classes" if type(args[0]) is int else "weights"
            example = f"{name}({option}={args[0]!r:.80})"
            raise TypeError(f"{name} takes keywords only, such as {example}")
        if "pretrained" in options:
            raise TypeError(
                f"{name} has no option 'pretrained'; pass `weights`, such as weights='mnist'"
            )
        return make(*args, **options)

    return called


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
