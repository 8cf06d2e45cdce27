"""Networks that several tests of inspection use."""

import torch
from torch import nn


class Odd(nn.Module):
    """Several inputs, nested outputs, parameters with other names, shared and unused parameters."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(3))
        self.shared = nn.Linear(4, 4)
        self.again = self.shared
        self.tied = nn.Linear(4, 4, bias=False)
        self.tied.weight = self.shared.weight
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.lstm = nn.LSTM(4, 5, batch_first=True)
        self.idle = nn.Linear(7, 7)
        self.none = NoTensor()

    def forward(self, a, b):
        x = self.again(self.shared(a)) + self.tied(b)
        x, _ = self.attention(x, x, x)
        y, (h, c) = self.lstm(x)
        self.none(x)
        return {"y": y, "states": [h, c], "gain": self.gain}


class NoTensor(nn.Module):
    def forward(self, x):
        return None


ODD_PARAMETERS = 3 + 20 + (48 + 12 + 20) + (80 + 100 + 40) + 56
