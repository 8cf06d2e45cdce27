"""`TakesBytes`: a network that takes images as they come."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from typing_extensions import override

from ..pictures.preprocessing import Preprocessing


class TakesBytes(nn.Module):
    """A network that takes uint8 images and normalises them itself."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.network = network
        for name in ("mean", "std"):
            values = torch.tensor(getattr(preprocessing, name), dtype=torch.float32, device="cpu")
            self.register_buffer(name, values.view(-1, 1, 1))

    def normalised(self, x: Tensor) -> Tensor:
        """The input of the network."""
        return (x.float() / 255 - self.mean) / self.std

    @override
    def forward(self, x: Tensor) -> Tensor:
        return self.network(self.normalised(x))
