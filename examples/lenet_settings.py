"""Looks for the settings that the report on LeNet with a residual module leaves open.

``python examples/lenet_settings.py`` trains both networks of that report under several settings,
and writes ``docs/lenet_settings.md``, which compares the report's training losses and accuracies
with ours, epoch by epoch. Finished runs are not repeated; if interrupted, rerun the same command to
resume. With ``--page`` only the page is written.

Only the networks are the package's. The loop is written out, as the report's must have been, so
that it can do what recipes do not offer: keep the digits in the order of the file, or evaluate
in training mode. It needs the whole of MNIST (12 MB, downloaded once), and half an hour on one
core.
"""

import argparse
import copy
import json
import math
import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from reproduce import DOCS, RESULTS, spread, surroundings, table
from torch import Tensor, nn

from mnist_zoo import Digits, get_model, get_recipe, load_mnist

NAME = "lenet_settings"
FEW = "So few seeds give the deviations only roughly."
CHANCE = "Of twenty figures that fit, about one lies outside by chance."
PAGE = DOCS / f"{NAME}.md"
Curve = list[dict[str, float]]
Run = dict[str, Any]

NETWORKS = ("lenet5_conv_residual", "lenet5_fc_residual")
# of the report, for the two networks, by epoch
REPORTED: dict[str, tuple[list[float], ...]] = {
    "train_loss": (
        [0.9363, 0.1362, 0.0909, 0.0707, 0.0599, 0.0522, 0.0455, 0.0412, 0.0383, 0.0353],
        [0.4401, 0.0892, 0.0624, 0.0515, 0.0431, 0.0371, 0.0338, 0.0298, 0.0259, 0.0245],
    ),
    "train_accuracy": (
        [73.71, 95.98, 97.24, 97.86, 98.15, 98.41, 98.61, 98.72, 98.81, 98.90],
        [89.57, 97.41, 98.18, 98.42, 98.69, 98.83, 98.94, 99.11, 99.18, 99.24],
    ),
    "test_loss": (
        [0.1677, 0.0900, 0.0698, 0.0558, 0.0537, 0.0501, 0.0462, 0.0424, 0.0477, 0.0400],
        [0.1036, 0.0705, 0.0582, 0.0513, 0.0457, 0.0441, 0.0422, 0.0434, 0.0398, 0.0370],
    ),
    "test_accuracy": (
        [95.22, 97.26, 97.73, 98.20, 98.24, 98.42, 98.56, 98.57, 98.51, 98.71],
        [97.08, 97.93, 98.17, 98.36, 98.54, 98.68, 98.71, 98.53, 98.75, 98.79],
    ),
}
TRAINING, BY_BATCH = ("train_loss", "train_accuracy"), ("batch_test_accuracy",)
# its accuracies by digit after the last epoch, in whole percent
BY_DIGIT = (
    [98, 98, 97, 96, 98, 95, 98, 100, 100, 98],
    [100, 97, 100, 96, 98, 95, 94, 100, 100, 98],
)
# how many of each digit the test set has
DIGITS = (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009)


@dataclass(frozen=True)
class Setting:
    """What the report leaves open."""

    mean: float = 0.5
    std: float = 0.5
    momentum: float = 0.9
    he_init: bool = False
    shuffled: bool = True
    epochs: int = 10
    seeds: tuple[int, ...] = tuple(range(10))


SETTINGS = {
    "−1 to 1": Setting(),
    "MNIST's mean and deviation": Setting(0.1307, 0.3081, epochs=1, seeds=(0, 1, 2)),
    "0 to 1": Setting(0.0, 1.0, epochs=1, seeds=(0, 1, 2)),
    "−1 to 1, He's initialisation of the module": Setting(he_init=True, epochs=1, seeds=(0,)),
    "−1 to 1, no momentum": Setting(momentum=0.0, epochs=1, seeds=(0,)),
    "−1 to 1, digits in the file's order": Setting(shuffled=False, seeds=(0,)),
}


# --- Training -------------------------------------------------------------------------------


def batches(x: Tensor, y: Tensor, order: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of 64 of one epoch."""
    for rows in order.split(64):
        yield x[rows], y[rows]


def tested(model: nn.Module, x: Tensor, y: Tensor) -> tuple[float, float]:
    """Loss and accuracy (%) in the mode that the network is in."""
    with torch.no_grad():
        logits = torch.cat([model(x) for x, _ in batches(x, y, torch.arange(len(x)))])
    correct = (logits.argmax(1) == y).float().mean()
    return F.cross_entropy(logits, y).item(), 100 * correct.item()


def prepared(digits: Digits, setting: Setting) -> tuple[Tensor, Tensor]:
    """Normalised images and labels."""
    return (digits.images / 255 - setting.mean) / setting.std, digits.labels


def initialised(network: str, setting: Setting, seed: int) -> nn.Module:
    """The network in training mode; all else is PyTorch's initialisation."""
    torch.manual_seed(seed)
    model = get_model(network)
    if setting.he_init:
        for layer in model.get_submodule("resnet_block").modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return model.train()


def train(network: str, setting: Setting, seed: int, train: Digits, test: Digits) -> Curve:
    """Trains one network, and tests it after every epoch, with both kinds of statistics."""
    model = initialised(network, setting, seed)
    recipe = get_recipe(f"{network}_report")
    optimizer = torch.optim.SGD(model.parameters(), recipe.lr, setting.momentum, fused=True)
    (x, y), tests = prepared(train, setting), prepared(test, setting)
    curve = []
    for _ in range(setting.epochs):
        loss_sum = correct = 0.0
        order = torch.randperm(len(x)) if setting.shuffled else torch.arange(len(x))
        for images, labels in batches(x, y, order):
            optimizer.zero_grad()
            logits = model(images)
            loss = F.cross_entropy(logits, labels)
            loss.backward()
            optimizer.step()
            loss_sum += loss.item() * len(labels)
            correct += (logits.argmax(1) == labels).sum().item()
        epoch = {"train_loss": loss_sum / len(x), "train_accuracy": 100 * correct / len(x)}
        epoch["test_loss"], epoch["test_accuracy"] = tested(model.eval(), *tests)
        other = copy.deepcopy(model).train()  # the running averages stay as they are
        epoch["batch_test_loss"], epoch["batch_test_accuracy"] = tested(other, *tests)
        model.train()
        curve.append(epoch)
    return curve


def results() -> list[Run]:
    """The stored results."""
    path = RESULTS / f"{NAME}.json"
    runs: list[Run] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return runs


def key(label: str, network: str, seed: int) -> dict[str, Any]:
    """What tells a run from the others."""
    setting = {name: value for name, value in asdict(SETTINGS[label]).items() if name != "seeds"}
    return {"label": label, "setting": setting, "network": network, "seed": seed}


def run_missing(data: Path | None) -> None:
    """Trains what is missing, seed by seed, and stores each result at once."""
    runs, path = results(), RESULTS / f"{NAME}.json"
    digits = load_mnist("train", data), load_mnist("test", data)
    for seed in range(10):
        for label, setting in SETTINGS.items():
            for network in NETWORKS if seed in setting.seeds else ():
                run = key(label, network, seed)
                if any(run.items() <= other.items() for other in runs):
                    continue
                start = time.perf_counter()
                curve = train(network, setting, seed, *digits)
                seconds = time.perf_counter() - start
                runs.append({**run, "curve": curve, "seconds": seconds, **surroundings()})
                temporary = path.with_suffix(".part")
                temporary.write_text(json.dumps(runs, indent=1) + "\n", encoding="utf-8")
                temporary.replace(path)
                print(f"{label}, {network}, seed {seed}: loss {curve[-1]['train_loss']:.4f}")


# --- The page -------------------------------------------------------------------------------


def of(label: str, network: str) -> list[Curve]:
    """The curves of a setting and a network."""
    return [run["curve"] for run in results() if (run["label"], run["network"]) == (label, network)]


def values(curves: list[Curve], figure: str, epoch: int) -> list[float]:
    """A figure after an epoch, counted from 0, for each seed."""
    return [curve[epoch][figure] for curve in curves]


def ratios(label: str, number: int, epochs: int) -> list[float]:
    """The logarithms of a network's training losses over the report's, by epoch."""
    reported, curves = REPORTED["train_loss"][number], of(label, NETWORKS[number])
    means = [statistics.mean(values(curves, "train_loss", epoch)) for epoch in range(epochs)]
    return [math.log(ours / theirs) for ours, theirs in zip(means, reported, strict=False)]


def gap(label: str, epochs: int) -> float:
    """The mean distance of the logarithms of the training losses of both networks."""
    return statistics.mean(abs(ratio) for n in (0, 1) for ratio in ratios(label, n, epochs))


def first_epoch() -> str:
    """The table of all settings after the first epoch, the nearest first."""
    figures = [(n, f, d) for n in (0, 1) for f, d in (("train_loss", 3), ("train_accuracy", 1))]
    rows = [["reported", "1", *(f"{REPORTED[f][n][0]:.{d}f}" for n, f, d in figures), ""]]
    for label in sorted(SETTINGS, key=lambda label: gap(label, 1)):
        found = [spread(values(of(label, NETWORKS[n]), f, 0), d) for n, f, d in figures]
        rows.append([label, str(len(of(label, NETWORKS[0]))), *found, f"{gap(label, 1):.3f}"])
    columns = ["loss, network 1", "accuracy (%)", "loss, network 2", "accuracy (%)"]
    return table(["setting", "seeds", *columns, "gap"], rows)


def longest() -> list[str]:
    """The settings that were trained for ten epochs, the nearest first."""
    labels = [label for label, setting in SETTINGS.items() if setting.epochs == 10]
    return sorted(labels, key=lambda label: gap(label, 10))


def ten_epochs() -> str:
    """The table of the settings that were trained for ten epochs."""
    rows = []
    for label in longest():
        off = [f"{100 * statistics.mean(ratios(label, n, 10)):+.1f}" for n in (0, 1)]
        seeds = len(of(label, NETWORKS[0]))
        fits = [within(label, *figures) if seeds > 1 else "" for figures in (TRAINING, BY_BATCH)]
        rows.append([label, str(seeds), *off, f"{gap(label, 10):.3f}", *fits])
    columns = ["loss, network 1 (%)", "loss, network 2 (%)", "gap"]
    return table(["setting", "seeds", *columns, "training figures", "test accuracies"], rows)


def compared(label: str, number: int, figures: dict[str, str]) -> str:
    """The table of a network by epoch: each reported figure beside ours."""
    curves = of(label, NETWORKS[number])
    columns, rows = ["epoch"], [[str(epoch + 1)] for epoch in range(10)]
    for figure, title in figures.items():
        reported = REPORTED[figure.removeprefix("batch_")][number]
        digits = 4 if "loss" in figure else 2
        if not figure.startswith("batch_"):
            columns.append(f"{title}, reported")
        columns.append(f"{title}, {'by the batch' if figure.startswith('batch_') else 'ours'}")
        for epoch, row in enumerate(rows):
            if not figure.startswith("batch_"):
                row.append(f"{reported[epoch]:.{digits}f}")
            row.append(spread(values(curves, figure, epoch), digits))
    return table(columns, rows)


def within(label: str, *figures: str) -> str:
    """How many reported figures lie within two standard deviations of our means."""
    fits = []
    for figure in figures:
        for network, reported in zip(
            NETWORKS, REPORTED[figure.removeprefix("batch_")], strict=True
        ):
            for epoch, theirs in enumerate(reported):
                ours = values(of(label, network), figure, epoch)
                fits.append(abs(theirs - statistics.mean(ours)) <= 2 * statistics.stdev(ours))
    return f"{sum(fits)} of {len(fits)}"


def distance(label: str, figure: str) -> float:
    """The mean distance of the test accuracy from the report's, over epochs, seeds, networks."""
    return statistics.mean(
        abs(epoch[figure] - theirs)
        for network, reported in zip(NETWORKS, REPORTED["test_accuracy"], strict=True)
        for curve in of(label, network)
        for epoch, theirs in zip(curve, reported, strict=True)
    )


def verdict(label: str) -> str:
    """In which mode the report seems to evaluate."""
    by_batch = distance(label, "batch_test_accuracy") < distance(label, "test_accuracy")
    return f"So the report seems to evaluate in {'training' if by_batch else 'eval'} mode."


def highest(by_digit: list[int]) -> float:
    """The highest accuracy that whole percentages by digit allow, if they were rounded down."""
    most = [min(100, percent + 1) for percent in by_digit]
    return sum(count * m for count, m in zip(DIGITS, most, strict=True)) / sum(DIGITS)


def answer(best: str, seeds: int) -> str:
    """Which setting fits, and how well."""
    training, tests = within(best, *TRAINING), within(best, *BY_BATCH)
    off = [f"{100 * statistics.mean(ratios(best, n, 10)):+.1f} %" for n in (0, 1)]
    fits = all(len(set(found.split(" of "))) == 1 for found in (training, tests))
    return (
        f"{'One setting fits all its curves' if fits else 'No setting fits all its figures'}. The "
        f'nearest is "{best}" (the range of the pixels), with momentum 0.9, PyTorch\'s initial '
        f"weights and tests in training mode. Over {seeds} seeds, {training} training figures and "
        f"{tests} test accuracies of the report lie within two standard deviations of our mean. "
        f"{CHANCE if seeds >= 5 else FEW} The training losses are {off[0]} (network 1) and "
        f"{off[1]} (network 2) off the report's, in the mean over the epochs. The report's "
        "accuracies by digit contradict its totals (see the end)."
    )


def page() -> str:
    """The whole page, from the stored results."""
    best = longest()[0]
    machines = sorted({f"{run['machine']}; {run['versions']}" for run in results()})
    last = [spread(values(of(best, n), "test_accuracy", 9)) for n in NETWORKS]
    batch = [spread(values(of(best, n), "batch_test_accuracy", 9)) for n in NETWORKS]
    bounds = [highest(by_digit) for by_digit in BY_DIGIT]
    final = [reported[-1] for reported in REPORTED["test_accuracy"]]
    training = dict(zip(TRAINING, ("loss", "accuracy (%)"), strict=True))
    tests = {"test_accuracy": "accuracy (%)", "batch_test_accuracy": "accuracy (%)"}
    parts = [
        "# What the LeNet report leaves open",
        "The [report](reproduction.md) on LeNet with one residual module gives the optimiser (SGD "
        "at 0.001), the batches of 64 and the ten epochs. It does not give the normalisation, the "
        "momentum, the initial weights, the order of the digits or the mode of evaluation. This "
        "page looks for them. Settings are chosen by the report's training losses, not by its "
        "test accuracy. Figures are mean ± sample standard deviation over the seeds. Written by "
        "`examples/lenet_settings.py`.",
        f"Machine: {'; '.join(machines)}.",
        "## In short",
        answer(best, len(of(best, NETWORKS[0]))),
        "## The first epoch",
        "Momentum is 0.9, the initial weights are PyTorch's and the digits are reshuffled, unless "
        "a row says otherwise. The gap is the mean distance between the logarithms of the losses "
        "and those of the report. Max-pooling before or after ReLU gives the same values and "
        "gradients, so that order cannot be told.",
        first_epoch(),
        "## Ten epochs",
        "The settings that were trained on. The losses are ours against the report's, in the mean "
        "over the epochs; the last columns count the reported figures within two standard "
        "deviations of our mean, the test accuracies by the batch (see below).",
        ten_epochs(),
        *(
            f"{best}, network {number + 1}:\n\n{compared(best, number, training)}"
            for number in (0, 1)
        ),
        "## The test set",
        "In training mode BatchNorm normalises by the batch and not by its running averages. "
        "Evaluated in that mode, in batches of 64, the same networks are "
        f"{distance(best, 'batch_test_accuracy'):.2f} points off the report's test accuracies, in "
        f"the mean over epochs and seeds; in eval mode, {distance(best, 'test_accuracy'):.2f} "
        f"points. {verdict(best)} After ten epochs they reach {last[0]} % and {last[1]} % in eval "
        f"mode, {batch[0]} % and {batch[1]} % by the batch (reported: {final[0]:.2f} % and "
        f"{final[1]:.2f} %).",
        *(f"Network {number + 1}:\n\n{compared(best, number, tests)}" for number in (0, 1)),
        "## What no setting fits",
        "The report's accuracies by digit are whole percentages. Even if they were rounded down, "
        f"they allow at most {bounds[0]:.2f} % and {bounds[1]:.2f} % of all test digits, less than "
        "the accuracies it reports: they must come from fewer digits.",
    ]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Trains what is missing, and writes the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--page", action="store_true", help="only write the page")
    parser.add_argument("--data", type=Path, help="folder of the data sets")
    arguments = parser.parse_args()
    if not arguments.page:
        run_missing(arguments.data)
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
