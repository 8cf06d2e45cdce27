"""Training: against a plain loop, torch's schedulers and scikit-learn; killed, resumed, shared."""

import json
import math
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mnist_zoo import (
    Augmentation,
    CheckpointError,
    Digits,
    History,
    Metrics,
    Preprocessing,
    Recipe,
    TrainingError,
    evaluate,
    fit,
    get_recipe,
    lenet5,
    load_data,
    load_mnist,
)

ROOT = Path(__file__).parent.parent
TRAIN = ROOT / "examples" / "train.py"
NORM = Preprocessing()


@pytest.fixture(scope="module")
def digits():
    return load_mnist("all", source="sample").split(300, 100, seed=0)


@pytest.fixture
def recipe():
    """A short run that uses everything whose state a checkpoint must hold."""
    return Recipe(
        network="lenet5",
        optimizer="adam",
        lr=0.004,
        schedule="onecycle",
        batch_size=32,
        epochs=3,
        augmentation=Augmentation(rotation=10, elastic=20),
        ema_decay=0.9,
        eval_every=7,
        select="best",
    )


def weights(model):
    return torch.cat([value.flatten().double() for value in model.state_dict().values()])


def same(one: History, other: History) -> bool:
    """Whether two runs did the same to the bit, whatever time they took."""
    pairs = [(h.loss, h.accuracy, h.lr, h.evaluations, h.stopped) for h in (one, other)]
    return pairs[0] == pairs[1] and torch.equal(weights(one.model), weights(other.model))


class Norms(nn.Module):
    """A network with BatchNorm and dropout: state beside the weights, and random numbers."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(
            nn.Conv2d(1, 8, 5, stride=3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten()
        )
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(512, 10))

    def forward(self, x):
        return self.head(self.net(x))


# --- Metrics ---------------------------------------------------------------------------------


def test_metrics_are_scikit_learns():
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


def test_mistakes_come_with_the_most_confident_first():
    logits = torch.tensor([[0.0, 5.0], [3.0, 0.0], [0.0, 1.0], [9.0, 0.0]])
    metrics = Metrics.from_logits(logits, torch.tensor([0, 0, 0, 1]))
    found = [(m.index, m.label, m.predicted) for m in metrics.mistakes]
    assert found == [(3, 1, 0), (0, 0, 1), (2, 0, 1)]
    assert metrics.mistakes[2].probability == pytest.approx(1 / (1 + math.exp(-1)))
    assert "25.00% (1 of 4)" in str(metrics)


def test_calibration_error_by_hand():
    # Confidences 0.8, 0.8, 0.8, 0.8 with three right, and 0.6 with none right.
    logits = torch.tensor([[0.8, 0.2]] * 4 + [[0.6, 0.4]]).log()
    labels = torch.tensor([0, 0, 0, 1, 1])
    error = Metrics.from_logits(logits, labels).calibration_error
    assert error == pytest.approx((4 * abs(0.75 - 0.8) + 1 * abs(0 - 0.6)) / 5)


def test_a_class_without_pictures_has_no_accuracy():
    metrics = Metrics.from_logits(torch.eye(3)[:2], torch.tensor([0, 1]))
    assert metrics.accuracy_by_class[:2] == (1.0, 1.0)
    assert math.isnan(metrics.accuracy_by_class[2])


@pytest.mark.parametrize(
    ("logits", "labels"),
    [
        (torch.zeros(3, 10), torch.zeros(2).long()),
        (torch.zeros(0, 10), torch.zeros(0).long()),
        (torch.zeros(3), torch.zeros(3).long()),
        (torch.zeros(3, 2), torch.tensor([0, 1, 2])),
    ],
)
def test_metrics_refuse_what_does_not_fit(logits, labels):
    with pytest.raises(ValueError, match="`labels`"):
        Metrics.from_logits(logits, labels)


def test_evaluating_is_forward_in_eval_mode_and_leaves_the_modes(digits):
    model = Norms()
    model.net[1].eval()
    modes = [m.training for m in model.modules()]
    before = weights(model)
    metrics = evaluate(model, digits[0], batch_size=7)
    assert [m.training for m in model.modules()] == modes
    assert torch.equal(weights(model), before)
    logits = model.eval()(NORM(digits[0].images))
    assert metrics.loss == pytest.approx(F.cross_entropy(logits, digits[0].labels).item(), rel=1e-5)
    assert metrics.correct == (logits.argmax(1) == digits[0].labels).sum()


def test_evaluating_restores_the_modes_when_forward_raises(digits):
    model = lenet5().train()
    with pytest.raises(ValueError, match="expected an input of shape"):
        evaluate(model, digits[0], Preprocessing(image_size=32))
    assert all(m.training for m in model.modules())


# --- The loop --------------------------------------------------------------------------------

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


def test_history_adds_up(digits, tmp_path):
    recipe = Recipe(network="lenet5", lr=0.05, momentum=0.9, batch_size=64, epochs=3)
    history = fit(recipe, *digits, progress=False)
    assert (history.step, history.steps_per_epoch, len(history.epochs)) == (15, 5, 3)
    record = history.epochs[1]
    assert record.train_loss == pytest.approx(sum(history.loss[5:10]) / 5)
    assert (record.loss, record.accuracy) == (
        history.evaluations[1].loss,
        history.evaluations[1].accuracy,
    )
    assert history.seconds > 0
    history.save(tmp_path / "history.json")
    read = History.load(tmp_path / "history.json")
    assert read == history
    assert read.model is None


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


def test_progress_tells_epochs_and_its_absence_nothing(digits, capsys):
    recipe = Recipe(network="lenet5", lr=0.05, batch_size=32, epochs=2)
    fit(recipe, *digits, progress=False)
    assert capsys.readouterr() == ("", "")
    fit(recipe, *digits)
    out, err = capsys.readouterr()
    assert len(re.findall(r"epoch \d: loss .*; validation loss .*, accuracy [\d.]+%", out)) == 2
    assert "600/600" in err


def test_tensorboard_holds_every_step(digits, tmp_path):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    recipe = Recipe(network="lenet5", lr=0.05, batch_size=64, epochs=2)
    history = fit(recipe, *digits, progress=False, tensorboard=tmp_path)
    events = reader.EventAccumulator(str(tmp_path)).Reload()
    steps = events.Scalars("train/loss")
    assert [e.step for e in steps] == list(range(1, 11))
    assert [e.value for e in steps] == pytest.approx(history.loss, rel=1e-6)
    found = [e.value for e in events.Scalars("validation/accuracy")]
    assert found == pytest.approx([e.accuracy for e in history.evaluations])


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


def test_missing_tensorboard_is_told(digits, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ModuleNotFoundError, match="pip install tensorboard"):
        fit("lenet5_report", digits[0], progress=False, tensorboard=tmp_path)


# --- Checkpoints -----------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [1, 4, 7, 10, 13, 29])
def test_a_resumed_run_is_the_run_to_the_bit(digits, recipe, tmp_path, stop):
    options = {"progress": False, "recipe": recipe}
    whole = fit(Norms(), *digits, **options)
    options |= {"folder": tmp_path, "checkpoint_every": 3}
    part = fit(Norms(), *digits, **options, hook=lambda h: h.step == stop)
    assert part.step == stop
    assert same(whole, fit(Norms(), *digits, **options))
    assert same(whole, fit(Norms(), *digits, **options))  # finished: nothing left to do
    assert len(list(tmp_path.iterdir())) == 2


KILLED = """
import sys
from mnist_zoo import *
recipe = Recipe.from_json(sys.argv[1])
train, validation = load_mnist("all", source="sample").split(300, 100, seed=0)
history = fit(recipe, train, validation, folder=sys.argv[2], checkpoint_every=2, progress=False,
              hook=lambda h: print(h.step, flush=True))
"""


def test_a_run_killed_at_any_moment_ends_as_if_it_had_not_been(digits, recipe, tmp_path):
    whole = fit(recipe, *digits, progress=False)
    command = [sys.executable, "-c", KILLED, recipe.to_json(), str(tmp_path)]
    chance = random.Random(0)
    for kill_at in (3, 11, 20):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout:
                if int(line) >= kill_at:
                    time.sleep(chance.random() * 0.02)
                    process.kill()
                    break
        assert process.returncode == -signal.SIGKILL
        assert list(tmp_path.glob("checkpoint-*.pt"))
    (tmp_path / "checkpoint-000000005.part").write_bytes(b"left behind")
    done = fit(recipe, *digits, progress=False, folder=tmp_path)
    assert same(whole, done)


def spoilt(path, how):
    content = path.read_bytes()
    if how == "half-written":
        path.write_bytes(content[: len(content) // 2])
    elif how == "a flipped bit":
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :])
    elif how == "a text":
        path.write_text("not a checkpoint")
    elif how == "another file of torch's":
        torch.save({"weights": torch.zeros(3)}, path)
    elif how == "code":
        torch.save({"format": print}, path)
    elif how == "a folder":
        path.unlink()
        path.mkdir()


REASONS = {
    "half-written": "half-written, or no checkpoint",
    "a flipped bit": "damaged at",
    "a text": "half-written, or no checkpoint",
    "another file of torch's": "not a training checkpoint of this library",
    "code": "half-written, or no checkpoint: Weights only load failed",
    "a folder": "Is a directory|half-written",
}


@pytest.mark.parametrize("how", REASONS)
def test_a_bad_checkpoint_is_refused_and_the_one_before_it_used(digits, recipe, tmp_path, how):
    options = {"progress": False, "folder": tmp_path, "checkpoint_every": 5}
    whole = fit(recipe, *digits, progress=False)
    fit(recipe, *digits, **options, hook=lambda h: h.step == 15)
    older, newer = sorted(tmp_path.iterdir())
    spoilt(newer, how)
    if how == "a folder":
        told = pytest.raises(TrainingError, match=r"cannot be written.*the last checkpoint is")
        with told, pytest.warns(UserWarning, match=REASONS[how]):
            fit(recipe, *digits, **options)
        return
    with pytest.warns(
        UserWarning, match=f"{newer.name}: .*{REASONS[how]}.* goes on from .*{older.name}"
    ):
        assert same(whole, fit(recipe, *digits, **options))
    for path in tmp_path.iterdir():
        spoilt(path, how)
    with pytest.raises(
        CheckpointError, match=f"no checkpoint of this run in (.|\n)*{REASONS[how]}"
    ):
        fit(recipe, *digits, **options)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda state: state.pop("optimizer"),
        lambda state: state["recipe"].update(tempo=3),
        lambda state: state["optimizer"].update(param_groups=[]),
        lambda state: state["ema"].popitem(),
    ],
    ids=["a missing part", "an unknown field", "another optimiser", "another average"],
)
def test_a_checkpoint_of_other_content_is_refused_like_a_damaged_one(
    digits, recipe, tmp_path, spoil
):
    options = {"progress": False, "folder": tmp_path, "checkpoint_every": 5}
    whole = fit(recipe, *digits, progress=False)
    fit(recipe, *digits, **options, hook=lambda h: h.step == 15)
    _, newer = sorted(tmp_path.iterdir())
    state = torch.load(newer, weights_only=True)
    spoil(state)
    torch.save(state, newer)
    with pytest.warns(UserWarning, match=rf"(?s){newer.name}: .* goes on from"):
        assert same(whole, fit(recipe, *digits, **options))


def test_no_pictures_are_refused(digits):
    with pytest.raises(ValueError, match=r"`train` .* must hold at least 2 pictures"):
        fit("lenet5_report", digits[0][:0], progress=False)
    with pytest.raises(ValueError, match=r"`validation` .* must hold at least 1 picture"):
        fit("lenet5_report", digits[0], digits[1][:0], progress=False)


def test_checkpoints_of_another_run_are_refused(digits, recipe, tmp_path):
    options = {"progress": False, "folder": tmp_path}
    fit(recipe, *digits, **options, hook=lambda h: h.step == 2)
    kept = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(CheckpointError, match=r"another recipe: lr is 0.004, not 0.1"):
        fit(recipe.replace(lr=0.1), *digits, **options)
    with pytest.raises(CheckpointError, match="of other training or validation"):
        fit(recipe, digits[0][:299], digits[1], **options)
    model = Norms()
    before = weights(model)
    with pytest.raises(CheckpointError, match="of other training or validation"):
        fit(recipe, digits[0], digits[0], **options)
    with pytest.raises(CheckpointError, match="of another network"):
        fit(model, *digits, recipe=recipe, **options)
    assert torch.equal(weights(model), before)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == kept
    fit(recipe.replace(reference="the words do not matter"), *digits, **options)


def test_a_loss_that_is_not_finite_ends_training(digits, tmp_path):
    recipe = Recipe(network="lenet5", lr=1e20, batch_size=32, epochs=3)
    with pytest.raises(TrainingError, match=r"the loss of step \d+ is (nan|inf); no checkpoints"):
        fit(recipe, digits[0], progress=False)
    with pytest.raises(TrainingError, match=r"the last checkpoint is .*checkpoint-000000001"):
        fit(recipe, digits[0], progress=False, folder=tmp_path, checkpoint_every=1)
    state = torch.load(next(tmp_path.iterdir()), weights_only=True)
    assert all(math.isfinite(loss) for loss in state["history"]["loss"])


class Spoils(nn.Module):
    """A finite value with a gradient that is none, from some step on."""

    def __init__(self, step):
        super().__init__()
        self.fc, self.step = nn.Linear(784, 10), step

    def forward(self, x):
        self.step -= self.training
        out = self.fc(x.flatten(1))
        return out + (out * 0).abs().sqrt() if self.step <= 0 else out


def test_weights_that_are_not_finite_are_never_kept(digits, tmp_path):
    recipe = Recipe(network="lenet5", lr=0.1, batch_size=100, epochs=2)
    with pytest.raises(TrainingError, match="weights are not finite after step 6; no checkpoints"):
        fit(Spoils(6), digits[0], recipe=recipe, progress=False)
    options = {"recipe": recipe, "progress": False, "folder": tmp_path, "checkpoint_every": 1}
    with pytest.raises(TrainingError, match=r"not finite after step 3; .*checkpoint-000000002.pt"):
        fit(Spoils(3), digits[0], **options)


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


def test_ctrl_c_tells_what_is_kept(digits, recipe, tmp_path):
    def interrupt(history):
        if history.step == 8:
            raise KeyboardInterrupt

    options = {"progress": False, "folder": tmp_path, "checkpoint_every": 3}
    with pytest.raises(KeyboardInterrupt, match=r"stopped after step 8; .*checkpoint-000000006.pt"):
        fit(recipe, *digits, **options, hook=interrupt)
    assert same(fit(recipe, *digits, progress=False), fit(recipe, *digits, **options))


FULL_DISK = """
import resource, sys
from mnist_zoo import *
train, _ = load_mnist("all", source="sample").split(300, 100, seed=0)
def hook(history):
    if history.step == 3:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
try:
    fit(Recipe.from_json(sys.argv[1]), train, train, folder=sys.argv[2], checkpoint_every=2,
        progress=False, hook=hook)
except TrainingError as error:
    print(error)
"""


@pytest.mark.skipif(os.name != "posix", reason="the limit of a file's size is POSIX's")
def test_a_full_disk_keeps_the_last_checkpoint(digits, recipe, tmp_path):
    command = [sys.executable, "-c", FULL_DISK, recipe.to_json(), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "checkpoint-000000004.pt: cannot be written: " in done.stdout
    assert "the last checkpoint is" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-000000002.pt"]


# --- Several processes -----------------------------------------------------------------------

SMALL = ["lenet5_report", "source=sample", "sizes=[300,100,100]", "epochs=2", "lr=0.01"]


def launch(*arguments, processes=2, restarts=0, script=TRAIN):
    command = [sys.executable, script, *map(str, arguments)]
    if processes > 1:
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        torchrun += [f"--nproc-per-node={processes}", f"--max-restarts={restarts}"]
        command[:1] = torchrun
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MNIST_ZOO_DATA": ""}
    return subprocess.Popen(
        command,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def ran(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out


def test_two_processes_follow_the_losses_of_one(tmp_path):
    changes = [*SMALL, "augmentation.rotation=10", "augmentation.elastic=20", "batch_size=37"]
    histories = []
    for processes in (1, 2):
        out = ran(launch(*changes, "--out", tmp_path / str(processes), processes=processes))
        assert out.count("test set:") == 1
        histories.append(History.load(tmp_path / str(processes) / "history.json"))
    one, two = histories
    assert two.loss == pytest.approx(one.loss, abs=1e-4)
    assert two.accuracy == pytest.approx(one.accuracy, abs=1e-6)
    assert [e.loss for e in two.evaluations] == pytest.approx(
        [e.loss for e in one.evaluations], abs=1e-4
    )
    for name in ("curves.png", "weights.safetensors", "history.json"):
        assert (tmp_path / "2" / name).stat().st_size > 1000
    assert lenet5(weights=tmp_path / "2" / "weights.safetensors").fc3.weight.abs().sum() > 0


def test_another_number_of_processes_goes_on_and_a_killed_worker_is_replaced(tmp_path):
    whole = tmp_path / "whole"
    ran(launch(*SMALL, "epochs=30", "--out", whole, processes=1))
    out = tmp_path / "shared"
    options = [*SMALL, "epochs=30", "--out", out, "--checkpoint-every", "2"]
    process = launch(*options, restarts=2)
    while not (found := list(out.glob("checkpoint-*.pt"))):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    workers = subprocess.run(
        ["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True
    ).stdout.split()
    os.kill(int(workers[-1]), signal.SIGKILL)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "exitcode: -9" in err
    assert err.count("0.00/9.00k") <= 2
    shared = History.load(out / "history.json")
    assert len(found) >= 1
    assert shared.step == 150
    one = History.load(whole / "history.json")
    assert shared.loss[:50] == pytest.approx(one.loss[:50], abs=1e-3)

    for path in sorted(out.glob("checkpoint-*.pt"))[1:]:
        path.unlink()
    ran(launch(*options, processes=1))
    again = History.load(out / "history.json")
    assert again.step == 150
    assert again.loss[:148] == shared.loss[:148]
    assert json.loads((out / "history.json").read_text())["recipe"]["epochs"] == 30


THREADS = """
from pathlib import Path
from mnist_zoo import fit, get_recipe, load_data

recipe = get_recipe("lenet5_report", source="sample", sizes=(64, 16, 20), epochs=1)
train, validation, _ = load_data(recipe)
fit(recipe, train, validation, progress=False)
print("threads:", *(path.read_text() for path in Path("/proc/self/task").glob("*/comm")))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="threads are read from /proc")
def test_no_thread_of_the_process_group_outlives_training(tmp_path):
    """Python's shutdown aborts a process when one of them still holds a tensor."""
    script = tmp_path / "threads.py"
    script.write_text(THREADS)
    out = ran(launch(script=script))
    assert out.count("threads:") == 2
    assert "gloo" not in out


def test_batchnorm_networks_train_on_two_processes(tmp_path):
    """Also where a process's share of the last batch, of two pictures, is a single one."""
    changes = ["lenet5_fc_residual_report", "source=sample", "sizes=[68,16,20]", "epochs=1"]
    ran(launch(*changes, "batch_size=33", "--out", tmp_path))
    history = History.load(tmp_path / "history.json")
    assert history.step == 3
    assert all(math.isfinite(loss) for loss in history.loss)


FOLDERS = """
import os, sys
from mnist_zoo import *
train, _ = load_mnist("all", source="sample").split(300, 100, seed=0)
folder = sys.argv[2] + os.environ["RANK"]
fit(Recipe.from_json(sys.argv[1]), train, train, folder=folder, progress=False)
"""


def test_processes_with_different_checkpoints_are_refused(digits, recipe, tmp_path):
    options = {"folder": tmp_path / "0", "progress": False}
    fit(recipe, digits[0], digits[0], **options, hook=lambda h: h.step == 2)
    script = tmp_path / "script.py"
    script.write_text(FOLDERS)
    process = launch(recipe.to_json(), f"{tmp_path}/", script=script)
    _, err = process.communicate(timeout=300)
    assert process.returncode != 0
    assert "found different checkpoints, of steps 0 to 2" in err


def test_digits_of_the_test_set_are_not_needed_to_train(digits):
    only = Digits(digits[0].images, digits[0].labels)
    history = fit(Recipe(network="lenet5", lr=0.1, epochs=1), only, progress=False)
    assert history.evaluations == []
    assert history.epochs[0].accuracy is None
