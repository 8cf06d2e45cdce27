"""A run resumes only itself, in a folder that it alone uses, and deletes only its own files."""

import os
import pickle
import shutil
import signal
import struct
import subprocess
import sys
import zipfile
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn
from training_cases import NormAndDropout, same, weights
from weights_cases import zipped

from mnist_zoo import (
    CheckpointError,
    History,
    PreActResNet,
    Recipe,
    TrainingError,
    fit,
    lenet5,
)

SGD = Recipe(network="lenet5", lr=0.01, momentum=0.9, batch_size=50, epochs=2)


def seeded(make, seed=0, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make(**options)


def frozen_first(model):
    next(model.parameters()).requires_grad_(False)
    return model


small = partial(PreActResNet.small, 8)
OTHERS = {
    "layers are .*ReLU.*, not .*SiLU": lambda: seeded(small, act_layer=nn.SiLU),
    "other initial weights": lambda: seeded(small, seed=1),
    "frozen is nothing, not stem.conv.weight": lambda: frozen_first(seeded(small)),
    "layers are": lambda: seeded(small, stem="7x7"),
    "class is .*, not Other": lambda: seeded(type("Other", (nn.Sequential,), {})),
}


@pytest.mark.parametrize("difference", OTHERS)
def test_checkpoint_of_another_network_is_refused(digits, tmp_path, difference):
    data = [part[:50] for part in digits]
    options = {"recipe": SGD, "folder": tmp_path, "progress": False}
    fit(seeded(small), *data, **options, hook=lambda h: h.step == 1)
    kept = {path: path.read_bytes() for path in tmp_path.iterdir()}
    other = OTHERS[difference]()
    if type(other).__name__ == "Other":
        other.extend([nn.Flatten(), nn.Linear(784, 10)])
    before = weights(other)
    with pytest.raises(CheckpointError, match=f"(?s)no checkpoint of this run .*{difference}"):
        fit(other, *data, **options)
    assert torch.equal(weights(other), before)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == kept
    assert fit(seeded(small), *data, **options).step == 2


def test_network_that_a_run_left_resumes_that_run(digits, tmp_path):
    """In one process, as in a notebook: the network then has the weights where training ended."""
    options = {"recipe": SGD, "folder": tmp_path, "progress": False, "checkpoint_every": 4}
    whole = fit(seeded(NormAndDropout), *digits, recipe=SGD, progress=False)

    def interrupt(history):
        if history.step == 6:
            raise KeyboardInterrupt

    model = seeded(NormAndDropout)
    with pytest.raises(KeyboardInterrupt):
        fit(model, *digits, **options, hook=interrupt)
    fit(model, *digits, **options, hook=lambda h: h.step == 9)
    assert same(fit(model, *digits, **options), whole)
    nn.init.zeros_(model.head[1].weight)
    with pytest.raises(CheckpointError, match="other initial weights"):
        fit(model, *digits, **options)


def test_checkpoint_of_an_older_version_is_refused(digits, tmp_path):
    options = {"folder": tmp_path, "progress": False}
    fit(SGD, *digits, **options, hook=lambda h: h.step == 1)
    (path,) = tmp_path.iterdir()
    state = torch.load(path, weights_only=True)
    for key in ("network", "start", "files"):
        del state[key]
    torch.save({**state, "format": "mnist_zoo checkpoint 1"}, path)
    with pytest.raises(CheckpointError, match="written by an older version"):
        fit(SGD, *digits, **options)


def test_constant_schedule_goes_on_with_more_epochs(digits, tmp_path):
    recipe = SGD.replace(select="best", ema_decay=0.9)
    longer = recipe.replace(epochs=4)
    options = {"folder": tmp_path, "progress": False}
    fit(recipe, *digits, **options)
    history = fit(longer, *digits, **options)
    assert same(history, fit(longer, *digits, progress=False))
    assert history.recipe == longer
    with pytest.raises(CheckpointError, match="it was trained for 4 epochs, not 1"):
        fit(recipe.replace(epochs=1), *digits, **options)


def test_onecycle_says_why_it_cannot_go_on(digits, tmp_path):
    recipe = SGD.replace(schedule="onecycle")
    fit(recipe, *digits, folder=tmp_path, progress=False)
    with pytest.raises(CheckpointError, match=r"trained for 2 epochs, not 3, .*another folder"):
        fit(recipe.replace(epochs=3), *digits, folder=tmp_path, progress=False)


def stretch(value):
    return torch.zeros(1).expand(value.shape) if value.dim() else value


def of_optimizer(change):
    def changed(state):
        for entry in state["optimizer"]["state"].values():
            for name, value in entry.items():
                entry[name] = change(value)

    return changed


FOREIGN = {
    "other shapes": of_optimizer(lambda value: torch.zeros(2)),
    "one number for all": of_optimizer(stretch),
    "other types": of_optimizer(lambda value: value.double()),
    "no tensors": of_optimizer(lambda value: 3),
    "more parameters": lambda s: s["optimizer"]["state"].update({99: s["optimizer"]["state"][0]}),
    "other names": lambda s: s["optimizer"]["state"].update({0: {"memory": torch.zeros(3)}}),
    "other settings": lambda s: s["optimizer"]["param_groups"][0].update(weight_decay=1.0),
    "best of others": lambda s: s.update(best={"weight": torch.zeros(3)}),
    "endless history": lambda s: s["history"].update(
        {key: torch.zeros(1).double().expand(10**12) for key in ("loss", "accuracy", "lr")}
    ),
    "longer curve": lambda s: s["history"].update(lr=torch.zeros(3).double()),
    "another step": lambda s: s["schedule"].update(last_epoch=1),
    "methods": lambda s: s["schedule"].update(get_lr=3),
    "weights that are not finite": lambda s: next(iter(s["model"].values())).fill_(float("nan")),
    "no note of a parameter": lambda s: s["optimizer"]["state"].pop(0),
    "another rate": lambda s: s["optimizer"]["param_groups"][0].update(lr=9.0),
    "another rate, twice": lambda s: (
        s["optimizer"]["param_groups"][0].update(lr=9.0),
        s["schedule"].update(_last_lr=[9.0]),
    ),
    "no rate": lambda s: (
        s["optimizer"]["param_groups"][0].update(lr="9"),
        s["schedule"].update(_last_lr=["9"]),
    ),
    "best weights": lambda s: s.update(best={k: v + 1 for k, v in s["model"].items()}),
    "an end": lambda s: s["history"].update(stopped=3),
    "no duration": lambda s: s["history"].update(seconds=float("nan")),
    "whole points": lambda s: s["history"].update(evaluations=s["history"]["evaluations"].long()),
}


@pytest.fixture(scope="module", params=["sgd", "adam"])
def stopped(request, digits, tmp_path_factory):
    """A short run to its end, and the folder of one that stopped after two steps."""
    recipe = SGD.replace(optimizer=request.param, momentum=0.9 * (request.param == "sgd"))
    data, folder = [part[:60] for part in digits], tmp_path_factory.mktemp("stopped")
    options = {"folder": folder, "progress": False, "checkpoint_every": 1}
    fit(recipe, *data, **options, hook=lambda h: h.step == 2)
    return fit(recipe, *data, progress=False), data, folder


@pytest.mark.parametrize("how", FOREIGN)
def test_content_that_does_not_fit_is_refused(stopped, tmp_path, how):
    whole, data, folder = stopped
    options = {"folder": tmp_path, "progress": False, "checkpoint_every": 1}
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    _, newer = sorted(tmp_path.iterdir())
    state = torch.load(newer, weights_only=True)
    FOREIGN[how](state)
    torch.save(state, newer)
    with pytest.warns(UserWarning, match=f"(?s){newer.name}.* resumes from"):
        assert same(whole, fit(whole.recipe, *data, **options))


def bomb(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", bytes(10**8))


HOSTILE = {
    "FIFO": lambda path: os.mkfifo(path),
    "nested tuples": lambda path: zipped(
        path, b"\x80\x02}K\x01\x85q\x01" + b"h\x01\x86q\x01" * 40 + b"K\x01s."
    ),
    "bytearray": lambda path: zipped(
        path,
        b"\x80\x02}X\x01\0\0\0acbuiltins\nbytearray\nq\x01\x8a\x05"
        + struct.pack("<Q", 2 * 10**9)[:5]
        + b"\x85Rs.",
    ),
    "zip bomb": bomb,
    "long pickle": lambda path: zipped(path, b"\x80\x02" + b"N0" * 5_000_000 + b"N."),
    "code": lambda path: zipped(path, pickle.dumps(os.system)),
    "dangling link": lambda path: path.symlink_to("nowhere"),
    "folder": lambda path: path.mkdir(),
    "empty": lambda path: path.write_bytes(b""),
}


@pytest.mark.skipif(os.name != "posix", reason="FIFOs and links")
@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_checkpoint_is_refused_at_once(digits, tmp_path, kind):
    HOSTILE[kind](tmp_path / "checkpoint-000000009.pt")
    with pytest.raises(CheckpointError, match=r"checkpoint-000000009\.pt: (incomplete, or )?not a"):
        fit(SGD, digits[0][:60], folder=tmp_path, progress=False)


def test_only_files_of_the_run_are_deleted(digits, tmp_path):
    names = ["checkpoint-0.pt", "checkpoint-000000000.pt", "checkpoint-old.pt", "film.part"]
    names += ["checkpoint-000000001.part", "checkpoint-000000001.pt.part"]
    options = {"folder": tmp_path, "progress": False, "checkpoint_every": 1}
    fit(SGD, *digits, **options, hook=lambda h: h.step == 2)
    for name in names:
        (tmp_path / name).write_text("mine")
    unfinished = tmp_path / "checkpoint-000000003.pt.4711-140000.part"
    unfinished.write_bytes(b"of a killed run")
    fit(SGD, *digits, **options)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {*names, "checkpoint-000000011.pt", "checkpoint-000000012.pt"}
    assert {(tmp_path / name).read_text() for name in names} == {"mine"}


@pytest.mark.skipif(os.name != "posix", reason="links")
def test_a_lock_file_that_leads_elsewhere_is_not_written(digits, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "mnist_zoo-run.lock").symlink_to(victim)
    with pytest.raises(TrainingError, match=r"cannot be written: .*\.lock' must be a file"):
        fit(SGD, digits[0], folder=folder, progress=False)
    assert victim.read_text() == "mine"


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("schedule", ["constant", "onecycle"])
def test_networks_with_parts_that_are_not_used_resume(digits, tmp_path, optimizer, schedule):
    class Unused(torch.nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.spare, self.fc = torch.nn.Linear(3, 3), torch.nn.Linear(784, 10)

        def forward(self, x):
            return self.fc(x.flatten(1))

    changes = {"head_lr": 0.002, "optimizer": optimizer, "schedule": schedule}
    recipe = SGD.replace(network=None, momentum=0.9 * (optimizer == "sgd"), **changes)
    options = {"recipe": recipe, "progress": False}
    whole = fit(Unused(), digits[0], **options)
    fit(Unused(), digits[0], **options, folder=tmp_path, hook=lambda h: h.step == 5)
    assert same(whole, fit(Unused(), digits[0], **options, folder=tmp_path))


RUN = """
import sys
from mnist_zoo import *
train, _ = load_mnist("all", source="sample").split(300, 100, seed=0)
def hook(history):
    print(history.step, flush=True)
    sys.stdin.readline()
fit(Recipe.from_json(sys.argv[1]), train, folder=sys.argv[2], progress=False, hook=hook)
"""


@pytest.mark.slow
def test_folder_in_use_is_told_until_its_run_is_killed(digits, tmp_path):
    command = [sys.executable, "-c", RUN, SGD.to_json(), str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    options = {"folder": tmp_path, "progress": False}
    with subprocess.Popen(command, **pipes) as process:
        process.stdout.readline()
        with pytest.raises(CheckpointError, match=f"another run uses .*process {process.pid} on"):
            fit(SGD, digits[0], **options)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert fit(SGD, digits[0], **options).step == 12
    assert not list(tmp_path.glob("*.lock"))


def test_run_inside_a_run_cannot_use_its_folder(digits, tmp_path):
    options = {"folder": tmp_path, "progress": False}

    def hook(history):
        fit(SGD, digits[0], **options)

    with pytest.raises(CheckpointError, match="another run uses this folder"):
        fit(SGD, digits[0], **options, hook=hook)
    assert fit(SGD, digits[0], **options).step == 12


def test_folder_that_cannot_be_written_is_told_before_training(digits, tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "inside", Path("/proc/mnist_zoo")):
        steps = []
        with pytest.raises(TrainingError, match=r"`folder` .* cannot be written"):
            fit(SGD, digits[0], folder=folder, progress=False, hook=steps.append)
        assert not steps


def test_tilde_is_the_home_folder(digits, tmp_path, monkeypatch):
    home, here = tmp_path / "home", tmp_path / "here"
    for folder in (home, here):
        folder.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.chdir(here)
    options = {"folder": "~/runs/a", "tensorboard": "~/board", "progress": False}
    history = fit(SGD, digits[0], **options)
    history.save("~/history.json")
    assert History.load("~/history.json") == history
    assert sorted(path.name for path in home.iterdir()) == ["board", "history.json", "runs"]
    assert not list(here.iterdir())
    history.save("~nobody-has-this-name.json")
    assert [path.name for path in here.iterdir()] == ["~nobody-has-this-name.json"]


def test_history_is_saved_whole_or_not_at_all(digits, tmp_path):
    history = fit(lenet5(), digits[0], recipe=SGD, progress=False)
    history.save(tmp_path / "history.json")
    older = (tmp_path / "history.json").read_bytes()
    history.loss.append(object())
    with pytest.raises(TypeError):
        history.save(tmp_path / "history.json")
    history.loss.pop()
    with pytest.raises(ValueError, match="must be a file; it is a folder"):
        history.save(tmp_path)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [older]
