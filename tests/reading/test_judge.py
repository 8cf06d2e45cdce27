"""Tests of the best way through a row's pieces, against trying all ways."""

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mnist_zoo.reading.judge import (
    NEVER,
    UNTOLD,
    best_way,
    judge_weights,
    score_of,
    scores,
    skip_scores,
)
from mnist_zoo.reading.lattice import Candidate


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
    told, untold = (
        scores([candidate], torch.eye(10)[:1], torch.tensor([value]))
        for value in (UNTOLD, math.nan)
    )
    assert told == untold
    stranger = scores([candidate], torch.eye(10)[:1], torch.tensor([-2.0]))
    assert stranger < told


def test_the_judge_holds_a_few_hundred_numbers():
    weights = judge_weights()
    assert sum(values.numel() for values in weights.values()) < 800
    assert all(torch.isfinite(values).all() for values in weights.values())
