"""Training against the reports' own loop, and against forward, backward and step alone."""

import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torchvision
from reports_loop import in_a_process, reports_loop
from torch.nn import functional as F

from mnist_zoo import (
    Augmentation,
    Preprocessing,
    evaluate,
    fit,
    get_model,
    get_recipe,
    load_mnist,
)

FULL = os.environ.get("MNIST_ZOO_DATA")

pytestmark = pytest.mark.skipif(not FULL, reason="MNIST_ZOO_DATA names no folder with MNIST")


FIT_BARS = {"mini_resnet": 1.8, "mini_googlenet": 1.3}
COUNTS = {"mini_resnet": 9600, "mini_googlenet": 4800}  # digits of an epoch


@pytest.mark.question("training")
@pytest.mark.parametrize("name", FIT_BARS)
def test_fit_against_the_reports_loop(race, name):
    """the loop of the report on `{name}`, batch 64: `fit`"""
    count = COUNTS[name]
    recipe, digits = get_recipe(f"{name}_report", epochs=1), load_mnist()[:count]
    with in_a_process(name, count) as theirs:
        race(lambda: fit(recipe, digits, progress=False), theirs, at_least=FIT_BARS[name])


def test_the_reports_loop_reaches_the_same_accuracy():
    """Five epochs, one seed: minutes. Ours stand in docs/reproduction/mini.json."""
    file = Path(__file__).parents[2] / "docs" / "reproduction" / "mini.json"
    runs = [run for run in json.loads(file.read_text()) if run["label"] == "mini_resnet"]
    recipe, test = get_recipe("mini_resnet_report"), load_mnist("test")
    torch.manual_seed(0)
    epoch = reports_loop("mini_resnet", 60_000)
    for _ in range(recipe.epochs):
        epoch()
    theirs = evaluate(epoch.model, test, recipe.preprocessing).accuracy
    ours = [run["test"]["correct"] / run["test"]["total"] for run in runs]
    print(f"ours {ours}, theirs {theirs}")
    assert abs(statistics.mean(ours) - theirs) < 0.003


@pytest.mark.question("training")
@pytest.mark.parametrize("name", ["mini_resnet", "mini_googlenet"])
def test_the_loop_against_its_steps_alone(race, name):
    """forward, backward and step alone of `{name}`, batch 64: `fit`"""
    recipe, digits = get_recipe(f"{name}_report", epochs=1), load_mnist()[: 3 * COUNTS[name]]
    steps = bare_steps(recipe, digits)
    race(lambda: fit(recipe, digits, progress=False), steps, at_least=0.95)


def bare_steps(recipe, digits):
    """Forward, backward and step alone, over batches that are ready in memory."""
    inputs = recipe.preprocessing(digits.images)
    batches = list(zip(inputs.split(64), digits.labels.split(64), strict=True))
    model = get_model(recipe.network).train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.5, fused=True)

    def steps():
        for x, y in batches:
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return steps


@pytest.mark.question("training")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_fit_of_resnet18_against_steps_of_torchvisions(race, precision):
    """steps alone of torchvision's `resnet18`, 28×28, in {precision}: `fit`

    Both in channels-last order; their batches are ready in memory, and neither side augments.
    """
    digits = load_mnist()[:1280]
    recipe = get_recipe("resnet18_mnist", epochs=1, precision=precision, ema_decay=None)
    recipe = recipe.replace(augmentation=Augmentation())
    inputs = recipe.preprocessing(digits.images)
    size = recipe.batch_size
    batches = list(zip(inputs.split(size), digits.labels.split(size), strict=True))
    model = torchvision.models.resnet18(num_classes=10).train()
    model.conv1 = torch.nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.003, weight_decay=0.1, fused=True)

    def steps():
        for x, y in batches:
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
                loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    race(lambda: fit(recipe, digits, progress=False), steps, at_least=1.2)


@pytest.mark.question("training")
def test_styles_and_corruptions_cost_at_most_30_percent_of_a_step(race):
    """`fit` of `mini_resnet` without styles and corruptions: with all of them"""
    digits = load_mnist()[:9600]
    plain = get_recipe("mini_resnet_mnist", epochs=1)
    rich = get_recipe("digitnet_50k_mnist")
    changed = plain.replace(style=rich.style, corruption=rich.corruption)
    ours, theirs = (lambda r=r: fit(r, digits, progress=False) for r in (changed, plain))
    race(ours, theirs, at_least=1 / 1.3)


RECORDS = {"ninety_nine": 14.0, "ninety_nine_point_five": 1.5, "ninety_nine_point_six": 0.7}


@pytest.mark.question("records")
@pytest.mark.parametrize("name", RECORDS)
def test_records_against_an_epoch_of_the_reports_loop(report, seconds, name):
    """the recipe `{name}`

    Training alone on both sides: networks are made and data are in memory before.

    A record of several epochs has a part of the digits, so that each sees 60,000 in a round.
    """
    recipe = get_recipe(name)
    digits = load_mnist()[: 60_000 // recipe.epochs]
    ratios = []
    with in_a_process("mini_resnet", len(digits)) as epoch:
        epoch()
        for _ in range(3):
            theirs = seconds(epoch)
            ratios += [theirs / fit(recipe, digits, progress=False).seconds for _ in range(3)]
    report(ratios, at_least=RECORDS[name])


@pytest.mark.question("training")
@pytest.mark.parametrize("name", ["mini_resnet", "mini_googlenet"])
def test_the_loop_with_the_heaviest_augmentation_against_its_steps_alone(race, name):
    """steps alone of `{name}`, batch 64: `fit` with the heaviest augmentation"""
    heaviest = Augmentation(rotation=12, shift=2, scale=0.12, shear=10, elastic=20)
    recipe = get_recipe(f"{name}_report", epochs=1, augmentation=heaviest)
    digits = load_mnist()[: COUNTS[name]]
    steps = bare_steps(recipe, digits)
    race(lambda: fit(recipe, digits, progress=False), steps, at_least=0.75)


@pytest.mark.question("switches")
@pytest.mark.parametrize(
    "switches",
    [
        {"channels_last": True},
        {"precision": "bfloat16"},
        {"channels_last": True, "precision": "bfloat16"},
    ],
    ids="+".join,
)
@pytest.mark.parametrize("name", ["mini_resnet", "mini_convnet", "resnet18"])
def test_what_the_switches_do(race, name, switches):
    """`{name}`, 28×28, batch 128: {switches}

    No bar: what a switch does depends on the network and the processor.
    """
    digits = load_mnist()[: 1024 if name == "resnet18" else 4800]
    recipe = get_recipe("mini_resnet_report", network=name, epochs=1, batch_size=128)
    recipe = recipe.replace(channels_last=False)
    assert recipe.preprocessing == Preprocessing(mean=0.1370)
    switched = recipe.replace(**switches)
    ours, theirs = (lambda r=r: fit(r, digits, progress=False) for r in (switched, recipe))
    race(ours, theirs, at_least=0)


STEPS = """
import resource
from mnist_zoo import fit, get_recipe, load_mnist
recipe = get_recipe("mini_resnet_mnist", epochs=1)
digits = load_mnist()[: 40 * recipe.batch_size]
faults = []
count = lambda history: faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
fit(recipe, digits, progress=False, hook=count)
print((faults[-1] - faults[9]) / 30)
"""
BATCHES = """
import resource
from mnist_zoo import digitnet_6k, evaluate, load_mnist
model, digits = digitnet_6k(), load_mnist("test")[:1000]
evaluate(model, digits)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
evaluate(model, digits)
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 10)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators differ")
@pytest.mark.parametrize("code", [STEPS, BATCHES], ids=["fit", "evaluate"])
def test_steps_and_batches_reuse_the_memory_of_the_last_one(code):
    """In a process of its own, since the allocator's limits stay; thousands of pages otherwise."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 500
