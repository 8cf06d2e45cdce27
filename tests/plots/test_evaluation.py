"""Plots of evaluation results, read from the dots, texts and images of the figure."""

import math
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from plots_cases import drawn, labels_of, legend, numpy, shown

from mnist_zoo import Augmentation, lenet5
from mnist_zoo.evaluation import Metrics
from mnist_zoo.plots.data import augmented
from mnist_zoo.plots.evaluation import class_accuracy, confusion_matrix, mistakes
from mnist_zoo.plots.training import curves


def measured(labels, wrong=60, seed=0):
    """Metrics of a network that is right except for random images, `wrong` of them."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(len(labels), 10, generator=generator)
    logits[torch.arange(len(labels)), labels] += 20
    chosen = torch.randperm(len(labels), generator=generator)[:wrong]
    logits[chosen, (labels[chosen] + 1 + chosen % 3) % 10] += 30
    return Metrics.from_logits(logits, labels)


def test_class_accuracy_has_one_dot_per_class(digits):
    metrics = measured(digits.labels)
    axes = drawn(class_accuracy(metrics)).axes[0]
    assert list(axes.lines[0].get_ydata()) == list(metrics.accuracy_by_class)
    assert labels_of(axes.texts) == [f"{value:.1%}" for value in metrics.accuracy_by_class]
    bottom, top = axes.get_ylim()
    assert 0.5 < bottom < min(metrics.accuracy_by_class) < 1 < top
    assert max(axes.get_yticks()) <= 1


def test_class_accuracy_of_several_networks(digits):
    both = {"one": measured(digits.labels), "other": measured(digits.labels, 200, seed=1)}
    figure = drawn(class_accuracy(both))
    for dots, metrics in zip(figure.axes[0].lines, both.values(), strict=True):
        assert list(dots.get_ydata()) == list(metrics.accuracy_by_class)
        assert [round(middle) for middle in dots.get_xdata()] == list(range(10))
    one, other = figure.axes[0].lines
    assert (one.get_marker(), one.get_color()) != (other.get_marker(), other.get_color())
    expected = [f"{name}: {entry.accuracy:.2%} of all images" for name, entry in both.items()]
    assert legend(figure) == expected


def test_class_accuracy_of_a_class_without_images():
    labels = torch.arange(9).repeat(3)
    axes = drawn(class_accuracy(measured(labels, wrong=0))).axes[0]
    assert math.isnan(axes.lines[0].get_ydata()[9])
    assert labels_of(axes.texts) == ["100.0%"] * 9


def test_class_accuracy_needs_the_same_number_of_classes():
    one = Metrics.from_logits(torch.eye(3), torch.arange(3))
    other = Metrics.from_logits(torch.eye(4), torch.arange(4))
    with pytest.raises(ValueError, match=r"`metrics` must have the same number of classes.*3.*4"):
        class_accuracy({"one": one, "other": other})


@pytest.mark.parametrize(("draw", "argument"), [(curves, "histories"), (class_accuracy, "metrics")])
def test_an_empty_mapping_is_an_error(draw, argument):
    with pytest.raises(ValueError, match=f"`{argument}` .* must hold at least one"):
        draw({})


def test_what_is_of_another_kind_is_refused_by_name(digits):
    metrics = measured(digits.labels)
    for draw, argument, maker in (
        (lambda: class_accuracy([metrics]), "metrics", "evaluate"),
        (lambda: class_accuracy({"one": lenet5()}), "metrics", "evaluate"),
        (lambda: confusion_matrix({"one": metrics}), "metrics", "evaluate"),
        (lambda: mistakes(metrics, digits), "digits", "Digits.from_arrays"),
        (lambda: mistakes(digits, metrics.mistakes), "metrics", "evaluate"),
        (lambda: curves([metrics]), "histories", "fit"),
        (lambda: curves({"one": metrics}), "histories", "fit"),
        (lambda: augmented(digits.images, Augmentation()), "digits", "Digits.from_arrays"),
        (lambda: augmented(digits, None), "augmentation", "Augmentation"),
    ):
        with pytest.raises(TypeError, match=rf"^`{argument}` must be .*{maker}"):
            draw()


def test_confusion_matrix_shows_the_counts(digits):
    metrics = measured(digits.labels)
    axes = drawn(confusion_matrix(metrics)).axes[0]
    cells = {text.get_position(): text.get_text() for text in axes.texts}
    for row, counts in enumerate(metrics.confusion):
        assert [cells[column, row] for column in range(10)] == [str(count) for count in counts]
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("true class", "predicted class")
    assert f"{metrics.accuracy:.2%}" in axes.get_title()


def test_confusion_matrix_colours_only_the_mistakes(digits):
    metrics = measured(digits.labels)
    colours = np.ma.asarray(confusion_matrix(metrics).axes[0].images[0].get_array()).filled(np.nan)
    counts = np.array(metrics.confusion, dtype=float)
    off = ~np.eye(10, dtype=bool)
    assert np.isnan(np.diag(colours)).all()
    assert np.allclose(colours[off] ** 2, counts[off])


def test_confusion_matrix_without_mistakes(digits):
    drawn(confusion_matrix(measured(digits.labels, wrong=0)))


def test_mistakes_shows_the_most_confident_ones(digits):
    metrics = measured(digits.labels)
    figure = drawn(mistakes(digits, metrics, rows=2, columns=3))
    first = metrics.mistakes[:6]
    assert labels_of(figure.axes[0].texts) == [
        f"{m.label} → {m.predicted}, {m.probability:.1%}" for m in first
    ]
    for image, mistake in zip(shown(figure), first, strict=True):
        assert (image == numpy(digits.images[mistake.index, 0])).all()
    assert figure.get_suptitle() == (
        "60 mistakes in 1,000 images, the 6 most confident: true → predicted"
    )


def test_mistakes_are_above_their_captions_without_overlap(digits):
    axes = drawn(mistakes(digits, measured(digits.labels))).axes[0]
    boxes = [image.get_window_extent() for image in axes.images]
    texts = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) == len(texts) == 32
    for box, text in zip(boxes, texts, strict=True):
        assert box.y0 > text.y1 - 2
        assert box.x0 - 10 < text.x0 < text.x1 < box.x1 + 10
    assert not any(a.overlaps(b) for a, b in combinations(texts, 2))
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))


def test_fewer_mistakes_than_cells_or_none(digits):
    assert len(shown(drawn(mistakes(digits, measured(digits.labels, wrong=3))))) == 3
    figure = drawn(mistakes(digits, measured(digits.labels, wrong=0)))
    assert figure.get_suptitle() == "no mistakes in 1,000 images"


def test_mistakes_of_colour_images(digits):
    colour = replace(digits, images=digits.images.repeat(1, 3, 1, 1))
    images = shown(drawn(mistakes(colour, measured(digits.labels), rows=1, columns=2)))
    assert [image.shape for image in images] == [(28, 28, 3)] * 2


def test_mistakes_needs_the_images_that_were_evaluated(digits):
    metrics = measured(digits.labels)
    for other_digits in (digits[:999], digits[torch.arange(999, -1, -1)]):
        with pytest.raises(ValueError, match=r"`digits` .* must be the images that `metrics`"):
            mistakes(other_digits, metrics)
    with pytest.raises(ValueError, match=r"`rows` \(=0\)"):
        mistakes(digits, metrics, rows=0)
