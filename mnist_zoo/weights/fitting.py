"""Fits tensors of a checkpoint to a network: names, biases, the shape of a first convolution."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

# of wrappers; `net.<digit>` is the report's layout below
PREFIX = re.compile(r"(module|_orig_mod|model|backbone|net(?!\.\d))\.")
GREY_TO_RGB = (0.25, 0.5, 0.25)

# from the names of the report on residual connections to torchvision's
NET_LAYOUT = (
    (re.compile(r"net\.0\.0\."), "conv1."),
    (re.compile(r"net\.0\.1\."), "bn1."),
    (re.compile(r"net\.7\."), "fc."),
    (re.compile(r"net\.([1-4])\.(\d+)\.shortcut\."), r"layer\1.\2.downsample.0."),
    (re.compile(r"net\.([1-4])\.(\d+)\.bn3\."), r"layer\1.\2.downsample.1."),
    (re.compile(r"net\.([1-4])\.(\d+)\."), r"layer\1.\2."),
)
# torchvision's files of DenseNets are older than the rule that a module's name has no dot
OLD_DENSE_LAYER = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")
# all names of the tensors of torchvision's ResNets, in which a norm follows every convolution
RESNET = re.compile(
    r"conv1\.weight|bn1\.\w+|fc\.(weight|bias)|layer[1-4]\.\d+\."
    r"(conv[123]\.weight|bn[123]\.\w+|downsample\.0\.weight|downsample\.1\.\w+)"
)
CONV_BIAS = re.compile(r"((?:layer[1-4]\.\d+\.)?)(?:conv([123])|(downsample)\.0)\.bias")


def names_in(target: Container[str], names: list[str]) -> dict[str, str]:
    """The names that a checkpoint's tensors have in the network with the names `target`."""
    short = {name: _strip_prefixes(name, target) for name in names}
    if "net.0.0.weight" in short.values() and "net.0.0.weight" not in target:
        short = {name: _from_net_layout(new) for name, new in short.items()}
    return {
        name: new if new in target else OLD_DENSE_LAYER.sub(r"\1\2", new)
        for name, new in short.items()
    }


def _strip_prefixes(name: str, target: Container[str]) -> str:
    while name not in target and (prefix := PREFIX.match(name)):
        name = name[prefix.end() :]
    return name


def _from_net_layout(name: str) -> str:
    for pattern, replacement in NET_LAYOUT:
        if pattern.match(name):
            return pattern.sub(replacement, name, count=1)
    return name


def fold_biases(given: dict[str, Tensor], target: Mapping[str, Tensor]) -> dict[str, str]:
    """Takes the biases that a ResNet lacks out of `given`, and off the BatchNorm's running mean.

    BatchNorm subtracts the mean of what it gets, so a bias before it changes nothing but that mean.

    Returns:
        The name of each bias, by the name of the running mean that was changed.
    """
    folded: dict[str, str] = {}
    if not all(RESNET.fullmatch(name) for name in target):
        return folded
    for name in [name for name in given if name not in target]:
        if not (match := CONV_BIAS.fullmatch(name)):
            continue
        block, number, downsample = match.groups()
        norm = f"{block}downsample.1" if downsample else f"{block}bn{number}"
        mean = f"{norm}.running_mean"
        pair = given[name], given.get(mean), target.get(mean)
        if all(
            tensor is not None
            and not why_unusable(tensor, pair[0])
            and tensor.shape == pair[0].shape
            for tensor in pair
        ):
            given[mean] = given[mean] - given.pop(name)
            folded[mean] = name
    return folded


def why_unusable(value: Tensor, tensor: Tensor) -> str:
    """The reason why a value of whatever shape cannot be copied into a tensor; "" for none."""
    if value.is_meta:
        return "holds no data (device meta)"
    if value.is_quantized or value.layout != torch.strided or value.is_nested:
        return "is quantized, sparse or nested"
    if not torch.can_cast(value.dtype, tensor.dtype) or (
        value.is_floating_point() != tensor.is_floating_point()
    ):
        return f"{value.dtype} → {tensor.dtype} would lose its meaning"
    return ""


def adapt_stem(weight: Tensor, shape: torch.Size) -> tuple[Tensor, str] | None:
    """The weight of a first convolution in another shape, and how; None where no rule applies."""
    if weight.dim() != 4:
        return None
    (out, channels, height, width), (new_out, new_channels, *kernel) = weight.shape, shape
    margin, odd = divmod(kernel[0] - height, 2)
    if out != new_out or odd or height != width or kernel[0] != kernel[1]:
        return None
    steps = []
    weight = weight.to(torch.promote_types(weight.dtype, torch.float32))  # half sums are coarse
    if margin:
        weight = F.pad(weight, [margin] * 4)
        steps.append(f"{'zeros around' if margin > 0 else 'centre of'} {height}×{width}")
    if new_channels == 1 and channels > 1:
        weight = weight.sum(dim=1, keepdim=True)
        steps.append(f"summed over {channels} channels")
    elif new_channels == 3 and channels == 1:
        weight = weight * weight.new_tensor(GREY_TO_RGB).view(1, 3, 1, 1)
        steps.append("spread over RGB as 1/4, 1/2, 1/4")
    elif new_channels != channels:
        return None
    return weight, ", ".join(steps)
