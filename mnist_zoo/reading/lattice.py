"""Which pieces of ink form a digit: a lattice of candidates, judged by a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from .cuts import seams
from .page import LINKED, Array
from .parts import Box, Part

MOST = 6  # pieces of one digit
WIDEST = 1.7  # of the digits' height; several pieces of a digit are at most this wide together
APART = 0.35  # of the digits' height; the widest gap within a digit


@dataclass(frozen=True)
class Piece:
    """Ink that is not parted any more: its number among the owners, its box, and its cuts."""

    number: int
    box: Box
    part: int
    area: int
    cut_left: float = 0.0  # pixels of ink that its left seam crosses
    cut_right: float = 0.0


@dataclass
class Candidate:
    """Consecutive pieces of a row, from `first` to before `end`, as one digit."""

    first: int
    end: int
    box: Box
    shape: tuple[float, ...]  # what `quality` knows besides the network's probabilities
    pieces: tuple[int, ...] = field(default=())


def pieces_of(ink: Array, labels: Array, rows: list[list[Part]], height: float) -> tuple[Array, list[list[Piece]]]:
    """Cuts the parts of each row into pieces; `owners` (H, W) has the number of each pixel's."""
    owners = np.zeros_like(labels)
    number = 0
    all_pieces = []
    for row in rows:
        pieces: list[Piece] = []
        for part in row:
            left, top, right, bottom = part.box
            window = ink[top:bottom, left:right]
            own = labels[top:bottom, left:right] == part.label
            alone = np.where(own, window, 0)
            paths = seams(alone, height) if part.width > 0.3 * height else np.empty((0, len(own)), int)
            columns = np.arange(own.shape[1])
            which = (columns >= paths[:, :, None]).sum(0) if len(paths) else np.zeros(own.shape, int)
            through = [float(alone[np.arange(len(path)), path].sum()) for path in paths]
            bounds = [0.0, *through, 0.0]
            for place in range(len(paths) + 1):
                mask = own & (which == place)
                if not mask.any():
                    continue
                number += 1
                owners[top:bottom, left:right][mask] = number
                ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
                box = (left + int(xs[0]), top + int(ys[0]), left + int(xs[-1]) + 1, top + int(ys[-1]) + 1)
                pieces.append(Piece(number, box, part.label, int(mask.sum()), bounds[place], bounds[place + 1]))
        pieces.sort(key=lambda piece: piece.box[0] + piece.box[2])
        all_pieces.append(pieces)
    # the faint edges of strokes belong to the nearest piece
    grown = ndimage.grey_dilation(owners, size=(3, 3))
    return np.where(owners > 0, owners, grown), all_pieces


def candidates_of(pieces: list[Piece], height: float) -> list[Candidate]:
    found = []
    for first in range(len(pieces)):
        left, top, right, bottom = pieces[first].box
        gap = 0.0
        for end in range(first + 1, min(len(pieces), first + MOST) + 1):
            piece = pieces[end - 1]
            if end > first + 1:
                apart = piece.box[0] - right
                gap = max(gap, apart / height)
                left, top = min(left, piece.box[0]), min(top, piece.box[1])
                right, bottom = max(right, piece.box[2]), max(bottom, piece.box[3])
                if apart > APART * height or right - left > WIDEST * height:
                    break
            group = pieces[first:end]
            parts = {piece.part for piece in group}
            numbers = {piece.number for piece in group}
            outside = [p for p in pieces if p.part in parts and p.number not in numbers]
            open_cut = sum(
                p.cut_right for p in group if any(o.part == p.part and o.number == p.number + 1 for o in outside)
            ) + sum(p.cut_left for p in group if any(o.part == p.part and o.number == p.number - 1 for o in outside))
            shape = (
                (right - left) / height,
                (bottom - top) / height,
                gap,
                open_cut / height,
                float(bool(outside)),
                float(len(parts) > 1),
            )
            found.append(Candidate(first, end, (left, top, right, bottom), shape, tuple(sorted(numbers))))
    return found


def crops(ink: Array, owners: Array, candidates: list[Candidate]) -> list[Array]:
    """The ink of each candidate, with a margin of one pixel."""
    made = []
    for candidate in candidates:
        left, top, right, bottom = candidate.box
        place = slice(max(0, top - 1), bottom + 1), slice(max(0, left - 1), right + 1)
        mine = np.isin(owners[place], candidate.pieces)
        made.append(np.where(mine, ink[place], 0))
    return made
