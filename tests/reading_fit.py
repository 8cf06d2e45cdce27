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
from mnist_zoo.reading.judge import WEIGHTS, features
from mnist_zoo.reading.lattice import MOST, Lattice
from mnist_zoo.reading.layout import lay_out
from mnist_zoo.reading.reader import candidate_outputs

SHARES = {"touching": 8, "spaced": 3, "ruled": 2, "lit": 3, "rows": 1}
HIDDEN = 16
FIT = 0.6  # a candidate whose box agrees with a digit's so well, and best of all, is the digit
SKIPPED = 0.5  # of the digits' height; larger pieces are never left out in a true way


def overlap(a, b):
    """Intersection over union of two boxes."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    areas = ((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return both / (sum(areas) - both)


def lattices(count, part, seed):
    """Rows of composed pictures: features, spans, sizes of pieces, and the true way."""
    random, model = np.random.default_rng(seed), mini_resnet(weights="mnist")
    everyone, rows = writers("train", part), []
    for kind, share in SHARES.items():
        for _ in range(share * count):
            case = compose(kind, random, everyone[int(random.integers(len(everyone)))])
            rows += rows_of(case, model)
    return rows


def rows_of(case, model):
    lattice = Lattice(lay_out(case.picture.astype(np.float32)))
    flat = [candidate for row in lattice.candidates for candidate in row]
    if not flat or len(lattice.rows) != len(case.lines):
        return []
    probabilities, _ = candidate_outputs(model, lattice, flat, preprocessing_of(model))
    known, rows = features(flat, probabilities), []
    for pieces, candidates, line in zip(lattice.rows, lattice.candidates, case.lines, strict=True):
        own, known = known[: len(candidates)], known[len(candidates) :]
        spans = [(candidate.first, candidate.end) for candidate in candidates]
        boxes = [piece.box for piece in pieces]
        sizes = [max(b[2] - b[0], b[3] - b[1]) / lattice.height for b in boxes]
        way = true_way(candidates, case.boxes, sizes, len(line))
        if way is not None:
            rows.append((own, spans, sizes, way))
    return rows


def true_way(candidates, boxes, sizes, count):
    """The candidates that are the digits in these boxes; None if they are no way."""
    agree = np.array([[overlap(box, c.box) for c in candidates] for box in boxes])
    best = sorted({int(row.argmax()) for row in agree if row.max() > FIT})
    best.sort(key=lambda place: candidates[place].first)
    end, skipped = 0, []
    for place in best:
        if candidates[place].first < end:
            return None
        skipped += range(end, candidates[place].first)
        end = candidates[place].end
    skipped += range(end, len(sizes))
    if len(best) != count or any(sizes[place] > SKIPPED for place in skipped):
        return None
    return best, skipped


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
    parser.add_argument("--count", type=int, default=250, help="pictures of each share")
    parser.add_argument("--half", action="store_true", help="leave every second writer out")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    arguments = parser.parse_args()
    rows = lattices(arguments.count, part=0 if arguments.half else None, seed=0)
    print(f"{len(rows)} rows, {sum(len(row[1]) for row in rows)} candidates", flush=True)
    arguments.out.write_bytes(save(fit(rows, arguments.steps)))


if __name__ == "__main__":
    main()
