"""Taking the printed lines of ruled paper, grids and form boxes out of a page's ink."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = "np.ndarray[Any, Any]"

ACROSS = 0.7  # a line of ruled paper is at least this long, as a share of the page
THICK = 16  # a line is thinner than this share of the page, and than 12 pixels
LEAST = 0.05  # of the strongest ink; paler lines are none
OVER = 1.3  # ink so many times stronger than a line under it is a stroke's


def without_rules(ink: Array) -> Array:
    """Ink (H, W) without lines that run across most of the page and reach an edge of it."""
    return _without_lines(ink, *(round(ACROSS * side) for side in ink.shape), to_edge=True)


def without_lines(ink: Array, length: int) -> Array:
    """Ink (H, W) without straight lines of at least this length, in pixels."""
    return _without_lines(ink, length, length, to_edge=False)


def _without_lines(ink: Array, tall: int, wide: int, *, to_edge: bool) -> Array:
    level, upright = _lines(ink, wide, to_edge), _lines(ink.T, tall, to_edge)
    ink = _erased(ink, level) if level.any() else ink
    return _erased(ink.T, upright).T if upright.any() else ink


def _lines(ink: Array, length: int, to_edge: bool) -> Array:
    """How strong a level line of this length is at each pixel (H, W); 0 where there is none."""
    from scipy import ndimage

    # a line may slope by a pixel within its length
    tall = np.concatenate((np.maximum(ink[:-1], ink[1:]), ink[-1:]))
    length = max(8, min(length, 2 * ink.shape[1] - 1))
    lowest = ndimage.minimum_filter1d(tall, length, axis=1, mode="nearest")
    line = ndimage.maximum_filter1d(lowest, length, axis=1, mode="constant")
    line = np.maximum(line, np.concatenate((line[:1] * 0, line[:-1])))
    line = np.minimum(line, ink)
    line[line < LEAST * ink.max()] = 0
    line = _reaching(line) if to_edge and line.any() else line
    # what is thick is a shadow, not a line
    thick = min(max(len(ink) // THICK, 4), 12)
    line -= ndimage.grey_opening(line, size=(thick, 1), mode="constant")
    line[line < LEAST * ink.max()] = 0
    return line


def _reaching(lines: Array) -> Array:
    """Those of the lines that reach the left or the right edge."""
    from scipy import ndimage

    labels, _ = ndimage.label(lines > 0, structure=np.ones((3, 3)))
    reaching = np.unique(np.concatenate((labels[:, 0], labels[:, -1])))
    reaching = reaching[reaching > 0]
    return lines * np.isin(labels, reaching) if len(reaching) else lines * 0


def _erased(ink: Array, lines: Array) -> Array:
    """Ink without lines; strokes that cross them stay, or are made whole again."""
    from scipy import ndimage

    marked = lines > 0
    stroke = ((ink / lines.clip(1e-6) - 1) / (OVER - 1)).clip(0, 1)
    left = np.where(marked, ink * stroke, ink)
    # a strong line leaves nothing where a stroke crosses it: bridge from above to below
    bridged = ndimage.grey_closing(left, size=(_thickness(marked) + 4, 1))
    return np.where(marked, np.maximum(bridged, left), left)


def _thickness(marked: Array) -> int:
    """The usual number of marked pixels above each other, from 1 to 9."""
    tops = marked & ~np.concatenate((marked[:1] & False, marked[:-1]))
    return int(np.clip(round(marked.sum() / max(tops.sum(), 1)), 1, 9))
