"""The training loop: against a plain loop with torch's optimizers and schedulers; its options."""

import copy
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from training_cases import NORMALIZE, NormAndDropout, same, weights

from mnist_zoo import (
    Corruption,
    Digits,
    Preprocessing,
    Recipe,
    Style,
    TrainingError,
    evaluate,
    fit,
    get_recipe,
    lenet5,
    load_data,
)

RATE = Recipe(lr=0.1, batch_size=50, epochs=1)
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
}


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_fit_matches_a_plain_loop(digits, optimizer, schedule):
    """One batch per epoch, so that the order of the images does not matter."""
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
        **options,
        **timing,
    )
    model = lenet5()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    history = fit(model, digits[0], recipe=recipe, progress=False)

    plain = lenet5()
    plain.load_state_dict(state)
    x, y = NORMALIZE(digits[0].images), digits[0].labels
    optimizer = make_optimizer(plain.parameters())
    schedule = make_schedule(optimizer)
    for step in range(8):
        loss = F.cross_entropy(plain(x), y, label_smoothing=0.1)
        assert history.loss[step] == pytest.approx(loss.item(), rel=2e-3, abs=2e-4)
        assert history.lr[step] == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    assert (weights(history.model) - weights(plain)).abs().max() < 5e-3


def test_every_image_is_seen_once_per_epoch_in_a_new_order(digits):
    seen = []

    class Watch(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(784, 10)

        def forward(self, x):
            if self.training:
                seen.append(x.flatten(1).clone())
            return self.fc(x.flatten(1))

    recipe = Recipe(network="lenet5", lr=0.01, batch_size=64, epochs=2)
    fit(Watch(), digits[0], recipe=recipe, progress=False)
    del seen[0]  # two images, by which the network is checked before the first step
    assert [len(batch) for batch in seen] == [64, 64, 64, 64, 44] * 2
    first, second = torch.cat(seen[:5]), torch.cat(seen[5:])
    expected = NORMALIZE(digits[0].images).flatten(1)
    key = torch.randn(784)
    for epoch in (first, second):
        assert torch.allclose((epoch @ key).sort().values, (expected @ key).sort().values)
    assert not torch.equal(first, second)


def test_last_batch_of_one_image_is_left_out(digits):
    recipe = Recipe(network="lenet5", lr=0.01, batch_size=299, epochs=2)
    assert fit(NormAndDropout(), digits[0], recipe=recipe, progress=False).step == 2


def test_moving_average_is_evaluated_and_returned(digits):
    recipe = Recipe(network="lenet5", lr=0.1, batch_size=100, epochs=2, ema_decay=0.7)
    trail = []
    model = NormAndDropout()
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


def test_select_best_returns_the_weights_with_the_highest_accuracy(digits):
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


def test_hook_sees_every_step_and_can_stop_the_run(digits):
    losses = []

    def hook(history):
        losses.append(history.loss[-1])
        return history.step == 4

    recipe = Recipe(network="lenet5", lr=0.05, batch_size=32, epochs=3)
    history = fit(recipe, digits[0], progress=False, hook=hook)
    assert (history.step, len(losses)) == (4, 4)
    assert history.stopped
    assert losses == history.loss


def test_network_that_a_hook_leaves_in_eval_mode_trains_on_as_before(digits):
    recipe = Recipe(lr=0.05, batch_size=40, epochs=2)

    def frozen():
        model = NormAndDropout()
        model.net[1].requires_grad_(False)
        return model

    def measure(history):
        history.model.eval()

    for make in (NormAndDropout, frozen):
        found = fit(make(), *digits, recipe=recipe, progress=False, hook=measure)
        assert same(found, fit(make(), *digits, recipe=recipe, progress=False))


def autocast():
    return torch.autocast("cpu", torch.bfloat16)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_modes_of_the_caller_change_nothing(digits, recipe, precision):
    changes = {"corruption": Corruption(share=0.5, blur=0.5), "style": Style(heavy=0.3)}
    recipe = recipe.replace(**changes, precision=precision)
    expected = fit(recipe, *digits, progress=False)
    for mode in (torch.no_grad, torch.inference_mode, autocast):
        with mode():
            own = [Digits(part.images.clone(), part.labels.clone()) for part in digits]
            found = fit(recipe, *own, progress=False)
            assert torch.is_grad_enabled() == torch.is_autocast_enabled("cpu") == (mode is autocast)
        assert same(found, expected), mode


@pytest.mark.parametrize(
    ("answer", "steps"),
    [
        *((True, 1), (np.True_, 1), (torch.tensor(True), 1), (np.False_, 3), (None, 3)),
        *((17, 3), (1, 3), ("text", 3), ([1], 3), (np.ones(2), 3), (torch.ones(2), 3)),
    ],
)
def test_only_true_stops_the_run(digits, answer, steps):
    recipe = Recipe(network="lenet5", lr=0.05, batch_size=100, epochs=1)
    history = fit(recipe, digits[0], progress=False, hook=lambda history: answer)
    assert history.step == steps
    assert bool(history.stopped) == (steps == 1)


def test_runs_repeat_to_the_bit_and_keep_the_random_state(digits, recipe):
    state = torch.get_rng_state()
    one = fit(recipe, *digits, progress=False)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(123)
    assert same(one, fit(recipe, *digits, progress=False))
    assert not same(one, fit(recipe.replace(seed=1), *digits, progress=False))


@pytest.mark.parametrize("switch", [{"channels_last": True}, {"precision": "bfloat16"}])
def test_memory_format_and_precision_change_the_losses_only_slightly(digits, switch):
    recipe = Recipe(network="mini_resnet", lr=0.02, momentum=0.9, batch_size=64, epochs=2)
    plain = fit(recipe, digits[0], progress=False)
    switched = fit(recipe.replace(**switch), digits[0], progress=False)
    tolerance = 0.05 if "precision" in switch else 1e-3
    assert switched.loss == pytest.approx(plain.loss, abs=tolerance)
    assert switched.loss != plain.loss  # the switch does something


def test_very_small_maps_are_not_convolved(digits):
    """At 28×28 half of the maps in resnet18 are 2×2 or 1×1, where convolutions are slow."""
    recipe = Recipe(network="resnet18", lr=0.01, batch_size=16, epochs=1)
    with torch.profiler.profile(record_shapes=True) as profile:
        fit(recipe, digits[0][:16], progress=False)
    calls = [e.input_shapes[:2] for e in profile.events() if e.name == "aten::conv2d"]
    maps = [(maps[-1], kernel[-1]) for maps, kernel in calls if maps[0] == 16]  # of the steps
    assert sorted(set(maps)) == [(2, 1), (4, 1), (4, 3), (7, 1), (7, 3), (28, 7)]


@pytest.mark.parametrize("backend", ["eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiled_network_trains_like_the_network_itself(digits, backend):
    """At the end the network inside knows its preprocessing, so that `evaluate` follows it."""
    model = lenet5()
    compiled = torch.compile(copy.deepcopy(model), backend=backend)
    gray = Preprocessing(mean=0.5, std=0.5)
    recipe = Recipe(lr=0.02, momentum=0.9, batch_size=75, epochs=2, preprocessing=gray)
    plain = fit(model, *digits, recipe=recipe, progress=False)
    found = fit(compiled, *digits, recipe=recipe, progress=False)
    assert found.loss == pytest.approx(plain.loss, abs=1e-3)
    assert found.model is compiled
    assert evaluate(compiled, digits[1]).loss == pytest.approx(found.evaluations[-1].loss, abs=1e-6)


def test_recipe_without_a_network_trains_a_given_network_only(digits):
    recipe = Recipe(lr=0.05, batch_size=100, epochs=1)
    assert fit(lenet5(), digits[0], recipe=recipe, progress=False).step == 3
    with pytest.raises(ValueError, match=r"`network` \(=None\) of the recipe must name"):
        fit(recipe, digits[0])


def test_load_data_follows_sizes_and_seed():
    recipe = get_recipe("mini_resnet_report", source="sample", sizes=(300, 50, 60))
    train, validation, test = load_data(recipe)
    assert (len(train), len(validation), len(test)) == (300, 50, 60)
    other = load_data(recipe.replace(seed=1))[0]
    assert not torch.equal(other.images, train.images)
    train, validation, test = load_data(recipe.replace(sizes=None))
    assert (len(train), validation, len(test)) == (4000, None, 1000)
    with pytest.raises(TypeError, match=r"a Recipe, such as get_recipe\('lenet5_report'\) gives"):
        load_data("lenet5_report")


@pytest.mark.parametrize(
    ("arguments", "options", "rule"),
    [
        ([lenet5()], {}, r"`recipe` \(=None\) must say how"),
        (
            ["lenet5_report"],
            {"recipe": get_recipe("lenet5_report")},
            "`recipe` must be None if `target` is a recipe",
        ),
        (["lenet6_report"], {}, "'lenet5_report'"),
        (["lenet5_report"], {"checkpoint_every": 0}, "`checkpoint_every`"),
        (["lenet5_report"], {"device": "gpu"}, "`device` .='gpu'. must be a device"),
        (["lenet5_report"], {"tensorboard": os.devnull}, "`tensorboard` .* cannot be written"),
        (["lenet5_report"], {"teacher": "lenet5"}, r"`teacher` .* such as get_model\('lenet5'\)"),
        (["lenet5_report"], {"hook": True}, "`hook` .=True. must be a function"),
        ([lenet5], {"recipe": RATE}, r"`target` .* must be a network, such as lenet5\(\) makes"),
        ([None], {}, "`target` .=None. must be a network"),
        ([lenet5()], {"recipe": "lenet5_report"}, r"such as get_recipe\('lenet5_report'\); see"),
    ],
)
def test_arguments_that_do_not_fit_together_are_refused(digits, arguments, options, rule):
    with pytest.raises((ValueError, TypeError, TrainingError), match=rule):
        fit(*arguments, digits[0], **options)


def test_select_best_needs_validation_images(digits):
    recipe = Recipe(network="lenet5", lr=0.1, epochs=1, select="best", source="sample")
    with pytest.raises(ValueError, match=r"`validation` \(=None\)"):
        fit(recipe, digits[0])
    with pytest.raises(ValueError, match=r"`validation` \(=None\)"):
        fit(recipe)  # the test set must not select the weights
    with pytest.raises(ValueError, match="at least 2 images"):
        fit(recipe, digits[0][:1], digits[1])


def test_empty_data_is_refused(digits):
    with pytest.raises(ValueError, match=r"`train` .* must hold at least 2 images"):
        fit("lenet5_report", digits[0][:0], progress=False)
    with pytest.raises(ValueError, match=r"`validation` .* must hold at least 1 image"):
        fit("lenet5_report", digits[0], digits[1][:0], progress=False)


def test_loss_that_is_not_finite_ends_training(digits, tmp_path):
    recipe = Recipe(network="lenet5", lr=1e20, batch_size=32, epochs=3)
    with pytest.raises(TrainingError, match=r"the loss of step \d+ is (nan|inf); no checkpoint is"):
        fit(recipe, digits[0], progress=False)
    with pytest.raises(TrainingError, match=r"the last checkpoint is .*checkpoint-000000001"):
        fit(recipe, digits[0], progress=False, folder=tmp_path, checkpoint_every=1)
    state = torch.load(next(tmp_path.iterdir()), weights_only=True)
    assert all(math.isfinite(loss) for loss in state["history"]["loss"])


def stopped(history):
    raise KeyboardInterrupt


ERRORS = {
    "needs at least 3 steps": {"recipe": RATE.replace(schedule="onecycle", batch_size=150)},
    "cannot be written": {"folder": "file"},
    "no checkpoint of this run": {"folder": "other"},
    "the loss of step .* is": {"recipe": RATE.replace(lr=1e20)},
    "stopped after step": {"hook": stopped},
}


@pytest.mark.parametrize("rule", ERRORS)
@pytest.mark.parametrize("in_training", [False, True])
def test_errors_leave_training_modes_as_they_were(digits, tmp_path, monkeypatch, rule, in_training):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    fit("lenet5_report", digits[0], folder="other", hook=lambda _: True, progress=False)
    model = lenet5().train(in_training)
    model.conv2.train(not in_training)
    modes = [module.training for module in model.modules()]
    options = {"recipe": RATE, "progress": False} | ERRORS[rule]
    with pytest.raises((ValueError, TrainingError, KeyboardInterrupt), match=rule):
        fit(model, digits[0], **options)
    assert [module.training for module in model.modules()] == modes


def test_onecycle_needs_three_steps(digits):
    recipe = Recipe(network="lenet5", lr=0.1, batch_size=150, epochs=1, schedule="onecycle")
    with pytest.raises(ValueError, match=r"`schedule` .* needs at least 3 steps; there are 2"):
        fit(recipe, digits[0], progress=False)
    few = fit(recipe.replace(batch_size=100, warmup=0.05), digits[0], progress=False)
    assert few.lr[1] == pytest.approx(0.1)


def test_classes_that_the_network_does_not_have_are_refused(digits):
    letters = Digits(digits[0].images, digits[0].labels + 16)
    with pytest.raises(ValueError, match=r"`train` has .* class 25; .* network are 0 to 9"):
        fit("lenet5_report", letters, progress=False)


def test_styles_of_digits_are_refused_for_letters(digits):
    recipe = Recipe(network="lenet5", style=Style(flag=0.5), lr=0.1, epochs=1)
    letters = Digits(digits[0].images, digits[0].labels, classes=tuple("ABCDEFGHIJ"))
    with pytest.raises(ValueError, match=r"`style` \(=Style\(flag=0.5, .* `train` are A, B, C"):
        fit(recipe, letters, progress=False)
    named = Digits(digits[0].images, digits[0].labels, classes=tuple("0123456789"))
    assert fit(recipe, named, progress=False).step == 5


def test_training_works_without_validation_images(digits):
    only = Digits(digits[0].images, digits[0].labels)
    history = fit(Recipe(network="lenet5", lr=0.1, epochs=1), only, progress=False)
    assert history.evaluations == []
    assert history.epochs[0].accuracy is None
