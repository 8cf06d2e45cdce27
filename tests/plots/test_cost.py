"""Accuracy against cost, read from the points and texts of the figure."""

import math
from itertools import combinations

import numpy as np
import pytest
import torch

pytest.importorskip("matplotlib", reason="the examples' extra is not installed")

from matplotlib.path import Path
from matplotlib.text import Annotation, Text
from plots_cases import data, drawn, labels_of, runs

from mnist_zoo import compare, list_models
from mnist_zoo.plots.cost import accuracy_against_cost

PLACES = [*enumerate("abc", 1)]


def test_accuracy_against_cost_shows_means_and_standard_deviations():
    figure = drawn(accuracy_against_cost(runs()))
    for axes, costs in zip(figure.axes, [(44_426, 41_514), (281_640, 2_013_184)], strict=True):
        several, one = axes.containers
        assert several.get_label() == "lenet5"
        assert data(several.lines[0]) == [[costs[0]], [pytest.approx(0.990)]]
        (bar,) = several.lines[2][0].get_segments()
        assert bar[:, 1] == pytest.approx([0.988, 0.992])
        assert data(one.lines[0]) == [[costs[1]], [0.991]]
        assert not one.has_yerr
        assert axes.get_xscale() == "log"
    assert [axes.get_xlabel() for axes in figure.axes] == ["parameters", "MACs per image"]
    assert all(label.endswith("%") for label in labels_of(figure.axes[0].get_yticklabels()))


@pytest.mark.parametrize("costs", [("latency (s)",), ("MACs", "latency (s)", "size (bytes)")])
def test_each_cost_has_a_plot_of_its_own(costs):
    rows = [(name, 0.9 + place / 100, *[place * 0.003] * len(costs)) for place, name in PLACES]
    figure = drawn(accuracy_against_cost(rows, costs=costs))
    assert [axes.get_xlabel() for axes in figure.axes] == [*costs]
    for axes in figure.axes:
        found = [data(container.lines[0])[0] for container in axes.containers]
        assert found == [[pytest.approx(place * 0.003)] for place, _ in PLACES]


def test_groups_share_colour_and_marker_and_the_rest_is_others():
    rows = [(name, 0.9 + place / 100, 10**place, 10**place) for place, name in enumerate("abcd", 1)]
    figure = drawn(accuracy_against_cost(rows, groups={"a": "small", "b": "small", "c": "large"}))
    a, b, c, other = (container.lines[0] for container in figure.axes[0].containers)
    looks = [(line.get_color(), line.get_marker()) for line in (a, b, c)]
    assert looks[0] == looks[1]
    assert all(mine != theirs for mine, theirs in zip(*looks[1:], strict=True))
    assert (other.get_color(), other.get_markerfacecolor()) == ("0.45", "white")
    assert a.get_markerfacecolor() == a.get_color()
    texts = [text.get_text() for text in figure.legends[0].texts]
    assert texts == ["small", "large", "others' results"]
    assert figure.axes[0].get_yscale() == "logit"


def test_an_accuracy_of_one_makes_the_axis_linear():
    rows = [("a", 1.0, 10, 10), ("b", 0.9, 100, 100)]
    assert drawn(accuracy_against_cost(rows)).axes[0].get_yscale() == "linear"


def test_a_label_is_right_of_its_point_if_there_is_space():
    rows = [(f"net{place}", 0.9 + place / 100, 10**place, 10**place) for place in range(1, 6)]
    for axes in drawn(accuracy_against_cost(rows)).axes:
        assert [name.get_position()[0] for name in axes.texts] == [8] * 5


def many():
    """Networks of which some have almost the same costs."""
    families = ("lenet*", "mini_[cgr]*", "plain*", "resnet*")
    names = [name for family in families for name in list_models(family)]
    return [
        (name, 0.985 + place * 7 % 5 / 500, int(4e4 * 4 ** (place // 3)), int(3e5 * 1.6**place))
        for place, name in enumerate(names)
    ]


def close():
    """Networks of which some are almost the same in both."""
    return [
        ("lenet5", 0.9940, 44_426, 281_640),
        ("lenet5_conv_residual", 0.9947, 49_098, 357_416),
        ("lenet5_fc_residual", 0.9945, 304_106, 541_800),
        ("digitnet_1k", 0.9830, 986, 409_424),
        ("digitnet_6k", 0.9954, 5_986, 3_451_784),
        ("digitnet_20k", 0.9953, 18_554, 4_097_536),
        ("digitnet_50k", 0.9959, 48_154, 6_323_008),
        ("digitnet_150k", 0.9962, 132_762, 12_522_752),
        ("digitnet_400k", 0.9964, 387_290, 12_570_112),
        ("MLP (2010)", 0.9965, 12_115_010, 12_107_500),
        ("mini_convnet", 0.9911, 36_042, 364_352),
        ("mini_googlenet", 0.9941, 97_298, 6_019_200),
        ("mini_resnet", 0.9956, 41_514, 2_013_184),
        ("resnet18", 0.9954, 11_175_370, 33_184_000),
        ("resnet_cnn", 0.9956, 21_280_970, 260_881_408),
    ]


@pytest.mark.parametrize("rows", [many(), close()], ids=["many", "close"])
def test_labels_do_not_overlap_nor_touch_lines_of_others(rows):
    figure = drawn(accuracy_against_cost(rows))
    for axes in figure.axes:
        labels = [text for text in axes.texts if isinstance(text, Annotation)]
        assert sorted(labels_of(labels)) == sorted(row[0] for row in rows)
        boxes = [Text.get_window_extent(label) for label in labels]
        assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
        for label, own in zip(labels, boxes, strict=True):
            point = axes.transData.transform(label.xy)
            line = Path([point, ((own.x0 + own.x1) / 2, (own.y0 + own.y1) / 2)])
            assert not any(line.intersects_bbox(box, False) for box in boxes if box is not own)
        assert all(axes.bbox.containsx(x) for box in boxes for x in (box.x0, box.x1))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], r"`results` \(=\[\]\) must hold at least one"),
        ([("a", 99.1, 10, 10)], r"accuracy \(=99.1\) of a must be from 0 to 1"),
        ([("a", math.nan, 10, 10)], r"accuracy \(=nan\) of a must be from 0 to 1"),
        ([("a", 0.9, 10, 0)], r"costs \(=\(10, 0\)\) of a must be finite and above 0"),
        ([("a", 0.9, math.nan, 10)], r"costs \(=\(nan, 10\)\) of a must be finite and above 0"),
        ([("a", 0.9, 10)], r"costs \(=\(10,\)\) of a must be 2: parameters, MACs per image"),
        ([("a", 0.9, 10, 10), ("a", 0.9, 11, 10)], r"\(10, 10\) and \(11, 10\).* must be the same"),
    ],
)
def test_accuracy_against_cost_errors(rows, message):
    with pytest.raises(ValueError, match=message):
        accuracy_against_cost(rows)


@pytest.mark.parametrize("number", [np.float32, torch.tensor])
def test_numbers_of_numpy_and_torch_are_drawn_like_pythons(number):
    rows = [("a", 0.5, 10, 20), ("a", 0.75, 10, 20), ("b", 0.875, 30, 40)]
    wanted = accuracy_against_cost(rows)
    found = accuracy_against_cost([(name, *map(number, values)) for name, *values in rows])
    for ours, theirs in zip(found.axes, wanted.axes, strict=True):
        for one, other in zip(ours.lines, theirs.lines, strict=True):
            assert np.array_equal(one.get_xydata(), other.get_xydata())


@pytest.mark.parametrize("costs", [(), "latency (s)"])
def test_costs_must_be_names(costs):
    with pytest.raises(ValueError, match=r"`costs` \(=.*\) must be a sequence of"):
        accuracy_against_cost(runs(), costs=costs)


@pytest.mark.parametrize(
    "accuracies", [[0.988], [0.99, 0.99], [0.9915, 0.9935], [0.988, 0.991], [0.98, 0.999]]
)
def test_points_are_within_an_axis_with_numbers(accuracies):
    rows = [(f"net {place}", value, 10**place, 5) for place, value in enumerate(accuracies)]
    axes = drawn(accuracy_against_cost(rows)).axes[0]
    bottom, top = axes.get_ylim()
    assert all(bottom < value < top for value in accuracies)
    numbers = [float(label.removesuffix("%")) for label in labels_of(axes.get_yticklabels())]
    assert len(numbers) >= 2
    assert 100 * bottom <= min(numbers) < max(numbers) <= 100 * top


@pytest.mark.parametrize(
    "rows",
    [
        {"lenet5": (0.99, 44_426, 281_640)},
        compare(["lenet5"]).rows,
        [("lenet5",)],
        [("lenet5", "0.99", 44_426, 281_640)],
        [(0.99, "lenet5", 44_426, 281_640)],
        [(0.99, 44_426, 281_640)],
        [()],
    ],
)
def test_what_is_no_row_of_results_is_told(rows):
    with pytest.raises(TypeError, match=r"`results` must hold rows of name, accuracy and costs"):
        accuracy_against_cost(rows)


def test_groups_must_be_a_mapping():
    with pytest.raises(TypeError, match=r"`groups` \(=\['small'\]\) must be a mapping"):
        accuracy_against_cost(runs(), groups=["small"])
