"""Blocks as the root of a graph of torch.fx, which torch.jit.script compiles."""

import pytest
import torch

from mnist_zoo import (
    BasicBlock,
    Bottleneck,
    DenseBlock,
    InceptionA,
    ResidualBlock,
    ResidualUnit,
    Transition,
)

X = torch.randn(2, 16, 8, 8)


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore:The TorchScript type system:UserWarning")  # fx's own
@pytest.mark.parametrize(
    "block",
    [
        BasicBlock(16, 16),
        Bottleneck(16, 4),
        DenseBlock(16, 4, 2),
        InceptionA(16),
        ResidualBlock(16, 8, stride=2),
        ResidualUnit(16, 16),
        Transition(16),
    ],
    ids=lambda block: type(block).__name__,
)
def test_graphs_of_blocks_can_be_scripted(block):
    graph = torch.fx.symbolic_trace(block.eval())
    assert torch.allclose(torch.jit.script(graph)(X), block(X), atol=1e-5)
