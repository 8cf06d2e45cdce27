"""Which ink of a row may be one digit: its pieces, and all candidates made of neighbouring ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..pictures.parts import Part
from .cuts import seams
from .layout import Layout
from .page import Array, box_of
from .result import Box

MOST = 6  # pieces of one digit
WIDEST = 1.7  # of the digits' height; several pieces of a digit are at most this wide together
APART = 0.35  # of the digits' height; the widest gap within a digit
NARROW = 0.3  # of the digits' height; a part that is narrower is not cut
WINDOW = 1.4  # of the digits' height; the judge sees so much around the middle of a candidate,
SEEN = 28  # in so many pixels


@dataclass(frozen=True)
class Piece:
    """Ink that is not parted any more: its number, its box, and the part that it is of."""

    number: int
    box: Box
    part: int
    cuts: tuple[float, float]  # pixels of ink that its left and right seam cross


@dataclass(frozen=True)
class Candidate:
    """The pieces of a row from `first` to before `end`, as one digit."""

    first: int
    end: int
    box: Box
    numbers: tuple[int, ...]
    shape: tuple[float, ...]  # width, height, widest gap, ink cut through; is it cut, has it parts


class Lattice:
    """The pieces of each row of a page, and the candidates made of them."""

    def __init__(self, layout: Layout) -> None:
        from scipy import ndimage

        self.ink, self.height = layout.ink, layout.height
        self.owners = np.zeros_like(layout.labels)
        self.count = 0
        self.rows: list[list[Piece]] = []
        for row in layout.rows:
            pieces = [piece for part in row for piece in self._pieces(part, layout.labels)]
            self.rows.append(sorted(pieces, key=lambda piece: piece.box[0] + piece.box[2]))
        # the faint edges of strokes belong to a piece beside them
        beside = ndimage.grey_dilation(self.owners, size=(3, 3))
        self.owners = np.where(self.owners > 0, self.owners, beside)
        self.candidates = [list(self._candidates(pieces)) for pieces in self.rows]

    def _pieces(self, part: Part, labels: Array) -> Iterator[Piece]:
        """Cuts a part along all its seams; marks the pixels of each piece in `owners`."""
        left, top, right, bottom = box_of(part)
        own = labels[top:bottom, left:right] == part.label
        alone = np.where(own, self.ink[top:bottom, left:right], 0)
        side = np.zeros(own.shape, np.intp)
        crossed = [0.0]
        if part.width > NARROW * self.height:
            paths = seams(alone, self.height)
            side = (np.arange(own.shape[1]) >= paths[:, :, None]).sum(0)
            crossed += [float(alone[np.arange(len(path)), path].sum()) for path in paths]
        crossed.append(0.0)
        for place in range(len(crossed) - 1):
            mask = own & (side == place)
            if mask.any():
                self.count += 1
                self.owners[top:bottom, left:right][mask] = self.count
                yield Piece(
                    self.count,
                    _box(mask, left, top),
                    part.label,
                    (crossed[place], crossed[place + 1]),
                )

    def _candidates(self, pieces: list[Piece]) -> Iterator[Candidate]:
        for first in range(len(pieces)):
            box, gap = pieces[first].box, 0
            for end in range(first + 1, min(len(pieces), first + MOST) + 1):
                piece = pieces[end - 1].box
                gap = max(gap, piece[0] - box[2])
                box = (*map(min, box[:2], piece[:2]), *map(max, box[2:], piece[2:]))  # type: ignore[assignment]
                too_wide = box[2] - box[0] > WIDEST * self.height and end > first + 1
                if too_wide or gap > APART * self.height:
                    break
                yield self._candidate(pieces, first, end, box, gap)

    def _candidate(
        self, pieces: list[Piece], first: int, end: int, box: Box, gap: int
    ) -> Candidate:
        group = pieces[first:end]
        parts, numbers = {piece.part for piece in group}, {piece.number for piece in group}
        rest = {p.number for p in pieces if p.part in parts} - numbers
        cut = sum(
            piece.cuts[side]
            for piece in group
            for side, beside in enumerate((piece.number - 1, piece.number + 1))
            if beside in rest
        )
        sizes = (box[2] - box[0], box[3] - box[1], max(gap, 0), cut)
        shape = (*(size / self.height for size in sizes), float(bool(rest)), float(len(parts) > 1))
        return Candidate(first, end, box, tuple(sorted(numbers)), shape)

    def ink_of(self, candidate: Candidate) -> Array:
        """The ink (H, W) of a candidate, with a margin of one pixel."""
        left, top, right, bottom = candidate.box
        place = slice(max(0, top - 1), bottom + 1), slice(max(0, left - 1), right + 1)
        return self._own(candidate, place)

    def view_of(self, candidate: Candidate) -> Tensor:
        """A candidate's ink, and other ink around it: (2, SEEN, SEEN), the digits at one size."""
        left, top, right, bottom = candidate.box
        side = max(2, round(WINDOW * self.height))
        x, y = (left + right - side) // 2, (top + bottom - side) // 2
        place = slice(max(0, y), y + side), slice(max(0, x), x + side)
        own = self._own(candidate, place)
        inks = torch.from_numpy(np.stack((own, self.ink[place] - own)))
        above, before = max(0, -y), max(0, -x)  # what lies beyond the page
        margins = (before, side - before - own.shape[1], above, side - above - own.shape[0])
        window = F.pad(inks, margins)[None].float()
        return F.interpolate(window, (SEEN, SEEN), mode="bilinear", antialias=True)[0]

    def _own(self, candidate: Candidate, place: tuple[slice, slice]) -> Array:
        """The ink of a candidate in a part of the page; 0 where other ink is."""
        return np.where(np.isin(self.owners[place], candidate.numbers), self.ink[place], 0)


def _box(mask: Array, left: int, top: int) -> Box:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return (
        left + int(columns[0]),
        top + int(rows[0]),
        left + int(columns[-1]) + 1,
        top + int(rows[-1]) + 1,
    )
