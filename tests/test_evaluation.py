"""evaluate and Metrics: against scikit-learn and a plain forward pass."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from training_cases import NormAndDropout, weights

from mnist_zoo import Digits, Metrics, Preprocessing, Recipe, evaluate, fit, lenet5, load_mnist


@pytest.fixture(scope="module")
def digits():
    return load_mnist("all", source="sample").split(300, 100, seed=0)


def test_the_highest_bins_of_the_calibration_are_apart():
    confidence = torch.tensor([0.9, 0.99], dtype=torch.float64)
    logits = torch.stack((confidence, 1 - confidence), 1).log()
    metrics = Metrics.from_logits(
        logits, torch.tensor([1, 0])
    )  # one in either bin, wrong and right
    assert metrics.calibration_error == pytest.approx((0.9 + 0.01) / 2)


@pytest.mark.parametrize("kind", ["uint8", "int8", "int32", "int64"])
@pytest.mark.parametrize("form", [torch.Tensor.numpy, torch.Tensor.tolist, torch.clone])
def test_labels_of_any_integer_type_and_arrays_give_the_same_metrics(kind, form):
    logits, labels = torch.randn(300, 100), torch.arange(300) % 100
    given = form(logits), form(labels.to(getattr(torch, kind)))
    assert Metrics.from_logits(*given).confusion == Metrics.from_logits(logits, labels).confusion
    with pytest.raises(ValueError, match=r"`labels` must be whole numbers, got torch.float32"):
        Metrics.from_logits(logits, labels.float())


def test_metrics_equal_scikit_learns():
    sk = pytest.importorskip("sklearn.metrics", reason="mlxtend brings scikit-learn")
    logits, labels = torch.randn(500, 10) * 2, torch.randint(10, (500,))
    metrics = Metrics.from_logits(logits, labels)
    predicted = logits.argmax(1)
    assert metrics.correct == int((predicted == labels).sum())
    assert metrics.total == 500
    assert metrics.accuracy == sk.accuracy_score(labels, predicted)
    assert (torch.tensor(metrics.confusion).numpy() == sk.confusion_matrix(labels, predicted)).all()
    probabilities = logits.double().softmax(1).numpy()
    assert math.isclose(metrics.loss, sk.log_loss(labels, probabilities), rel_tol=1e-9)
    assert metrics.nll == metrics.loss
    recalls = sk.recall_score(labels, predicted, average=None)
    assert metrics.accuracy_by_class == pytest.approx(recalls.tolist())


def test_mistakes_are_sorted_by_confidence():
    logits = torch.tensor([[0.0, 5.0], [3.0, 0.0], [0.0, 1.0], [9.0, 0.0]])
    metrics = Metrics.from_logits(logits, torch.tensor([0, 0, 0, 1]))
    found = [(m.index, m.label, m.predicted) for m in metrics.mistakes]
    assert found == [(3, 1, 0), (0, 0, 1), (2, 0, 1)]
    assert metrics.mistakes[2].probability == pytest.approx(1 / (1 + math.exp(-1)))
    assert "25.00% (1 of 4)" in str(metrics)


def test_calibration_error_equals_a_computation_by_hand():
    # confidence 0.8 four times, three of them right, and 0.6 once, wrong
    logits = torch.tensor([[0.8, 0.2]] * 4 + [[0.6, 0.4]]).log()
    labels = torch.tensor([0, 0, 0, 1, 1])
    error = Metrics.from_logits(logits, labels).calibration_error
    assert error == pytest.approx((4 * abs(0.75 - 0.8) + 1 * abs(0 - 0.6)) / 5)


def test_accuracy_of_a_class_without_images_is_nan():
    metrics = Metrics.from_logits(torch.eye(3)[:2], torch.tensor([0, 1]))
    assert metrics.accuracy_by_class[:2] == (1.0, 1.0)
    assert math.isnan(metrics.accuracy_by_class[2])
    assert str(metrics).endswith("0: 100.0%  1: 100.0%  2: –")


@pytest.mark.parametrize(
    ("logits", "labels"),
    [
        (torch.zeros(3, 10), torch.zeros(2).long()),
        (torch.zeros(0, 10), torch.zeros(0).long()),
        (torch.zeros(3), torch.zeros(3).long()),
        (torch.zeros(3, 2), torch.tensor([0, 1, 2])),
    ],
)
def test_logits_and_labels_that_do_not_match_are_refused(logits, labels):
    with pytest.raises(ValueError, match="`labels`"):
        Metrics.from_logits(logits, labels)


def test_evaluate_runs_in_eval_mode_and_restores_the_training_modes(digits):
    model = NormAndDropout()
    model.net[1].eval()
    modes = [m.training for m in model.modules()]
    before = weights(model)
    metrics = evaluate(model, digits[0], batch_size=7)
    assert [m.training for m in model.modules()] == modes
    assert torch.equal(weights(model), before)
    logits = model.eval()(Preprocessing()(digits[0].images))
    assert metrics.loss == pytest.approx(F.cross_entropy(logits, digits[0].labels).item(), rel=1e-5)
    assert metrics.correct == (logits.argmax(1) == digits[0].labels).sum()


def test_evaluate_restores_the_training_modes_when_forward_raises(digits):
    model = lenet5().train()
    with pytest.raises(ValueError, match="expected an input of shape"):
        evaluate(model, digits[0], Preprocessing(image_size=32))
    assert all(m.training for m in model.modules())


def test_images_of_other_channels_are_refused_for_any_network(digits):
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    digits = digits[0]
    fit(network, digits[:20], recipe=Recipe(lr=0.01, epochs=1), progress=False)
    colour = Digits(digits.images[:20].expand(-1, 3, -1, -1), digits.labels[:20])
    with pytest.raises(ValueError, match="takes images with 1 channel; these have 3"):
        evaluate(network, colour)


def test_labels_that_are_no_classes_of_the_network_are_told_by_the_argument(digits):
    others = Digits(digits[0].images, digits[0].labels + 10)
    with pytest.raises(ValueError, match=r"`digits` has an image of class 1[0-9]; .* are 0 to 9"):
        evaluate(lenet5(), others)
