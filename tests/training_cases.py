"""Helpers that several training tests share."""

import torch
from torch import nn

from mnist_zoo import History, Preprocessing

NORMALIZE = Preprocessing()


def weights(model):
    return torch.cat([value.flatten().double() for value in model.state_dict().values()])


def same(one: History, other: History) -> bool:
    """Whether two runs are equal to the bit, apart from the time they took."""
    pairs = [(h.loss, h.accuracy, h.lr, h.evaluations, h.stopped) for h in (one, other)]
    return pairs[0] == pairs[1] and torch.equal(weights(one.model), weights(other.model))


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
