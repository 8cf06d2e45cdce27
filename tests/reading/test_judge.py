"""Tests of the best way through a row's pieces, against trying all ways."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mnist_zoo.reading.judge import (
    NEVER,
    UNTOLD,
    WEIGHTS,
    best_way,
    facts_about,
    fitted_judge,
    score_of,
    scores,
    skip_scores,
)
from mnist_zoo.reading.lattice import SEEN, Candidate, Lattice
from mnist_zoo.reading.layout import lay_out


@st.composite
def rows(draw):
    """Spans over a few pieces with scores, the scores of leaving pieces out, and a count."""
    pieces = draw(st.integers(1, 6))
    all_spans = [(a, b) for a in range(pieces) for b in range(a + 1, min(pieces, a + 3) + 1)]
    spans = draw(st.lists(st.sampled_from(all_spans), unique=True, max_size=10))
    numbers = st.integers(-50, 50).map(lambda number: number / 7)
    scores = [draw(numbers) for _ in spans]
    skips = [draw(numbers) for _ in range(pieces)]
    return spans, scores, skips, draw(st.none() | st.integers(1, 5))


def all_ways(spans, skips, start=0):
    """Every way to cover the pieces from `start`, with the pieces that it leaves out."""
    if start == len(skips):
        yield [], []
        return
    for way, left in all_ways(spans, skips, start + 1):
        yield way, [start, *left]
    for place, (first, end) in enumerate(spans):
        if first == start:
            for way, left in all_ways(spans, skips, end):
                yield [place, *way], left


@settings(deadline=None, max_examples=150)
@given(rows())
def test_best_way_is_the_best_of_all(row):
    spans, scores, skips, count = row
    ways = [
        (sum(scores[place] for place in way) + sum(skips[piece] for piece in left), way)
        for way, left in all_ways(spans, skips)
        if count is None or len(way) == count
    ]
    found = best_way(spans, scores, skips, count)
    if not ways:
        assert found is None
        return
    assert abs(score_of(found, spans, scores, skips) - max(ways)[0]) < 1e-9
    assert count is None or len(found) == count


def test_pieces_that_must_not_be_left_out_are_not():
    assert best_way([(0, 1)], [-30.0], [NEVER, NEVER], None) is None
    assert best_way([(0, 1), (1, 2)], [-30.0, -30.0], [NEVER, NEVER], None) == [0, 1]


def test_large_pieces_are_left_out_less_willingly():
    small, large = skip_scores([0.1, 1.0])
    assert large < small


def test_candidates_of_a_network_that_does_not_tell_familiarity_are_judged():
    candidate = Candidate(0, 1, (0, 0, 20, 28), (1,), (0.7, 1.0, 0.0, 0.0, 0.0, 0.0))
    view = torch.zeros(1, 2, SEEN, SEEN)
    told, untold, stranger = (
        scores(facts_about([candidate], torch.eye(10)[:1], torch.tensor([value])), view)
        for value in (UNTOLD, math.nan, -2.0)
    )
    assert told == untold
    assert stranger < told


def two_bars(scale):
    """A picture of two upright bars, one of them wider, which a stroke joins."""
    ink = np.zeros((40, 60), np.float32)
    ink[8:32, 14:18] = ink[8:32, 36:44] = ink[19:22, 18:36] = 255
    return ink.repeat(scale, 0).repeat(scale, 1)


def views_of(picture):
    lattice = Lattice(lay_out(picture))
    (row,) = lattice.candidates
    return lattice, row, [lattice.view_of(candidate) for candidate in row]


def test_the_judge_sees_a_candidate_and_the_other_ink_around_it():
    lattice, row, views = views_of(two_bars(1))
    whole = max(row, key=lambda candidate: len(candidate.numbers))
    assert any(len(candidate.numbers) < len(whole.numbers) for candidate in row)
    for candidate, (own, other) in zip(row, views, strict=True):
        pixel = (1.4 * lattice.height / SEEN) ** 2  # a pixel of the view, in those of the picture
        inside = np.isin(lattice.owners, candidate.numbers)
        assert own.sum() * pixel == pytest.approx(lattice.ink[inside].sum(), rel=0.1)
        assert (other.sum() == 0) == (candidate == whole)
        others = [at for at in whole.numbers if at not in candidate.numbers]
        if others:  # what lies to the right is seen there
            middle = np.argwhere(np.isin(lattice.owners, others))[:, 1].mean()
            is_right = middle > sum(candidate.box[::2]) / 2
            left, right = other.tensor_split(2, 1)
            assert (right.sum() > left.sum()) == is_right


def test_the_judge_sees_digits_of_any_size_alike():
    _, row, small = views_of(two_bars(2))
    _, large_row, large = views_of(two_bars(4))
    assert len(row) == len(large_row)
    for one, other in zip(small, large, strict=True):
        assert (one - other).abs().mean() < 0.02


def test_the_judge_is_read_without_drawing_random_numbers():
    fitted_judge.cache_clear()
    before = torch.get_rng_state()
    judge = fitted_judge()
    assert torch.equal(torch.get_rng_state(), before)
    assert not judge.training
    assert all(torch.isfinite(values).all() for values in judge.state_dict().values())
    assert {values.dtype for values in judge.state_dict().values()} == {torch.float32}
    assert WEIGHTS.stat().st_size < 40_000
