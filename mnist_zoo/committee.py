"""The most accurate of all: several DigitNets as one network."""

from __future__ import annotations

from .models.registry import get_model
from .prediction import Ensemble, ensemble

__all__ = ["digitnet_committee"]

MEMBERS = ("digitnet_20k", "digitnet_50k", "digitnet_150k", "digitnet_400k")


def digitnet_committee() -> Ensemble:
    """The pretrained DigitNets of 20,000 to 400,000 parameters as one network.

    Use it where accuracy matters more than time. The guide on recognising digits states what it
    reaches on MNIST's test digits.

    Returns:
        A network that gives the mean of their probabilities, as `ensemble` makes it.

    Source:
        Ours. Committees of networks for digits: Cireşan, Meier, Gambardella, Schmidhuber 2011
        (Convolutional neural network committees for handwritten character classification).

    Example:
        >>> from mnist_zoo import digitnet_committee, predict, sample_pictures
        >>> committee = digitnet_committee()
        >>> len(committee.models)
        4
        >>> predict(committee, sample_pictures().digit).digit
        7
    """
    return ensemble([get_model(name, weights="mnist") for name in MEMBERS])
