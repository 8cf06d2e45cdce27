"""Judging a row's candidates: which of them are the digits, by a network's probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from .lattice import SEEN, Candidate

WEIGHTS = Path(__file__).with_name("judge.safetensors")
DIGITS = 10  # classes whose probabilities the judge knows
FACTS = 15  # of what it knows besides
FAMILIAR = (-3.0, 1.0)  # familiarity beyond these says no more
UNTOLD = 0.5  # familiarity of all candidates where a network does not tell it
NEVER = -1e9  # the score of a way that does not exist


class Judge(nn.Module):
    """Scores candidates by facts about them, and by how their ink lies among other ink.

    tests/reading_fit.py fits it on MNIST's training digits.
    """

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.look = nn.Sequential(
            nn.Conv2d(2, 8, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, 2, 1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(32 * (-(-SEEN // 8)) ** 2, 16),
            nn.ReLU(),
        )
        self.hidden = nn.Linear(FACTS + DIGITS + 16, 24)
        self.out = nn.Linear(24, 1)
        self.skip = nn.Parameter(torch.tensor([0.0, -6.0]))  # for a piece left out, and its size
        self.register_buffer("mean", torch.zeros(FACTS + DIGITS))
        self.register_buffer("std", torch.ones(FACTS + DIGITS))

    def forward(self, facts: Tensor, views: Tensor) -> Tensor:
        """Maps facts (n, FACTS + DIGITS) and views (n, 2, SEEN, SEEN) to scores (n,)."""
        known = torch.cat(((facts - self.mean) / self.std, self.look(views)), 1)
        return self.out(torch.tanh(self.hidden(known)))[:, 0]


@cache
def fitted_judge() -> Judge:
    """The judge with its weights, which its file holds in half precision."""
    from safetensors.torch import load

    weights = {name: values.float() for name, values in load(WEIGHTS.read_bytes()).items()}
    with torch.device("meta"):  # draws no random numbers
        judge = Judge()
    judge.load_state_dict(weights, assign=True)
    return judge.eval().requires_grad_(False)


def facts_about(
    candidates: Sequence[Candidate], probabilities: Tensor, familiarity: Tensor
) -> Tensor:
    """What the judge knows of candidates: (n, FACTS + DIGITS).

    Args:
        candidates: The candidates.
        probabilities: The probability of each class, (n, classes). The judge knows the first ten
            classes, which are the digits.
        familiarity: The familiarity of each candidate, (n,); NaN if the network has no record.
    """
    probabilities = probabilities.float().cpu()
    best = probabilities.amax(1)
    digits = best.new_zeros(len(best), DIGITS)
    digits[:, : probabilities.shape[1]] = probabilities[:, :DIGITS]
    shape = best.new_tensor([candidate.shape for candidate in candidates])
    width, height, gap, cut, is_cut, has_parts = shape.unbind(1)
    pieces = best.new_tensor([candidate.end - candidate.first for candidate in candidates])
    own = torch.stack(
        (
            (best + 1e-6).log(),
            -(1 - best + 1e-3).log(),
            width,
            width * width,
            height,
            height * height,
            gap,
            cut,
            is_cut,
            has_parts,
            width * is_cut,
            height * is_cut,
            pieces,
            familiarity.float().cpu().nan_to_num(UNTOLD).clamp(*FAMILIAR),
            width / height.clamp(min=0.05),
        ),
        1,
    )
    return torch.cat((own, digits), 1)


@torch.inference_mode()
def scores(facts: Tensor, views: Tensor) -> list[float]:
    """How likely each candidate is a digit: the higher, the likelier; sums compare."""
    return fitted_judge()(facts, views).tolist()


def skip_scores(sizes: Sequence[float]) -> list[float]:
    """How likely pieces of these sizes, in digits' heights, belong to no digit, as `scores`."""
    base, by_size = fitted_judge().skip.tolist()
    return [base + by_size * size for size in sizes]


def best_way(
    spans: Sequence[tuple[int, int]],
    scores: Sequence[float],
    skips: Sequence[float],
    count: int | None,
) -> list[int] | None:
    """The spans that cover pieces 0, 1, … once each with the highest sum of scores.

    Args:
        spans: First piece of each candidate, and the one after its last.
        scores: Their scores.
        skips: The score of leaving out each piece.
        count: The number of spans to take; None for any number.

    Returns:
        The places of these spans, in order; None if no way takes `count` of them.
    """
    most, step = (0, 0) if count is None else (count, 1)  # what does not count needs no counting
    ending: dict[int, list[int]] = {}
    for place, (_, end) in enumerate(spans):
        ending.setdefault(end, []).append(place)
    # best[e][n]: the best score of the pieces before e in n spans, and the last span, if any
    best: list[list[tuple[float, int | None]]] = [[(NEVER, None)] * (most + 1)]
    best[0][0] = (0.0, None)
    for end, skip in enumerate(skips, 1):
        row: list[tuple[float, int | None]] = [(score + skip, None) for score, _ in best[end - 1]]
        for place in ending.get(end, []):
            before = best[spans[place][0]]
            for taken in range(most + 1 - step):
                score = before[taken][0] + scores[place]
                if score > row[taken + step][0]:
                    row[taken + step] = (score, place)
        best.append(row)
    taken = most
    if best[-1][taken][0] < NEVER / 2:
        return None
    way, end = [], len(skips)
    while end:
        last = best[end][taken][1]
        if last is None:
            end -= 1
        else:
            way.append(last)
            end, taken = spans[last][0], taken - step
    return way[::-1]


def score_of(
    way: Sequence[int],
    spans: Sequence[tuple[int, int]],
    scores: Sequence[float],
    skips: Sequence[float],
) -> float:
    """The total score of a way that `best_way` gave."""
    taken = {piece for place in way for piece in range(*spans[place])}
    left = [skip for piece, skip in enumerate(skips) if piece not in taken]
    return sum(scores[place] for place in way) + sum(left)
