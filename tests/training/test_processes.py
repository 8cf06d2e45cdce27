"""Training on several processes, by torchrun."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mnist_zoo import History, fit, lenet5

TRAIN = Path(__file__).parents[2] / "examples" / "train.py"
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


def test_two_processes_have_the_losses_of_one(tmp_path):
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


def test_killed_worker_is_replaced_and_another_number_of_processes_resumes(tmp_path):
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
def test_no_thread_of_the_process_group_survives_training(tmp_path):
    """Python aborts at its shutdown if such a thread still holds a tensor."""
    script = tmp_path / "threads.py"
    script.write_text(THREADS)
    out = ran(launch(script=script))
    assert out.count("threads:") == 2
    assert "gloo" not in out


def test_batchnorm_networks_train_on_two_processes(tmp_path):
    """Also if the last batch has two images, one per process."""
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
