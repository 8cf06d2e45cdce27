"""Plots of training data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from .._checks import check_positive, check_range
from ..data.augmentation import Augmentation, augment
from ..data.digits import Digits
from ._style import COLOURS, INK, TILE_GAP, new_figure, show_picture, tiles

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["augmented"]


def augmented(
    digits: Digits, augmentation: Augmentation, *, rows: int = 6, columns: int = 10, seed: int = 0
) -> Figure:
    """Pictures and what an augmentation makes of them, the original in the first column.

    Args:
        digits: The pictures; the rows show some at equal distances, from the first to the last.
        augmentation: How they are moved and bent.
        rows: Pictures, at most.
        columns: The original and its random variants together, at least 2.
        seed: Of the variants; torch's own random state is left as it is.

    Returns:
        The figure.

    Raises:
        ValueError: If there are no pictures, or a number is too small.
        ModuleNotFoundError: If matplotlib is not installed.
    """
    check_positive(rows=rows, columns=columns)
    check_range(at_least=2, columns=columns)
    if not len(digits):
        raise ValueError(f"`digits` (={digits!r}) must hold at least one picture")
    rows = min(rows, len(digits))
    chosen = [row * (len(digits) - 1) // max(1, rows - 1) for row in range(rows)]
    originals = digits.images[chosen].float().div(255)
    generator = torch.Generator(originals.device).manual_seed(seed)
    variants = augment(originals.repeat_interleave(columns - 1, 0), augmentation, generator)
    blocks = zip(originals, variants.split(columns - 1), strict=True)
    pictures = [show_picture(image) for first, others in blocks for image in (first, *others)]
    figure = new_figure(columns * 0.85 + 0.2, rows * 0.85 + 0.7)
    axes = figure.add_subplot()
    middles, _ = tiles(axes, pictures, columns, cmap=INK, vmin=0, vmax=1)
    axes.axvline(1 + TILE_GAP / 2, color=COLOURS[1], linewidth=1.5)
    axes.set_xticks(middles[:1], ["original"])
    axes.set_title(_in_words(augmentation))
    return figure


def _in_words(augmentation: Augmentation) -> str:
    told = {
        f"rotation ±{augmentation.rotation:g}°": augmentation.rotation,
        f"shift ±{augmentation.shift:g} px": augmentation.shift,
        f"scale ±{augmentation.scale:.0%}": augmentation.scale,
        f"shear ±{augmentation.shear:g}°": augmentation.shear,
        f"elastic {augmentation.elastic:g}": augmentation.elastic,
    }
    return ", ".join(text for text, bound in told.items() if bound) or "no augmentation"
