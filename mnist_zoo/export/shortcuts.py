"""Shortcuts that cost nothing: added to the weights of the convolution that they pass by."""

from __future__ import annotations

import operator
from itertools import permutations
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

LEAST = 1e-6  # of a norm's factors, by which the identity is divided


def fold_shortcuts(traced: GraphModule) -> None:
    """Where the output of a convolution is added to its input, adds the identity to its weights.

    A BatchNorm may stand between them. A convolution that changes the shape, or whose output goes
    elsewhere too, stays as it is.

    Source:
        Ding et al. 2021 (RepVGG), section 3.3.
    """
    for add in traced.graph.find_nodes(op="call_function", target=torch.ops.aten.add.Tensor):
        for out, shortcut in permutations(add.args, 2):
            if not add.kwargs and _fold(traced, out, shortcut):
                add.replace_all_uses_with(out)
                traced.graph.erase_node(add)
                break
    traced.recompile()


def _fold(traced: GraphModule, out: object, shortcut: object) -> bool:
    """Adds `shortcut` to `out` by the weights of the convolution; returns whether it can."""
    norm = _only_for_one(out, torch.ops.aten.batch_norm.default)
    conv = _only_for_one(norm.args[0] if norm else out, torch.ops.aten.conv2d.default)
    if conv is None or conv.args[0] is not shortcut:
        return False
    factor = _factor(traced, norm) if norm else torch.ones(1, device="cpu")
    kernel: Any = conv.args[1]
    weight = tensor_of(traced, kernel).clone()
    if not _keeps_shape(conv, weight) or factor.abs().min() < LEAST:
        return False
    places = torch.arange(len(weight), device="cpu")
    weight[places, places, weight.shape[2] // 2, weight.shape[3] // 2] += 1 / factor
    give(traced, conv, kernel, f"{conv.name}_and_shortcut", weight)
    return True


def _only_for_one(node: object, target: object) -> Node | None:
    """The node if it calls this function, and one other node uses it."""
    if isinstance(node, Node) and node.target is target and len(node.users) == 1:
        return node
    return None


def _factor(traced: GraphModule, norm: Node) -> Tensor:
    """What a BatchNorm in eval mode multiplies each channel by."""
    given: Any = norm.args
    _, weight, _, _, variance, _, _, epsilon, _ = given
    spread = (tensor_of(traced, variance) + epsilon).sqrt()
    return spread.reciprocal() if weight is None else tensor_of(traced, weight) / spread


def _keeps_shape(conv: Node, weight: Tensor) -> bool:
    """Whether each pixel of a convolution's output lies over the same pixel of its input."""
    out_channels, in_channels, *size = weight.shape
    same = conv.all_input_nodes[0].meta["val"].shape == conv.meta["val"].shape
    stride: Any = conv.args[3] if len(conv.args) > 3 else (1, 1)
    odd = all(side % 2 for side in size)
    return same and out_channels == in_channels and odd and set(stride) == {1}


def tensor_of(traced: GraphModule, node: Node) -> Tensor:
    """The tensor that a node stands for."""
    tensor: Tensor = operator.attrgetter(str(node.target))(traced)
    return tensor.detach()


def give(traced: GraphModule, user: Node, old: Node, name: str, tensor: Tensor) -> None:
    """Gives `user` a tensor of this name in place of the one that the node `old` stands for."""
    traced.register_buffer(name, tensor)
    with traced.graph.inserting_before(user):
        user.replace_input_with(old, traced.graph.get_attr(name))
