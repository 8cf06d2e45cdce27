"""Training: against a plain loop, torch's schedulers and scikit-learn; killed, resumed, shared."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from training_cases import NORM, Norms, same, weights

from mnist_zoo import (
    Digits,
    Recipe,
    TrainingError,
    evaluate,
    fit,
    get_recipe,
    lenet5,
    load_data,
)

OPTIMIZERS = {
    "sgd": (
        {"momentum": 0.9, "nesterov": True, "weight_decay": 1e-3},
        lambda p: torch.optim.SGD(p, 0.02, momentum=0.9, nesterov=True, weight_decay=1e-3),
    ),
    "adam": (
        {"betas": (0.8, 0.95), "weight_decay": 1e-3},
        lambda p: torch.optim.Adam(p, 0.02, betas=(0.8, 0.95), weight_decay=1e-3),
    ),
    "adamw": ({"weight_decay": 0.1}, lambda p: torch.optim.AdamW(p, 0.02, weight_decay=0.1)),
}


SCHEDULES = {
    "constant": ({}, lambda o: torch.optim.lr_scheduler.ConstantLR(o, 1.0)),
    "onecycle": (
        {"warmup": 0.4},
        lambda o: torch.optim.lr_scheduler.OneCycleLR(
            o, 0.02, total_steps=8, pct_start=0.4, cycle_momentum=False
        ),
    ),
    "cosine": ({}, lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 8)),
    "step": (
        {"gamma": 0.5, "step_epochs": 2},
        lambda o: torch.optim.lr_scheduler.StepLR(o, 2, 0.5),
    ),
    "exponential": ({"gamma": 0.7}, lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.7)),
}


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_loop_is_the_textbooks(digits, optimizer, schedule):
    """One batch an epoch, so that the order of the pictures does not matter."""
    options, make_optimizer = OPTIMIZERS[optimizer]
    timing, make_schedule = SCHEDULES[schedule]
    recipe = Recipe(
        network="lenet5",
        optimizer=optimizer,
        lr=0.02,
        schedule=schedule,
        batch_size=300,
        epochs=8,
        label_smoothing=0.1,
        clip_grad_norm=0.5,
        **options,
        **timing,
    )
    model = lenet5()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    history = fit(model, digits[0], recipe=recipe, progress=False)

    plain = lenet5()
    plain.load_state_dict(state)
    x, y = NORM(digits[0].images), digits[0].labels
    optimizer = make_optimizer(plain.parameters())
    schedule = make_schedule(optimizer)
    for step in range(8):
        loss = F.cross_entropy(plain(x), y, label_smoothing=0.1)
        assert history.loss[step] == pytest.approx(loss.item(), rel=2e-3, abs=2e-4)
        assert history.lr[step] == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
        optimizer.step()
        schedule.step()
    assert (weights(history.model) - weights(plain)).abs().max() < 5e-3


def test_every_picture_is_seen_once_an_epoch_in_another_order(digits):
    seen = []

    class Watch(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(784, 10)

        def forward(self, x):
            seen.append(x.flatten(1).clone())
            return self.fc(x.flatten(1))

    recipe = Recipe(network="lenet5", lr=0.01, batch_size=64, epochs=2)
    fit(Watch(), digits[0], recipe=recipe, progress=False)
    assert [len(batch) for batch in seen] == [64, 64, 64, 64, 44] * 2
    first, second = torch.cat(seen[:5]), torch.cat(seen[5:])
    expected = NORM(digits[0].images).flatten(1)
    key = torch.randn(784)
    for epoch in (first, second):
        assert torch.allclose((epoch @ key).sort().values, (expected @ key).sort().values)
    assert not torch.equal(first, second)


def test_a_last_batch_of_one_is_left_out(digits):
    recipe = Recipe(network="lenet5", lr=0.01, batch_size=299, epochs=2)
    assert fit(Norms(), digits[0], recipe=recipe, progress=False).step == 2


def test_a_moving_average_is_evaluated_and_returned(digits):
    recipe = Recipe(network="lenet5", lr=0.1, batch_size=100, epochs=2, ema_decay=0.7)
    trail = []
    model = Norms()
    history = fit(
        model, *digits, recipe=recipe, progress=False, hook=lambda h: trail.append(weights(h.model))
    )
    average = trail[0]
    for now in trail[1:]:
        average = 0.7 * average + 0.3 * now
    floats = [v.is_floating_point() for v in model.state_dict().values() for _ in range(v.numel())]
    assert torch.allclose(weights(model)[floats], average[floats], atol=1e-6)
    assert evaluate(model, digits[1]).accuracy == history.evaluations[-1].accuracy
    assert history.model is model
    assert not model.training


def test_the_best_weights_are_restored(digits):
    recipe = Recipe(
        network="lenet5", lr=0.3, momentum=0.9, batch_size=32, epochs=3, eval_every=3, select="best"
    )
    history = fit(recipe, *digits, progress=False)
    last = fit(recipe.replace(select="last"), *digits, progress=False)
    assert [e.step for e in history.evaluations] == [3, 6, 9, 10, 12, 15, 18, 20, 21, 24, 27, 30]
    best = max(e.accuracy for e in history.evaluations)
    assert evaluate(history.model, digits[1]).accuracy == best == history.best.accuracy
    assert evaluate(last.model, digits[1]).accuracy == last.evaluations[-1].accuracy
    assert history.evaluations == last.evaluations


def test_patience_ends_training(digits):
    recipe = Recipe(network="lenet5", lr=1e-9, batch_size=100, epochs=9, patience=2)
    history = fit(recipe, *digits, progress=False)
    assert history.stopped == "no higher accuracy in 2 evaluations"
    assert [e.epoch for e in history.evaluations] == [1.0, 2.0, 3.0]


def test_a_hook_sees_every_step_and_stops(digits):
    losses = []

    def hook(history):
        losses.append(history.loss[-1])
        return history.step == 4

    recipe = Recipe(network="lenet5", lr=0.05, batch_size=32, epochs=3)
    history = fit(recipe, digits[0], progress=False, hook=hook)
    assert (history.step, len(losses)) == (4, 4)
    assert history.stopped
    assert losses == history.loss


def test_runs_repeat_to_the_bit_and_leave_the_random_state(digits, recipe):
    state = torch.get_rng_state()
    one = fit(recipe, *digits, progress=False)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(123)
    assert same(one, fit(recipe, *digits, progress=False))
    assert not same(one, fit(recipe.replace(seed=1), *digits, progress=False))


@pytest.mark.parametrize("switch", [{"channels_last": True}, {"precision": "bfloat16"}])
def test_switches_change_speed_and_not_the_result(digits, switch):
    recipe = Recipe(network="mini_resnet", lr=0.02, momentum=0.9, batch_size=64, epochs=2)
    plain = fit(recipe, digits[0], progress=False)
    switched = fit(recipe.replace(**switch), digits[0], progress=False)
    tolerance = 0.05 if "precision" in switch else 1e-3
    assert switched.loss == pytest.approx(plain.loss, abs=tolerance)
    assert switched.loss != plain.loss  # the switch does something


def test_maps_that_their_kernels_overlook_take_no_convolution(digits):
    """At 28×28 half of resnet18's are of 2×2 and 1×1, where convolutions are slow."""
    recipe = Recipe(network="resnet18", lr=0.01, batch_size=16, epochs=1)
    with torch.profiler.profile(record_shapes=True) as profile:
        fit(recipe, digits[0][:16], progress=False)
    calls = [e.input_shapes[:2] for e in profile.events() if e.name == "aten::conv2d"]
    maps = [(maps[-1], kernel[-1]) for maps, kernel in calls]
    assert sorted(set(maps)) == [(2, 1), (4, 1), (4, 3), (7, 1), (7, 3), (28, 7)]


@pytest.mark.slow
def test_compiling_does_not_change_the_result(digits):
    recipe = Recipe(network="lenet5", lr=0.02, momentum=0.9, batch_size=64, epochs=2)
    plain = fit(recipe, digits[0], progress=False)
    compiled = fit(recipe.replace(compile=True), digits[0], progress=False)
    assert compiled.loss == pytest.approx(plain.loss, abs=1e-3)


def test_data_of_a_recipe():
    recipe = get_recipe("plain18_report", source="sample", sizes=(300, 50, 60))
    train, validation, test = load_data(recipe)
    assert (len(train), len(validation), len(test)) == (300, 50, 60)
    other = load_data(recipe.replace(seed=1))[0]
    assert not torch.equal(other.images, train.images)
    train, validation, test = load_data(recipe.replace(sizes=None))
    assert (len(train), validation, len(test)) == (4000, None, 1000)


@pytest.mark.parametrize(
    ("arguments", "options", "rule"),
    [
        ([lenet5()], {}, r"`recipe` \(=None\) must say how"),
        (
            ["lenet5_report"],
            {"recipe": get_recipe("lenet5_report")},
            "`recipe` goes with a network",
        ),
        (["lenet6_report"], {}, "'lenet5_report'"),
        (["lenet5_report"], {"checkpoint_every": 0}, "`checkpoint_every`"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(digits, arguments, options, rule):
    with pytest.raises(ValueError, match=rule):
        fit(*arguments, digits[0], **options)


def test_choosing_the_best_needs_validation_pictures(digits):
    recipe = Recipe(network="lenet5", lr=0.1, epochs=1, select="best", source="sample")
    with pytest.raises(ValueError, match=r"`validation` \(=None\)"):
        fit(recipe, digits[0])
    with pytest.raises(ValueError, match=r"`validation` \(=None\)"):
        fit(recipe)  # the test set is not to be chosen by
    with pytest.raises(ValueError, match="at least 2 pictures"):
        fit(recipe, digits[0][:1], digits[1])


def test_no_pictures_are_refused(digits):
    with pytest.raises(ValueError, match=r"`train` .* must hold at least 2 pictures"):
        fit("lenet5_report", digits[0][:0], progress=False)
    with pytest.raises(ValueError, match=r"`validation` .* must hold at least 1 picture"):
        fit("lenet5_report", digits[0], digits[1][:0], progress=False)


def test_a_loss_that_is_not_finite_ends_training(digits, tmp_path):
    recipe = Recipe(network="lenet5", lr=1e20, batch_size=32, epochs=3)
    with pytest.raises(TrainingError, match=r"the loss of step \d+ is (nan|inf); no checkpoints"):
        fit(recipe, digits[0], progress=False)
    with pytest.raises(TrainingError, match=r"the last checkpoint is .*checkpoint-000000001"):
        fit(recipe, digits[0], progress=False, folder=tmp_path, checkpoint_every=1)
    state = torch.load(next(tmp_path.iterdir()), weights_only=True)
    assert all(math.isfinite(loss) for loss in state["history"]["loss"])


def test_onecycle_needs_steps_to_rise_and_fall(digits):
    recipe = Recipe(network="lenet5", lr=0.1, batch_size=150, epochs=1, schedule="onecycle")
    with pytest.raises(ValueError, match=r"`schedule` .* needs at least 3 steps; there are 2"):
        fit(recipe, digits[0], progress=False)
    few = fit(recipe.replace(batch_size=100, warmup=0.05), digits[0], progress=False)
    assert few.lr[1] == pytest.approx(0.1)


def test_classes_that_the_network_has_not_are_refused(digits):
    letters = Digits(digits[0].images, digits[0].labels + 16)
    with pytest.raises(ValueError, match="`train` has a class 25; the network has 10, from 0"):
        fit("lenet5_report", letters, progress=False)


def test_digits_of_the_test_set_are_not_needed_to_train(digits):
    only = Digits(digits[0].images, digits[0].labels)
    history = fit(Recipe(network="lenet5", lr=0.1, epochs=1), only, progress=False)
    assert history.evaluations == []
    assert history.epochs[0].accuracy is None
