"""How familiar an image is to a network: whether it looks like those that the network learnt."""

from __future__ import annotations

import base64
import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._networks import unwrapped

__all__ = ["Familiarity"]

SIDE = 2  # of the pooled feature maps that are compared
SIGNS = 4


@dataclass(frozen=True, eq=False)
class Familiarity:
    """A record of the images that a network learnt, which tells others from them.

    Four signs are read off each image while the network classifies it: how similar its last
    feature maps are to the nearest of a few typical ones (cosine); the log-sum-exp of its logits;
    how far its logits are from those of the nearest class (Mahalanobis); and how far the mean of
    its pixels is from the usual one. Each is scaled to 0 at a limit and 1 for a usual image. The
    familiarity is the lowest of the four; a negative one means that the image is of another kind.
    `fit_familiarity` makes the record; the pretrained weights have it.

    Attributes:
        prototypes: (P, features), typical feature maps, pooled to 2×2, of unit length.
        centres: (classes, logits), the mean logits of the images of each class.
        factors: (classes, logits, logits), the Cholesky factor of the inverse covariance of the
            logits of each class.
        ink: The median of the mean pixels, after preprocessing.
        limits: The value of each sign at which the familiarity is 0.
        spans: The distance of each sign's usual value from its limit.

    Source:
        Energy: Liu et al. 2020; Mahalanobis distance: Lee et al. 2018, on logits.

    Example:
        >>> from mnist_zoo import mini_resnet
        >>> mini_resnet(weights="mnist").familiarity
        Familiarity(80 prototypes of 128 features, 10 classes)
    """

    prototypes: Tensor
    centres: Tensor
    factors: Tensor
    ink: float
    limits: tuple[float, ...]
    spans: tuple[float, ...]

    def __call__(self, x: Tensor, features: Tensor, logits: Tensor) -> Tensor:
        """The familiarity (N,) of images (N, C, H, W), from their last feature maps and logits.

        Raises:
            ValueError: If the record is for other numbers of features or classes.
        """
        pooled = pool(features)
        found = pooled.shape[1], logits.shape[1]
        known = self.prototypes.shape[1], self.centres.shape[1]
        if found != known:
            raise ValueError(
                f"`familiarity` is for {known} features and classes, the network gives {found}: "
                "make it anew by fit_familiarity(model, digits)"
            )
        terms = zip(self.signs(x, pooled, logits), self.limits, self.spans, strict=True)
        # scaled before they are joined, so that an int8 file has one range for all of them
        return torch.cat([(sign - limit) / span for sign, limit, span in terms], 1).amin(1)

    def signs(self, x: Tensor, pooled: Tensor, logits: Tensor) -> tuple[Tensor, ...]:
        """The four signs (N, 1) of images, each the higher, the more familiar they are."""
        logits = logits.float()
        prototypes, centres, factors = (
            tensor.to(x.device) for tensor in (self.prototypes, self.centres, self.factors)
        )
        gaps = (logits - centres[:, None]) @ factors  # (classes, N, logits)
        ink = x.float().flatten(1).mean(1, keepdim=True)
        return (
            (pooled @ prototypes.T).amax(1, keepdim=True),
            logits.logsumexp(1, keepdim=True),
            -torch.linalg.vector_norm(gaps, dim=2, keepdim=True).amin(0),
            -(ink - self.ink).abs(),
        )

    def __repr__(self) -> str:
        count, features = self.prototypes.shape
        return (
            f"Familiarity({count} prototypes of {features} features, {len(self.centres)} classes)"
        )

    def to_text(self) -> str:
        """The record as JSON, for the metadata of a file; its tensors in half precision."""
        return json.dumps({name: _plain(value) for name, value in vars(self).items()})


def _plain(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    content = value.cpu().half().numpy().astype("<f2").tobytes()
    return {"shape": list(value.shape), "float16": base64.b64encode(content).decode()}


def parse_familiarity(text: str | None) -> Familiarity | None:
    """The record that a file states; None for none.

    Raises:
        ValueError: If it states something impossible.
        TypeError: If it states something else.
        LookupError: If a part is missing.
    """
    if text is None:
        return None
    values = json.loads(text)
    prototypes, centres, factors = (
        _tensor(values[name]) for name in ("prototypes", "centres", "factors")
    )
    limits, spans = (tuple(map(float, values[name])) for name in ("limits", "spans"))
    ink = float(values["ink"])
    shapes = [tuple(tensor.shape) for tensor in (prototypes, centres, factors)]
    fit = len(shapes[0]) == len(shapes[1]) == 2 and shapes[2] == (*shapes[1], shapes[1][1])
    if not fit or not len(limits) == len(spans) == SIGNS:
        raise ValueError(f"its record of familiarity must be whole; its shapes are {shapes}")
    if not all(map(math.isfinite, (ink, *limits, *spans))) or not min(spans) > 0:
        raise ValueError("its record of familiarity must hold finite numbers, its spans positive")
    return Familiarity(prototypes, centres, factors, ink, limits, spans)


def _tensor(stated: Any) -> Tensor:
    content = base64.b64decode(stated["float16"], validate=True)
    values = np.frombuffer(content, dtype="<f2").astype("float32").reshape(stated["shape"])
    if not np.isfinite(values).all() or not values.size:
        raise ValueError("its record of familiarity must hold finite numbers")
    return torch.from_numpy(values)


def pool(features: Tensor) -> Tensor:
    """The last feature maps (N, C, H, W), or numbers (N, C), as unit vectors (N, features)."""
    if features.dim() == 4 and min(features.shape[2:]) > SIDE:
        features = F.adaptive_avg_pool2d(features, SIDE)
    features = features.flatten(1).float()
    lengths = torch.linalg.vector_norm(features, dim=1, keepdim=True)
    return features / lengths.clamp(min=1e-12)


def forget_familiarity(model: nn.Module) -> None:
    """Clears the record of a network whose weights are about to change."""
    inside: Any = unwrapped(model)
    if isinstance(getattr(inside, "familiarity", None), Familiarity):
        inside.familiarity = None
