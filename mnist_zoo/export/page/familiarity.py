"""What a page needs to tell whether a drawing is a digit at all."""

from __future__ import annotations

import base64
import string
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from ...models.base import Classifier
from ...pictures.familiarity import Familiarity
from ..taking_bytes import TakesBytes

LETTERS = string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/"


class WithFeatures(nn.Module):
    """A network that also gives its last feature maps."""

    def __init__(self, network: TakesBytes) -> None:
        super().__init__()
        self.taking = network

    @override
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        inside: Any = self.taking.network
        features = inside.forward_features(self.taking.normalised(x))
        return inside.forward_head(features), features


def record_of(network: nn.Module) -> Familiarity | None:
    """The record of a network that takes bytes; None where it has none, or hooks change it."""
    inside = network.network if isinstance(network, TakesBytes) else network
    if not isinstance(inside, Classifier) or inside._forward_hooks or inside._forward_pre_hooks:
        return None
    return inside.familiarity


def stated(record: Familiarity, network: TakesBytes, features: int) -> dict[str, Any]:
    """A record as the page's script reads it: each number of a prototype is one letter."""
    highest = record.prototypes.abs().amax(1, keepdim=True)
    prototypes = (31 * record.prototypes / highest).round().int() + 32
    gaussians = torch.cat([record.centres.flatten(), record.factors.flatten()])
    halves = gaussians.cpu().numpy().astype("<f2")
    return {
        "features": features,
        "mean": float(network.mean),
        "std": float(network.std),
        "ink": record.ink,
        "limits": record.limits,
        "spans": record.spans,
        "prototypes": "".join(LETTERS[number] for number in prototypes.flatten().tolist()),
        "gaussians": base64.b64encode(halves.tobytes()).decode(),
    }
