"""The two images that the package ships."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

__all__ = ["SamplePictures", "sample_pictures"]


class SamplePictures(NamedTuple):
    """The files of two images with handwritten digits; see `sample_pictures`.

    Attributes:
        digit: A photo of one digit, a seven.
        sheet: A ruled sheet with three rows of two numbers: 27182 81828, 45904 52353, 60287 47135.

    Example:
        >>> from mnist_zoo import mini_resnet, read_digits, sample_pictures
        >>> print(read_digits(mini_resnet(weights="mnist"), sample_pictures().sheet))
        27182 81828
        45904 52353
        60287 47135
    """

    digit: Path
    sheet: Path


def sample_pictures() -> SamplePictures:
    """The files of two images to try `predict` and `read_digits` on, before your own.

    Both look like photos and are drawn in code: one digit, and a sheet of numbers.

    Returns:
        The paths of ``digit`` and ``sheet``, which are JPEG files in the package.

    Example:
        >>> from mnist_zoo import mini_resnet, predict, sample_pictures
        >>> photo, sheet = sample_pictures()
        >>> predict(mini_resnet(weights="mnist"), photo).digit
        7
    """
    folder = Path(__file__).parent
    return SamplePictures(folder / "sample_digit.jpg", folder / "sample_sheet.jpg")
