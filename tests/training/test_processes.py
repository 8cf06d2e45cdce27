"""Training on several processes, by torchrun."""

import json
import math
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import torch.distributed.nn.functional  # before a group; see mnist_zoo.training.processes
from torch.nn.parallel import DistributedDataParallel
from training_cases import same

from mnist_zoo import (
    History,
    Recipe,
    evaluate,
    fit,
    get_recipe,
    lenet5,
    load_data,
    load_mnist,
    load_model,
    mini_resnet,
)

TRAIN = Path(__file__).parents[2] / "examples" / "train.py"
SMALL = ["lenet5_report", "source=sample", "sizes=[300,100,100]", "epochs=2", "lr=0.01"]


def launch(*arguments, restarts=0, script=TRAIN):
    """Starts the script in two processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node=2", f"--max-restarts={restarts}", script, *map(str, arguments)]
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


def fitted(*changes, folder=None):
    """What this process alone makes of the recipe `SMALL` with these changes."""
    changed = runpy.run_path(str(TRAIN))["changed"]
    recipe = changed(get_recipe(SMALL[0]), [*SMALL[1:], *changes])
    train, validation, _ = load_data(recipe)
    return fit(recipe, train, validation, folder=folder, progress=False)


FOLLOWED = ["augmentation.rotation=10", "augmentation.elastic=20", "batch_size=37"]
FOLLOWED += ["class_weights=[1,2,3,4,5,5,4,3,2,1]", "head_lr=0.02"]
FOLLOWED += ["style.flag=0.5", "style.heavy=0.3", "corruption.share=0.5", "corruption.noise=0.3"]
NORMS = ["lenet5_fc_residual_report", "source=sample", "sizes=[68,16,20]", "epochs=1"]
SINGLE = [*NORMS, "batch_size=33"]
NORMS += ["batch_size=32"]

TOGETHER = """
import gc, json, os, runpy, sys
from pathlib import Path
import torch
import torch.distributed.nn.functional  # see mnist_zoo.training.processes
from torch.nn.parallel import DistributedDataParallel
from mnist_zoo import *

_, train_script, folders, recipe, *calls = sys.argv
torch.distributed.init_process_group("gloo")  # a user's own
torch.manual_seed(0)
model = mini_resnet()
if os.environ["RANK"] == "1":
    torch.nn.init.zeros_(model.fc.weight)  # DistributedDataParallel takes those of the first
model = DistributedDataParallel(model)
train, validation = load_mnist("all", source="sample").split(300, 100, seed=0)
own = folders + "own"
history = fit(model, train, validation, recipe=Recipe.from_json(recipe), folder=own, progress=False)
assert history.model is model and model.module.preprocessing and not model.module.training
if os.environ["RANK"] == "0":
    history.save(own + ".json")
    save_model(model, own + ".safetensors")
try:
    fit(model, Digits(train.images, train.labels + 1), recipe=history.recipe, progress=False)
except ValueError as error:
    print("own:", error)
del model, history  # they hold the group, and with it its threads
gc.collect()
torch.distributed.destroy_process_group()
for call in calls:
    sys.argv = [train_script, *json.loads(call)]
    try:
        runpy.run_path(train_script, run_name="__main__")
    except SystemExit as error:
        print(error)
train, _ = load_mnist("all", source="sample").split(300, 100, seed=0)
try:
    folder = folders + os.environ["RANK"]
    fit(Recipe.from_json(recipe), train, train, folder=folder, progress=False)
except CheckpointError as error:
    print(error)
if sys.platform == "linux":
    threads = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    print("threads:", *threads)
"""


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """Several runs of two processes that start once, for that takes longer than the runs."""
    folder = tmp_path_factory.mktemp("together")
    recipe = Recipe(network="lenet5", lr=0.01, batch_size=32, epochs=1)
    digits, _ = load_mnist("all", source="sample").split(300, 100, seed=0)
    options = {"folder": folder / "checkpoints-0", "progress": False}
    fit(recipe, digits, digits, **options, hook=lambda h: h.step == 2)
    calls = [[*SMALL, *FOLLOWED, "--out", folder / "followed"], [*NORMS, "--out", folder / "norms"]]
    calls += [[*SINGLE, "--out", folder / "single"]]
    script = folder / "together.py"
    script.write_text(TOGETHER)
    texts = [json.dumps(list(map(str, call))) for call in calls]
    out = ran(launch(TRAIN, folder / "checkpoints-", recipe.to_json(), *texts, script=script))
    return folder, out


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one(together):
    folder, out = together
    assert out.count("test set:") == 2  # of two runs, not of two processes each
    one, two = fitted(*FOLLOWED), History.load(folder / "followed" / "history.json")
    assert two.loss == pytest.approx(one.loss, abs=1e-4)
    assert two.accuracy == pytest.approx(one.accuracy, abs=1e-6)
    assert [e.loss for e in two.evaluations] == pytest.approx(
        [e.loss for e in one.evaluations], abs=1e-4
    )
    for name in ("curves.png", "weights.safetensors", "history.json"):
        assert (folder / "followed" / name).stat().st_size > 1000
    state = lenet5(weights=folder / "followed" / "weights.safetensors")
    assert state.fc3.weight.abs().sum() > 0


@pytest.mark.slow
def test_another_number_of_processes_resumes(together, tmp_path):
    followed = together[0] / "followed"
    older, _ = sorted(followed.glob("checkpoint-*.pt"))
    shutil.copy(older, tmp_path)
    shared, again = History.load(followed / "history.json"), fitted(*FOLLOWED, folder=tmp_path)
    assert again.loss[:9] == shared.loss[:9]  # the first epoch is in the checkpoint
    assert again.loss == pytest.approx(shared.loss, abs=1e-4)


@pytest.mark.slow
def test_killed_worker_is_replaced_and_another_number_of_processes_resumes(tmp_path):
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
    one = fitted("epochs=30")
    assert shared.loss[:50] == pytest.approx(one.loss[:50], abs=1e-3)

    for path in sorted(out.glob("checkpoint-*.pt"))[1:]:
        path.unlink()
    assert json.loads((out / "history.json").read_text())["recipe"]["epochs"] == 30
    again = fitted("epochs=30", folder=out)
    assert again.step == 150
    assert again.loss[:148] == shared.loss[:148]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="threads are read from /proc")
def test_no_thread_of_the_process_group_survives_training(together):
    """Python's shutdown aborts a process when one of them still holds a tensor."""
    _, out = together
    assert out.count("threads:") == 2
    assert "gloo" not in out


@pytest.mark.slow
def test_batchnorm_networks_train_on_two_processes(together):
    history = History.load(together[0] / "norms" / "history.json")
    assert history.step == 3
    assert all(math.isfinite(loss) for loss in history.loss)


@pytest.mark.slow
def test_single_image_of_a_process_is_refused_under_batchnorm(together):
    """The last of three batches has two images, one for each process."""
    rule = "gives a batch of 2, a single image for one of 2 processes; BatchNorm ("
    assert together[1].count(rule) == 2


@pytest.mark.slow
def test_network_that_the_user_wrapped_trains_on_two_processes_like_the_one_inside(together):
    folder, out = together
    torch.manual_seed(0)
    digits = load_mnist("all", source="sample").split(300, 100, seed=0)
    found = History.load(folder / "checkpoints-own.json")
    one = fit(mini_resnet(), *digits, recipe=found.recipe, progress=False)
    assert found.loss == pytest.approx(one.loss, abs=0.05)  # BatchNorm sees half a batch
    assert found.loss[0] == pytest.approx(one.loss[0], abs=0.02)
    saved = load_model(folder / "checkpoints-own.safetensors")
    assert evaluate(saved, digits[1]).loss == pytest.approx(found.evaluations[-1].loss, abs=1e-5)
    assert out.count("own: `train` has an image of class 10; the classes of the network") == 2


def test_network_that_the_user_wrapped_trains_on_one_process_like_the_one_inside(tmp_path):
    digits = load_mnist("all", source="sample").split(300, 100, seed=0)
    recipe = Recipe(lr=0.01, head_lr=0.02, batch_size=32, epochs=1, class_weights="balanced")
    torch.manual_seed(0)
    plain, inside = mini_resnet(), mini_resnet()
    inside.load_state_dict(plain.state_dict())
    expected = fit(plain, *digits, recipe=recipe, progress=False)
    options = {"init_method": f"file://{tmp_path}/store", "rank": 0, "world_size": 1}
    torch.distributed.init_process_group("gloo", **options)
    try:
        wrapped = DistributedDataParallel(inside)
        found = fit(wrapped, *digits, recipe=recipe, progress=False, folder=tmp_path / "run")
    finally:
        torch.distributed.destroy_process_group()
    assert found.model is wrapped
    found._model = inside  # whose weights have the names of the plain network's
    assert same(expected, found)
    assert inside.preprocessing == plain.preprocessing
    torch.manual_seed(0)
    fresh = mini_resnet()
    again = fit(fresh, *digits, recipe=recipe, progress=False, folder=tmp_path / "run")
    assert same(expected, again)  # the checkpoint is of the network inside


@pytest.mark.slow
def test_processes_with_different_checkpoints_are_refused(together):
    assert together[1].count("found different checkpoints, of steps 0 to 2") == 2
