"""The network of a page, computed by torch: each step means what `network.js` makes of it."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Step = dict[str, Any]


def network_of(page: bytes) -> dict[str, Any]:
    """The network in a page: its steps, shapes and weights."""
    found = re.search(r'<script id="network" type="application/json">(.*?)</script>', page.decode())
    return json.loads(found[1]) if found else {}


def run(network: dict[str, Any], images: Tensor) -> Tensor:
    """The outputs (N, classes) of images (N, 1, 28, 28) of numbers in 0…255."""
    flat = torch.cat(
        [
            _numbers(network["weights"], "<f2" if network["half"] else "<f4"),
            _numbers(network["others"], "<f4"),
        ]
    )
    sizes = [math.prod(shape) for shape in network["shapes"]]
    constants = [
        values.view(tuple(shape))
        for values, shape in zip(flat.split(sizes), network["shapes"], strict=True)
    ]
    return torch.cat([_one(network["steps"], constants, image) for image in images.split(1)])


def _numbers(text: str, dtype: str) -> Tensor:
    return torch.from_numpy(np.frombuffer(base64.b64decode(text), dtype).astype(np.float32))


def _one(steps: list[Step], constants: list[Tensor], image: Tensor) -> Tensor:
    tensors = [image.float(), *constants]
    for step in steps:
        inputs = [tensors[place] for place in step["inputs"]]
        tensors.append(OPERATORS[step["op"]](step, *inputs).view(tuple(step["shape"])))
    return tensors[-1]


def _conv(step: Step, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    tall, wide = (
        (size - 1) * d + 1 for size, d in zip(weight.shape[2:], step["dilations"], strict=True)
    )
    x = F.pad(x, _beyond(step, x, tall, wide))
    return F.conv2d(x, weight, bias, step["strides"], 0, step["dilations"], step["group"])


def _pool(step: Step, x: Tensor) -> Tensor:
    beyond = _beyond(step, x, *step["kernel"])
    if step["op"] == "MaxPool":
        return F.max_pool2d(F.pad(x, beyond, value=-math.inf), step["kernel"], step["strides"])
    top, left, bottom, right = step["pads"]
    inside = F.pad(torch.ones_like(x), (left, right, top, bottom), value=float(step["padded"]))
    room = (beyond[0] - left, beyond[1] - right, beyond[2] - top, beyond[3] - bottom)
    sums, counts = (
        F.avg_pool2d(values, step["kernel"], step["strides"])
        for values in (F.pad(x, beyond), F.pad(inside, room))
    )
    return sums / counts


def _beyond(step: Step, x: Tensor, tall: int, wide: int) -> tuple[int, int, int, int]:
    """How far the windows reach beyond the left, right, upper and lower edge."""
    (top, left, *_), (down, across), shape = step["pads"], step["strides"], step["shape"]
    bottom = (shape[2] - 1) * down + tall - top - x.shape[2]
    right = (shape[3] - 1) * across + wide - left - x.shape[3]
    return (left, right, top, bottom)


OPERATORS: dict[str, Callable[..., Tensor]] = {
    "Conv": _conv,
    "MaxPool": _pool,
    "AveragePool": _pool,
    "Linear": lambda step, x, weight, *bias: F.linear(
        x, weight, bias[0].flatten() if bias else None
    ),
    "Mean": lambda step, x: x.mean((2, 3)),
    "Transpose": lambda step, x: x.permute(step["perm"]).contiguous(),
    "Reshape": lambda step, x: x,
    "Concat": lambda step, *parts: torch.cat(parts, 1),
    "Add": lambda step, a, b: a + b,
    "Sub": lambda step, a, b: a - b,
    "Mul": lambda step, a, b: a * b,
    "Div": lambda step, a, b: a / b,
    "Relu": lambda step, x: x.relu(),
    "LeakyRelu": lambda step, x: F.leaky_relu(x, step["alpha"]),
    "Clip": lambda step, x: x.clamp(step["low"], step["high"]),
    "Sigmoid": lambda step, x: x.sigmoid(),
    "Tanh": lambda step, x: x.tanh(),
    "HardSigmoid": lambda step, x: (step["alpha"] * x + step["beta"]).clamp(0, 1),
    "HardSwish": lambda step, x: F.hardswish(x),
}
