"""Diagrams, read from the boxes and texts of the figure."""

from itertools import combinations

import pytest
import torch
from plots_cases import boxes, drawn, labels_of
from torch import nn

from mnist_zoo import get_model, lenet5, mini_googlenet, mini_resnet
from mnist_zoo.plots.diagram import draw


def test_a_diagram_shows_layers_shapes_and_parameters():
    texts = labels_of(drawn(draw(mini_resnet())).axes[0].texts)
    for text in ("mini_resnet", "41,514 parameters, 2,013,184 MACs", "input 1×28×28", "Conv2d 5×5"):
        assert text in texts
    assert texts.count("416 parameters") == 1
    assert texts.count("16×12×12") >= 3
    assert texts.count("ResidualBlock") == 3  # two boxes, and the title of what is inside
    assert texts.count("+") == 1


def test_a_diagram_shows_branches_side_by_side():
    texts = labels_of(drawn(draw(mini_googlenet())).axes[0].texts)
    assert "branch5x5_2" in texts
    figure = draw(mini_googlenet())
    columns = {left for left, *_ in boxes(figure)}
    assert len(columns) == 5  # the network, and four branches


@pytest.mark.parametrize(
    "name", ["lenet5_conv_residual", "resnet18", "mini_densenet", "preact_resnet20", "densenet121"]
)
def test_boxes_and_texts_of_a_diagram_do_not_overlap(name):
    with torch.device("meta"):
        figure = drawn(draw(get_model(name)))
    width, height = figure.get_size_inches()
    edges = boxes(figure)
    for left, upper, right, lower in edges:
        assert 0 < left < right < width
        assert 0 < upper < lower < height
    for (l1, u1, r1, b1), (l2, u2, r2, b2) in combinations(edges, 2):
        assert r1 <= l2 or r2 <= l1 or b1 <= u2 or b2 <= u1
    texts = [text.get_window_extent() for text in figure.axes[0].texts]
    assert not any(a.overlaps(b) for a, b in combinations(texts, 2))
    assert all(t.x0 >= 0 and t.x1 <= width * figure.dpi for t in texts)


def test_a_diagram_shows_the_number_of_equal_blocks():
    texts = labels_of(draw(get_model("resnet34")).axes[0].texts)
    assert [text for text in texts if text.startswith("×")] == ["×3", "×3", "×5", "×2"]


def test_a_diagram_can_be_saved_as_svg_and_png(tmp_path):
    figure = draw(lenet5())
    for suffix in ("svg", "png"):
        figure.savefig(tmp_path / f"lenet5.{suffix}")
    assert "<svg" in (tmp_path / "lenet5.svg").read_text()[:1000]
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_a_diagram_of_a_network_without_input_size_needs_inputs():
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten())
    assert "input 2×6×6" in labels_of(draw(net, (2, 6, 6)).axes[0].texts)
    with pytest.raises(ValueError, match=r"`inputs` must be given"):
        draw(net)


class _Attention(nn.Module):
    def forward(self, x):
        return nn.functional.scaled_dot_product_attention(x, x, x)


def test_a_title_says_where_operations_are_not_counted():
    net = nn.Sequential(nn.Linear(8, 8), _Attention())
    texts = labels_of(draw(net, (1, 6, 8)).axes[0].texts)
    assert "72 parameters, at least 384 MACs" in texts
