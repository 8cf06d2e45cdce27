"""The steps of a page: a graph of ONNX's operators for one image, with few of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ..program import ExportError

if TYPE_CHECKING:
    import onnx

    Array: TypeAlias = np.ndarray[Any, Any]

Step: TypeAlias = dict[str, Any]
PLAIN = ("Relu", "Sigmoid", "Tanh", "HardSwish", "Add", "Sub", "Mul", "Div")
SHAPES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")
POOLS = ("MaxPool", "AveragePool")
NONE = ("Identity", "Dropout", "Cast")  # a page has float numbers only


@dataclass
class Graph:
    """What a page computes.

    Attributes:
        weights: Weights of convolutions and linear layers, which may be stored in half precision.
        others: All other constants.
        steps: Each with its operator, the numbers of its inputs and its shape. Number 0 is the
            image, then come the weights, the others, and the results of the steps.
        features: The number of the last feature maps, where the graph gives them too.
    """

    weights: list[Array]
    others: list[Array]
    steps: list[Step]
    features: int | None


def graph_of(proto: onnx.ModelProto) -> Graph:
    """Converts an ONNX graph for one image; it may give its last feature maps after the logits.

    Raises:
        ExportError: If it has an operator that pages lack.
    """
    import onnx

    inferred = onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True).graph
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in inferred.initializer}
    shapes = {
        value.name: tuple(size.dim_value for size in value.type.tensor_type.shape.dim)
        for value in (*inferred.value_info, *inferred.output)
    }
    writer = _Writer(values, shapes, inferred.input[0].name)
    for node in inferred.node:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        writer.add(node.op_type, [*node.input], node.output[0], attributes)
    return writer.graph(*(output.name for output in inferred.output))


class _Writer:
    """Collects steps; tensors have names until `graph` numbers them."""

    def __init__(
        self, values: dict[str, Array], shapes: dict[str, tuple[int, ...]], image: str
    ) -> None:
        self.values = values
        self.shapes = shapes
        self.image = image
        self.steps: list[tuple[Step, list[str], str]] = []
        self.same: dict[str, str] = {}  # by the output of a step that does nothing, its input

    def add(self, operator: str, inputs: list[str], output: str, given: dict[str, Any]) -> None:
        inputs = [self.same.get(name, name) for name in inputs]
        if operator in NONE:
            self.same[output] = inputs[0]
        elif operator == "Constant":
            import onnx

            self.values[output] = onnx.numpy_helper.to_array(given["value"])
        elif operator == "BatchNormalization":
            scale, bias, mean, variance = (self.values[name] for name in inputs[1:5])
            factor = scale / np.sqrt(variance + given.get("epsilon", 1e-5))
            factors = self.constant(f"{output} factor", factor)
            self.shapes[f"{output} scaled"] = self.shapes[output]
            self.step({"op": "Mul"}, [inputs[0], factors], f"{output} scaled")
            shift = self.constant(f"{output} shift", bias - mean * factor)
            self.step({"op": "Add"}, [f"{output} scaled", shift], output)
        else:
            step, names = self.converted(operator, inputs, output, given)
            self.step(step, names, output)

    def constant(self, name: str, channels: Array) -> str:
        self.values[name] = channels.astype(np.float32).reshape(1, -1, 1, 1)
        return name

    def step(self, step: Step, inputs: list[str], output: str) -> None:
        self.steps.append((step | {"shape": self.shapes[output]}, inputs, output))

    def shape(self, name: str) -> tuple[int, ...]:
        return self.values[name].shape if name in self.values else self.shapes[name]

    def converted(
        self, operator: str, inputs: list[str], output: str, given: dict[str, Any]
    ) -> tuple[Step, list[str]]:
        """The step of a node, and the names of its inputs."""
        step: Step = {"op": operator}
        if operator in PLAIN:
            return step, inputs
        if operator in SHAPES:
            return {"op": "Reshape"}, inputs[:1]
        if operator == "Conv" and inputs[1] not in self.values:
            operator = "Conv with computed weights"
        if operator in ("Conv", *POOLS) and given.get("auto_pad", b"NOTSET") == b"NOTSET":
            convert: Callable[..., Step | None] = _conv if operator == "Conv" else _pool
            found = convert(given)
            if found is not None and len(self.shape(output)) == 4:
                return step | found, inputs
        if operator == "Concat" and given["axis"] in (1, 1 - len(self.shape(output))):
            return step, inputs
        if operator == "Transpose" and given["perm"][0] == 0:
            return step | {"perm": given["perm"]}, inputs
        if operator in ("GlobalAveragePool", "ReduceMean") and self.is_over_maps(inputs, given):
            return {"op": "Mean"}, inputs[:1]
        if operator in ("Gemm", "MatMul") and self.is_linear(inputs, output, given):
            return {"op": "Linear"}, [inputs[0], self.rows(inputs[1], given), *inputs[2:]]
        if operator == "LeakyRelu":
            return step | {"alpha": given.get("alpha", 0.01)}, inputs
        if operator == "HardSigmoid":
            return step | {"alpha": given.get("alpha", 0.2), "beta": given.get("beta", 0.5)}, inputs
        if operator == "Clip" and all(name in self.values for name in inputs[1:] if name):
            low, high = ([*inputs[1:], "", ""])[:2]
            limits = {k: float(self.values[n]) for k, n in (("low", low), ("high", high)) if n}
            return step | {"low": -1e38, "high": 1e38} | limits, inputs[:1]
        raise ExportError(
            f"a page has no operator {operator} of this kind; it has those of the LeNets, the mini "
            "networks and other small convolutional ones"
        )

    def is_over_maps(self, inputs: list[str], given: dict[str, Any]) -> bool:
        """Whether a mean is that of each map (1, C, H, W)."""
        axes = self.values[inputs[1]] if len(inputs) > 1 else given.get("axes", (2, 3))
        return len(self.shape(inputs[0])) == 4 and {int(axis) % 4 for axis in axes} == {2, 3}

    def is_linear(self, inputs: list[str], output: str, given: dict[str, Any]) -> bool:
        """Whether a product is that of one row by weights, with a number added to each result."""
        plain = {"alpha": 1.0, "beta": 1.0, "transA": 0}
        if len(inputs) > 2 and math.prod(self.shape(inputs[2])) != self.shape(output)[-1]:
            return False
        return (
            all(given.get(name, value) == value for name, value in plain.items())
            and inputs[1] in self.values
            and math.prod(self.shape(inputs[0])) == self.shape(inputs[0])[-1]
            and self.values[inputs[1]].ndim == 2
        )

    def rows(self, name: str, given: dict[str, Any]) -> str:
        """Weights with a row for each result."""
        if given.get("transB", 0):
            return name
        self.values[f"{name} rows"] = self.values[name].T
        return f"{name} rows"

    def graph(self, output: str, features: str | None = None) -> Graph:
        weights = [names[1] for step, names, _ in self.steps if step["op"] in ("Conv", "Linear")]
        used = [name for _, names, _ in self.steps for name in names if name in self.values]
        weights, others = list(dict.fromkeys(weights)), list(dict.fromkeys(used))
        others = [name for name in others if name not in weights]
        names = [self.image, *weights, *others, *(output for _, _, output in self.steps)]
        number = {name: place for place, name in enumerate(names)}
        steps = [
            step | {"inputs": [number[name] for name in inputs if name]}
            for step, inputs, _ in self.steps
        ]
        if self.same.get(output, output) != names[-1]:
            raise ExportError("a page needs a network whose last step gives its output")
        return Graph(
            [np.asarray(self.values[name], np.float32) for name in weights],
            [np.asarray(self.values[name], np.float32) for name in others],
            steps,
            None if features is None else number[self.same.get(features, features)],
        )


def _conv(given: dict[str, Any]) -> Step:
    return {
        "strides": given.get("strides", [1, 1]),
        "dilations": given.get("dilations", [1, 1]),
        "pads": given.get("pads", [0, 0, 0, 0])[:2],
        "group": given.get("group", 1),
    }


def _pool(given: dict[str, Any]) -> Step | None:
    if any(size != 1 for size in given.get("dilations", [1, 1])):
        return None
    return {
        "kernel": given["kernel_shape"],
        "strides": given.get("strides", [1, 1]),
        "pads": given.get("pads", [0, 0, 0, 0]),
        "padded": bool(given.get("count_include_pad", 0)),
    }
