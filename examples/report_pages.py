"""Writes the page of the five reports, the page of our own experiments, and draws their curves.

``python examples/report_pages.py`` writes both pages from the results in `docs/reproduction`, which
`reproduce.py` fills; it writes them, too. The documentation's build draws the curves.
"""

import argparse
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from reproduce import (
    DOCS,
    EXPERIMENTS,
    LENET5,
    RESULTS,
    RULE,
    Experiment,
    Run,
    accuracies,
    results,
    spread,
    table,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Found = dict[str, dict[str, list[Run]]]  # the runs by experiment and label


@dataclass(frozen=True)
class Claim:
    """What a report claims, and how to state what we find."""

    text: str
    finding: Callable[[Found], str]


@dataclass(frozen=True)
class Report:
    """A published experiment: how to cite it, its claims, and our experiments on them."""

    heading: str
    title: str
    kind: str
    claims: tuple[Claim, ...]
    experiments: tuple[str, ...]


# --- Findings, computed from the results -----------------------------------------------------


def after_first_epoch(runs: Iterable[Run]) -> list[float]:
    """The test accuracy of each run after the first epoch, in percent."""
    return [100 * run["curve"][0]["accuracy"] for run in runs]


def against(ours: list[float], theirs: list[float]) -> str:
    """States both spreads, and whether the means differ by more than the larger deviation."""
    gap = abs(statistics.mean(ours) - statistics.mean(theirs))
    apart = gap > max(statistics.stdev(ours), statistics.stdev(theirs))
    verdict = "a difference of more" if apart else "no difference of more"
    return f"{spread(ours)} % against {spread(theirs)} %: {verdict} than one standard deviation"


def claims_of_lenet5(found: Found) -> dict[str, str]:
    """What we find of the report on LeNet."""
    runs = found["lenet5"]
    base, conv, fc = (accuracies(runs[name]) for name in LENET5)
    gains = [statistics.mean(values) - statistics.mean(base) for values in (conv, fc)]
    better = [spread(accuracies(runs[f"{name}, OneCycle"])) for name in LENET5[1:]]
    first = {name: after_first_epoch(runs[name]) for name in LENET5}
    bare = runs["lenet5_conv_residual, not normalised"]
    times = [statistics.median(run["train_seconds"] for run in runs[name]) for name in LENET5[1:]]
    return {
        "network 1": f"{spread(first[LENET5[1]])} % and {spread(conv)} %. "
        f"With a learning rate that rises to 0.03 and falls to 0, and batches of 128 (OneCycle; "
        f"ours, not tuned): {better[0]} %.",
        "network 2": f"{spread(first[LENET5[2]])} % and {spread(fc)} %. With OneCycle: "
        f"{better[1]} %.",
        "baseline": f"{spread(accuracies(runs['baseline, momentum 0']))} % without momentum, but "
        f"{spread(base)} % with the momentum that fits the losses of the other two networks.",
        "module": f"Against the baseline with the same momentum it adds {gains[0]:+.2f} points "
        f"before the first linear layer, and {gains[1]:+.2f} points after it.",
        "equally": f"Network 1 takes {times[0]:.0f} s and network 2 {times[1]:.0f} s (medians), "
        "with other work on the machine. After one epoch they reach "
        f"{against(first[LENET5[1]], first[LENET5[2]])}.",
        "second": f"After ten epochs, network 2 against network 1: {against(fc, conv)}.",
        "normalising": "Normalised and not, after one epoch: "
        f"{against(first[LENET5[1]], after_first_epoch(bare))}; after ten: "
        f"{against(conv, accuracies(bare))}.",
    }


def claims_of_resnet_cnn(found: Found) -> dict[str, str]:
    """What we find of the report on ResNet_CNN."""
    full = found["resnet_cnn"]["resnet_cnn"]
    small = found["resnet_cnn_findings"]
    ours = accuracies(next(iter(small.values())))

    def compared(label: str) -> str:
        return f"{against(accuracies(small[label]), ours)}."

    return {
        "ten": "These are figures of its last network, `resnet_cnn_norm`. The first, `resnet_cnn`, "
        f"reaches {spread(accuracies(full))} % test after {len(full[0]['curve'])} epochs "
        f"({seeds(full)}), with another schedule. The report's own 10 epochs take "
        "hours on a CPU, and this project had no GPU.",
        "stem": "On a small budget, the 7×7 stem of stride 2 against 3×3: "
        + compared("7×7 stem of stride 2"),
        "dropout": "On a small budget, without dropout against with: " + compared("no dropout"),
        "steadier": "On a small budget, with BatchNorm after each block against without: "
        f"{compared('BatchNorm after each block')} At a learning rate of 0.02 against 0.001: "
        f"{compared('learning rate 0.02')}",
    }


def claims_of_residual(found: Found) -> dict[str, str]:
    """What we find of the report on ResNet-18 with and without residual connections."""
    runs, first = found["residual"], found["residual_first"]
    plain, residual = (accuracies(runs[name], "test_all") for name in ("plain", "residual"))
    wins = sum(r > p for p, r in zip(plain, residual, strict=True))
    same = spread(accuracies(runs["plain, as residual"], "test_all"))
    firsts = "; ".join(f"{k} {spread(accuracies(v, 'test_all'))} %" for k, v in first.items())
    return {
        "residual": f"On all 10,000 test digits, because 200 are too few: plain {spread(plain)} %, "
        f"residual {spread(residual)} %; the residual network is better with {wins} of "
        f"{len(plain)} seeds. On the report's own digits: {firsts}. The two networks were trained "
        f"with different settings; with those of the residual network, the plain one reaches "
        f"{same} %.",
        "equal": "`from_torchvision` copies the weights by name, and tests compare the outputs of "
        "both networks: they are equal to the bit.",
    }


def claims_of_resnet50(found: Found) -> dict[str, str]:
    """What we find of the report on ResNet-18 and ResNet-50."""
    (run,) = found["resnet50"]["resnet50"]
    train = 100 * run["curve"][-1]["train_accuracy"]
    return {
        "fifteen": f"{train:.2f} % training and {spread(accuracies([run]))} % test after "
        f"{len(run['curve'])} epochs (one seed), with another schedule and residual branches that "
        "start at zero. Its own 15 epochs take hours on a CPU, and this project had no GPU.",
        "separable": "The module tree that it prints has the usual bottleneck. We built both: "
        "`resnet50` and `resnet50_separable`.",
    }


def claims_of_mini(found: Found) -> dict[str, str]:
    """What we find of the report on a simple GoogLeNet and a simple ResNet."""
    ours = {name: spread(accuracies(runs)) for name, runs in found["mini"].items()}
    side = 28 * 28
    direct = 5 * 5 * 192 * 32 * side
    reduced = (192 * 16 + 5 * 5 * 16 * 32) * side
    return {
        "five": f"`mini_googlenet` {ours['mini_googlenet']} %, `mini_resnet` "
        f"{ours['mini_resnet']} %.",
        "pointwise": f"{direct / 1e6:.1f} and {reduced / 1e6:.1f} million "
        "([counted here](concepts.md#11-convolutions)).",
    }


def said(claims: Callable[[Found], dict[str, str]], texts: dict[str, str]) -> tuple[Claim, ...]:
    """The claims of a report by the keys of its findings."""

    def finding(key: str) -> Callable[[Found], str]:
        return lambda found: claims(found)[key]

    return tuple(Claim(text, finding(key)) for key, text in texts.items())


REPORTS = (
    Report(
        "ResNet-18 and ResNet-50 on Bottleneck",
        "Improvement-of-MNIST-Digit-Recognition (基于Bottleneck的MNIST手写数字智能识别系统改进)",
        "the README of a repository",
        said(
            claims_of_resnet50,
            {
                "fifteen": "ResNet-50 reaches 99.56 % training and 99.10 % validation accuracy "
                "after 15 epochs.",
                "separable": "Its Bottleneck has a depthwise-separable convolution.",
            },
        ),
        ("resnet50",),
    ),
    Report(
        "LeNet with one residual module, in two places",
        "基于卷积神经网络的MNIST手写体数字识别 (MNIST handwritten digit recognition with a "
        "convolutional network)",
        "a course report",
        said(
            claims_of_lenet5,
            {
                "network 1": "Network 1, with the module before the first linear layer: 95.22 % "
                "after one epoch, 98.71 % after ten.",
                "network 2": "Network 2, with the module after it: 97.08 % and 98.79 %.",
                "baseline": "Baseline without the module: about 92 % after ten epochs.",
                "module": "The module helps much.",
                "equally": "The two networks take about the same time to train.",
                "second": "Network 2 is slightly better than network 1.",
                "normalising": "Normalising the input helps.",
            },
        ),
        ("lenet5",),
    ),
    Report(
        "A simple GoogLeNet and a simple ResNet",
        "A Simple GoogLeNet and ResNet for Solving MNIST Image Classification with PyTorch",
        "a blog post of 13 April 2023",
        said(
            claims_of_mini,
            {
                "five": "Both networks learn MNIST in five epochs (a plot of the accuracy; no "
                "figures).",
                "pointwise": "A 5×5 convolution from 192 to 32 channels takes about 120 million "
                "multiplications; with a 1×1 convolution before it, 12 million.",
            },
        ),
        ("mini",),
    ),
    Report(
        "The 34-layer ResNet with dropout",
        "ResNet网络训练mnist手写数字识别模型报告 (Report on training a ResNet to recognise MNIST "
        "digits)",
        "a report; it calls its network ResNet_CNN",
        said(
            claims_of_resnet_cnn,
            {
                "ten": "99.59 % training and 99.36 % test accuracy after 10 epochs (99.41 % after "
                "7); 99.92 % and 99.44 % after 30.",
                "stem": "A first convolution of 7×7 gives about 85 %; 3×3 is far better.",
                "dropout": "Without dropout it over-fits: 95 % test accuracy.",
                "steadier": "BatchNorm after each block, and a learning rate of 0.001 instead of "
                "0.02, steady the loss.",
            },
        ),
        ("resnet_cnn", "resnet_cnn_findings"),
    ),
    Report(
        "ResNet-18 with and without residual connections",
        "5.4 Handwritten Digit Recognition Experiment Based on Residual Network",
        "a tutorial of 9 November 2022",
        said(
            claims_of_residual,
            {
                "residual": "The network with residual connections beats the plain one.",
                "equal": "With torchvision's weights, its network gives torchvision's output: the "
                "difference is 0. (Its listing compares the output with itself.)",
            },
        ),
        ("residual", "residual_first"),
    ),
)
OF_REPORTS = {name for report in REPORTS for name in report.experiments}
# what the reports state of an experiment's curves: by row, (epoch, accuracy in percent)
STATED: dict[str, dict[str, tuple[tuple[int, float], ...]]] = {
    "lenet5": {
        "lenet5_conv_residual": ((1, 95.22), (10, 98.71)),
        "lenet5_fc_residual": ((1, 97.08), (10, 98.79)),
    },
    "resnet50": {"resnet50": ((15, 99.10),)},
    "resnet_cnn": {"resnet_cnn": ((7, 99.41), (10, 99.36), (30, 99.44))},
}


# Okabe and Ito's colours, which colour-blind readers can tell apart
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8A8A8A")


# --- Curves ----------------------------------------------------------------------------------


def curves(
    runs: Sequence[Run], stated: Mapping[str, Sequence[tuple[int, float]]] = MappingProxyType({})
) -> "Figure":
    """Training loss and error by epoch: the mean over the seeds, and from the best to the worst.

    Both axes are logarithmic. Diamonds are the errors that the report states.
    """
    from matplotlib.figure import Figure

    labels = [*dict.fromkeys(run["label"] for run in runs)]
    figure = Figure((7.6, 3.4 + 0.2 * (len(labels) // 3)), layout="constrained")
    loss, error = figure.subplots(1, 2)
    for label, colour in zip(labels, COLOURS, strict=False):
        found = [run["curve"] for run in runs if run["label"] == label]
        band(loss, [[record["train_loss"] for record in curve] for curve in found], colour, label)
        mistaken = [[100 * (1 - record["accuracy"]) for record in curve] for curve in found]
        band(error, mistaken, colour)
        if label in stated:
            epochs, values = zip(*stated[label], strict=True)
            look = {"marker": "D", "markerfacecolor": "white", "linestyle": ":"}
            error.plot(epochs, [100 - value for value in values], color=colour, **look)
    for axes, title in ((loss, "training loss (nats)"), (error, "error (%)")):
        axes.set_title(title, loc="left", fontsize="medium")
        axes.set_xlabel("epoch")
        logarithmic(axes)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="0.9", linewidth=0.6)
    if stated:
        error.plot([], [], "D:", color="0.4", markerfacecolor="white", label="stated by the report")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def band(axes: "Axes", each: list[list[float]], colour: str, label: str | None = None) -> None:
    """Draws the mean over the runs as a line, and their range as a pale band."""
    epochs = range(1, len(each[0]) + 1)
    columns = [*zip(*each, strict=True)]
    axes.plot(epochs, [*map(statistics.mean, columns)], "o-", ms=3.5, color=colour, label=label)
    lowest, highest = [*map(min, columns)], [*map(max, columns)]
    axes.fill_between(epochs, lowest, highest, color=colour, alpha=0.15, linewidth=0)


RECORDS = ("ninety_nine", "records", "minute")  # experiments that are timed by one rule


def records(runs: Sequence[Run]) -> "Figure":
    """Accuracy over seconds of training: a point per seed, and a ring at mean and median."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    figure = Figure((7.6, 4), layout="constrained")
    axes = figure.subplots()
    texts = []
    labels = [*dict.fromkeys(run["label"] for run in runs)]
    for label, colour in zip(labels, COLOURS, strict=False):
        found = [run for run in runs if run["label"] == label]
        seconds, reached = [run["train_seconds"] for run in found], accuracies(found)
        middle = statistics.median(seconds), statistics.mean(reached)
        axes.plot(seconds, reached, "o", ms=4, color=colour, alpha=0.4, label=label)
        axes.plot(*middle, "o", ms=11, color=colour, markerfacecolor="none")
        texts.append(f"{middle[1]:.2f} % in {middle[0]:.1f} s")
    axes.set_title(", ".join(texts), loc="left", fontsize="medium")
    axes.set(xscale="log", xlabel="seconds of training on two cores", ylabel="test accuracy (%)")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.9", linewidth=0.6)
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    return figure


def logarithmic(axes: "Axes") -> None:
    """Makes the y axis logarithmic with plain numbers, and the x axis one of whole epochs."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def figures() -> dict[str, "Figure"]:
    """The curves of every experiment of several epochs, by name, and the records."""
    stored = results()
    drawn = {
        f"curves_{name}": curves(runs, STATED.get(name, {}))
        for name, runs in stored.items()
        if len(runs[0]["curve"]) > 1
    }
    timed = [run for name in RECORDS for run in stored.get(name, [])]
    return {**drawn, "records": records(timed)}


# --- Pages -----------------------------------------------------------------------------------


def seeds(runs: Sequence[Run]) -> str:
    """How many seeds, in words."""
    return "one seed" if len(runs) == 1 else f"{len(runs)} seeds"


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, with two digits or so."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def by_label(experiment: Experiment, runs: list[Run]) -> dict[str, list[Run]]:
    """The runs of each row, in the order of the rows; rows without runs are left out."""
    labels = [row.label for row in experiment.rows if any(r["label"] == row.label for r in runs)]
    return {label: [run for run in runs if run["label"] == label] for label in labels}


def table_of(experiment: Experiment, found: dict[str, list[Run]], *, reported: bool) -> str:
    """The results of an experiment; what its report states comes first."""
    stated = {row.label: row.reported for row in experiment.rows}
    lines = []
    for label, runs in found.items():
        median = statistics.median(run["train_seconds"] for run in runs)
        threads = "/".join(sorted({str(run["threads"]) for run in runs}))
        cells = [stated[label]] if reported else []
        cells += [spread(accuracies(runs)), str(len(runs)), str(len(runs[0]["curve"]))]
        lines.append([label, *cells, f"{duration(median)} ({threads})"])
    columns = ["reported", "ours: test accuracy (%)"] if reported else ["test accuracy (%)"]
    return table(
        ["network", *columns, "seeds", "epochs", "median time of training (threads)"], lines
    )


def accuracies_by_digit(found: dict[str, list[Run]]) -> str:
    """The mean accuracy of each digit."""
    each = {
        label: zip(*(run["test"]["by_class"] for run in runs), strict=True)
        for label, runs in found.items()
    }
    lines = [
        [label, *(f"{100 * statistics.mean(values):.1f}" for values in columns)]
        for label, columns in each.items()
    ]
    return table(["network", *map(str, range(10))], lines)


def picture_of(name: str, runs: list[Run]) -> str:
    """The curves of an experiment, and those within its epochs where a file has them."""
    parts = []
    if len(runs[0]["curve"]) > 1:
        title = EXPERIMENTS[name].title
        parts.append(f"![Training loss and error by epoch: {title}](_pictures/curves_{name}.svg)")
    if (RESULTS / f"{name}.png").exists():
        parts.append(
            "Within the epochs, the first seed in a run of its own, training dashed and validation "
            f"solid:\n\n![Loss and error over the steps of one seed](reproduction/{name}.png)"
        )
    return "\n\n".join(parts)


def section(name: str, runs: list[Run], *, reported: bool) -> str:
    """The section of an experiment."""
    experiment = EXPERIMENTS[name]
    found = by_label(experiment, runs)
    parts = [experiment.text, table_of(experiment, found, reported=reported)]
    if experiment.by_class:
        parts += ["Accuracy by digit (%), mean over the seeds:", accuracies_by_digit(found)]
    if len(found) == len(experiment.rows):
        parts.append(experiment.remark(found))
    parts.append(picture_of(name, runs))
    return "\n\n".join(part for part in parts if part)


def report_section(report: Report, found: Found) -> str:
    """The section of a report: its citation, its claims beside our findings, and our runs."""
    claims = [[claim.text, claim.finding(found)] for claim in report.claims]
    parts = [
        f"## {report.heading}",
        f"*{report.title}*, {report.kind}.",
        table(["the report claims", "we find"], claims).replace("---:", "---"),
    ]
    stored = results()
    for name in report.experiments:
        if EXPERIMENTS[name].title != report.heading and len(report.experiments) > 1:
            parts.append(f"### {EXPERIMENTS[name].title}")
        parts.append(section(name, stored[name], reported=True))
    return "\n\n".join(parts)


def machines(names: Iterable[str]) -> str:
    """The machines and versions of the results."""
    stored = results()
    found = {f"{r['machine']}; {r['versions']}" for name in names for r in stored.get(name, [])}
    return "; ".join(sorted(found))


FIGURES = (
    "Accuracies are those of the last weights on the 10,000 test digits unless a table says "
    "otherwise, mean ± sample standard deviation over the seeds. Curves are means over the seeds, "
    "with a pale band from the lowest to the highest, on logarithmic axes; the error is that of "
    "the validation digits, or of the test digits where no validation digits are kept. Training "
    "times are medians, do not include evaluations and checkpoints, and mean little where one "
    "thread is stated: other work ran on the machine."
)


def page_of_reports() -> str:
    """The page of the five reports."""
    found = {name: by_label(EXPERIMENTS[name], runs) for name, runs in results().items()}
    head = (
        "# Five reports\n\n"
        "The library began with five published experiments on MNIST. This page cites each, and "
        "puts what we find beside what it claims. Its settings are those of the recipes whose "
        "names end in `_report`; to run an experiment again: "
        "`python examples/reproduce.py lenet5 --seeds 0 1 2`. The results are stored with recipe, "
        "seed and figures of each run in `docs/reproduction/`, from which "
        f"`examples/report_pages.py` writes this page. Machine: {machines(OF_REPORTS)}."
        f"\n\n{FIGURES}"
    )
    return "\n\n".join([head, *(report_section(report, found) for report in REPORTS)]) + "\n"


def page_of_ours() -> str:
    """The page of our own experiments."""
    ours = {name: runs for name, runs in results().items() if name not in OF_REPORTS}
    head = (
        "# Our own experiments\n\n"
        "Recipes of ours: fast training, and the pretrained weights. Their settings were chosen on "
        "training digits alone, or not tuned. To run an experiment again: "
        "`python examples/reproduce.py ninety_nine --seeds 0 1 2`. Written by "
        "`examples/report_pages.py` from the results in `docs/reproduction/`. "
        f"Machine: {machines(ours)}.\n\n{FIGURES}"
    )
    head += (
        f"\n\n## Accuracy over seconds\n\n{RULE}\n\n"
        "![Test accuracy over seconds of training, a point per seed](_pictures/records.svg)"
    )
    parts = [
        f"## {EXPERIMENTS[name].title}\n\n{section(name, runs, reported=False)}"
        for name, runs in ours.items()
    ]
    return "\n\n".join([head, *parts]) + "\n"


def write_pages() -> None:
    """Writes both pages."""
    (DOCS / "reproduction.md").write_text(page_of_reports(), encoding="utf-8")
    (DOCS / "our_experiments.md").write_text(page_of_ours(), encoding="utf-8")


if __name__ == "__main__":
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    write_pages()
