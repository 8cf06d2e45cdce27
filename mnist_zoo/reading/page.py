"""The ink of a whole page of digits, without the rules and boxes printed on it."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from .lines import Array, without_rules

FAINT = 5.0  # of 255; a page with less contrast is empty
PAPER_SIDE = 128  # pixels; the light on uneven paper is estimated on a page of this size
DIM = 16.0  # of 255; differences of light below it are noise
SMOOTH = 100  # pixels; pages with a shorter side of at least this are smoothed
NOISE = 5.0  # on uneven paper, strokes stand out by this many standard deviations of its noise
PALE = 0.02  # and absorb at least this share of the light
LINKED = 0.2  # connected pixels with more ink than this form a part


def page_ink(grey: Array) -> Array:
    """The amount of ink at each pixel of a page (H, W) in 0…255: 0 on paper, 1 in strokes."""
    if np.ptp(grey) < FAINT:
        return np.zeros_like(grey)
    border = np.concatenate((grey[0], grey[-1], grey[:, 0], grey[:, -1]))
    paper = np.median(border)
    is_even = (np.abs(border - paper) <= 2).mean() >= 0.5
    if is_even:
        change = grey - paper
        # strokes change little of the page, but much: cubed, they outweigh the rest
        change = change * np.sign((change[::2, ::2] ** 3).mean())
    else:
        change = _change_on_uneven_paper(grey)
    return _stretched(without_rules(change.clip(0)), is_even)


def _change_on_uneven_paper(grey: Array) -> Array:
    """Ink before stretching, where light and shadow change the paper from place to place.

    Light multiplies, so shares of the paper's light are compared.
    """
    page = torch.from_numpy(grey)[None, None]
    if min(grey.shape) >= SMOOTH:  # on small pictures, strokes are as narrow as the noise
        page = F.avg_pool2d(page, 3, 1, 1, count_include_pad=False)
    page = page + DIM
    small = _reduced(page, PAPER_SIDE // 4).log()
    reach = max(1, max(small.shape[2:]) // 4)
    around = F.unfold(F.pad(small, [reach] * 4, mode="replicate"), 2 * reach + 1).median(1).values
    sign = -1.0 if (small.flatten(1) - around).pow(3).mean() > 0 else 1.0
    paper = _without_narrow(sign * _reduced(page, PAPER_SIDE).log())
    paper = F.interpolate(paper, page.shape[2:], mode="bilinear").mul_(sign).exp_()
    change: Array = (sign * (1 - page / paper))[0, 0].numpy()
    return change


def _reduced(page: torch.Tensor, side: int) -> torch.Tensor:
    shape = page.shape[2:]
    size = [min(pixels, max(1, round(pixels * side / max(shape)))) for pixels in shape]
    return F.interpolate(page, size, mode="area")


def _without_narrow(page: torch.Tensor) -> torch.Tensor:
    """Images (1, 1, H, W) without what is narrow and darker than its surroundings: a closing."""
    height, width = page.shape[2:]
    reach = max(2, min(max(height, width) // 10, min(height, width) // 5))
    beyond = [2 * reach] * 4  # the light goes on beyond the edge as it changed before it
    page = 2 * F.pad(page, beyond, mode="replicate") - F.pad(page, beyond, mode="reflect")
    higher = F.max_pool2d(page, 2 * reach + 1, 1)
    return -F.max_pool2d(-higher, 2 * reach + 1, 1)


def _stretched(change: Array, is_even: bool) -> Array:
    """Ink, rescaled so that the paper's noise becomes 0 and the strokes become 1."""
    most = float(change.max())
    if most <= 0:
        return np.zeros_like(change)
    is_ink = change > most * _otsu(change / most)
    paper, high = change[~is_ink], float(np.median(change[is_ink]))
    level = float(np.median(paper))
    # a normal distribution's standard deviation is 1.4826 times its median absolute deviation
    noise = 1.4826 * float(np.median(np.abs(paper - level)))
    if high - level <= (FAINT if is_even else max(NOISE * noise, PALE)):
        return np.zeros_like(change)
    low = level + 3 * noise
    ink: Array = ((change - low) / max(high - low, 1e-3 * most)).clip(0, 1)
    return ink


def _otsu(values: Array) -> float:
    """The threshold in 0…1 that best separates values into two groups (Otsu 1979)."""
    bins = 64
    counts = np.bincount((values * (bins - 1)).round().astype(np.intp).ravel(), minlength=bins)
    below = counts.cumsum()
    sums = (counts * np.arange(bins)).cumsum()
    above = below[-1] - below
    distance = sums / below.clip(1) - (sums[-1] - sums) / above.clip(1)
    return float(((below * above * distance**2).argmax() + 0.5) / (bins - 1))
