"""Runs the experiments of the five reports and our own, and writes a page with the results.

``python examples/reproduce.py lenet5`` trains the networks of one report, over several seeds, and
writes ``docs/reproduction/lenet5.json``, the training curves, and ``docs/reproduction.md``, which
compares the reported figures with ours. Finished runs are not repeated; if interrupted, rerun the
same command to resume. Without an experiment only the page is written; ``--list`` lists the
experiments.

It needs the whole of MNIST (12 MB, downloaded once). The page states the training times.
"""

import argparse
import json
import platform
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mnist_zoo import (
    History,
    Metrics,
    Preprocessing,
    Recipe,
    evaluate,
    fit,
    get_recipe,
    list_models,
    load_data,
    load_mnist,
    plots,
    save_model,
)

DOCS = Path(__file__).parent.parent / "docs"
RESULTS = DOCS / "reproduction"
Run = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One row of a table: a recipe, and the accuracy that its report states."""

    label: str
    recipe: Recipe
    reported: str = ""


@dataclass(frozen=True)
class Experiment:
    """A table: its rows, the seeds of each row, and a remark computed from the results."""

    title: str
    text: str
    rows: tuple[Row, ...]
    seeds: tuple[int, ...]
    remark: Callable[[dict[str, list[Run]]], str] = lambda runs: ""
    by_class: bool = False


def accuracies(runs: Iterable[Run], which: str = "test") -> list[float]:
    """The test accuracy of each run, in percent."""
    return [100 * run[which]["correct"] / run[which]["total"] for run in runs]


def spread(values: list[float], digits: int = 2) -> str:
    """Mean ± sample standard deviation."""
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def after_first_epoch(runs: list[Run]) -> list[float]:
    """The test accuracy of each run after the first epoch, in percent."""
    return [100 * run["curve"][0]["accuracy"] for run in runs]


def against(ours: list[float], theirs: list[float]) -> str:
    """States both spreads, and whether the means differ by more than the larger deviation."""
    gap = abs(statistics.mean(ours) - statistics.mean(theirs))
    apart = gap > max(statistics.stdev(ours), statistics.stdev(theirs))
    verdict = "further" if apart else "no further"
    return f"{spread(ours)} % against {spread(theirs)} %, {verdict} apart than one deviation"


# --- Remarks, whose figures are computed from the results -----------------------------------


def remark_lenet5(runs: dict[str, list[Run]]) -> str:
    """Examines the three claims of the report."""
    base, conv, fc = (accuracies(runs[name]) for name in LENET5)
    better = [accuracies(runs[f"{name}, OneCycle"]) for name in LENET5[1:]]
    slow = accuracies(runs["baseline, momentum 0"])
    first = {name: after_first_epoch(runs[name]) for name in LENET5}
    bare = runs["lenet5_conv_residual, not normalised"]
    gain = [statistics.mean(values) - statistics.mean(base) for values in (conv, fc)]
    return (
        "**The reported figures.** A constant learning rate leaves the accuracy after ten epochs "
        "to chance: it falls and rises by tenths of a point, and more, between epochs (the curves "
        "show it; they are those of the first seed). With the same optimiser, data and epochs, "
        "but a learning rate that rises to 0.03 and falls to zero, and batches of 128 (ours, and "
        f"not tuned), the two networks reach {spread(better[0])} % and {spread(better[1])} %.\n\n"
        "**The baseline.** The report gives it about 92 % and not its settings. Without momentum "
        f"it reaches {spread(slow)} %, with the momentum of the others {spread(base)} %; against "
        f"that the module adds {gain[0]:+.2f} points before the first fully connected layer and "
        f"{gain[1]:+.2f} behind it.\n\n"
        f"**Do the two positions train equally fast?** After one epoch "
        f"{against(first[LENET5[1]], first[LENET5[2]])} (the report: 95.22 % and 97.08 %; the "
        f"baseline here: {spread(first[LENET5[0]])} %).\n\n"
        "**Does normalising the input help?** The first network with it against pixels from 0 to "
        f"1: after one epoch {against(first[LENET5[1]], after_first_epoch(bare))}; after ten "
        f"{against(conv, accuracies(bare))}."
    )


def remark_residual(runs: dict[str, list[Run]]) -> str:
    """Examines whether the residual network beats the plain one."""
    plain, residual = (accuracies(runs[name], "test_all") for name in ("plain", "residual"))
    wins = sum(r > p for p, r in zip(plain, residual, strict=True))
    same = accuracies(runs["plain, as residual"], "test_all")
    return (
        "Accuracy on two hundred digits is uncertain by a point or two, so each network was "
        f"also measured on all 10,000 test digits: plain {spread(plain)} %, residual "
        f"{spread(residual)} %. With its report's settings the residual network is better "
        f"in {wins} of {len(plain)} seeds. The settings of the two differ as well, so the plain "
        f"network was also trained with those of the residual one: {spread(same)} %."
    )


def remark_first(runs: dict[str, list[Run]]) -> str:
    """States the accuracies on all test digits."""
    found = (f"{name} {spread(accuracies(runs[name], 'test_all'))} %" for name in runs)
    return f"On all 10,000 test digits: {', '.join(found)}."


def remark_findings(runs: dict[str, list[Run]]) -> str:
    """States the differences to the first row."""
    base, *_ = runs
    ours = accuracies(runs[base])
    lines = []
    for name, found in runs.items():
        theirs = accuracies(found)
        gap = statistics.mean(theirs) - statistics.mean(ours)
        if name != base:
            apart = abs(gap) > max(statistics.stdev(ours), statistics.stdev(theirs))
            lines.append(f"{name} {gap:+.2f} ({'more' if apart else 'no more'} than a deviation)")
    return (
        "Differences of the means to the first row, in points, and whether they are more than the "
        f"larger standard deviation over the seeds: {'; '.join(lines)}."
    )


def remark_fastest(runs: dict[str, list[Run]]) -> str:
    """States the range of accuracy and time over the seeds."""
    (found,) = runs.values()
    values, seconds = accuracies(found), sorted(run["train_seconds"] for run in found)
    return (
        f"Lowest {min(values):.2f} %, highest {max(values):.2f} %; training took {seconds[0]:.1f} "
        f"to {seconds[-1]:.1f} s, with a median of {statistics.median(seconds):.1f} s."
    )


RULE = (
    "The rule: all 60,000 training digits may be used, and nothing else. Timed is training alone, "
    "from the first step to the last, on two cores, with the digits in memory as uint8; imports, "
    "reading and evaluation are not. The seeds are 0, 1, 2 and so on, and none is left out. "
    "Settings are chosen on training digits of held-out writers. To challenge a record: write a "
    "recipe, run it as this page's experiments run, and send its results with the machine's name; "
    "the ratio to one epoch of the report's own loop, measured in the same run, compares machines "
    "(see the page of benchmarks)."
)


def remark_records(runs: dict[str, list[Run]]) -> str:
    """States accuracy and time of each record."""
    lines = []
    for label, found in runs.items():
        values, seconds = accuracies(found), [run["train_seconds"] for run in found]
        lines.append(
            f"{label}: mean {statistics.mean(values):.3f} %, lowest {min(values):.2f} %, median "
            f"time {statistics.median(seconds):.1f} s."
        )
    picture = "![Test accuracy over seconds of training](reproduction/records.png)"
    return "\n\n".join([*lines, picture])


def plot_records(runs: list[Run]) -> None:
    """Mean test accuracy after each epoch over the mean seconds of training up to there."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for label in dict.fromkeys(run["label"] for run in runs):
        found = [run for run in runs if run["label"] == label]
        each = zip(*(run["curve"] for run in found), strict=True)
        mean = [100 * statistics.mean(record["accuracy"] for record in epoch) for epoch in each]
        total = statistics.mean(run["train_seconds"] for run in found)
        seconds = [total * (place + 1) / len(mean) for place in range(len(mean))]
        axes.plot(seconds, mean, "o-", label=label)
    for record in (99.0, 99.5, 99.6):
        axes.axhline(record, color="grey", lw=0.7, ls=":")
    axes.set_ylim(bottom=98)
    axes.set(xlabel="training (s, two cores)", ylabel="test accuracy (%)")
    axes.set_title("The last tenths of a percent take most of the time", loc="left")
    axes.legend(loc="lower right", frameon=False)
    RESULTS.mkdir(exist_ok=True)
    figure.savefig(RESULTS / "records.png", dpi=110)


LENET5 = ("lenet5", "lenet5_conv_residual", "lenet5_fc_residual")
DIGITNETS = tuple(list_models("digitnet_*"))
SMALL_NETWORKS = (*LENET5, "mini_googlenet", "mini_resnet")
ONE_CYCLE = {"schedule": "onecycle", "lr": 0.03, "batch_size": 128, "channels_last": True}
BARE = Preprocessing(mean=0.0, std=1.0)
PLAIN = get_recipe("plain18_report", sampling="random")
SMALL = get_recipe(
    "resnet_cnn_report",
    sizes=(5000, 500, 10000),
    epochs=4,
    precision="bfloat16",
    channels_last=True,
)

EXPERIMENTS = {
    "ninety_nine": Experiment(
        "Ours: 99 % in one epoch",
        "One pass over the 60,000 digits with the recipe `ninety_nine`.",
        (Row("mini_convnet", get_recipe("ninety_nine")),),
        tuple(range(30)),
        remark_fastest,
    ),
    "records": Experiment(
        "Ours: records on two cores",
        RULE,
        (
            Row("a quarter of a minute", get_recipe("mini_resnet_quarter_minute")),
            Row("half a minute", get_recipe("mini_resnet_half_minute")),
        ),
        tuple(range(10)),
        remark_records,
    ),
    "minute": Experiment(
        "Ours: a minute",
        "The report's simple ResNet, 41,514 parameters, with the recipe `mini_resnet_minute`.",
        (Row("mini_resnet", get_recipe("mini_resnet_minute")),),
        tuple(range(5)),
        remark_fastest,
    ),
    "lenet5": Experiment(
        "LeNet with one residual module, in two places",
        "SGD at 0.001 with momentum 0.9, batches of 64, 10 epochs. The report leaves the momentum, "
        "the normalisation (MNIST's here) and the initial weights open: [what fits its training "
        "losses](lenet_settings.md), and why its test figures rise more evenly than these.",
        (
            Row("lenet5", get_recipe("lenet5_report"), "about 92 %"),
            Row("lenet5_conv_residual", get_recipe("lenet5_conv_residual_report"), "98.71 %"),
            Row("lenet5_fc_residual", get_recipe("lenet5_fc_residual_report"), "98.79 %"),
            *(
                Row(f"{name}, OneCycle", get_recipe(f"{name}_report", **ONE_CYCLE))
                for name in ("lenet5_conv_residual", "lenet5_fc_residual")
            ),
            Row("baseline, momentum 0", get_recipe("lenet5_report", momentum=0.0)),
            Row(
                "lenet5_conv_residual, not normalised",
                get_recipe("lenet5_conv_residual_report", preprocessing=BARE),
            ),
        ),
        (0, 1, 2),
        remark_lenet5,
        by_class=True,
    ),
    "mini": Experiment(
        "A simple GoogLeNet and a simple ResNet",
        "SGD at 0.01 with momentum 0.5, batches of 64, 5 epochs, the report's mean of 0.1370.",
        (
            Row("mini_googlenet", get_recipe("mini_googlenet_report"), "a plot"),
            Row("mini_resnet", get_recipe("mini_resnet_report"), "a plot"),
        ),
        (0, 1, 2),
    ),
    "residual": Experiment(
        "ResNet-18 with and without residual connections",
        "2,000 digits to train on, 200 to select the best weights and 200 to test, at 32×32, "
        "redrawn for each seed; 5 epochs, with an evaluation every 15 steps.",
        (
            Row("plain", PLAIN, "less than residual"),
            Row("residual", get_recipe("resnet18_report", sampling="random"), "more than plain"),
            Row("plain, as residual", PLAIN.replace(lr=0.01, batch_size=128)),
        ),
        (100, 101, 102, 103, 104),
        remark_residual,
    ),
    "residual_first": Experiment(
        "The same on the report's own digits",
        "The report takes the first digits of each part: digits 1 to 2,000 and 50,001 to 50,200 of "
        "the training set, if its file keeps MNIST's order, and 1 to 200 of the test set. The "
        "first seed is the report's.",
        (
            Row("plain", get_recipe("plain18_report"), "less than residual"),
            Row("residual", get_recipe("resnet18_report"), "more than plain"),
        ),
        (100, 101, 102),
        remark_first,
    ),
    "resnet50": Experiment(
        "ResNet-50 on Bottleneck, at 28×28",
        "The report trains for 15 epochs, and states nothing more. Here is one seed with another "
        "schedule and fewer epochs, and the residual branches start at zero. For the report's own "
        "epochs there was no GPU. The training time is an overestimate: other work ran on the "
        "machine.",
        (Row("resnet50", get_recipe("resnet50_fast"), "99.10 % (15 epochs)"),),
        (0,),
    ),
    "resnet_cnn": Experiment(
        "The 34-layer ResNet with dropout, at 28×28",
        "The report trains for 10 and for 30 epochs; its figures are those of its last network, "
        "`resnet_cnn_norm`. Here is one seed of its first one, with another schedule and "
        "fewer epochs; for the report's own epochs there was no GPU. The training time is an "
        "overestimate: other work ran on the machine.",
        (
            Row(
                "resnet_cnn",
                get_recipe("resnet_cnn_fast"),
                "99.36 % (10 epochs), 99.44 % (30 epochs)",
            ),
        ),
        (0,),
    ),
    "resnet_cnn_findings": Experiment(
        "Further findings of that report, on a small budget",
        "5,000 training digits, redrawn for each seed, 4 epochs; otherwise the report's recipe, "
        "in bfloat16. The report made its changes one after another: first 3×3 for 7×7, then "
        "dropout, and last the norms together with the lower learning rate. Here each is undone "
        "or made alone. The training times are overestimates: other work ran on the machine.",
        (
            Row("resnet_cnn at 0.001", SMALL, "not stated"),
            Row("7×7 stem of stride 2", SMALL.replace(options={"stem": "7x7"}), "about 85 %"),
            Row("no dropout", SMALL.replace(options={"dropout": 0.0}), "95 %, over-fitted"),
            Row("BatchNorm after each block", SMALL.replace(network="resnet_cnn_norm"), "steadier"),
            Row("learning rate 0.02", SMALL.replace(lr=0.02), "unsteady"),
        ),
        (1, 2, 3),
        remark_findings,
    ),
    "weights": Experiment(
        "The pretrained weights",
        "Ours. The weights of the first seed ship, whether or not they are the best.",
        tuple(Row(name, get_recipe(f"{name}_mnist")) for name in SMALL_NETWORKS),
        (0, 1, 2, 3, 4),
    ),
    "weights_digitnet": Experiment(
        "The pretrained weights: DigitNets",
        "Ours, with styles of writing and corruptions; otherwise as above.",
        tuple(Row(name, get_recipe(f"{name}_mnist")) for name in DIGITNETS[:5]),
        (0, 1, 2, 3, 4),
    ),
    "weights_digitnet_large": Experiment(
        "The pretrained weights: the two largest DigitNets",
        "As above, with fewer seeds.",
        tuple(Row(name, get_recipe(f"{name}_mnist")) for name in DIGITNETS[5:]),
        (0, 1, 2),
    ),
    "weights_resnet18": Experiment(
        "The pretrained weights: ResNet-18",
        "As above, with fewer seeds.",
        (Row("resnet18", get_recipe("resnet18_mnist")),),
        (0, 1, 2),
    ),
}


# --- Running --------------------------------------------------------------------------------


def measured(metrics: Metrics) -> dict[str, Any]:
    """The figures of a measurement that are stored."""
    return {
        "correct": metrics.correct,
        "total": metrics.total,
        "loss": metrics.loss,
        "calibration_error": metrics.calibration_error,
        "by_class": metrics.accuracy_by_class,
    }


def surroundings() -> dict[str, str]:
    """The machine and the versions of a measurement."""
    return {
        "machine": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
        "versions": f"Python {platform.python_version()}, torch {torch.__version__}",
    }


def train_and_test(row: Row, seed: int, folder: Path, data: Path | None) -> Run:
    """Trains one row with one seed, and tests it."""
    recipe = row.recipe.replace(seed=seed)
    train, validation, test = load_data(recipe, data)
    watched = validation or (None if recipe.select == "best" else test)
    history = fit(recipe, train, watched, folder=folder, checkpoint_every=100)
    assert history.model is not None
    run = {
        "label": row.label,
        "seed": seed,
        "recipe": recipe.to_dict(),
        "test": measured(evaluate(history.model, test, recipe.preprocessing)),
        "curve": [vars(record) for record in history.epochs],
        "train_seconds": history.seconds,
        "threads": torch.get_num_threads(),
        **surroundings(),
    }
    if len(test) < 1000:
        everything = load_mnist("test", data, source=recipe.source)
        metrics = evaluate(history.model, everything, recipe.preprocessing)
        run["test_all"] = measured(metrics)
    history.save(folder / "history.json")
    save_model(history.model, folder / "weights.safetensors")
    return run


def belongs_to(run: Run, row: Row, seed: int) -> bool:
    """Whether the result belongs to this row and seed, with the recipe as it is now."""
    recipe = Recipe.from_dict(run["recipe"]).replace(reference=row.recipe.reference)
    return run["label"] == row.label and recipe == row.recipe.replace(seed=seed)


def run_folder(runs: Path, name: str, row: Row, seed: int) -> Path:
    """The folder of the checkpoints and the history of a run."""
    return runs / name / f"{row.label}-seed{seed}"


def curves_of(name: str) -> Path:
    """The picture of the training curves of an experiment's reported rows."""
    return RESULTS / f"{name}.png"


def run_experiment(name: str, experiment: Experiment, arguments: argparse.Namespace) -> None:
    """Runs what is missing of an experiment, and stores each result at once."""
    path, runs = RESULTS / f"{name}.json", results_of(name)
    RESULTS.mkdir(exist_ok=True)
    for seed in experiment.seeds:
        for row in experiment.rows:
            if arguments.only and row.label not in arguments.only:
                continue
            if any(belongs_to(run, row, seed) for run in runs):
                continue
            print(f"{name}: {row.label}, seed {seed}")
            folder = run_folder(arguments.runs, name, row, seed)
            run = train_and_test(row, seed, folder, arguments.data)
            runs.append(run)
            temporary = path.with_suffix(".part")
            temporary.write_text(json.dumps(runs, indent=1) + "\n", encoding="utf-8")
            temporary.replace(path)
            print(f"{name}: {row.label}, seed {seed}: {accuracies([run])[0]:.2f} %")
    first = {
        row.label: run_folder(arguments.runs, name, row, experiment.seeds[0]) / "history.json"
        for row in experiment.rows
        if row.reported
    }
    if first and all(file.exists() for file in first.values()):
        histories = {label: History.load(file) for label, file in first.items()}
        plots.curves(histories).savefig(curves_of(name), dpi=110)


# --- The page -------------------------------------------------------------------------------


def table(columns: list[str], rows: Iterable[list[str]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def section(name: str, runs: list[Run]) -> str:
    """The section of an experiment."""
    experiment = EXPERIMENTS[name]
    of = {row.label: [r for r in runs if r["label"] == row.label] for row in experiment.rows}
    of = {label: found for label, found in of.items() if found}
    parts = [f"## {experiment.title}", experiment.text]
    rows = []
    for row in experiment.rows:
        if found := of.get(row.label):
            seconds = spread([run["train_seconds"] for run in found], 1)
            epochs = str(len(found[0]["curve"]))
            ours = spread(accuracies(found))
            threads = str(found[0]["threads"])
            rows.append([row.label, str(len(found)), epochs, ours, row.reported, seconds, threads])
    columns = ["network", "seeds", "epochs", "test accuracy (%)", "reported"]
    parts.append(table([*columns, "training (s)", "threads"], rows))
    if experiment.by_class:
        per_class = [
            [
                label,
                *(f"{100 * statistics.mean(c):.1f}" for c in zip(*by_class(found), strict=True)),
            ]
            for label, found in of.items()
        ]
        parts.append("Accuracy by digit (%), mean over the seeds:")
        parts.append(table(["network", *map(str, range(10))], per_class))
    if len(of) == len(experiment.rows):
        parts.append(experiment.remark(of))
    if any(row.reported for row in experiment.rows) and curves_of(name).exists():
        parts.append("Curves of the first seed, training dashed, validation solid:")
        parts.append(f"![Loss and accuracy: {experiment.title}](reproduction/{name}.png)")
    return "\n\n".join(part for part in parts if part)


def by_class(runs: list[Run]) -> list[list[float]]:
    """The accuracies per class of each run."""
    return [run["test"]["by_class"] for run in runs]


def results_of(name: str) -> list[Run]:
    """The stored results of an experiment."""
    path = RESULTS / f"{name}.json"
    runs: list[Run] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return runs


def results() -> dict[str, list[Run]]:
    """All stored results, by experiment."""
    return {name: runs for name in EXPERIMENTS if (runs := results_of(name))}


def page() -> str:
    """The whole page, from the stored results."""
    found = results()
    machines = sorted({f"{r['machine']}; {r['versions']}" for runs in found.values() for r in runs})
    head = (
        "# Reproduction\n\n"
        "Written by `examples/reproduce.py` from the results in `docs/reproduction/`, which hold "
        "the recipe, seed and figures of each run. Accuracies are those of the last weights on the "
        "10,000 test digits unless a table says otherwise, mean ± sample standard deviation over "
        "the seeds. The reports' recipes use the reports' settings. Our own settings were chosen "
        "on training digits alone, or not tuned. Training time does not include evaluations and "
        "checkpoints. Runs with one thread shared the machine with others, so their times mean "
        "little. If a report keeps no validation digits, the validation curves are those of the "
        "test set.\n\n"
        f"Machine: {'; '.join(machines)}."
    )
    sections = [section(name, runs) for name, runs in found.items()]
    return "\n\n".join([head, *sections]) + "\n"


def main() -> None:
    """Runs the experiments on the command line, and writes the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("experiments", nargs="*", choices=[[], *EXPERIMENTS], metavar="experiment")
    parser.add_argument("--list", action="store_true", help="list the experiments")
    parser.add_argument("--only", nargs="+", metavar="row", help="rows to run; default: all")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of checkpoints")
    parser.add_argument("--data", type=Path, help="folder of the data sets")
    arguments = parser.parse_args()
    if arguments.list:
        print(*EXPERIMENTS, sep="\n")
        return
    for name in arguments.experiments:
        run_experiment(name, EXPERIMENTS[name], arguments)
    if records := results_of("records"):
        plot_records([*results_of("ninety_nine"), *records])
    (DOCS / "reproduction.md").write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
