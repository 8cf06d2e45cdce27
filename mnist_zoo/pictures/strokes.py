"""Telling strokes from paper and from ruled lines, on a map of contrast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .ink import LINKED
from .lines import without_lines
from .paper import highest, noise, otsu

if TYPE_CHECKING:
    from .paper import Map, Mask

NOISE = 5.0  # strokes stand out by this many standard deviations of the paper's noise
PALE = 0.015  # and absorb at least this share of the light
PALEST = 0.5  # of the threshold between strokes and paper; paler lines hardly join digits


@dataclass(frozen=True, eq=False)
class Strokes:
    """What stands out from the paper.

    Attributes:
        values: The contrast (H, W), without the ruled lines.
        ruled: Where lines were taken out, (H, W).
        lines: Their number.
        low: Contrast above which there is more than paper.
        threshold: Contrast above which there are strokes.
        linked: Where there is ink, which makes the connected parts (H, W).
    """

    values: Map
    ruled: Mask
    lines: int
    low: float
    threshold: float
    linked: Mask


def strokes_of(contrast: Map, palest: float = PALEST) -> Strokes | None:
    """Tells strokes from paper; None where nothing stands out.

    Ruled lines have at least `palest` of the threshold's contrast.
    """
    import numpy as np

    most = float(contrast.max(initial=0))
    if most <= 0:
        return None
    threshold = most * otsu(contrast / most)
    level, spread = noise(contrast[contrast <= threshold])
    low = level + 3 * spread
    values, lines = without_lines(contrast, max(low, palest * threshold))
    strong = values > threshold
    high = float(np.median(values[strong])) if strong.any() else 0.0
    if high - level <= max(NOISE * spread, PALE) or high <= low:
        return None
    linked = values > low + LINKED * (high - low)
    return Strokes(values, contrast > values, lines, low, threshold, linked)


def rendered(strokes: Strokes, own: Mask, adds_light: bool) -> Map:
    """Ink from 0 on paper to 1 in strokes; beyond the `own` pixels there is none.

    `adds_light` says that the ink is lighter than uneven paper.
    """
    import numpy as np

    values, low, threshold = strokes.values, strokes.low, strokes.threshold
    if adds_light:  # ink's colours mix in the light that it adds, not in the share that it takes
        values = values / (1 - np.minimum(values, 0.999))
        low, threshold = low / (1 - min(low, 0.999)), threshold / (1 - min(threshold, 0.999))
    strong = values[own & (values > threshold)]
    high = float(np.median(strong)) if strong.size else float(values[own].max())
    grown = highest(own.astype(np.float32), 1)  # holds the faint edges of strokes
    ink = ((values - low) / max(high - low, 1e-6)).clip(0, 1) * grown
    return ink.astype(np.float32)
