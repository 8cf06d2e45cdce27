"""Runs that are killed at random moments, by a signal that no process can catch."""

import json
import multiprocessing
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from training_cases import train_and_save

from mnist_zoo import Recipe, get_recipe

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="forks, and reads /proc"),
]
KILLS = 5  # of each recipe
SHORT = {"batch_size": 20, "epochs": 2}
RECIPES = {
    "lenet5_report": {**SHORT},
    "mini_googlenet_report": {**SHORT, "ema_decay": 0.9, "select": "best", "eval_every": 3},
    "ninety_nine": {**SHORT, "class_weights": "balanced"},
    "plain18_report": {"batch_size": 40, "epochs": 1},
    "mini_resnet_minute": {**SHORT, "head_lr": 0.01},
}


@pytest.mark.parametrize("name", RECIPES)
def test_runs_killed_at_random_moments_end_to_the_bit_alike(tmp_path, name):
    recipe = get_recipe(name).replace(sizes=None, **RECIPES[name]).to_json()
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["mnist_zoo"])

    def start(folder):
        process = processes.Process(
            target=train_and_save, args=(recipe, tmp_path / folder, out(folder))
        )
        process.start()
        return process

    def out(folder):
        return tmp_path / f"{folder}.pt"

    began = time.perf_counter()
    start("whole").join()
    seconds = time.perf_counter() - began
    expected = torch.load(out("whole"))
    generator = random.Random(name)
    kills = unfinished = 0
    for run in range(20):
        while not out(f"run{run}").exists():
            process = start(f"run{run}")
            if kills < KILLS:
                process.join(generator.uniform(0.1, 0.7) * seconds)
                process.kill()
            process.join()
            kills += process.exitcode == -9
            unfinished += any((tmp_path / f"run{run}").glob("*.part"))
        found = torch.load(out(f"run{run}"))
        assert found["curves"] == expected["curves"]
        assert torch.equal(found["weights"], expected["weights"])
        assert len(list((tmp_path / f"run{run}").iterdir())) == 2
        if kills == KILLS:
            break
    print(f"{name}: {kills} kills, {unfinished} of them while a checkpoint was being written")
    assert kills == KILLS


WORKER = """
import sys
from mnist_zoo import *
recipe = Recipe.from_json(sys.argv[1])
train, validation = load_mnist("all", source="sample").split(300, 100, seed=0)
history = fit(recipe, train, validation, folder=sys.argv[2], checkpoint_every=2, progress=False)
if int(__import__("os").environ["RANK"]) == 0:
    history.save(sys.argv[3] + ".json")
    save_model(history.model, sys.argv[3] + ".safetensors")
"""


def launched(script, recipe, folder, out, restarts=0):
    """Two processes of torchrun, which start again when one is killed."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node=2", f"--max-restarts={restarts}", script]
    return subprocess.Popen(
        [*command, recipe.to_json(), folder, out],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def workers_of(process):
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return {int(child) for child in children}


def awaited(process, find):
    """What `find` gives, as soon as it gives something, while the process runs."""
    while not (found := find()):
        assert process.poll() is None
        time.sleep(0.01)
    return found


def test_two_processes_of_which_one_is_killed_five_times_end_to_the_bit_alike(tmp_path):
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    recipe = Recipe(network="lenet5", lr=0.01, momentum=0.5, batch_size=20, epochs=40)
    assert launched(script, recipe, tmp_path / "a", tmp_path / "whole").wait(300) == 0
    process = launched(script, recipe, tmp_path / "b", tmp_path / "cut", restarts=KILLS)
    generator, workers, seen = random.Random(0), set(), set()

    def two_others():
        found = workers_of(process)
        return found if len(found) == 2 and not found & workers else None

    def new_checkpoints():
        return {path.name for path in (tmp_path / "b").glob("*.pt")} - seen

    for _ in range(KILLS):
        workers = awaited(process, two_others)
        seen |= new_checkpoints()
        awaited(process, new_checkpoints)  # each attempt goes on before one is killed
        time.sleep(generator.random() * 0.2)
        os.kill(generator.choice(sorted(workers)), 9)
    assert process.wait(300) == 0

    one, other = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("whole", "cut"))
    assert one.pop("seconds") != other.pop("seconds")
    assert one == other
    one, other = ((tmp_path / f"{name}.safetensors").read_bytes() for name in ("whole", "cut"))
    assert one == other
