"""Comparisons of several networks."""

import pytest
import torch
from conftest import randomize_norms
from torch import nn

from mnist_zoo import compare, lenet5, mini_resnet, resnet18


def test_comparison_as_text_markdown_and_rows():
    table = compare(["lenet5", mini_resnet()])
    assert [(row.name, row.params, row.macs) for row in table.rows] == [
        ("lenet5", 44_426, 281_640),
        ("MiniResNet", 41_514, 2_013_184),
    ]
    assert str(table).splitlines()[2].split() == [
        "MiniResNet", "1×28×28", "41,514", "2,013,184", "4,026,368", "0.16",
    ]  # fmt: skip
    assert (
        table.markdown().splitlines()[0]
        == "| network | input | parameters | MACs | FLOPs | size (MB) |"
    )
    assert table.markdown() == table._repr_markdown_()
    named = compare({"a": resnet18(), "b": randomize_norms(resnet18(conv_bias=True))})
    assert [row.name for row in named.rows] == ["a", "b"]
    assert compare({"a": "lenet5"}).rows[0].params == 44_426
    with pytest.raises(ValueError, match="did you mean 'lenet5'"):
        compare(["lenet"])
    with pytest.raises(TypeError, match=r"`models` \(='lenet5'\) must be several"):
        compare("lenet5")
    with pytest.raises(RuntimeError, match="a: `model` failed"):
        compare({"a": lenet5()}, (3, 28, 28))


def test_comparison_needs_no_random_numbers_and_numbers_equal_names():
    before = torch.get_rng_state()
    compare(["lenet5", "resnet18"])
    assert torch.equal(before, torch.get_rng_state())
    shared = nn.Linear(100, 100)
    table = compare([nn.Sequential(shared, shared), nn.Sequential(shared)], (100,))
    assert [row.name for row in table.rows] == ["Sequential", "Sequential (2)"]
    assert [row.size_bytes for row in table.rows] == [10_100 * 4] * 2


def test_comparison_marks_incomplete_macs():
    attention = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    table = compare({"attention": attention, "linear": nn.Linear(8, 8)}, (4, 8))
    assert [row.macs_incomplete for row in table.rows] == [True, False]
    assert f"{table.rows[0].macs:,}*" in str(table)
    assert str(table).endswith("* incomplete: thop has no rule for some operations")
