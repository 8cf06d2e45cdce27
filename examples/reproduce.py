"""Runs the experiments of the five reports and our own, and writes the pages with the results.

``python examples/reproduce.py --list`` lists the experiments.
``python examples/reproduce.py ninety_nine --seeds 0 1 2`` runs one again on your machine, with
these seeds, and prints your accuracies beside the stored and the reported ones.
``python examples/reproduce.py mini_resnet_report mine.json --seeds 0 1 2`` does the same with
recipes, by name or from files. With ``--network mine.py:make`` they train your network, which that
function or class makes. Results are kept in the folder ``runs``, and finished runs are not
repeated, except those of your network, which may have changed.

Without ``--seeds`` an experiment is run as it was published: what is missing of its results is
added to ``docs/reproduction``, and `report_pages.py` writes the pages that compare the reported
figures with ours. Without an experiment only the pages are written.

It needs the whole of MNIST (12 MB, downloaded once), except for recipes of other data. The pages
state the training times.
"""

import argparse
import json
import os
import platform
import runpy
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from train import read_recipe

from mnist_zoo import (
    DataError,
    History,
    Metrics,
    Preprocessing,
    Recipe,
    evaluate,
    fit,
    get_model,
    get_recipe,
    list_models,
    list_recipes,
    load_data,
    load_mnist,
    plots,
    save_model,
)

DOCS = Path(__file__).parent.parent / "docs"
RESULTS = DOCS / "reproduction"
Run = dict[str, Any]
Maker = Callable[[], nn.Module]


@dataclass(frozen=True)
class Row:
    """One row of a table: a recipe, and the accuracy that its report states.

    With `torch_init` the convolutions start from PyTorch's own initial weights.
    """

    label: str
    recipe: Recipe
    reported: str = ""
    torch_init: bool = False


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


# --- Remarks, whose figures are computed from the results -----------------------------------


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
    "([benchmarks](benchmarks.md))."
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
    return "\n\n".join(lines)


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
        "Ours: 99.5 and 99.6 %",
        "The recipe `ninety_nine_point_five` trains the network of `ninety_nine` in twice its "
        "width, 141,194 parameters, and `ninety_nine_point_six` the report's simple ResNet.",
        (
            Row("99.5 %", get_recipe("ninety_nine_point_five")),
            Row("99.6 %", get_recipe("ninety_nine_point_six")),
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
        "redrawn for each seed; 5 epochs, with an evaluation every 15 steps. The initial weights "
        "of convolutions are those of He et al., where the report's code has PyTorch's.",
        (
            Row("plain", PLAIN, "less than residual"),
            Row("residual", get_recipe("resnet18_report", sampling="random"), "more than plain"),
            Row("plain, as residual", PLAIN.replace(lr=0.01, batch_size=128)),
        ),
        (100, 101, 102, 103, 104),
    ),
    "residual_first": Experiment(
        "The same on the report's own digits",
        "The report takes the first digits of each part: digits 1 to 2,000 and 50,001 to 50,200 of "
        "the training set, if its file keeps MNIST's order, and 1 to 200 of the test set. The "
        "first seed is the report's. Its code leaves the initial weights to PyTorch; ours are "
        "those of He et al., unless a row says otherwise.",
        (
            Row("plain", get_recipe("plain18_report"), "less than residual"),
            Row("residual", get_recipe("resnet18_report"), "more than plain"),
            Row("plain, PyTorch's initial weights", get_recipe("plain18_report"), torch_init=True),
            Row(
                "residual, PyTorch's initial weights",
                get_recipe("resnet18_report"),
                torch_init=True,
            ),
        ),
        (100, 101, 102),
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
        "`resnet_cnn_norm`. Here is one seed of its first one, with other initial weights (those "
        "of He et al., where the report's code has PyTorch's), another schedule and "
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
    ),
    "weights": Experiment(
        "The pretrained weights",
        "Ours. The weights of the first seed ship, whether or not they are the best. The training "
        "times are overestimates: other work ran on the machine.",
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


def with_torch_init(recipe: Recipe) -> nn.Module:
    """The recipe's network; its convolutions have the initial weights that PyTorch gives them."""
    assert recipe.network is not None
    torch.manual_seed(recipe.seed)
    network = get_model(recipe.network, **recipe.options)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.reset_parameters()
    return network


def train_and_test(
    row: Row, seed: int, folder: Path, data: Path | None = None, make: Maker | None = None
) -> Run:
    """Trains one row with one seed, the recipe's network or the one that is made, and tests it."""
    recipe = row.recipe.replace(seed=seed)
    _, _, test = load_data(recipe, data)
    if make is None:
        target, given = (with_torch_init(recipe), recipe) if row.torch_init else (recipe, None)
        history = fit(target, recipe=given, folder=folder, checkpoint_every=100)
    else:
        torch.manual_seed(seed)
        history = fit(make(), recipe=recipe)
        folder.mkdir(parents=True, exist_ok=True)
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
        everything = load_mnist("test", source=recipe.source)
        metrics = evaluate(history.model, everything, recipe.preprocessing)
        run["test_all"] = measured(metrics)
    history.save(folder / "history.json")
    if make is None:
        save_model(history.model, folder / "weights.safetensors")
    return run


def belongs_to(run: Run, row: Row, seed: int) -> bool:
    """Whether the result belongs to this row and seed, with the recipe as it is now."""
    recipe = Recipe.from_dict(run["recipe"]).replace(reference=row.recipe.reference)
    return run["label"] == row.label and recipe == row.recipe.replace(seed=seed)


def run_folder(runs: Path, name: str, row: Row, seed: int) -> Path:
    """The folder of the checkpoints and the history of a run."""
    return runs / name / f"{row.label}-seed{seed}"


def chosen(rows: Sequence[Row], only: Sequence[str] | None) -> list[Row]:
    """The rows with these labels, or all."""
    labels = [row.label for row in rows]
    if unknown := set(only or ()).difference(labels):
        raise SystemExit(f"--only: no row {sorted(unknown)}; the rows are {labels}")
    return [row for row in rows if not only or row.label in only]


def run_experiment(name: str, experiment: Experiment, arguments: argparse.Namespace) -> None:
    """Runs what is missing of an experiment, and stores each result at once."""
    path, runs = RESULTS / f"{name}.json", results_of(name)
    rows = chosen(experiment.rows, arguments.only)
    run_missing(name, rows, experiment.seeds, path, arguments)
    if len(runs) == len(results_of(name)):
        print(f"{name}: nothing to run, the results are in {path}; --seeds 0 1 2 runs it again")
    first = {  # epochs alone say little of runs that are evaluated within them
        row.label: run_folder(arguments.runs, name, row, experiment.seeds[0]) / "history.json"
        for row in experiment.rows
        if row.reported and row.recipe.eval_every
    }
    if first and all(file.exists() for file in first.values()):
        histories = {label: History.load(file) for label, file in first.items()}
        plots.curves(histories).savefig(RESULTS / f"{name}.png", dpi=110)


def run_missing(
    name: str,
    rows: Iterable[Row],
    seeds: Iterable[int],
    path: Path,
    arguments: argparse.Namespace,
    make: Maker | None = None,
) -> list[Run]:
    """Runs what a file of results lacks of these rows and seeds; returns all of these runs."""
    if arguments.data:
        os.environ["MNIST_ZOO_DATA"] = str(arguments.data)
    runs, wanted = [] if make else stored(path), []  # one's own network may have changed
    path.parent.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        for row in rows:
            run = next((run for run in runs if belongs_to(run, row, seed)), None)
            if run is None:
                print(f"{name}: {row.label}, seed {seed}")
                folder = run_folder(arguments.runs, name, row, seed)
                run = train_and_test(row, seed, folder, arguments.data, make)
                runs.append(run)
                temporary = path.with_suffix(".part")
                temporary.write_text(json.dumps(runs, indent=1) + "\n", encoding="utf-8")
                temporary.replace(path)
                print(f"{name}: {row.label}, seed {seed}: {accuracies([run])[0]:.2f} %")
            wanted.append(run)
    return wanted


# --- On one's own machine --------------------------------------------------------------------


def compare_here(name: str, arguments: argparse.Namespace) -> None:
    """Runs an experiment or a recipe with the given seeds, and prints a table of accuracies."""
    make, label = None, ""
    if arguments.network:
        make, label = imported(arguments.network), arguments.network.partition(":")[2]
    if (known := EXPERIMENTS.get(name)) and make is None:
        rows = chosen(known.rows, arguments.only)
    elif known:
        raise SystemExit(f"--network needs a recipe; {name!r} is an experiment")
    else:
        recipe = read_recipe(name)
        name = Path(name).stem
        rows = chosen([Row(label or recipe.network or name, recipe)], arguments.only)
    own = f"{name}-{label}" if label else name
    path = arguments.runs / f"{own}.json"
    found = run_missing(own, rows, arguments.seeds, path, arguments, make)
    published = results_of(name)
    print(f"\ntest accuracy (%), mean ± standard deviation; each run is in {path}")
    print(f"{'network':<30} {'here':<22} {'stored':<22} reported")
    for row in rows:
        cells = [
            f"{spread(values)} ({len(values)} seed{'s' * (len(values) != 1)})" if values else "–"
            for values in (
                accuracies(run for run in runs if run["label"] == row.label)
                for runs in (found, published)
            )
        ]
        print(f"{row.label:<30} {cells[0]:<22} {cells[1]:<22} {row.reported or '–'}")


def imported(place: str) -> Maker:
    """The function or class of a place such as ``mine.py:make``."""
    file, _, name = place.partition(":")
    if not Path(file).is_file() or not name:
        raise SystemExit(f"--network (={place!r}) must be a file and a name in it: mine.py:make")
    make: Maker | None = runpy.run_path(file).get(name)
    if not callable(make):
        raise SystemExit(f"--network (={place!r}): {file} has no function or class {name!r}")
    return make


# --- Results -------------------------------------------------------------------------------


def table(columns: list[str], rows: Iterable[list[str]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def results_of(name: str) -> list[Run]:
    """The stored results of an experiment."""
    return stored(RESULTS / f"{name}.json")


def stored(path: Path) -> list[Run]:
    """The results in a file; none if there is no file."""
    runs: list[Run] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return runs


def listed() -> str:
    """A line about each experiment."""
    lines = []
    for name, experiment in EXPERIMENTS.items():
        done, all_runs = len(results_of(name)), len(experiment.seeds) * len(experiment.rows)
        lines.append(f"{name:<24} {experiment.title} ({done} of {all_runs} runs stored)")
    return "\n".join(lines)


def results() -> dict[str, list[Run]]:
    """All stored results, by experiment."""
    return {name: runs for name in EXPERIMENTS if (runs := results_of(name))}


def main() -> None:
    """Runs the experiments on the command line, and writes the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "experiments",
        nargs="*",
        metavar="experiment",
        help="with --seeds also a recipe",
    )
    parser.add_argument("--list", action="store_true", help="list the experiments")
    parser.add_argument("--seeds", nargs="+", type=int, help="run with these seeds, and compare")
    parser.add_argument("--network", metavar="FILE:NAME", help="makes the network to train instead")
    parser.add_argument("--only", nargs="+", metavar="row", help="rows to run; default: all")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of checkpoints")
    parser.add_argument("--data", type=Path, help="folder of the data sets")
    arguments = parser.parse_args()
    if arguments.list:
        print(listed())
        return
    if arguments.network and not arguments.seeds:
        parser.error("--network needs --seeds")
    try:
        for name in arguments.experiments:
            if arguments.seeds:
                compare_here(name, arguments)
            elif name in EXPERIMENTS:
                run_experiment(name, EXPERIMENTS[name], arguments)
            else:
                hint = "a recipe needs --seeds" if name in list_recipes() else "see --list"
                parser.error(f"{name!r} must be the name of an experiment; {hint}")
    except (OSError, TypeError, ValueError, ModuleNotFoundError) as error:
        message = f"{name}: {' '.join(str(error).split())}"
        if isinstance(error, DataError):
            message += "; --data FOLDER names a folder with its files"
        raise SystemExit(message) from error
    if arguments.seeds:
        return
    import report_pages  # it takes the experiments from here

    report_pages.write_pages()
    print(f"the pages in {DOCS} are up to date")


if __name__ == "__main__":
    main()
