"""Plots of training data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from .._checks import check_positive, check_range
from ..data.augmentation import Augmentation, augment
from ..data.digits import Digits, check_digits
from ._style import COLOURS, INK_ON_PAPER, TILE_GAP, check_kind, draw_tiles, image_array, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["augmented"]


def augmented(
    digits: Digits, augmentation: Augmentation, *, rows: int = 6, columns: int = 10, seed: int = 0
) -> Figure:
    """Shows images beside their augmented variants, with the original in the first column.

    Args:
        digits: The images. The rows show some of them at equal distances, the first and the last
            included.
        augmentation: How they are moved and distorted.
        rows: Largest number of images.
        columns: The original and its random variants together, at least 2.
        seed: Seed of the variants; torch's own random state does not change.

    Returns:
        The figure.

    Raises:
        TypeError: If `digits` are no `Digits`, or `augmentation` is no `Augmentation`.
        ValueError: If there are no images, or a number is too small.
        ModuleNotFoundError: If matplotlib is not installed.

    Example:
        >>> from mnist_zoo import Augmentation, load_mnist, plots
        >>> digits = load_mnist("test", source="sample")
        >>> figure = plots.augmented(digits, Augmentation(rotation=15, shift=2), rows=2)
        >>> figure.savefig("augmented.png")
    """
    check_digits(digits=digits)
    check_kind(Augmentation, "Augmentation(…)", augmentation=augmentation)
    check_positive(rows=rows, columns=columns)
    check_range(at_least=2, columns=columns)
    if not len(digits):
        raise ValueError(f"`digits` (={digits!r}) must hold at least one image")
    rows = min(rows, len(digits))
    chosen = [row * (len(digits) - 1) // max(1, rows - 1) for row in range(rows)]
    originals = digits.images[chosen].float().div(255)
    generator = torch.Generator(originals.device).manual_seed(seed)
    variants = augment(originals.repeat_interleave(columns - 1, 0), augmentation, generator)
    pairs = zip(originals, variants.split(columns - 1), strict=True)
    images = [image_array(image) for original, others in pairs for image in (original, *others)]
    figure = new_figure(columns * 0.85 + 0.2, rows * 0.85 + 0.7)
    axes = figure.add_subplot()
    middles, _ = draw_tiles(axes, images, columns, cmap=INK_ON_PAPER, vmin=0, vmax=1)
    axes.axvline(1 + TILE_GAP / 2, color=COLOURS[1], linewidth=1.5)
    axes.set_xticks(middles[:1], ["original"])
    axes.set_title(_in_words(augmentation))
    return figure


def _in_words(augmentation: Augmentation) -> str:
    strengths = {
        f"rotation ±{augmentation.rotation:g}°": augmentation.rotation,
        f"shift ±{augmentation.shift:g} px": augmentation.shift,
        f"scale ±{augmentation.scale:.0%}": augmentation.scale,
        f"shear ±{augmentation.shear:g}°": augmentation.shear,
        f"elastic {augmentation.elastic:g}": augmentation.elastic,
    }
    return ", ".join(text for text, strength in strengths.items() if strength) or "no augmentation"
