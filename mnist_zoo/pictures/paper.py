"""How much darker or lighter than the paper around it each pixel of a photo is.

Every function works on one image: a NumPy array (H, W) of float32.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np

    Map: TypeAlias = np.ndarray[Any, np.dtype[np.float32]]
    Mask: TypeAlias = np.ndarray[Any, np.dtype[np.bool_]]
    Numbers: TypeAlias = np.ndarray[Any, Any]

DIM = 16.0  # of 255; differences of light below it are noise
SMALL = 96  # pixels; smaller images lose strokes if they are smoothed
WIDEST = 0.27  # of the longer side; what is wider is paper, ground or shadow
SAMPLE = 1 << 14  # pixels of paper tell its noise to one part in a hundred
NARROW = 0.11  # the same, where the paper itself is narrow: a sheet near the edge, a tile


def even(image: Map, is_light: bool) -> Map:
    """How much each pixel differs from paper that is everywhere as it is at the edges, 0 to 1."""
    import numpy as np

    border = np.concatenate((image[0], image[-1], image[:, 0], image[:, -1]))
    change = (np.median(border) - image) / 255
    return np.maximum(-change if is_light else change, 0)


def light_of(image: Map) -> Map:
    """The logarithm of the light: ink takes about as much of it everywhere."""
    import numpy as np

    return np.log(smoothed(image, 3 if min(image.shape) >= SMALL else 1) + DIM)


def contrast(light: Map, is_light: bool, width: float) -> Map:
    """The share of the light that ink takes away at each pixel, from 0 to 1.

    Ink is what is narrower than `width` (a share of the longer side) and darker than the paper
    around it, or lighter where `is_light`.
    """
    import numpy as np

    page = -light if is_light else light
    return np.maximum(1 - np.exp(page - _closed(page, width)), 0)


def steps(light: Map, reach: int) -> Map:
    """How much the logarithm of the light changes within `reach` pixels of each pixel."""
    return highest(light, reach) + highest(-light, reach)


def highest(values: Map, reach: int) -> Map:
    """The highest value in the square that reaches so far around each pixel.

    Much faster than SciPy's filter: each step takes the higher one of two neighbouring stretches,
    so that a wide square takes few steps.
    """
    import numpy as np

    size = 2 * reach + 1
    for _ in range(2):  # across, then down
        height, width = values.shape
        wide = np.full((width + 2 * reach, height), -np.inf, values.dtype)
        wide[reach:-reach] = values.T
        done = 1
        while done < size:
            step = min(done, size - done)
            wide = np.maximum(wide[:-step], wide[step:])
            done += step
        values = wide
    return values


def _closed(page: Map, width: float) -> Map:
    """The page without what is darker and narrower than `width`: a closing by a square.

    A square in full resolution leaves no rim along the straight edge of a sheet.
    """
    import numpy as np

    reach = max(1, min(round(max(page.shape) * width / 2), (min(page.shape) - 1) // 2))
    # the light goes on beyond the edge as it changed before it
    wide = np.pad(page, reach, mode="reflect", reflect_type="odd")
    wide = -highest(-highest(wide, reach), reach)
    return wide[reach:-reach, reach:-reach]


def smoothed(image: Map, width: int) -> Map:
    """The mean over squares of `width` pixels, without what is beyond the edge."""
    from scipy import ndimage

    return ndimage.uniform_filter(image, width, mode="nearest")


def otsu(values: Map) -> float:
    """The threshold in 0…1 that best separates values in 0…1 into two groups (Otsu 1979)."""
    import numpy as np

    bins = 64
    counts = np.bincount(np.rint(values.ravel() * (bins - 1)).astype(int), minlength=bins)
    below = counts.cumsum()
    sums = (counts * np.arange(bins)).cumsum()
    above = below[-1] - below
    distance = sums / np.maximum(below, 1) - (sums[-1] - sums) / np.maximum(above, 1)
    return float((below * above * distance**2).argmax() + 0.5) / (bins - 1)


def noise(values: Map) -> tuple[float, float]:
    """Median and standard deviation of the paper's own values, by the median deviation."""
    import numpy as np

    values = values[:: 1 + values.size // SAMPLE | 1]  # odd: paper is often dotted evenly
    level = float(np.median(values)) if values.size else 0.0
    spread = float(np.median(np.abs(values - level))) if values.size else 0.0
    return level, 1.4826 * spread if math.isfinite(spread) else 0.0
