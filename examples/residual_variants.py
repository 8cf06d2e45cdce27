"""Trains one ResNet in every residual order and with every shortcut, and compares the results.

``python examples/residual_variants.py`` trains a 20-layer network of the paper on identity
mappings (He et al. 2016), on digits, with one recipe over several seeds, and writes
``docs/residual_variants.md`` with tables and training curves. Finished runs are not repeated; if
interrupted, rerun the same command to resume. With ``--page`` only the page is written.

It needs the whole of MNIST (12 MB, downloaded once), and half an hour or more on two cores.
"""

import argparse
import math
import statistics
from pathlib import Path
from typing import TYPE_CHECKING

from report_pages import curves
from reproduce import (
    DOCS,
    Experiment,
    Row,
    Run,
    accuracies,
    results_of,
    run_experiment,
    spread,
    table,
)
from scipy.stats import spearmanr

from mnist_zoo import Recipe
from mnist_zoo.blocks.units import ORDERS, SHORTCUTS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "residual_variants"
PAGE = DOCS / f"{NAME}.md"

# Test errors of the paper on CIFAR-10 with ResNet-110 (%), from its tables 2 and 1. Gates start
# at a bias of -6; infinity is a failure, None a variant that the paper does not have.
PAPER = {
    "original": 6.61,
    "norm_after_addition": 8.17,
    "act_before_addition": 7.84,
    "act_only_preactivation": 6.71,
    "preactivation": 6.37,
    "scaling": 12.35,
    "shortcut_scaling": math.inf,
    "residual_scaling": None,
    "exclusive_gating": 8.70,
    "shortcut_gating": 6.91,
    "conv": 12.22,
    "dropout": math.inf,
}

RECIPE = Recipe(
    network="preact_resnet20",
    sizes=(12_000, 1_000, 10_000),
    optimizer="sgd",
    lr=0.1,
    momentum=0.9,
    weight_decay=1e-4,
    schedule="onecycle",
    batch_size=128,
    epochs=5,
    precision="bfloat16",
    channels_last=True,
    reference="Ours, untuned: the optimiser of He et al. 2016, few digits, at half their size.",
)


def row_of(label: str, order: str, shortcut: str) -> Row:
    """The row of an order and a shortcut."""
    options = {"stem": "3x3-pool", "order": order, "shortcut": shortcut}
    return Row(label, RECIPE.replace(options=options))


# The rows of each table, by what the table varies. The original order with the identity is in
# both tables.
TABLES: dict[str, dict[str, Row]] = {
    "order": {order: row_of(order, order, "identity") for order in ORDERS},
    "shortcut": {
        shortcut: row_of("original" if shortcut == "identity" else shortcut, "original", shortcut)
        for shortcut in SHORTCUTS
    },
}
ROWS = {row.label: row for rows in TABLES.values() for row in rows.values()}
EXPERIMENT = Experiment(
    "Residual orders and shortcuts",
    f"`{RECIPE.network}` behind a 3×3 stem and a max-pool, {RECIPE.epochs} epochs on 12,000 "
    "training digits redrawn for each seed, tested on all 10,000 test digits. Every row has the "
    "same recipe, which was fixed before the results were known and not tuned. The orders are "
    "compared with the identity as shortcut, the shortcuts in the original order. The last column "
    "is the paper's test error with 110 layers on CIFAR-10.",
    tuple(ROWS.values()),
    (0, 1, 2),
)


def last_losses(runs: list[Run]) -> list[float]:
    """The training loss of each run in its last epoch."""
    return [run["curve"][-1]["train_loss"] for run in runs]


def errors(runs: list[Run]) -> list[float]:
    """The test error of each run, in percent."""
    return [100 - accuracy for accuracy in accuracies(runs)]


def differ(runs: list[Run], others: list[Run]) -> bool:
    """Whether the mean errors differ by more than the sum of both standard deviations."""
    a, b = errors(runs), errors(others)
    return abs(statistics.mean(a) - statistics.mean(b)) > statistics.stdev(a) + statistics.stdev(b)


def in_words(error: float | None) -> str:
    """An error of the paper as text; the paper calls more than 20 % a failure."""
    if error is None:
        return "not reported"
    return "fails" if error == math.inf else f"{error:.2f}"


def agreement(found: dict[str, list[Run]]) -> str:
    """Compares our ranking with the paper's."""
    labels = [label for label in found if PAPER[label] is not None]
    theirs = [PAPER[label] for label in labels]
    by_error, by_loss = (
        spearmanr(theirs, [statistics.mean(measure(found[label])) for label in labels]).statistic
        for measure in (errors, last_losses)
    )
    others = [f"`{label}`" for label, runs in found.items() if differ(runs, found["original"])]
    return (
        f"Rank correlation (Spearman) with the paper's order: {by_error:.2f} by test error, "
        f"{by_loss:.2f} by training loss; 1 is the same order, -1 the reverse. Test errors that "
        "differ from the original's by more than the sum of both standard deviations: "
        f"{', '.join(others) or 'none'}."
    )


def section(choice: str, runs: list[Run]) -> str:
    """One table and its figure."""
    rows = TABLES[choice]
    found = {row.label: [run for run in runs if run["label"] == row.label] for row in rows.values()}
    lines = [
        [
            f"`{shown}`",
            str(len(found[row.label])),
            spread(last_losses(found[row.label]), 3),
            spread(errors(found[row.label])),
            in_words(PAPER[row.label]),
        ]
        for shown, row in rows.items()
    ]
    columns = [choice, "seeds", "training loss, last epoch", "test error (%)"]
    return "\n\n".join(
        [
            f"## By {choice}",
            table([*columns, "paper's test error, CIFAR-10 (%)"], lines),
            agreement(found),
            f"![Training loss and test error by {choice}](_pictures/{NAME}_{choice}.svg)",
        ]
    )


def page() -> str:
    """The whole page, from the stored results."""
    runs = results_of(NAME)
    machines = sorted({f"{run['machine']}; {run['versions']}" for run in runs})
    head = (
        f"# {EXPERIMENT.title}\n\n{EXPERIMENT.text} Figures are mean ± sample standard deviation "
        "over the seeds; the curves are means, with a pale band from the lowest to the highest. "
        f"Written by `examples/residual_variants.py`.\n\nMachine: {'; '.join(machines)}."
    )
    return "\n\n".join([head, *(section(choice, runs) for choice in TABLES)]) + "\n"


def figures() -> dict[str, "Figure"]:
    """The curves of each table, by name."""
    stored = results_of(NAME)
    found = {}
    for choice, rows in TABLES.items():
        shown = {row.label: name for name, row in rows.items()}
        runs = [run | {"label": shown[run["label"]]} for run in stored if run["label"] in shown]
        found[f"{NAME}_{choice}"] = curves(
            sorted(runs, key=lambda run: [*rows].index(run["label"]))
        )
    return found


def main() -> None:
    """Trains what is missing, and writes the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--page", action="store_true", help="only write the page")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of checkpoints")
    parser.add_argument("--data", type=Path, help="folder of the data sets")
    arguments = parser.parse_args()
    if not arguments.page:
        run_experiment(NAME, EXPERIMENT, arguments)
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
