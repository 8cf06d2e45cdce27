"""How the images of a data set look, for the record of a network that is trained on them."""

from __future__ import annotations

from dataclasses import replace

from ..pictures.mnist_form import in_mnist_form
from ..pictures.preprocessing import Preprocessing
from .digits import Digits

SAMPLE = 1000  # images to look at
SHARE = 0.95  # of them must be in MNIST's form, to within what a few odd images change


def preprocessing_for(digits: Digits, preprocessing: Preprocessing) -> Preprocessing:
    """The preprocessing of a network that was trained on these images.

    Images in MNIST's form, or their negatives, are such as `as_mnist` gives for any image of a
    digit. Others, also those of another size or in colour, must be given to the network as they
    are.
    """
    images = digits.images[:: max(1, len(digits) // SAMPLE)].cpu()
    if preprocessing.redraw and len(images) and bool((images == images[:, :1]).all()):
        grey = images[:, 0].float()
        for dark_on_light, shown in ((False, grey), (True, 255 - grey)):
            if in_mnist_form(shown).float().mean() >= SHARE:
                return replace(preprocessing, dark_on_light=dark_on_light)
    return replace(preprocessing, redraw=False, dark_on_light=False)
