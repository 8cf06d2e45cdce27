"""Fitting the record by which a network tells images of its kind from others."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._checks import check_positive, check_range
from ._modes import eval_mode
from ._networks import (
    check_classes,
    check_computes,
    check_network,
    stated_classes,
    unwrapped,
)
from .data.digits import Digits, check_digits, check_labels
from .models.base import Classifier
from .pictures.familiarity import SIGNS, Familiarity, pool
from .pictures.logits import prepared
from .pictures.preprocessing import preprocessing_of

__all__ = ["fit_familiarity"]

PER_CLASS = 8  # prototypes
DIGITS_PER_CLASS = 2000  # of which the prototypes are the means
ROUNDS = 10  # of k-means
SHARES = (0.25, 0.25, 0.25, 0.25)  # of the refused digits, by sign
USUAL = (0.5, 0.5, 0.5, 0.05)  # the quantile of each sign that counts as 1
LEAST = 100  # digits
MOST = 1 << 18  # numbers in the record, which is stored in half precision


def fit_familiarity(
    model: nn.Module, digits: Digits, *, refused: float = 0.003, batch_size: int = 100
) -> Familiarity:
    """Fits the record by which `predict` tells images of a network's kind from all others.

    It needs training images only, none of another kind. A fifth of them is held out, and sets the
    limits; they are of writers of their own where `digits` name several. The weights stay as they
    are, so fit the record once training is over. `save_model`, the Hub and ONNX files keep it.

    Args:
        model: A network of the zoo, or one of your own that is derived from `Classifier`; its
            `familiarity` is set.
        digits: Images that it was trained on, at least 100.
        refused: The largest share of the held-out images that the limits refuse, at most 0.1.
        batch_size: Images per forward pass.

    Returns:
        The record, which is also the network's `familiarity`.

    Raises:
        TypeError: If `model` is no `Classifier`, or `digits` is something else.
        ValueError: If there are too few images, a label is no class of the network, the record
            would be too large, or the network gives all images the same logits, or some that are
            not finite.

    Example:
        >>> from mnist_zoo import fit_familiarity, load_mnist, mini_resnet
        >>> model = mini_resnet(weights="mnist")
        >>> fit_familiarity(model, load_mnist("train", source="sample"))
        Familiarity(80 prototypes of 128 features, 10 classes)
    """
    check_network(model=model)
    network = unwrapped(model)
    if not isinstance(network, Classifier):
        raise TypeError(f"`model` ({type(network).__name__}) must be a Classifier")
    check_computes(model=network)
    check_digits(digits=digits)
    check_positive(batch_size=batch_size)
    check_range(above=0, at_most=0.1, refused=refused)
    if len(digits) < LEAST:
        raise ValueError(f"`digits` must be at least {LEAST}; they are {len(digits)}")
    held_out, known = _parts(digits)
    with torch.inference_mode(), eval_mode(network):
        _, pooled, logits = _outputs(network, known, batch_size)
        check_classes(stated_classes(network), logits.shape[1], "`model`", digits=digits.classes)
        check_labels(logits.shape[1], digits=digits)
        if not logits.isfinite().all():
            raise _not_finite()
        labels = known.labels.cpu()
        tensors = (_prototypes(pooled, labels), *_gaussians(logits, labels))
        if not all(tensor.isfinite().all() for tensor in tensors):
            raise _not_finite()
        record = Familiarity(*tensors, 0.0, (0.0,) * SIGNS, (1.0,) * SIGNS)
        record = _with_limits(record, *_outputs(network, held_out, batch_size), refused)
    network.familiarity = record
    return record


def _not_finite() -> ValueError:
    return ValueError("`model` must give finite logits below 65,504")


def _parts(digits: Digits) -> tuple[Digits, Digits]:
    """A fifth that is held out, and at most `DIGITS_PER_CLASS` of the rest."""
    if digits.writers is None or digits.writers.unique().numel() == 1:
        held_out, known = digits.split(0.2, 0.8)
    else:
        (held_out,) = digits.split(0.2, groups=digits.writers)
        known = digits[~torch.isin(digits.writers, cast(Tensor, held_out.writers))]
    most = DIGITS_PER_CLASS * known.labels.unique().numel()
    return held_out, known if len(known) <= most else known.split(most)[0]


def _outputs(network: Classifier, digits: Digits, batch_size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean pixels (N, 1), pooled feature maps (N, features) and logits (N, classes) of digits."""
    preprocessing = preprocessing_of(network)
    parts = []
    for images in digits.images.split(batch_size):
        x = prepared(network, images, preprocessing)
        features = network.forward_features(x)
        ink = x.float().flatten(1).mean(1, keepdim=True)
        parts.append((ink, pool(features), network.forward_head(features).float()))
    ink, pooled, logits = (torch.cat(part).cpu() for part in zip(*parts, strict=True))
    return ink, pooled, logits


def _prototypes(pooled: Tensor, labels: Tensor) -> Tensor:
    """The means (P, features) of clusters within each class, by spherical k-means."""
    classes = labels.unique().tolist()
    count = min(PER_CLASS, MOST // (len(classes) * pooled.shape[1]))
    if not count:
        raise ValueError(
            f"`model` must have at most {MOST:,} features times classes; it has "
            f"{pooled.shape[1]:,} × {len(classes)}"
        )
    generator = torch.Generator("cpu").manual_seed(0)
    found = []
    for label in classes:
        vectors = pooled[labels == label]
        order = torch.randperm(len(vectors), generator=generator, device="cpu")
        means = vectors[order[:count]]
        for _ in range(ROUNDS):
            nearest = (vectors @ means.T).argmax(1)
            sums = torch.zeros_like(means).index_add_(0, nearest, vectors)
            means = F.normalize(sums + 1e-6 * means)  # a mean without vectors stays
        found.append(means)
    return torch.cat(found).half().float()  # as files hold them


def _gaussians(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The mean (classes, logits) of each class's logits, and the factors of their precisions.

    The covariance of a class with few images is drawn to that of all classes.
    """
    count = logits.shape[1]
    groups = [logits[labels == label].double() for label in labels.unique()]
    if len(groups) * count**2 > MOST:
        raise ValueError(f"`model` must have fewer classes for a record; it has {count}")
    centres = torch.stack([group.mean(0) for group in groups])
    gaps = [group - centre for group, centre in zip(groups, centres, strict=True)]
    scatters = torch.stack([gap.T @ gap for gap in gaps])
    sizes = torch.tensor([len(gap) for gap in gaps], device="cpu")[:, None, None]
    shared = scatters.sum(0) / sizes.sum()
    covariances = (scatters + count * shared) / (sizes + count)
    ridge = 1e-3 * shared.diagonal().mean() + 1e-9
    precisions = torch.linalg.inv(covariances + ridge * torch.eye(count, device="cpu"))
    return centres.half().float(), torch.linalg.cholesky(precisions).half().float()


def _with_limits(
    record: Familiarity, ink: Tensor, pooled: Tensor, logits: Tensor, refused: float
) -> Familiarity:
    """The record with limits that refuse at most a share of the held-out digits."""
    record = replace(record, ink=float(ink.median()))
    values = record.signs(ink, pooled, logits)
    limits = [float(v.quantile(share * refused)) for v, share in zip(values, SHARES, strict=True)]
    usual = [float(v.quantile(place)) for v, place in zip(values, USUAL, strict=True)]
    spans = tuple(high - low for high, low in zip(usual, limits, strict=True))
    if not min(spans) > 0:
        raise ValueError("`model` must tell images apart; it gives all of them the same logits")
    return replace(record, limits=tuple(limits), spans=spans)
