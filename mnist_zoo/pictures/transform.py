"""`PictureTransform`: from any images to a network's input."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .as_trained import as_trained
from .preprocessing import Preprocessing
from .reading import in_order, is_one_picture

if TYPE_CHECKING:
    from .reading import Pictures

__all__ = ["PictureTransform"]

NONE = torch.empty(0, 1, 28, 28, dtype=torch.uint8, device="cpu")


class PictureTransform(nn.Module):
    """Converts any images of single digits to a network's input; a torchvision-style transform.

    Images keep their channels where the preprocessing does not redraw them; among images in colour,
    grey ones get three channels.

    Args:
        preprocessing: How the network expects its images.

    Shape:
        (C, image_size, image_size) for one image, (N, C, image_size, image_size) for several; C
        is 1 where images are redrawn.

    Raises:
        TypeError: If `preprocessing` is no `Preprocessing`.

    Example:
        >>> from PIL import Image, ImageDraw, ImageFont
        >>> from mnist_zoo import PictureTransform, Preprocessing
        >>> page = Image.new("L", (120, 120), "white")
        >>> ImageDraw.Draw(page).text((40, 10), "7", font=ImageFont.load_default(80))
        >>> PictureTransform(Preprocessing(image_size=32))(page).shape
        torch.Size([1, 32, 32])
    """

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        if not isinstance(preprocessing, Preprocessing):
            kind = type(preprocessing).__name__
            raise TypeError(f"`preprocessing` must be a Preprocessing; its type is {kind}")
        self.preprocessing = preprocessing

    def forward(self, pictures: Pictures) -> Tensor:
        """Converts what `predict` takes to float32; the errors are those of `predict`."""
        batches = as_trained(pictures, self.preprocessing, None) or [(range(0), NONE)]
        batches = [(places, self.preprocessing(batch)) for places, batch in batches]
        channels = max(batch.shape[1] for _, batch in batches)
        images = in_order([(places, x.expand(-1, channels, -1, -1)) for places, x in batches])
        return images[0] if is_one_picture(pictures) else images

    def extra_repr(self) -> str:
        """The preprocessing, for the printed form."""
        return str(self.preprocessing)
