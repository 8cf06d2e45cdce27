"""Helpers that several training tests share."""

import os

import torch
from torch import nn

from mnist_zoo import History, Preprocessing, Recipe, fit, load_mnist

NORMALIZE = Preprocessing()


def weights(model):
    return torch.cat([value.flatten().double() for value in model.state_dict().values()])


def same(one: History, other: History) -> bool:
    """Whether two runs are equal to the bit, apart from the time they took."""
    pairs = [(h.loss, h.accuracy, h.lr, h.evaluations, h.stopped) for h in (one, other)]
    return pairs[0] == pairs[1] and torch.equal(weights(one.model), weights(other.model))


def train_and_save(recipe, folder, out):
    """Trains to the end, and writes what the run gave: what a test starts in another process."""
    torch.set_num_threads(1)
    digits = load_mnist("all", source="sample").split(160, 60, seed=0)
    options = {"folder": folder, "checkpoint_every": 1, "progress": False}
    history = fit(Recipe.from_json(recipe), *digits, **options)
    points = [(p.step, p.loss, p.accuracy) for p in history.evaluations]
    curves = (history.loss, history.accuracy, history.lr, points)
    torch.save({"curves": curves, "weights": weights(history.model)}, f"{out}.part")
    os.replace(f"{out}.part", out)


class NormAndDropout(nn.Module):
    """A network with state besides its weights (BatchNorm) and random numbers (dropout)."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(
            nn.Conv2d(1, 8, 5, stride=3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten()
        )
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(512, 10))

    def forward(self, x):
        return self.head(self.net(x))
