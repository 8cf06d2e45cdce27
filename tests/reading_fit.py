"""Fits the judge of `read_digits` on strings composed of MNIST's training digits, in minutes.

``MNIST_ZOO_DATA=… python tests/reading_fit.py`` writes mnist_zoo/reading/judge.safetensors. With
``--half``, every second training writer is left out, to choose settings on. A row's ways to be cut
into digits get the probabilities of a linear-chain conditional random field (Lafferty et al. 2001).
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from reading_cases import compose, writers
from safetensors.torch import save
from torch import nn

from mnist_zoo import mini_resnet
from mnist_zoo.pictures.preprocessing import preprocessing_of
from mnist_zoo.reading.judge import WEIGHTS, best_way, features
from mnist_zoo.reading.lattice import MOST, Lattice
from mnist_zoo.reading.layout import lay_out
from mnist_zoo.reading.reader import candidate_outputs

FIRST = {"touching": 1600, "spaced": 500, "ruled": 250, "lit": 300, "rows": 120}
SECOND = {"touching": 800, "spaced": 300, "ruled": 150, "lit": 150, "rows": 50}
HALVES = ((FIRST, 0, 100), (SECOND, 1, 200))  # pictures, writers, seed
HIDDEN = 24
FIT = 0.5  # in a true way, the box of each candidate agrees so well with its digit's, at least
LEFT_OUT = 2.0  # what leaving out a piece takes from this agreement, by the piece's size
UNTOLD = 0.1  # share of rows without familiarity, as of networks that do not tell it


def overlap(a, b):
    """Intersection over union of two boxes."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    areas = ((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return both / (sum(areas) - both)


def lattices(halves):
    """Rows of composed pictures: features, spans, sizes of pieces, and the true way."""
    model, drawn, rows = mini_resnet(weights="mnist"), np.random.default_rng(0), []
    for pictures, part, seed in halves:
        random, everyone = np.random.default_rng(seed), writers("train", part)
        for kind, count in pictures.items():
            for _ in range(count):
                case = compose(kind, random, everyone[int(random.integers(len(everyone)))])
                rows += rows_of(case, model, drawn)
    return rows


def rows_of(case, model, random):
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
            familiarity = familiarity * torch.nan if random.random() < UNTOLD else familiarity
            spans = [(candidate.first, candidate.end) for candidate in candidates]
            rows.append((features(candidates, known, familiarity), spans, sizes, way))
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


def fit(rows, steps):
    """The judge's weights, as maximum likelihood has them."""
    torch.manual_seed(0)
    x = torch.cat([known for known, _, _, _ in rows])
    mean, std = x.mean(0), x.std(0) + 1e-6
    x = (x - mean) / std
    places, truth, skips, start = [], [], [], 0
    most = max(len(sizes) for _, _, sizes, _ in rows)
    size = torch.zeros(len(rows), most)
    for number, (_, spans, sizes, (best, skipped)) in enumerate(rows):
        places += [(number, first, end - first - 1) for first, end in spans]
        truth += [start + place for place in best]
        skips += [(number, place) for place in skipped]
        size[number, : len(sizes)] = torch.tensor(sizes)
        start += len(spans)
    places, skips = torch.tensor(places).T, torch.tensor(skips).view(-1, 2).T
    ends = torch.tensor([len(sizes) for _, _, sizes, _ in rows])
    hidden, out = nn.Linear(x.shape[1], HIDDEN), nn.Linear(HIDDEN, 1)
    skip = nn.Parameter(torch.tensor([0.0, -6.0]))
    parameters = [*hidden.parameters(), *out.parameters(), skip]
    optimizer = torch.optim.Adam(parameters, lr=0.04)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0, steps)
    for step in range(steps):
        scores = out(torch.tanh(hidden(x)))[:, 0]
        left_out = skip[0] + skip[1] * size
        table = torch.full((len(rows), most, MOST), -1e4).index_put(tuple(places), scores)
        totals = [torch.zeros(len(rows))]  # log of the sum over all ways up to a piece
        for end in range(1, most + 1):
            ways = [totals[end - 1] + left_out[:, end - 1]]
            ways += [
                totals[end - n] + table[:, end - n, n - 1] for n in range(1, min(MOST, end) + 1)
            ]
            totals.append(torch.logsumexp(torch.stack(ways), 0))
        whole = torch.stack(totals, 1)[torch.arange(len(rows)), ends].sum()
        loss = (whole - scores[truth].sum() - left_out[skips[0], skips[1]].sum()) / len(rows)
        loss = loss + 1e-4 * sum(values.square().sum() for values in parameters)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            print(f"step {step + 1}: {loss.item():.4f}", flush=True)
    weights = {
        "mean": mean,
        "std": std,
        "hidden": hidden.weight.T,
        "hidden_bias": hidden.bias,
        "out": out.weight[0],
        "out_bias": out.bias[0],
        "skip": skip,
    }
    return {name: values.detach().contiguous().clone() for name, values in weights.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--half", action="store_true", help="leave every second writer out")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    arguments = parser.parse_args()
    rows = lattices(HALVES[:1] if arguments.half else HALVES)
    print(f"{len(rows)} rows, {sum(len(row[1]) for row in rows)} candidates", flush=True)
    arguments.out.write_bytes(save(fit(rows, arguments.steps)))


if __name__ == "__main__":
    main()
