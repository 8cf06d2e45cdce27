"""Training curves, read from the lines of the figure."""

import math
from dataclasses import replace

import pytest

pytest.importorskip("matplotlib", reason="the examples' extra is not installed")

from matplotlib.colors import to_hex
from plots_cases import STEPS, data, drawn, history, labels_of, legend

from mnist_zoo.plots.training import curves
from mnist_zoo.training.history import History


@pytest.mark.parametrize(("place", "quantity"), [(0, "loss"), (1, "accuracy")])
def test_curves_show_the_history(place, quantity):
    """They show the error, which is 1 - accuracy."""
    run = history()

    def plotted(value):
        return value if quantity == "loss" else 1 - value

    batches, training, validation = drawn(curves(run)).axes[place].lines
    values = [plotted(value) for value in getattr(run, quantity)]
    window = STEPS // 20
    x, y = data(batches)
    assert y == pytest.approx([sum(values[i : i + window]) / window for i in range(len(y))])
    assert x == [(i + window) / STEPS for i in range(len(values) - window + 1)]
    assert data(training) == [
        [0.5, 1.5, 2.5],
        [plotted(getattr(e, f"train_{quantity}")) for e in run.epochs],
    ]
    evaluations = run.evaluations
    assert data(validation) == [
        [e.epoch for e in evaluations],
        [plotted(getattr(e, quantity)) for e in evaluations],
    ]
    assert any(e.epoch % 1 for e in evaluations)
    assert (training.get_linestyle(), validation.get_linestyle()) == ("--", "-")
    assert batches.get_alpha() < 0.5


def test_curves_show_the_loss_in_nats_and_the_error_in_percent():
    loss, error = drawn(curves(history())).axes
    assert (loss.get_xlabel(), error.get_xlabel()) == ("epoch", "epoch")
    assert error.get_ylabel() == "error"
    assert "nats" in loss.get_ylabel()
    assert loss.get_yscale() == "log"
    assert all(label.endswith("%") for label in labels_of(error.get_yticklabels()))
    assert not any("." in label for label in labels_of(loss.get_xticklabels()))


def test_errors_that_differ_much_are_on_a_logarithmic_axis():
    run = history()
    run.epochs[0] = replace(run.epochs[0], train_accuracy=0.2)
    run.epochs[-1] = replace(run.epochs[-1], train_accuracy=0.995)
    run.accuracy[-1] = 1.0  # an error of 0 is on no logarithmic axis
    assert drawn(curves(run)).axes[1].get_yscale() == "log"


def test_curves_have_one_colour_per_run():
    runs = {"quick": history(), "slow": history(factor=2)}
    figure = curves(runs)
    for axes in figure.axes:
        colours = [to_hex(line.get_color()) for line in axes.lines]
        assert colours == [colours[0]] * 3 + [colours[3]] * 3
        assert colours[0] != colours[3]
    assert data(figure.axes[0].lines[5])[1] == [e.loss for e in runs["slow"].evaluations]
    assert legend(figure) == ["quick", "slow", "training", "validation"]


def test_curves_of_many_runs_have_different_colours():
    figure = curves({f"seed {seed}": history(every=None) for seed in range(12)})
    assert len({to_hex(line.get_color()) for line in figure.axes[0].lines}) == 12


def test_curves_of_a_history_read_from_a_file(tmp_path):
    history().save(tmp_path / "history.json")
    read = History.load(tmp_path / "history.json")
    with pytest.raises(ValueError, match="from a file has no network; load_model"):
        _ = read.model
    from_file, expected = curves(read), curves(history())
    for axes, expected_axes in zip(from_file.axes, expected.axes, strict=True):
        lines = [data(line) for line in axes.lines]
        assert lines == [data(line) for line in expected_axes.lines]


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
def test_curves_of_at_most_one_step(steps):
    drawn(curves(history(steps=steps)))


def test_curves_of_losses_that_are_not_finite():
    run = history()
    run.loss[50], run.loss[60], run.loss[70] = math.nan, math.inf, 0.0
    drawn(curves(run))
