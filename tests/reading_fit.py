"""Fits the judge of `read_digits` on strings composed of MNIST's training digits, in half an hour.

``MNIST_ZOO_DATA=… python tests/reading_fit.py`` writes mnist_zoo/reading/judge.safetensors. With
``--half``, every second training writer is left out, to choose settings on. A row's ways to be cut
into digits get the probabilities of a linear-chain conditional random field (Lafferty et al. 2001).
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from reading_cases import compose, writers
from safetensors.torch import save
from torch import Tensor, nn

from mnist_zoo import mini_resnet
from mnist_zoo.pictures.preprocessing import preprocessing_of
from mnist_zoo.reading.judge import FACTS, UNTOLD, WEIGHTS, Judge, best_way, facts_about
from mnist_zoo.reading.lattice import MOST, Lattice
from mnist_zoo.reading.layout import lay_out
from mnist_zoo.reading.reader import candidate_outputs

PICTURES = {"touching": 6000, "spaced": 1000, "ruled": 1000, "lit": 500, "rows": 100}
FAMILIARITY = FACTS - 2  # its place among the facts
EPOCHS = 10
BATCH = 48  # rows
RATE = 0.004
FIT = 0.5  # in a true way, the box of each candidate agrees so well with its digit's, at least
LEFT_OUT = 2.0  # what leaving out a piece takes from this agreement, by the piece's size
NOT_TOLD = 0.1  # share of rows without familiarity, as of networks that do not tell it


@dataclass(frozen=True)
class Row:
    """A row's candidates, as the judge sees them, and which of them are its digits."""

    facts: Tensor
    views: Tensor  # uint8
    spans: list[tuple[int, int]]
    sizes: list[float]  # of its pieces
    true: list[int]  # candidates
    skipped: list[int]  # pieces of no digit


def overlap(a, b):
    """Intersection over union of two boxes."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    areas = ((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return both / (sum(areas) - both)


def rows_by(part, seed):
    """Rows of pictures composed of the digits of every second training writer."""
    model, random = mini_resnet(weights="mnist"), np.random.default_rng(seed)
    everyone, rows = writers("train", part), []
    for kind, count in PICTURES.items():
        for _ in range(count):
            case = compose(kind, random, everyone[int(random.integers(len(everyone)))])
            rows += rows_of(case, model)
    return rows


def rows_of(case, model):
    lattice = Lattice(lay_out(case.picture.astype(np.float32)))
    flat = [candidate for row in lattice.candidates for candidate in row]
    if not flat or len(lattice.rows) != len(case.lines):
        return []
    probabilities, told = candidate_outputs(model, lattice, flat, preprocessing_of(model))
    counts = [len(row) for row in lattice.candidates]
    boxes, rows = list(case.boxes), []
    for pieces, candidates, line, known, familiarity in zip(
        lattice.rows,
        lattice.candidates,
        case.lines,
        probabilities.split(counts),
        told.split(counts),
        strict=True,
    ):
        own, boxes = boxes[: len(line)], boxes[len(line) :]
        sides = [(p.box[2] - p.box[0], p.box[3] - p.box[1]) for p in pieces]
        sizes = [max(side) / lattice.height for side in sides]
        way = true_way(candidates, own, sizes, len(line))
        if way is not None:
            views = torch.stack([lattice.view_of(candidate) for candidate in candidates])
            spans = [(candidate.first, candidate.end) for candidate in candidates]
            facts = facts_about(candidates, known, familiarity)
            rows.append(Row(facts, views.mul(255).round().byte(), spans, sizes, *way))
    return rows


def true_way(candidates, boxes, sizes, count):
    """The candidates that are the digits in these boxes, and pieces of none; None without a way."""
    agree = np.array([[overlap(box, c.box) for box in boxes] for c in candidates])
    spans = [(candidate.first, candidate.end) for candidate in candidates]
    skips = [-LEFT_OUT * size for size in sizes]
    best = best_way(spans, agree.max(1).tolist(), skips, count)
    if best is None or agree[best].argmax(1).tolist() != list(range(count)):
        return None
    taken = {piece for place in best for piece in range(*spans[place])}
    skipped = [piece for piece in range(len(sizes)) if piece not in taken]
    return (best, skipped) if agree[best].max(1).min() > FIT else None


def fit(rows):
    """The judge, as maximum likelihood has it."""
    torch.manual_seed(0)
    judge = Judge()
    facts = torch.cat([row.facts for row in rows])
    judge.mean.copy_(facts.mean(0))
    judge.std.copy_(facts.std(0) + 1e-6)
    optimizer = torch.optim.AdamW(judge.parameters(), weight_decay=1e-4)
    steps = EPOCHS * (len(rows) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for epoch in range(EPOCHS):
        total = 0.0
        for batch in torch.randperm(len(rows)).split(BATCH)[: len(rows) // BATCH]:
            loss = loss_of(judge, [rows[place] for place in batch.tolist()])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(judge.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += loss.item() * BATCH / len(rows)
        print(f"epoch {epoch + 1}: {total:.4f}", flush=True)
    return judge


def loss_of(judge, rows):
    """The mean negative logarithm of the probability of the true ways."""
    facts = torch.cat([row.facts for row in rows])
    untold = torch.rand(len(rows)) < NOT_TOLD
    counts = torch.tensor([len(row.facts) for row in rows])
    facts[untold.repeat_interleave(counts), FAMILIARITY] = UNTOLD
    scores = judge(facts, torch.cat([row.views for row in rows]) / 255)
    most = max(len(row.sizes) for row in rows)
    places, true, skipped, start = [], [], [], 0
    sizes = torch.zeros(len(rows), most)
    for number, row in enumerate(rows):
        places += [(number, first, end - first - 1) for first, end in row.spans]
        true += [start + place for place in row.true]
        skipped += [(number, piece) for piece in row.skipped]
        sizes[number, : len(row.sizes)] = torch.tensor(row.sizes)
        start += len(row.spans)
    skips = judge.skip[0] + judge.skip[1] * sizes
    table = torch.full((len(rows), most, MOST), -1e4)
    table = table.index_put(tuple(torch.tensor(places).T), scores)
    totals = [torch.zeros(len(rows))]  # log of the sum over all ways up to a piece
    for end in range(1, most + 1):
        ways = [totals[end - 1] + skips[:, end - 1]]
        ways += [totals[end - n] + table[:, end - n, n - 1] for n in range(1, min(MOST, end) + 1)]
        totals.append(torch.logsumexp(torch.stack(ways), 0))
    ends = torch.tensor([len(row.sizes) for row in rows])
    whole = torch.stack(totals, 1)[torch.arange(len(rows)), ends].sum()
    at = torch.tensor(skipped, dtype=torch.long).view(-1, 2).T
    return (whole - scores[true].sum() - skips[at[0], at[1]].sum()) / len(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--half", action="store_true", help="leave every second writer out")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    arguments = parser.parse_args()
    rows = rows_by(0, 100) + ([] if arguments.half else rows_by(1, 200))
    print(f"{len(rows)} rows, {sum(len(row.spans) for row in rows)} candidates", flush=True)
    weights = fit(rows).state_dict()
    arguments.out.write_bytes(save({name: values.half() for name, values in weights.items()}))


if __name__ == "__main__":
    main()
