"""`read_digits`: the digits on an image of several, or none."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .._checks import check_positive
from .._networks import check_computes, check_network, class_names, stated_classes
from ..pictures.logits import check_logits
from ..pictures.mnist_form import on_paper, placed, stretched, to_grey
from ..pictures.outputs import logits_and_familiarity
from ..pictures.preprocessing import Preprocessing, check_preprocessing, preprocessing_of
from ..pictures.reading import PictureError, read_page
from .judge import NEVER, best_way, facts_about, score_of, scores, skip_scores
from .lattice import Candidate, Lattice
from .layout import lay_out
from .result import Box, FoundDigit, Mark, Number, Reading

if TYPE_CHECKING:
    from ..pictures.reading import Picture

__all__ = ["read_digits"]

BATCH = 256  # candidates per forward pass
SPACE = 1.0  # of the digits' height; a gap between two numbers is wider than this,
TIMES = 3.0  # and than so many usual gaps
FAR = 3.0  # of the digits' height; digits that are farther apart are never of one number
STRANGE = -0.6  # familiarity; ink in a row of digits that is less familiar is none
DOUBT = 4.0  # of the judge's score; a row of the stated `length` is at most so much less likely
SMALL = 0.5  # of the digits' height; smaller ink that is left out is a speck


def read_digits(
    model: nn.Module,
    picture: Picture,
    *,
    length: int | None = None,
    rows: int | None = None,
    top: int = 3,
    preprocessing: Preprocessing | None = None,
) -> Reading:
    """Reads all digits on an image: numbers, one row of them or several, forms and grids.

    Finds the ink, takes off ruled lines and boxes, and sorts the parts into rows, which may be
    slightly slanted. Touching digits are separated: each way to cut a row into digits is a sum of
    scores, which a small judge gives for the network's probabilities, and for how each piece lies
    in the ink (over-segmentation, as in LeCun et al. 1998, section VIII); the best way is taken.
    Where the network tells how familiar an image is, ink that is unlike any digit is rejected,
    unless `length` says that a row holds digits only.

    Args:
        model: A network that learnt digits in MNIST's form, such as the pretrained ones, or a
            `Session`.
        picture: One image, of any kind and size, as for `predict`.
        length: Number of digits in each row, which is then one number; None if not known.
        rows: Number of rows, also of those whose ink is all rejected; None if not known.
        top: Number of classes in `FoundDigit.top`; all classes if there are fewer.
        preprocessing: The preprocessing that the network was trained with; by default its own.

    Returns:
        A `Reading`: its `text`, its `numbers` and `digits` with their boxes, and what was
        `rejected`. An image without digits gives one without numbers. With `rows`, there is an
        entry for each row, which is empty if no digit is read there. Boxes are in pixels of the
        image, turned upright as its EXIF data says.

    Raises:
        PictureError: If the image cannot be read, shows more than 1,000 digits and marks, or does
            not show `rows` rows of `length` digits; the message names the image. A length that is
            wrong by one goes unnoticed about once in fifty times.
        FileNotFoundError: If a file does not exist.
        TypeError: If `model` is no network, `picture` is no image, or `preprocessing` is something
            else.
        ValueError: If another argument is out of range, the network was trained on images that are
            not in MNIST's form, or it gives no finite logits (N, classes), such as probabilities.

    Example:
        >>> from PIL import Image, ImageDraw, ImageFont
        >>> from mnist_zoo import mini_resnet, read_digits
        >>> page = Image.new("L", (240, 100), "white")
        >>> ImageDraw.Draw(page).text((20, 20), "2048", font=ImageFont.load_default(60))
        >>> reading = read_digits(mini_resnet(weights="mnist"), page)
        >>> print(reading)
        2048
        >>> reading.digits[1].digit
        0
    """
    check_network(model=model)
    check_computes(model=model)
    check_preprocessing(preprocessing)
    check_positive(top=top)
    for name, count in (("length", length), ("rows", rows)):
        if count is not None:
            check_positive(**{name: count})
    preprocessing = preprocessing or preprocessing_of(model)
    if not preprocessing.redraw:
        raise ValueError(
            "`model` must have learnt digits in MNIST's form; its preprocessing takes images as "
            "they are (redraw=False)"
        )
    page, scale, name = _page(picture)
    with _naming(name):
        layout = lay_out(to_grey(page)[0].numpy(), rows)
        if rows is not None and len(layout.rows) != rows:
            raise PictureError(f"`rows` (={rows}); it shows {len(layout.rows)}")
        if length is not None and not layout.rows:
            raise PictureError(f"`length` (={length}); it shows no digits")
        lattice = Lattice(layout)
        found, rejected = _found(model, lattice, preprocessing, length, top)
    limit = _widest_gap(found, layout.height) if length is None else float("inf")
    return Reading(
        tuple(_numbers(row, limit, scale) for row in found if row or rows is not None),
        tuple(
            Mark(_scaled(mark.box, scale), mark.why)
            for mark in sorted(layout.marks + rejected, key=lambda mark: (mark.box[1], mark.box[0]))
        ),
        page[0].round().to(torch.uint8).movedim(0, 2).squeeze(2),
        scale,
    )


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Begins the message of a PictureError with the name of the image."""
    try:
        yield
    except PictureError as error:
        raise PictureError(f"{name}: {error}") from None


def _page(picture: Picture) -> tuple[Tensor, float, str]:
    """The image (1, 1 or 3, H, W) in 0…255, how many of its pixels one is wide, and its name."""
    page, longer, name = read_page(picture)
    if page.dtype == torch.uint8 and page.amax() > 1:
        page = page.float()
    else:
        page = page if page.dtype == torch.float64 else page.float()
        if not page.isfinite().all():
            raise PictureError(f"{name}: holds NaN or infinity")
        page = stretched(page).float()
    return on_paper(page), round(longer / max(page.shape[2:])), name


def _found(
    model: nn.Module,
    lattice: Lattice,
    preprocessing: Preprocessing,
    length: int | None,
    top: int,
) -> tuple[list[list[FoundDigit]], list[Mark]]:
    """The digits of each row, in the page's pixels; and the ink that belongs to none."""
    flat = [candidate for row in lattice.candidates for candidate in row]
    if not flat:
        return [], []
    probabilities, familiarity = candidate_outputs(model, lattice, flat, preprocessing)
    names = class_names(stated_classes(model), probabilities.shape[1])
    rows, rejected, start = [], [], 0
    for number, candidates in enumerate(lattice.candidates, 1):
        own = probabilities[start : start + len(candidates)]
        known = familiarity[start : start + len(candidates)]
        start += len(candidates)
        boxes = [piece.box for piece in lattice.rows[number - 1]]
        spans = [(candidate.first, candidate.end) for candidate in candidates]
        sizes = [max(box[2] - box[0], box[3] - box[1]) / lattice.height for box in boxes]
        skips = skip_scores(sizes)
        if length is not None:  # then whatever is large must be of a digit
            skips = [
                NEVER if size >= SMALL else skip for size, skip in zip(sizes, skips, strict=True)
            ]
        views = torch.stack([lattice.view_of(candidate) for candidate in candidates])
        likely = scores(facts_about(candidates, own, known), views)
        way = _way(spans, likely, skips, length, number)
        told = known[way].tolist()
        digits = [
            _digit(candidates[place].box, own[place], names, top, value)
            for place, value in zip(way, told, strict=True)
        ]
        unlike = _unlike_digits(digits) if length is None else []
        rows.append([digit for digit in digits if digit not in unlike])
        rejected += [Mark(digit.box, "unlike any digit") for digit in unlike]
        taken = {place for at in way for place in range(*spans[at])}
        for place, (box, size) in enumerate(zip(boxes, sizes, strict=True)):
            if place not in taken:
                rejected.append(Mark(box, "not a digit" if size >= SMALL else "speck"))
    return rows, rejected


def _way(
    spans: list[tuple[int, int]],
    likely: list[float],
    skips: list[float],
    length: int | None,
    number: int,
) -> list[int]:
    """The most likely way to divide row `number` into digits, into `length` of them if it is known.

    Raises:
        PictureError: If there is no such way, or the row is far more likely to show another number
            of digits.
    """
    way = best_way(spans, likely, skips, length)
    if way is None:
        raise PictureError(f"`length` (={length}); row {number} cannot be cut into so many digits")
    if length is not None:
        free = best_way(spans, likely, skips, None)
        free = way if free is None else free
        first, second = (score_of(one, spans, likely, skips) for one in (free, way))
        if first - second > DOUBT:
            raise PictureError(f"`length` (={length}); row {number} shows {len(free)}")
    return way


def _unlike_digits(row: list[FoundDigit]) -> list[FoundDigit]:
    """What is not familiar to the network; in a row of digits, only what is not at all."""
    known = sorted(digit.familiarity for digit in row if digit.familiarity is not None)
    if not known:
        return []
    limit = 0.0 if known[len(known) // 2] < 0 else STRANGE
    return [digit for digit in row if (digit.familiarity or 0.0) < limit]


def candidate_outputs(
    model: nn.Module, lattice: Lattice, candidates: list[Candidate], preprocessing: Preprocessing
) -> tuple[Tensor, Tensor]:
    """The network's probabilities (n, classes) of candidates, drawn as MNIST's digits are.

    Also gives their familiarity (n,), which is NaN where the network does not tell it.
    """
    found, told = [], []
    for start in range(0, len(candidates), BATCH):
        inks = [lattice.ink_of(candidate) for candidate in candidates[start : start + BATCH]]
        side = max(max(ink.shape) for ink in inks)
        cells = torch.zeros(len(inks), side, side, dtype=torch.float32, device="cpu")
        for cell, ink in zip(cells, inks, strict=True):
            cell[: ink.shape[0], : ink.shape[1]] = torch.from_numpy(ink)
        digits = placed(cells)[:, None]
        digits = 255 - digits if preprocessing.dark_on_light else digits
        values, familiarity = logits_and_familiarity(model, digits, preprocessing)
        check_logits(values, model)
        found.append(values.softmax(1).cpu())
        none = torch.full((len(digits),), math.nan, device="cpu")
        told.append(none if familiarity is None else familiarity.float().cpu())
    return torch.cat(found), torch.cat(told)


def _digit(
    box: Box, probabilities: Tensor, names: tuple[str, ...], top: int, familiarity: float
) -> FoundDigit:
    values, digits = probabilities.topk(min(top, len(probabilities)))
    ranked = tuple(zip(digits.tolist(), values.tolist(), strict=True))
    known = None if math.isnan(familiarity) else familiarity
    return FoundDigit(*ranked[0], tuple(probabilities.tolist()), ranked, names, known, box)


def _widest_gap(rows: list[list[FoundDigit]], height: float) -> float:
    """The widest gap between two digits of a number."""
    gaps = sorted(
        max(0, right.box[0] - left.box[2])
        for row in rows
        for left, right in itertools.pairwise(row)
    )
    usual = gaps[len(gaps) // 4] if gaps else 0
    return min(FAR * height, max(SPACE * height, TIMES * usual))


def _numbers(row: list[FoundDigit], limit: float, scale: float) -> tuple[Number, ...]:
    """The numbers of a row, in the image's pixels: digits with gaps of at most `limit`."""
    groups: list[list[FoundDigit]] = []
    for digit in row:
        if not groups or digit.box[0] - groups[-1][-1].box[2] > limit:
            groups.append([])
        groups[-1].append(digit)
    return tuple(
        Number(tuple(replace(digit, box=_scaled(digit.box, scale)) for digit in group))
        for group in groups
    )


def _scaled(box: Box, scale: float) -> Box:
    left, top, right, bottom = (round(end * scale) for end in box)
    return left, top, right, bottom
