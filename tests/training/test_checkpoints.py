"""Checkpoints: runs that are stopped or killed and resumed, and files that cannot be used."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from torch import nn
from training_cases import NormAndDropout, same, weights

from mnist_zoo import CheckpointError, Recipe, TrainingError, fit


@pytest.mark.parametrize("stop", [1, 4, 7, 10, 13, 29])
def test_resumed_run_equals_an_uninterrupted_run_to_the_bit(digits, recipe, tmp_path, stop):
    options = {"progress": False, "recipe": recipe}
    whole = fit(NormAndDropout(), *digits, **options)
    options |= {"folder": tmp_path, "checkpoint_every": 3}
    part = fit(NormAndDropout(), *digits, **options, hook=lambda h: h.step == stop)
    assert part.step == stop
    assert same(whole, fit(NormAndDropout(), *digits, **options))
    assert same(whole, fit(NormAndDropout(), *digits, **options))  # nothing left to do
    assert len(list(tmp_path.iterdir())) == 2


KILLED = """
import sys
from mnist_zoo import *
recipe = Recipe.from_json(sys.argv[1])
train, validation = load_mnist("all", source="sample").split(300, 100, seed=0)
history = fit(recipe, train, validation, folder=sys.argv[2], checkpoint_every=2, progress=False,
              hook=lambda h: print(h.step, flush=True))
"""


@pytest.mark.slow
@pytest.mark.parametrize("moments", [(11,), (3, 20), (3, 11, 20)])
def test_killed_runs_end_as_if_they_had_not_been_killed(digits, recipe, whole, tmp_path, moments):
    command = [sys.executable, "-c", KILLED, recipe.to_json(), str(tmp_path)]
    generator = random.Random(0)
    for kill_at in moments:
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout:
                if int(line) >= kill_at:
                    time.sleep(generator.random() * 0.02)
                    process.kill()
                    break
        assert process.returncode == -signal.SIGKILL
        assert list(tmp_path.glob("checkpoint-*.pt"))
    (tmp_path / "checkpoint-000000005.part").write_bytes(b"incomplete")
    resumed = fit(recipe, *digits, progress=False, folder=tmp_path)
    assert same(whole, resumed)


@pytest.fixture(scope="module")
def stopped(digits, recipe, tmp_path_factory):
    """The folder of a run that stopped, with two checkpoints."""
    folder = tmp_path_factory.mktemp("stopped")
    options = {"progress": False, "folder": folder, "checkpoint_every": 5}
    fit(recipe, *digits, **options, hook=lambda h: h.step == 15)
    return folder


def damage(path, how):
    content = path.read_bytes()
    if how == "half of the file":
        path.write_bytes(content[: len(content) // 2])
    elif how == "a flipped bit":
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :])
    elif how == "a text":
        path.write_text("not a checkpoint")
    elif how == "another torch file":
        torch.save({"weights": torch.zeros(3)}, path)
    elif how == "code":
        torch.save({"format": print}, path)
    elif how == "a folder":
        path.unlink()
        path.mkdir()


REASONS = {
    "half of the file": "incomplete, or not a checkpoint",
    "a flipped bit": "it is damaged",
    "a text": "incomplete, or not a checkpoint",
    "another torch file": "not a training checkpoint of mnist_zoo",
    "code": "incomplete, or not a checkpoint: it calls '__builtin__ print'",
    "a folder": "Is a directory|incomplete",
}


@pytest.mark.parametrize("how", REASONS)
def test_damaged_checkpoint_is_refused_and_the_previous_one_is_used(
    digits, recipe, whole, stopped, tmp_path, how
):
    options = {"progress": False, "folder": tmp_path, "checkpoint_every": 5}
    shutil.copytree(stopped, tmp_path, dirs_exist_ok=True)
    older, newer = sorted(tmp_path.iterdir())
    damage(newer, how)
    if how == "a folder":
        refusal = pytest.raises(TrainingError, match=r"cannot be written.*the last checkpoint is")
        with refusal, pytest.warns(UserWarning, match=REASONS[how]):
            fit(recipe, *digits, **options)
        return
    with pytest.warns(
        UserWarning, match=f"{newer.name}: .*{REASONS[how]}.* resumes from .*{older.name}"
    ):
        assert same(whole, fit(recipe, *digits, **options))
    for path in tmp_path.iterdir():
        damage(path, how)
    with pytest.raises(
        CheckpointError, match=f"no checkpoint of this run in (.|\n)*{REASONS[how]}"
    ):
        fit(recipe, *digits, **options)


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.pop("optimizer"),
        lambda state: state["recipe"].update(tempo=3),
        lambda state: state["optimizer"].update(param_groups=[]),
        lambda state: state["ema"].popitem(),
    ],
    ids=["missing part", "unknown field", "other optimizer", "other moving average"],
)
def test_checkpoint_with_changed_content_is_refused_like_a_damaged_one(
    digits, recipe, whole, stopped, tmp_path, change
):
    options = {"progress": False, "folder": tmp_path, "checkpoint_every": 5}
    shutil.copytree(stopped, tmp_path, dirs_exist_ok=True)
    _, newer = sorted(tmp_path.iterdir())
    state = torch.load(newer, weights_only=True)
    change(state)
    torch.save(state, newer)
    with pytest.warns(UserWarning, match=rf"(?s){newer.name}: .* resumes from"):
        assert same(whole, fit(recipe, *digits, **options))


def test_checkpoints_of_another_run_are_refused(digits, recipe, tmp_path):
    options = {"progress": False, "folder": tmp_path}
    fit(recipe, *digits, **options, hook=lambda h: h.step == 2)
    kept = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(
        CheckpointError, match=r"it belongs to another recipe: lr is 0.004, not 0.1"
    ):
        fit(recipe.replace(lr=0.1), *digits, **options)
    with pytest.raises(CheckpointError, match="belongs to other training or validation images"):
        fit(recipe, digits[0][:299], digits[1], **options)
    model = NormAndDropout()
    before = weights(model)
    with pytest.raises(CheckpointError, match="belongs to other training or validation images"):
        fit(recipe, digits[0], digits[0], **options)
    with pytest.raises(CheckpointError, match="belongs to another network"):
        fit(model, *digits, recipe=recipe, **options)
    assert torch.equal(weights(model), before)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == kept
    fit(recipe.replace(reference="the reference is not compared"), *digits, **options)


class InfiniteGradient(nn.Module):
    """From some step on, finite logits with a gradient that is not finite."""

    def __init__(self, step):
        super().__init__()
        self.fc, self.step = nn.Linear(784, 10), step

    def forward(self, x):
        self.step -= self.training
        out = self.fc(x.flatten(1))
        return out + (out * 0).abs().sqrt() if self.step <= 0 else out


def test_weights_that_are_not_finite_are_never_saved(digits, tmp_path):
    recipe = Recipe(network="lenet5", lr=0.1, batch_size=100, epochs=2)
    with pytest.raises(
        TrainingError, match="weights are not finite after step 6; no checkpoint is"
    ):
        fit(InfiniteGradient(6), digits[0], recipe=recipe, progress=False)
    options = {"recipe": recipe, "progress": False, "folder": tmp_path, "checkpoint_every": 1}
    with pytest.raises(TrainingError, match=r"not finite after step 3; .*checkpoint-000000002.pt"):
        fit(InfiniteGradient(3), digits[0], **options)


def test_ctrl_c_names_the_last_checkpoint(digits, recipe, whole, tmp_path):
    def interrupt(history):
        if history.step == 8:
            raise KeyboardInterrupt

    options = {"progress": False, "folder": tmp_path, "checkpoint_every": 3}
    with pytest.raises(KeyboardInterrupt, match=r"stopped after step 8; .*checkpoint-000000006.pt"):
        fit(recipe, *digits, **options, hook=interrupt)
    assert same(whole, fit(recipe, *digits, **options))


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


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="only POSIX limits the size of a file")
def test_full_disk_keeps_the_last_checkpoint(digits, recipe, tmp_path):
    command = [sys.executable, "-c", FULL_DISK, recipe.to_json(), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "checkpoint-000000004.pt: cannot be written: " in done.stdout
    assert "the last checkpoint is" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-000000002.pt"]
