"""What the pictures show, read from their lines, bars, texts and images; and nothing is touched."""

import copy
import math
import pickle
import subprocess
import sys
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("matplotlib", reason="the examples' extra is not installed")
pytest.importorskip("mlxtend", reason="the examples' extra is not installed")

from matplotlib.colors import to_hex
from matplotlib.patches import FancyBboxPatch
from matplotlib.text import Annotation, Text

from mnist_zoo import get_model, lenet5, list_models, mini_googlenet, mini_resnet, resnet18
from mnist_zoo.data import Augmentation, augment, load_mnist
from mnist_zoo.evaluation import Metrics
from mnist_zoo.pictures.preprocessing import Preprocessing
from mnist_zoo.plots.cost import accuracy_against_cost
from mnist_zoo.plots.data import augmented
from mnist_zoo.plots.diagram import draw
from mnist_zoo.plots.evaluation import class_accuracy, confusion_matrix, mistakes
from mnist_zoo.plots.inside import feature_maps, filters
from mnist_zoo.plots.training import curves
from mnist_zoo.training.history import History, ValidationPoint
from mnist_zoo.training.recipes import get_recipe

STEPS = 40  # an epoch


@pytest.fixture(scope="module")
def digits():
    return load_mnist("test", source="sample")


def measured(labels, wrong=60, seed=0):
    """Metrics of a network that is right but for some random pictures of the first class on."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(len(labels), 10, generator=generator)
    logits[torch.arange(len(labels)), labels] += 20
    chosen = torch.randperm(len(labels), generator=generator)[:wrong]
    logits[chosen, (labels[chosen] + 1 + chosen % 3) % 10] += 30
    return Metrics.from_logits(logits, labels)


def history(steps=3 * STEPS + 10, every=16, factor=1.0):
    loss = [factor * 2.3 * math.exp(-step / 30) + 0.05 for step in range(steps)]
    looks = [s for s in range(1, steps + 1) if s % STEPS == 0 or (every and s % every == 0)]
    return History(
        get_recipe("lenet5_report"),
        STEPS,
        loss=loss,
        accuracy=[1 - value / 3 for value in loss],
        lr=[0.1] * steps,
        evaluations=[
            ValidationPoint(s, s / STEPS, loss[s - 1], 1 - loss[s - 1] / 4) for s in looks
        ],
    )


def data(line):
    return [list(values) for values in line.get_data()]


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def labels_of(ticks):
    return [tick.get_text() for tick in ticks]


def shown(figure):
    """The pictures on the first axes, row by row."""
    return [np.asarray(image.get_array()) for image in figure.axes[0].images]


def drawn(figure):
    figure.draw_without_rendering()
    return figure


def numpy(tensor):
    return tensor.detach().float().numpy()


# --- curves ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("place", "what"), [(0, "loss"), (1, "accuracy")])
def test_curves_are_the_history(place, what):
    run = history()
    batches, training, validation = drawn(curves(run)).axes[place].lines
    values = getattr(run, what)
    window = STEPS // 20
    x, y = data(batches)
    assert y == pytest.approx([sum(values[i : i + window]) / window for i in range(len(y))])
    assert x == [(i + window) / STEPS for i in range(len(values) - window + 1)]
    assert data(training) == [[0.5, 1.5, 2.5], [getattr(e, f"train_{what}") for e in run.epochs]]
    looks = run.evaluations
    assert data(validation) == [[e.epoch for e in looks], [getattr(e, what) for e in looks]]
    assert any(e.epoch % 1 for e in looks)
    assert (training.get_linestyle(), validation.get_linestyle()) == ("--", "-")
    assert batches.get_alpha() < 0.5


def test_curves_have_the_loss_in_nats_and_the_accuracy_in_percent():
    loss, accuracy = drawn(curves(history())).axes
    assert (loss.get_xlabel(), accuracy.get_xlabel()) == ("epoch", "epoch")
    assert "nats" in loss.get_ylabel()
    assert loss.get_yscale() == "log"
    assert all(label.endswith("%") for label in labels_of(accuracy.get_yticklabels()))
    assert not any("." in label for label in labels_of(loss.get_xticklabels()))


def test_curves_of_several_runs_have_a_colour_each():
    runs = {"quick": history(), "slow": history(factor=2)}
    figure = curves(runs)
    for axes in figure.axes:
        colours = [to_hex(line.get_color()) for line in axes.lines]
        assert colours == [colours[0]] * 3 + [colours[3]] * 3
        assert colours[0] != colours[3]
    assert data(figure.axes[0].lines[5])[1] == [e.loss for e in runs["slow"].evaluations]
    assert legend(figure) == ["quick", "slow", "training", "validation"]


def test_curves_of_many_runs_never_share_a_colour():
    figure = curves({f"seed {seed}": history(every=None) for seed in range(12)})
    assert len({to_hex(line.get_color()) for line in figure.axes[0].lines}) == 12


def test_curves_of_a_history_from_a_file(tmp_path):
    history().save(tmp_path / "history.json")
    read = History.load(tmp_path / "history.json")
    assert read.model is None
    there, here = curves(read), curves(history())
    for theirs, ours in zip(there.axes, here.axes, strict=True):
        assert [data(line) for line in theirs.lines] == [data(line) for line in ours.lines]


def test_curves_without_validation_and_within_the_first_epoch():
    run = replace(history(), evaluations=[])
    assert legend(drawn(curves(run))) == ["training"]
    figure = drawn(curves(replace(history(steps=STEPS // 2), evaluations=[])))
    batches, training, validation = figure.axes[0].lines
    assert legend(figure) == ["training batches"]
    assert len(data(batches)[0]) == STEPS // 2 - STEPS // 20 + 1
    assert batches.get_alpha() == 1
    assert data(training) == data(validation) == [[], []]
    assert figure.axes[0].get_yscale() == "linear"


@pytest.mark.parametrize("steps", [0, 1])
def test_curves_of_hardly_a_step(steps):
    drawn(curves(history(steps=steps)))


def test_curves_survive_a_loss_that_is_no_number():
    run = history()
    run.loss[50], run.loss[60], run.loss[70] = math.nan, math.inf, 0.0
    drawn(curves(run))


# --- metrics --------------------------------------------------------------------------------


def test_class_accuracy_has_a_bar_a_class(digits):
    metrics = measured(digits.labels)
    axes = drawn(class_accuracy(metrics)).axes[0]
    assert [bar.get_height() for bar in axes.patches] == list(metrics.accuracy_by_class)
    assert labels_of(axes.texts) == [f"{value:.1%}" for value in metrics.accuracy_by_class]
    bottom, top = axes.get_ylim()
    assert 0.5 < bottom < min(metrics.accuracy_by_class) < 1 < top
    assert max(axes.get_yticks()) <= 1


def test_class_accuracy_of_several_networks(digits):
    both = {"one": measured(digits.labels), "other": measured(digits.labels, 200, seed=1)}
    figure = drawn(class_accuracy(both))
    for bars, metrics in zip(figure.axes[0].containers, both.values(), strict=True):
        assert [bar.get_height() for bar in bars] == list(metrics.accuracy_by_class)
        middles = [bar.get_x() + bar.get_width() / 2 for bar in bars]
        assert [round(middle) for middle in middles] == list(range(10))
    expected = [f"{name}: {entry.accuracy:.2%} of all pictures" for name, entry in both.items()]
    assert legend(figure) == expected


def test_class_accuracy_without_pictures_of_a_class():
    labels = torch.arange(9).repeat(3)
    axes = drawn(class_accuracy(measured(labels, wrong=0))).axes[0]
    assert math.isnan(axes.patches[9].get_height())
    assert labels_of(axes.texts) == ["100.0%"] * 9 + [""]


def test_class_accuracy_needs_the_same_classes():
    one = Metrics.from_logits(torch.eye(3), torch.arange(3))
    other = Metrics.from_logits(torch.eye(4), torch.arange(4))
    with pytest.raises(ValueError, match=r"`metrics` must have equally many classes.*3.*4"):
        class_accuracy({"one": one, "other": other})


@pytest.mark.parametrize(("draw", "argument"), [(curves, "histories"), (class_accuracy, "metrics")])
def test_an_empty_mapping_is_an_error(draw, argument):
    with pytest.raises(ValueError, match=f"`{argument}` .* must hold at least one"):
        draw({})


def test_confusion_matrix_has_the_counts(digits):
    metrics = measured(digits.labels)
    axes = drawn(confusion_matrix(metrics)).axes[0]
    cells = {text.get_position(): text.get_text() for text in axes.texts}
    for row, counts in enumerate(metrics.confusion):
        assert [cells[column, row] for column in range(10)] == [str(count) for count in counts]
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("is", "was taken for")
    assert f"{metrics.accuracy:.2%}" in axes.get_title()


def test_confusion_matrix_colours_the_mistakes_alone(digits):
    metrics = measured(digits.labels)
    colours = np.ma.asarray(confusion_matrix(metrics).axes[0].images[0].get_array()).filled(np.nan)
    counts = np.array(metrics.confusion, dtype=float)
    off = ~np.eye(10, dtype=bool)
    assert np.isnan(np.diag(colours)).all()
    assert np.allclose(colours[off] ** 2, counts[off])


def test_confusion_matrix_without_mistakes(digits):
    drawn(confusion_matrix(measured(digits.labels, wrong=0)))


def test_mistakes_are_the_most_confident(digits):
    metrics = measured(digits.labels)
    figure = drawn(mistakes(digits, metrics, rows=2, columns=3))
    first = metrics.mistakes[:6]
    assert labels_of(figure.axes[0].texts) == [
        f"{m.label} → {m.predicted}, {m.probability:.1%}" for m in first
    ]
    for picture, mistake in zip(shown(figure), first, strict=True):
        assert (picture == numpy(digits.images[mistake.index, 0])).all()
    assert figure.get_suptitle() == "60 mistakes in 1,000 pictures, the 6 most confident"


def test_mistakes_stand_above_their_text_without_overlap(digits):
    axes = drawn(mistakes(digits, measured(digits.labels))).axes[0]
    boxes = [image.get_window_extent() for image in axes.images]
    texts = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) == len(texts) == 32
    for box, text in zip(boxes, texts, strict=True):
        assert box.y0 > text.y1 - 2
        assert box.x0 - 10 < text.x0 < text.x1 < box.x1 + 10
    assert not any(a.overlaps(b) for a, b in combinations(texts, 2))
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))


def test_mistakes_fewer_than_cells_and_none(digits):
    assert len(shown(drawn(mistakes(digits, measured(digits.labels, wrong=3))))) == 3
    figure = drawn(mistakes(digits, measured(digits.labels, wrong=0)))
    assert figure.get_suptitle() == "no mistakes in 1,000 pictures"


def test_mistakes_in_colour(digits):
    colour = replace(digits, images=digits.images.repeat(1, 3, 1, 1))
    pictures = shown(drawn(mistakes(colour, measured(digits.labels), rows=1, columns=2)))
    assert [picture.shape for picture in pictures] == [(28, 28, 3)] * 2


def test_mistakes_need_the_pictures_that_were_measured(digits):
    metrics = measured(digits.labels)
    for others in (digits[:999], digits[torch.arange(999, -1, -1)]):
        with pytest.raises(ValueError, match=r"`digits` .* must be the pictures that `metrics`"):
            mistakes(others, metrics)
    with pytest.raises(ValueError, match=r"`rows` \(=0\)"):
        mistakes(digits, metrics, rows=0)


# --- augmented ------------------------------------------------------------------------------


def test_augmented_shows_the_original_and_its_variants(digits):
    augmentation = Augmentation(rotation=20, shift=2, scale=0.1, elastic=34)
    state = torch.get_rng_state()
    figure = drawn(augmented(digits, augmentation, rows=3, columns=4, seed=5))
    assert torch.get_rng_state().equal(state)
    chosen = digits.images[[0, 499, 999]]
    generator = torch.Generator().manual_seed(5)
    variants = augment(chosen.repeat_interleave(3, 0), augmentation, generator).view(3, 3, 28, 28)
    expected = torch.cat((chosen.float().div(255), variants), 1)
    assert np.allclose(shown(figure), numpy(expected.flatten(0, 1)))
    assert figure.axes[0].get_title() == "rotation ±20°, shift ±2 px, scale ±10%, elastic 34"
    assert labels_of(figure.axes[0].get_xticklabels()) == ["original"]


def test_augmented_takes_what_there_is(digits):
    figure = augmented(digits[:2], Augmentation(), rows=6, columns=2)
    assert len(shown(figure)) == 4
    assert figure.axes[0].get_title() == "no augmentation"
    assert len(shown(augmented(digits, Augmentation(), rows=1, columns=3))) == 3


def test_augmented_errors(digits):
    with pytest.raises(ValueError, match=r"`digits` .* must hold at least one"):
        augmented(digits[:0], Augmentation())
    with pytest.raises(ValueError, match=r"`columns` \(=1\) must be at least 2"):
        augmented(digits, Augmentation(), columns=1)
    with pytest.raises(ValueError, match=r"`rows` \(=0\)"):
        augmented(digits, Augmentation(), rows=0)


# --- diagrams -------------------------------------------------------------------------------


def boxes(figure):
    """The boxes with a layer, in inches: left, upper, right and lower edge."""
    found = [p for p in figure.axes[0].patches if isinstance(p, FancyBboxPatch)]
    found = [p for p in found if math.isclose(p.get_height(), 0.36)]
    return [
        (p.get_x(), p.get_y(), p.get_x() + p.get_width(), p.get_y() + p.get_height()) for p in found
    ]


def test_a_diagram_tells_layers_shapes_and_parameters():
    told = labels_of(drawn(draw(mini_resnet())).axes[0].texts)
    for text in ("mini_resnet", "41,514 parameters, 2,013,184 MACs", "input 1×28×28", "Conv2d 5×5"):
        assert text in told
    assert told.count("416 parameters") == 1
    assert told.count("16×12×12") >= 3
    assert told.count("ResidualBlock") == 3  # two boxes, and the title of what is inside
    assert told.count("+") == 1


def test_a_diagram_has_branches_beside_each_other():
    told = labels_of(drawn(draw(mini_googlenet())).axes[0].texts)
    assert "branch5x5_2" in told
    figure = draw(mini_googlenet())
    columns = {left for left, *_ in boxes(figure)}
    assert len(columns) == 5  # the network, and four branches


@pytest.mark.parametrize(
    "name", ["lenet5_conv_residual", "resnet18", "mini_densenet", "preact_resnet20", "densenet121"]
)
def test_nothing_in_a_diagram_covers_anything(name):
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


def test_a_diagram_of_equal_blocks_has_their_number():
    told = labels_of(draw(get_model("resnet34")).axes[0].texts)
    assert [text for text in told if text.startswith("×")] == ["×3", "×3", "×5", "×2"]


def test_a_diagram_is_written_as_svg_and_png(tmp_path):
    figure = draw(lenet5())
    for suffix in ("svg", "png"):
        figure.savefig(tmp_path / f"lenet5.{suffix}")
    assert "<svg" in (tmp_path / "lenet5.svg").read_text()[:1000]
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_a_diagram_of_ones_own_network_needs_its_input():
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten())
    assert "input 2×6×6" in labels_of(draw(net, (2, 6, 6)).axes[0].texts)
    with pytest.raises(ValueError, match=r"`inputs` must be given"):
        draw(net)


# --- inside a network -----------------------------------------------------------------------


def test_filters_are_the_first_convolution():
    model = lenet5()
    figure = drawn(filters(model))
    assert (np.array(shown(figure)) == numpy(model.conv1.weight[:, 0])).all()
    assert figure.axes[0].get_title() == "conv1: 6 kernels of 5×5"


def test_filters_have_one_scale_with_0_in_the_middle():
    model = lenet5()
    highest = model.conv1.weight.abs().max().item()
    limits = {image.get_clim() for image in filters(model).axes[0].images}
    assert limits == {(-highest, highest)}


def test_filters_of_few_channels_are_a_matrix():
    model = lenet5()
    figure = drawn(filters(model, layer="conv2"))
    by_input = model.conv2.weight.transpose(0, 1).flatten(0, 1)
    assert (np.array(shown(figure)) == numpy(by_input)).all()
    assert figure.axes[0].get_xlabel() == "output channel"
    assert len(figure.axes[0].get_xticks()) == 16
    assert len(figure.axes[0].get_yticks()) == 6


def test_filters_of_many_channels_are_means():
    model = mini_resnet()
    figure = drawn(filters(model, layer="conv2", limit=20))
    assert np.allclose(shown(figure), numpy(model.conv2.weight[:20].mean(1)), atol=1e-7)
    expected = "conv2: the first 20 of 32 kernels of 5×5,\nmean over 16 input channels"
    assert figure.axes[0].get_title() == expected
    assert labels_of(figure.axes[0].get_yticklabels()) == ["0", "8", "16"]


def test_filters_that_are_all_0_or_not_finite():
    conv = nn.Conv2d(1, 4, 3)
    nn.init.zeros_(conv.weight)
    drawn(filters(nn.Sequential(conv)))
    nn.init.constant_(conv.weight, math.nan)
    drawn(filters(nn.Sequential(conv)))


def test_filters_errors():
    with pytest.raises(ValueError, match=r"`model` must have a Conv2d; Sequential has none"):
        filters(nn.Sequential(nn.Linear(2, 2)))
    with pytest.raises(ValueError, match=r"`layer` \(='fc1'\) must be a Conv2d; it is a Linear"):
        filters(lenet5(), layer="fc1")
    with pytest.raises(ValueError, match=r"`layer` \(='conv11'\) .* did you mean .*'conv1'"):
        filters(lenet5(), layer="conv11")
    with pytest.raises(ValueError, match=r"`limit` \(=0\)"):
        filters(lenet5(), limit=0)


@pytest.fixture
def picture(digits):
    return Preprocessing()(digits.images[:1])[0]


def test_feature_maps_are_what_the_layer_gives(picture):
    model = mini_resnet().eval()
    with torch.no_grad():
        expected = model.rblock1(model.mp(model.conv1(picture[None]).relu()))[0]
    figure = drawn(feature_maps(model, picture, "rblock1"))
    assert np.allclose(shown(figure), numpy(expected), atol=1e-6)
    assert figure.axes[0].get_title() == "rblock1: 16 maps of 12×12"
    assert {image.get_clim()[0] for image in figure.axes[0].images} == {0.0}


def test_feature_maps_before_a_relu_in_place_and_limited(picture):
    model = resnet18().eval()
    with torch.no_grad():
        expected = model.bn1(model.conv1(picture[None]))[0, :10]
    figure = drawn(feature_maps(model, picture, "bn1", limit=10))
    assert expected.min() < 0
    assert np.allclose(shown(figure), numpy(expected), atol=1e-5)
    low, high = figure.axes[0].images[0].get_clim()
    assert low == -high
    assert "the first 10 of 64 maps" in figure.axes[0].get_title()


def test_feature_maps_of_a_layer_that_runs_twice_are_the_first(picture):
    assert "16 maps of 12×12" in feature_maps(mini_resnet(), picture, "mp").axes[0].get_title()


def test_feature_maps_in_double_precision(picture):
    drawn(feature_maps(mini_resnet().double(), picture, "conv1"))


def test_feature_maps_of_a_wrapped_network(picture):
    model = mini_resnet()
    assert len(shown(feature_maps(nn.DataParallel(model), picture, "conv1"))) == 16


def states(model):
    """Everything that a picture must leave alone."""
    hooks = [len(module._forward_hooks) for module in model.modules()]
    return [module.training for module in model.modules()], hooks


@pytest.mark.parametrize("fails", [False, True])
def test_feature_maps_leave_the_network_as_it_was(picture, fails):
    model = resnet18().train()
    model.layer1.eval()
    before, weights = states(model), copy.deepcopy(model.state_dict())
    if fails:
        with pytest.raises(ValueError, match="expected an input of shape"):
            feature_maps(model, torch.zeros(2, 28, 28), "layer2")
    else:
        feature_maps(model, picture, "layer2")
    assert states(model) == before
    assert all(value.equal(weights[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_feature_maps_errors(picture):
    model = mini_resnet()
    with pytest.raises(ValueError, match=r"`layer` \(='rblock3'\) .* did you mean 'rblock"):
        feature_maps(model, picture, "rblock3")
    with pytest.raises(ValueError, match=r"`layer` \(='xyz'\) .* see named_modules"):
        feature_maps(model, picture, "xyz")
    with pytest.raises(ValueError, match=r"`layer` \(='fc'\) must give maps .* gives \(1, 10\)"):
        feature_maps(model, picture, "fc")
    with pytest.raises(ValueError, match=r"`picture` must be float \(C, H, W\).*\(1, 1, 28, 28\)"):
        feature_maps(model, picture[None], "conv1")
    with pytest.raises(ValueError, match=r"`picture` must be float .* torch.uint8"):
        feature_maps(model, torch.zeros(1, 28, 28, dtype=torch.uint8), "conv1")
    with pytest.raises(ValueError, match=r"`limit` \(=-1\)"):
        feature_maps(model, picture, "conv1", limit=-1)
    model.spare = nn.Conv2d(1, 1, 1)
    with pytest.raises(ValueError, match=r"`layer` \(='spare'\) must run"):
        feature_maps(model, picture, "spare")


def test_feature_maps_of_a_layer_with_two_outputs(picture):
    class Both(nn.Module):
        def forward(self, x):
            return x, x

    with pytest.raises(ValueError, match=r"`layer` \(='0'\) must give maps .* gives tuple"):
        feature_maps(nn.Sequential(Both()), picture, "0")


# --- accuracy against cost ------------------------------------------------------------------


def runs():
    rows = [
        ("lenet5", 0.988, 44_426, 281_640),
        ("mini_resnet", 0.991, 41_514, 2_013_184),
        ("lenet5", 0.990, 44_426, 281_640),
        ("lenet5", 0.992, 44_426, 281_640),
    ]
    return iter(rows)  # any iterable will do


def test_accuracy_against_cost_has_means_and_deviations():
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
    assert [axes.get_xlabel() for axes in figure.axes] == ["parameters", "MACs a picture"]
    assert all(label.endswith("%") for label in labels_of(figure.axes[0].get_yticklabels()))


def test_a_name_stands_right_beside_its_point_where_it_can():
    rows = [(f"net{place}", 0.9 + place / 100, 10**place, 10**place) for place in range(1, 6)]
    for axes in drawn(accuracy_against_cost(rows)).axes:
        assert [name.get_position()[0] for name in axes.texts] == [8] * 5


def test_names_of_the_whole_zoo_do_not_collide():
    """Sixteen names, some of which have all but the same costs."""
    families = ("lenet*", "mini_[cgr]*", "plain*", "resnet*")
    names = [name for family in families for name in list_models(family)]
    rows = [
        (name, 0.985 + place * 7 % 5 / 500, int(4e4 * 4 ** (place // 3)), int(3e5 * 1.6**place))
        for place, name in enumerate(names)
    ]
    figure = drawn(accuracy_against_cost(rows))
    for axes in figure.axes:
        labels = [text for text in axes.texts if isinstance(text, Annotation)]
        assert sorted(labels_of(labels)) == sorted(names)
        boxes = [Text.get_window_extent(label) for label in labels]
        assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
        assert all(axes.bbox.containsx(x) for box in boxes for x in (box.x0, box.x1))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], r"`results` \(=\[\]\) must hold at least one"),
        ([("a", 99.1, 10, 10)], r"accuracy \(=99.1\) of a must be from 0 to 1"),
        ([("a", math.nan, 10, 10)], r"accuracy \(=nan\) of a must be from 0 to 1"),
        ([("a", 0.9, 10, 0)], r"MACs \(=\(10, 0\)\) of a must be above 0"),
        ([("a", 0.9, 10, 10), ("a", 0.9, 11, 10)], r"\(10, 10\) and \(11, 10\).* must be the same"),
    ],
)
def test_accuracy_against_cost_errors(rows, message):
    with pytest.raises(ValueError, match=message):
        accuracy_against_cost(rows)


# --- matplotlib -----------------------------------------------------------------------------


def test_pyplot_is_never_imported(tmp_path):
    code = """
import sys, torch, mnist_zoo.plots as plots
assert not any(name.startswith("matplotlib") for name in sys.modules), "too early"
figure = plots.accuracy_against_cost([("a", 0.9, 10, 10), ("a", 0.8, 10, 10)])
model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3))
plots.filters(model).savefig(sys.argv[1] + "/filters.svg")
plots.feature_maps(model, torch.randn(1, 5, 5), "0")
assert figure._repr_png_().startswith(b"\\x89PNG")
assert "matplotlib.figure" in sys.modules
assert "matplotlib.pyplot" not in sys.modules, "pyplot"
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)


def test_a_notebook_shows_a_figure_without_pyplot():
    figure = confusion_matrix(Metrics.from_logits(torch.eye(3), torch.arange(3)))
    assert figure._repr_png_().startswith(b"\x89PNG")
    again = pickle.loads(pickle.dumps(figure))
    again.axes[0].set_title("another")
    assert again._repr_png_() != figure._repr_png_()


def test_figures_are_the_callers_own():
    first, second = curves(history()), curves(history())
    assert first is not second
    assert first.axes[0] is not second.axes[0]


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModuleNotFoundError, match="plots need matplotlib: pip install") as caught:
        curves(history())
    assert caught.value.name == "matplotlib"
