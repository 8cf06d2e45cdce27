"""Weights of classes in the loss, and a learning rate of the head's own."""

import itertools

import numpy as np
import pytest
import torch
from conftest import slow_if
from torch import nn
from torch.nn import functional as F
from training_cases import NORMALIZE, NormAndDropout, same

from mnist_zoo import Digits, Recipe, evaluate, fit, lenet5, mini_densenet, mini_resnet

SGD = {"lr": 0.05, "momentum": 0.5, "batch_size": 300, "epochs": 4}
WEIGHTS = (0.5, 4.0, 1.0, 0.1, 2.0, 3.0, 1.0, 7.0, 0.25, 1.0)


@pytest.fixture(scope="module")
def uneven(digits):
    """Three hundred digits: many zeros, few nines."""
    train = digits[0]
    rare = (train.labels > 0).nonzero().squeeze(1)
    rows = torch.cat([(train.labels == 0).nonzero().squeeze(1).repeat(4), rare])
    return train[rows][:300]


def plain_losses(model, train, weight, steps):
    """The losses of a loop with torch's own weighted cross-entropy."""
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.5)
    losses = []
    for _ in range(steps):
        loss = F.cross_entropy(model(NORMALIZE(train.images)), train.labels, weight=weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("kind", [WEIGHTS, list(WEIGHTS), "balanced"])
def test_weighted_classes_are_torchs_weighted_cross_entropy(uneven, kind):
    model, plain = lenet5(), lenet5()
    plain.load_state_dict(model.state_dict())
    recipe = Recipe(**SGD, class_weights=kind)
    history = fit(model, uneven, uneven, recipe=recipe, progress=False)

    counts = torch.bincount(uneven.labels, minlength=10)
    weight = len(uneven) / (10 * counts) if kind == "balanced" else torch.tensor(WEIGHTS)
    assert history.loss == pytest.approx(plain_losses(plain, uneven, weight, 4), rel=1e-4)
    metrics = evaluate(model, uneven, NORMALIZE)
    assert history.evaluations[-1].loss == pytest.approx(metrics.loss, rel=1e-6)  # not weighted


def test_accuracy_of_the_batches_is_not_weighted(uneven):
    model = lenet5()
    expected = evaluate(model, uneven, NORMALIZE).accuracy
    history = fit(model, uneven, recipe=Recipe(**SGD, class_weights=WEIGHTS), progress=False)
    assert history.accuracy[0] == pytest.approx(expected, abs=1e-6)


def test_equal_weights_are_no_weights(digits):
    histories = []
    for class_weights in (None, (2.0,) * 10):
        torch.manual_seed(3)
        recipe = Recipe(lr=0.05, batch_size=64, epochs=1, class_weights=class_weights)
        histories.append(fit(lenet5(), digits[0], recipe=recipe, progress=False))
    assert histories[0].loss == pytest.approx(histories[1].loss, rel=1e-5)


def test_balanced_classes_find_the_rare_one(digits):
    """Without weights, a network that has hardly learnt calls almost everything a zero."""
    train, validation = digits
    rare = (train.labels == 1).nonzero().squeeze(1)[:4]
    rows = torch.cat([(train.labels == 0).nonzero().squeeze(1).repeat(6), rare])
    few = train[rows]
    pairs = validation[validation.labels < 2]
    recalls = []
    for class_weights in (None, "balanced"):
        torch.manual_seed(1)
        model = lenet5(num_classes=2)
        changes = {"batch_size": len(few), "epochs": 10, "class_weights": class_weights}
        recipe = Recipe(lr=0.01, momentum=0.9, **changes)
        fit(model, few, recipe=recipe, progress=False)
        recalls.append(evaluate(model, pairs, NORMALIZE).accuracy_by_class[1])
    assert recalls[0] < 0.2
    assert recalls[1] > 0.8


def test_class_without_training_images_has_no_say(digits):
    train = digits[0][digits[0].labels != 3]
    recipe = Recipe(lr=0.05, batch_size=64, epochs=1, class_weights="balanced")
    history = fit(lenet5(), train, recipe=recipe, progress=False)
    assert all(torch.tensor(history.loss).isfinite())


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"class_weights": "even"}, r"`class_weights` \(='even'\) must be 'balanced', None, or"),
        ({"class_weights": (1.0,)}, r"`class_weights` \(=\(1.0,\)\) must be"),
        ({"class_weights": {0: 1.0, 1: 2.0}}, "`class_weights`"),
        ({"class_weights": torch.ones(10, 1)}, "`class_weights`"),
        ({"class_weights": np.ones((10, 10))}, "`class_weights`"),
        ({"class_weights": np.zeros(10)}, r"`class_weights` \(=0.0\) must be between"),
        ({"class_weights": (True, 1.0)}, "`class_weights`"),
        ({"class_weights": (1.0, 0.0)}, r"`class_weights` \(=0.0\) must be between"),
        ({"class_weights": (1.0, float("nan"))}, "`class_weights`"),
        ({"class_weights": (1.0, None)}, "`class_weights`"),
        ({"head_lr": 0.0}, r"`head_lr` \(=0.0\) must be more than 0"),
        ({"head_lr": "fast"}, "`head_lr`"),
    ],
)
def test_impossible_values_are_refused(changes, rule):
    with pytest.raises(ValueError, match=rule):
        Recipe(lr=0.1, epochs=1, **changes)


def test_json_gives_them_back():
    recipe = Recipe(lr=0.1, epochs=1, class_weights=[1, torch.tensor(2.5)], head_lr=1)
    assert recipe.class_weights == (1, 2.5)
    for given in (np.array([1, 2.5]), torch.tensor([1, 2.5])):
        assert recipe.replace(class_weights=given) == recipe
    assert Recipe.from_json(recipe.to_json()) == recipe
    assert Recipe.from_json(recipe.replace(class_weights="balanced").to_json()).head_lr == 1


def test_one_weight_per_class_is_checked_before_the_first_step(digits):
    model = lenet5()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    recipe = Recipe(lr=0.1, epochs=1, class_weights=(1.0, 2.0))
    with pytest.raises(ValueError, match=r"`class_weights`.* must be 10 numbers.*; they are 2"):
        fit(model, digits[0], recipe=recipe, progress=False)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class Torchvisions(nn.Module):
    """Names its last layer as torchvision does."""

    def __init__(self, name):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(784, 16), nn.ReLU())
        self.name = name
        setattr(self, name, nn.Linear(16, 10))

    def forward(self, x):
        return getattr(self, self.name)(self.body(x))


class Timms(Torchvisions):
    """Tells its last layer as timm does."""

    def get_classifier(self):
        return getattr(self, self.name)


def replaced():
    """A network of ours whose last layer is another one."""
    model = mini_resnet()
    model.fc = nn.Sequential(nn.Dropout(0.1), nn.Linear(512, 10))
    return model


HEADS = {
    "lenet5": (lenet5, "fc3"),
    "mini_densenet": (mini_densenet, "classifier"),
    "replaced": (replaced, "fc"),
    "DataParallel": (lambda: nn.DataParallel(mini_resnet()), "module.fc"),
    "head": (NormAndDropout, "head"),
    "heads": (lambda: Torchvisions("heads"), "heads"),
    "timm": (lambda: Timms("last"), "last"),
}
LAST = {"replaced": "1.weight", "head": "1.weight"}


@pytest.mark.parametrize(
    ("case", "schedule"),
    [
        slow_if(schedule != "constant" and case != "lenet5", case, schedule)
        for case, schedule in itertools.product(HEADS, ["constant", "onecycle"])
    ],
)
def test_head_learns_at_its_own_rate(digits, case, schedule):
    """One step of plain SGD moves every parameter by its rate times its gradient."""
    make, head = HEADS[case]
    moved = []
    for head_lr in (None, 0.05):
        torch.manual_seed(0)
        model = make().double()
        before = {name: value.detach().clone() for name, value in model.named_parameters()}
        recipe = Recipe(lr=0.01, head_lr=head_lr, schedule=schedule, batch_size=100, epochs=1)
        history = fit(model, digits[0], recipe=recipe, progress=False, hook=lambda _: True)
        parameters = dict(model.named_parameters())
        moved.append({name: parameters[name].detach() - old for name, old in before.items()})
        assert history.lr[0] == pytest.approx(0.01 if schedule == "constant" else 0.01 / 25)
    assert moved[0][f"{head}.{LAST.get(case, 'weight')}"].any()
    for name, plain in moved[0].items():
        factor = 5 if name.startswith(head) else 1
        torch.testing.assert_close(moved[1][name], factor * plain, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_frozen_body_and_head_rate_train_the_head_alone(digits, optimizer):
    torch.manual_seed(0)
    models = [mini_resnet(), mini_resnet()]
    models[1].load_state_dict(models[0].state_dict())
    for model in models:
        model.requires_grad_(False)
        model.fc.requires_grad_(True)
    shared = {"optimizer": optimizer, "batch_size": 100, "epochs": 1}
    rates = ({"lr": 0.02}, {"lr": 1e-4, "head_lr": 0.02})
    for model, rate in zip(models, rates, strict=True):
        fit(model, digits[0], recipe=Recipe(**shared, **rate), progress=False)
    one, other = (model.state_dict() for model in models)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_head_that_is_not_known_or_frozen_is_refused_by_name(digits):
    recipe = Recipe(lr=0.01, head_lr=0.1, epochs=1)
    nameless = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    with pytest.raises(ValueError, match="the last layer of Sequential: name it 'fc'"):
        fit(nameless, digits[0], recipe=recipe, progress=False)
    two = Torchvisions("fc")
    two.head = nn.Linear(16, 10)
    with pytest.raises(ValueError, match="the last layer of Torchvisions"):
        fit(two, digits[0], recipe=recipe, progress=False)
    frozen = mini_resnet()
    frozen.fc.requires_grad_(False)
    with pytest.raises(ValueError, match=r"`head_lr` \(=0.1\) .* that of MiniResNet is frozen"):
        fit(frozen, digits[0], recipe=recipe, progress=False)


@pytest.mark.parametrize("schedule", ["constant", "onecycle"])
@pytest.mark.parametrize("stop", [1, 5])
def test_resumed_run_equals_an_uninterrupted_run_to_the_bit(digits, tmp_path, schedule, stop):
    train, validation = digits
    recipe = Recipe(
        optimizer="adam",
        lr=0.001,
        head_lr=0.01,
        class_weights="balanced",
        schedule=schedule,
        ema_decay=0.9,
        batch_size=64,
        epochs=2,
    )
    whole = fit(NormAndDropout(), train, validation, recipe=recipe, progress=False)
    given = {"recipe": recipe, "folder": tmp_path, "checkpoint_every": 2, "progress": False}
    fit(NormAndDropout(), train, validation, **given, hook=lambda h: h.step == stop)
    again = fit(NormAndDropout(), train, validation, **given)
    assert same(whole, again)
    for changes in ({"head_lr": 0.02}, {"head_lr": None}, {"class_weights": None}):
        other = {**given, "recipe": recipe.replace(**changes)}
        with pytest.raises(RuntimeError, match=f"another recipe: {next(iter(changes))} is"):
            fit(NormAndDropout(), train, validation, **other)


def test_labels_decide_the_weights_of_a_batch_not_the_whole(digits):
    """The weighted mean is over the batch, as torch's: a batch of one class has its plain mean."""
    train = digits[0]
    zeros = Digits(train.images[train.labels == 0], train.labels[train.labels == 0])
    torch.manual_seed(0)
    model = lenet5()
    expected = evaluate(model, zeros, NORMALIZE).loss
    recipe = Recipe(lr=1e-6, batch_size=len(zeros), epochs=1, class_weights=WEIGHTS)
    history = fit(model, zeros, recipe=recipe, progress=False)
    assert history.loss[0] == pytest.approx(expected, rel=1e-5)
