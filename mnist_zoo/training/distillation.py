"""Learning from another network: `Teacher`."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._networks import check_classes, check_computes, float_type, stated_classes, unwrapped
from ..data.digits import Digits
from ..inspection.tracing import duplicate
from ..pictures.preprocessing import Preprocessing
from .checks import probed
from .recipe import Recipe
from .resuming import digest_of
from .small_maps import SmallMapsAsProducts


def check_distillation(recipe: Recipe, teacher: nn.Module | None) -> None:
    """Checks that there is a teacher where the recipe needs one, and only there.

    Raises:
        ValueError: If there is one too many or too few.
    """
    if (teacher is None) == (recipe.distillation > 0):
        given = None if teacher is None else type(unwrapped(teacher)).__name__
        rule = "must be a network" if teacher is None else "must be None"
        raise ValueError(
            f"`teacher` (={given}) {rule} if `distillation` of the recipe is {recipe.distillation}"
        )


class Teacher:
    """A copy of a network, in eval mode, with whose probabilities another is compared.

    Args:
        network: The network, which stays as it is.
        recipe: The recipe of the other network.
        train: The images.
        classes: The number of classes of the other network.
        device: Where the copy computes.

    Raises:
        ValueError: If the networks have different numbers of classes, or prepare their images
            differently, or the teacher gives no finite logits.
    """

    def __init__(
        self,
        network: nn.Module,
        recipe: Recipe,
        train: Digits,
        classes: int,
        device: torch.device,
    ) -> None:
        network = unwrapped(network)
        check_computes(teacher=network)
        noted = getattr(network, "preprocessing", None)
        if isinstance(noted, Preprocessing) and _numbers(noted) != _numbers(recipe.preprocessing):
            raise ValueError(
                f"`teacher` ({type(network).__name__}) must take the images of the recipe, "
                f"{recipe.preprocessing}; it takes {noted}"
            )
        self.network = duplicate(network, "teacher").to(device).eval().requires_grad_(False)
        found = probed(self.network, train, recipe.preprocessing, argument="teacher").classes
        if found != classes:
            raise ValueError(
                f"`teacher` ({type(network).__name__}) must have the network's {classes} classes; "
                f"it has {found}"
            )
        check_classes(stated_classes(network), classes, "`teacher`", train=train.classes)
        self.weight, self.temperature = recipe.distillation, recipe.temperature
        self.dtype = float_type(self.network)
        self.digest = digest_of(self.network)

    def mixed(self, losses: Tensor, logits: Tensor, images: Tensor) -> Tensor:
        """The losses (N,) of the labels, mixed with those of the teacher on the same images."""
        with torch.no_grad(), SmallMapsAsProducts():
            theirs = self.network(images.to(self.dtype)).to(logits.dtype)
        apart = divergence(logits, theirs, self.temperature)
        return torch.lerp(losses, self.temperature**2 * apart, self.weight)


def divergence(logits: Tensor, theirs: Tensor, temperature: float) -> Tensor:
    """How far probabilities are from a teacher's (N,), in nats, both at a temperature.

    The Kullback-Leibler divergence has the gradient of the cross-entropy in Hinton et al. 2015,
    and is 0 where the two agree.
    """
    ours, wanted = ((each / temperature).log_softmax(1) for each in (logits, theirs))
    return F.kl_div(ours, wanted, reduction="none", log_target=True).sum(1)


def _numbers(preprocessing: Preprocessing) -> Preprocessing:
    """What decides the numbers that a network gets from images of a data set."""
    return replace(preprocessing, redraw=True, dark_on_light=False)
