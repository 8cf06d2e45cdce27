"""ONNX files that read other files or run without an end are refused before ONNX Runtime."""

import json
from contextlib import suppress

import numpy as np
import pytest
from export_cases import onnx
from hypothesis import given, settings
from hypothesis import strategies as st

from mnist_zoo import mini_resnet
from mnist_zoo.export import ExportError, export, load_session
from mnist_zoo.export.onnx_check import check_program

METADATA = json.dumps(
    {
        "classes": list("0123456789"),
        "preprocessing": {"image_size": 28},
        "output": "logits",
    }
)


def tensor(name, *places):
    """784×10 numbers that stand in the file, or in another one."""
    made = onnx.numpy_helper.from_array(np.ones((784, 10), np.float32), name)
    for key, value in places:
        made.ClearField("raw_data")
        made.data_location = onnx.TensorProto.EXTERNAL
        entry = made.external_data.add()
        entry.key, entry.value = key, value
    return made


def network(weights=None, nodes=(), functions=()):
    """A network of one layer, and what a stranger adds to it."""
    helper, real = onnx.helper, onnx.TensorProto.FLOAT
    layer = [
        helper.make_node("Flatten", ["digits"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["logits"]),
    ]
    given = helper.make_tensor_value_info("digits", real, ["n", 1, 28, 28])
    output = helper.make_tensor_value_info("logits", real, ["n", 10])
    initializers = [weights or tensor("w")]
    graph = helper.make_graph([*nodes, *layer], "g", [given], [output], initializers)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9, functions=functions)
    model.metadata_props.add(key="mnist_zoo", value=METADATA)
    return model


def inside(node, depth=1):
    """A node inside the branches of others."""
    helper = onnx.helper
    for _ in range(depth):
        out = helper.make_tensor_value_info(node.output[0], onnx.TensorProto.FLOAT, None)
        branch, other = (helper.make_graph(nodes, "b", [], [out]) for nodes in ([node], []))
        node = helper.make_node("If", ["yes"], ["x"], then_branch=branch, else_branch=other)
    return node


def constant(*places):
    return onnx.helper.make_node("Constant", [], ["x"], value=tensor("t", *places))


def loop():
    return onnx.helper.make_node("Loop", ["", ""], ["x"], body=onnx.GraphProto())


def function(node):
    opsets = [onnx.helper.make_opsetid("", 18)]
    return onnx.helper.make_function("own", "f", [], ["x"], [node], opsets)


HERE = ("location", "weights.bin")
FOREIGN = {
    "weights": (lambda: network(tensor("w", HERE)), "another file"),
    "weights above": (lambda: network(tensor("w", ("location", "../../etc/passwd"))), "another"),
    "no place": (lambda: network(tensor("w", ("offset", "0"))), "another file"),
    "constant": (lambda: network(nodes=[constant(HERE)]), "another file"),
    "inside": (lambda: network(nodes=[inside(constant(HERE), 3)]), "another file"),
    "in a function": (lambda: network(functions=[function(constant(HERE))]), "another file"),
    "loop": (lambda: network(nodes=[loop()]), r"a loop \(Loop\)"),
    "loop inside": (lambda: network(nodes=[inside(loop(), 3)]), "a loop"),
    "loop in a function": (lambda: network(functions=[function(loop())]), "a loop"),
    "deep": (lambda: network(nodes=[inside(constant(), 30)]), "too deep"),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_files_that_reach_beyond_themselves_are_refused_by_name(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.ones(7840, np.float32).tofile("weights.bin")
    make, reason = FOREIGN[case]
    (tmp_path / "foreign.onnx").write_bytes(make().SerializeToString())
    with pytest.raises(ExportError, match=rf"foreign\.onnx' cannot be read .*{reason}"):
        load_session("foreign.onnx")


def test_a_plain_foreign_network_and_our_own_pass(tmp_path):
    (tmp_path / "plain.onnx").write_bytes(network().SerializeToString())
    assert load_session(tmp_path / "plain.onnx").num_classes == 10
    export(mini_resnet(), tmp_path / "ours.onnx")
    check_program((tmp_path / "ours.onnx").read_bytes())
    check_program(network(nodes=[inside(constant(), 3)]).SerializeToString())


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=200), st.integers(0, 400), st.booleans())
def test_any_bytes_pass_or_are_a_value_error(content, place, mixed):
    plain = network().SerializeToString()[:400]
    with suppress(ValueError):
        check_program(plain[:place] + content + plain[place:] if mixed else content)
