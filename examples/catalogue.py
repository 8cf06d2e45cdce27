"""Writes the pages of the networks, and every list and table of networks (see `faces.py`).

``python examples/catalogue.py`` writes ``docs/models`` from the registry, the manifest of the
weights, and the results in ``docs/reproduction``, ``docs/latency.json`` and ``docs/int8.json``.
With ``--latency`` it measures latency first (on an idle machine), and with ``--int8`` the sizes of
int8 files: some minutes each, and a new network needs both. It also writes the package's faces, our
numbers in ``docs/comparison.md``, and README's plot.
"""

import argparse
import inspect
import json
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import about
import faces
import torch
from reproduce import DOCS, accuracies, results, spread, surroundings
from torch import nn

from mnist_zoo import (
    Recipe,
    compare,
    get_model,
    get_recipe,
    get_weights,
    list_models,
    load_mnist,
    plots,
    profile,
    summary,
)
from mnist_zoo.export import export, quantize
from mnist_zoo.inspection.latency import latency
from mnist_zoo.models.registry import MODELS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CARDS = DOCS / "models"
PLOT = DOCS / "accuracy.png"
LATENCY = DOCS / "latency.json"
INT8 = DOCS / "int8.json"
MEASURED_BY = {  # the experiment with the accuracy of a network without pretrained weights
    "mini_convnet": "ninety_nine",
    "resnet50": "resnet50",
    "resnet_cnn": "resnet_cnn",
}
FACTORIES = """\
Every factory takes keywords only: `weights=None, in_channels=1, num_classes=10, image_size=…`, then
its family's own. By name: `get_model("resnet18", stem="3x3")`; `list_models("resnet*")`."""
NETWORKS = """\
Each network has `input_size`, `forward_features(x)`, `forward_head(features, pre_logits=False)`,
`get_classifier()` and `reset_classifier(num_classes)`. At 28×28 a ResNet with the `"7x7"` stem ends
in maps of one pixel, and BatchNorm cannot train on a batch of one: drop the last batch, or use
`stem="3x3"`."""
FAMILIES = {  # by the file
    "lenet": "LeNet-5",
    "digitnet": "DigitNet",
    "mini": "small networks",
    "resnet": "ResNet",
    "preact": "pre-activation ResNet",
    "densenet": "DenseNet",
}
LONGEST_TABLE = 60  # layers; for deeper networks the diagram is clearer


# --- What others have published ------------------------------------------------------------


@dataclass(frozen=True)
class Published:
    """A network's published test accuracy, from 0 to 1, and the network rebuilt."""

    name: str
    accuracy: float
    network: nn.Module
    input_size: tuple[int, int, int]
    source: str


def perceptron(*widths: int) -> nn.Sequential:
    """Linear layers of these widths, with an activation between them."""
    layers: list[nn.Module] = [nn.Flatten()]
    for width, following in pairwise(widths):
        layers += [nn.Linear(width, following), nn.Tanh()]
    return nn.Sequential(*layers[:-1])


def keras_example() -> nn.Sequential:
    """Two convolutions and two linear layers."""
    features = (nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2))
    return nn.Sequential(
        *features, nn.Flatten(), nn.Linear(64 * 12**2, 128), nn.ReLU(), nn.Linear(128, 10)
    )


def simple_cnn() -> nn.Sequential:
    """Ten 3×3 convolutions without padding, 16 more channels each, and a linear layer."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise([1, *range(32, 177, 16)]):
        layers += [nn.Conv2d(inputs, outputs, 3, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    head = (nn.Flatten(), nn.Linear(176 * 8**2, 10, bias=False), nn.BatchNorm1d(10))
    return nn.Sequential(*layers, *head)


@cache
def published() -> list[Published]:
    """Networks whose source states architecture and accuracy; without ensembles."""
    return [
        Published(
            "MLP (2010)",
            0.9965,
            perceptron(29**2, 2500, 2000, 1500, 1000, 500, 10),
            (1, 29, 29),
            "Cireşan, Meier, Gambardella, Schmidhuber 2010 "
            "([arXiv:1003.0358](https://arxiv.org/abs/1003.0358)), with distortions",
        ),
        Published(
            "Keras's example",
            0.9925,
            keras_example(),
            (1, 28, 28),
            "[`examples/mnist_cnn.py`](https://github.com/keras-team/keras/blob/"
            "05676872b9a772d21da0afab92dc515b3738e54d/examples/mnist_cnn.py) of Keras 2, "
            "12 epochs",
        ),
        Published(
            "M3 (2020)",
            0.9972,
            simple_cnn(),
            (1, 28, 28),
            "An, Lee, Park, Yang, So 2020 "
            "([arXiv:2008.10400](https://arxiv.org/abs/2008.10400)): seed 0 after the last "
            "of 150 epochs, in the [log](https://github.com/ansh941/MnistSimpleCNN/blob/"
            "07c981fd0bc2254e64665f084fb966cccc8e7eb4/logs/modelM3/log000.out) of its code",
        ),
    ]


# --- What we measured ----------------------------------------------------------------------


def accuracies_of(network: str) -> list[float]:
    """Test accuracy per seed, from 0 to 1; empty if it was not trained on all of MNIST."""
    if network in list_models(pretrained=True):
        return [*get_weights(network).accuracies]
    runs = results().get(MEASURED_BY.get(network, ""), [])
    return [value / 100 for value in accuracies(run for run in runs if run["label"] == network)]


def runs() -> Iterator[tuple[str, float]]:
    """Name and accuracy of every run, ours and published."""
    for network in list_models():
        for accuracy in accuracies_of(network):
            yield network, accuracy
    for other in published():
        yield other.name, other.accuracy


def points() -> Iterator[tuple[str, float, int, int]]:
    """Name, accuracy, parameters and MACs of every run."""
    costs = {row.name: (row.params, row.macs) for row in compare(list_models()).rows}
    for other in published():
        macs, params = profile(other.network, other.input_size)
        costs[other.name] = (params, macs)
    for name, accuracy in runs():
        yield name, accuracy, *costs[name]


def measured_points() -> Iterator[tuple[str, float, float, int]]:
    """Name, accuracy, latency in seconds and bytes of the int8 file of every run."""
    milliseconds, sizes = read(LATENCY)["milliseconds"], read(INT8)["bytes"]
    for name, accuracy in runs():
        yield name, accuracy, milliseconds[name] / 1000, sizes[name]


def against_counted() -> "Figure":
    """The plot of accuracy against what can be counted."""
    return plots.accuracy_against_cost(points(), groups=groups())


def against_measured() -> "Figure":
    """The plot of accuracy against what was measured."""
    costs = ("latency (seconds per image)", "size of the int8 file (bytes)")
    return plots.accuracy_against_cost(measured_points(), costs=costs, groups=groups())


def groups() -> dict[str, str]:
    """The family of each network, as the legend of accuracy against cost calls it."""
    return {name: FAMILIES[make.__module__.rpartition(".")[2]] for name, make in MODELS.items()}


def built(name: str) -> tuple[nn.Module, tuple[int, int, int]]:
    """A published network or one of ours, with its weights if it has any, and its input size."""
    for other in published():
        if other.name == name:
            return other.network, other.input_size
    model = get_model(name, weights="mnist" if name in list_models(pretrained=True) else None)
    return model, model.input_size


def measure_latency() -> None:
    """Measures the median milliseconds per image in inference mode, for every network.

    Each is measured three times, among the others, because a machine is never quite idle.
    """
    found: dict[str, list[float]] = {}
    for _ in range(3):
        for name in [*list_models(), *(other.name for other in published())]:
            model, input_size = built(name)
            with torch.inference_mode():
                found.setdefault(name, []).extend(
                    latency([model.eval()], torch.randn(1, *input_size))
                )
    times = {name: round(1000 * statistics.median(each), 3) for name, each in found.items()}
    here = surroundings()
    measured = {
        "machine": f"{here['machine']}, threads: {torch.get_num_threads()}",
        "versions": here["versions"],
        "milliseconds": times,
    }
    write(LATENCY, measured)


def size_of_int8(name: str) -> int:
    """Bytes of the network's ONNX file after `quantize`, calibrated on digits of the sample."""
    model, input_size = built(name)
    (calibration,) = load_mnist("train", source="sample").split(100)
    with tempfile.TemporaryDirectory() as folder:
        exact, small = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
        export(model, exact, input_size=input_size)
        return quantize(exact, small, calibration).size


def measure_int8() -> None:
    """Measures the size of the int8 file of every network whose accuracy is known."""
    import onnxruntime

    sizes = {name: size_of_int8(name) for name in dict.fromkeys(name for name, _ in runs())}
    versions = f"{surroundings()['versions']}, ONNX Runtime {onnxruntime.__version__}"
    write(INT8, {"versions": versions, "bytes": sizes})


def read(path: Path) -> dict[str, Any]:
    """The content of a JSON file."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def write(path: Path, content: dict[str, Any]) -> None:
    """Writes a JSON file."""
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


# --- Pages -----------------------------------------------------------------------------------


def in_percent(found: list[float]) -> str:
    """Mean and standard deviation in percent; an empty string if there are no values."""
    return spread([100 * value for value in found]) if found else ""


def accuracy_in_words(network: str) -> str:
    """Mean and standard deviation in percent, and the number of seeds."""
    found = accuracies_of(network)
    seeds = f"{len(found)} seed{'s' if len(found) > 1 else ''}"
    return f"{in_percent(found)} ({seeds})" if found else ""


def table_of_networks() -> str:
    """Every network with its cost, accuracy and latency."""
    times, sizes = read(LATENCY)["milliseconds"], read(INT8)["bytes"]
    named = ("input", "parameters", "MACs", "size (MB)", "int8 (MB)", "accuracy (%)", "seeds")
    lines = [f"| network | {' | '.join(named)} | latency (ms) |"]
    lines.append(f"|---|{'---:|' * len(named)}---:|")
    for row in compare(list_models()).rows:
        found = accuracies_of(row.name)
        cells = [
            f"[{row.name}]({row.name}.md)",
            "×".join(map(str, row.input_shapes[0][1:])),
            f"{row.params:,}",
            f"{row.macs:,}",
            f"{row.size_bytes / 2**20:.3f}",
            f"{sizes[row.name] / 2**20:.3f}" if row.name in sizes else "",
            in_percent(found).replace(" ", "\N{NO-BREAK SPACE}"),
            str(len(found) or ""),
            f"{times[row.name]:.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def table_of_weights() -> str:
    """The pretrained weights, one line per network."""
    lines = []
    for weights in map(get_weights, list_models(pretrained=True)):
        name = f"[{weights.network}]({weights.network}.md)"
        cells = [name, f"{weights.params:,}", f"{weights.macs:,}", f"{weights.correct:,}"]
        cells += [in_percent([*weights.accuracies]), str(len(weights.accuracies))]
        lines.append(f"| {' | '.join(cells)} |")
    head = "| weights | parameters | MACs | correct of 10,000 | mean over seeds (%) | seeds |"
    return "\n".join([head, "|---|---:|---:|---:|---:|---:|", *lines])


def table_of_published() -> str:
    """Published networks, with their costs as we count and measure them."""
    times, sizes = read(LATENCY)["milliseconds"], read(INT8)["bytes"]
    named = ("parameters", "MACs", "int8 (MB)", "accuracy (%)", "latency (ms)")
    lines = [f"| network | {' | '.join(named)} | source |", f"|---|{'---:|' * len(named)}---|"]
    for other in published():
        macs, params = profile(other.network, other.input_size)
        cells = [other.name, f"{params:,}", f"{macs:,}", f"{sizes[other.name] / 2**20:.3f}"]
        cells += [f"{100 * other.accuracy:.2f}", f"{times[other.name]:.2f}", other.source]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def index() -> str:
    """The page that lists all networks."""
    measured = read(LATENCY)
    return "\n\n".join(
        [
            "# Networks",
            "Written by `examples/catalogue.py` from the registry, the manifest of the weights and "
            "the measured results. Costs and latency are per image of the network's `input_size`, "
            "in float32. Accuracies are on MNIST's 10,000 test digits, mean ± sample standard "
            "deviation over the seeds, for networks trained on all of MNIST (`mini_convnet` for "
            "one epoch). Latency: "
            f"{measured['machine']}; {measured['versions']}. int8: the ONNX file that `quantize` "
            f"writes, with the record of familiarity if there is one; {read(INT8)['versions']}.",
            table_of_networks(),
            "## Pretrained weights",
            "Trained on MNIST's 60,000 training digits. The settings were chosen on training "
            "digits only, or not tuned; the weights are those of the first seed, not of the best.",
            table_of_weights(),
            "## Families and options",
            FACTORIES,
            faces.table_of_families(),
            NETWORKS,
            "## Published networks",
            "![Accuracy against parameters and against MACs](../_pictures/accuracy.svg)",
            "Single networks whose source states both architecture and accuracy; we rebuilt them "
            "to count and measure their costs. Most sources give the best or the only run; ours is "
            "the mean over seeds.",
            table_of_published(),
            "![Accuracy against latency and against the size of the int8 file]"
            "(../_pictures/accuracy_measured.svg)",
            "```{toctree}\n:hidden:\n\n" + "\n".join(list_models()) + "\n```\n",
        ]
    )


def facts(network: str) -> dict[str, str]:
    """The facts on a network's page, by name."""
    model = get_model(network)
    (row,) = compare([network]).rows
    known = {
        "parameters": f"{row.params:,}",
        "MACs": f"{row.macs:,}",
        "FLOPs": f"{row.flops:,}",
        "input": "×".join(map(str, model.input_size)),
        "size": f"{row.size_bytes / 2**20:.2f} MB in float32",
        "from": about.sources(network),
    }
    if accuracy := accuracy_in_words(network):
        known["test accuracy (%)"] = accuracy
    if network in list_models(pretrained=True):
        weights = get_weights(network)
        machine = weights.machine
        known |= {
            "correct MNIST test digits, with the file": f"{weights.correct:,} of 10,000",
            "negative log-likelihood (nats)": f"{weights.nll:.4f}",
            "calibration error, 15 bins": f"{weights.calibration_error:.4f}",
            "test digits taken for something else": f"{weights.refused} of 10,000",
            "file": f"{weights.file}, half precision, {weights.size:,} bytes",
            "SHA-256": f"`{weights.sha256}`",
            "training": f"{weights.training_seconds:,.0f} s beside other work on {machine}",
        }
    return known


def card(network: str) -> str:
    """The page of a network."""
    text = inspect.getdoc(MODELS[network]) or ""
    lines = "\n".join(f"| {name} | {value} |" for name, value in facts(network).items())
    pretrained = network in list_models(pretrained=True)
    parts = [
        f"# {network}",
        text.partition("\n\n")[0],
        about.matching(network, about.PURPOSES),
        usage(network, pretrained=pretrained),
        f"|  |  |\n| --- | --- |\n{lines}",
    ]
    if not accuracies_of(network):
        parts.append(f"**No accuracy.** {about.matching(network, about.UNMEASURED)}")
    parts.append(f"![The layers and blocks of {network}](../_pictures/{network}.svg)")
    if pretrained:
        parts.append(
            "## On the test set\n\n"
            f"![Confusion matrix of {network}: true digits in rows, predicted digits in columns]"
            f"({network}_confusion.png)\n\n"
            f"![The most confident mistakes of {network}, each with its true and its predicted "
            f"digit]({network}_mistakes.png)"
        )
    parts.append(f"## Train it\n\n{about.training(network)}")
    if pretrained:
        parts.append(recipe_of_weights(network))
    with torch.device("meta"):
        layers = summary(get_model(network), quiet=True)
    if len(layers.rows) <= LONGEST_TABLE:
        parts.append(f"## Layers\n\n```text\n{layers}\n```")
    parts.append(
        "## Reference\n\n```{eval-rst}\n.. currentmodule:: mnist_zoo\n\n"
        f".. autofunction:: {network}\n```"
    )
    scripts = DOCS.parent.glob("examples/plot_*.py")
    if any(f"{network}(" in script.read_text(encoding="utf-8") for script in scripts):
        gallery = f"```{{eval-rst}}\n.. minigallery:: mnist_zoo.{network}\n```"
        parts.append(f"## Examples that use {network}\n\n{gallery}")
    return "\n\n".join(parts) + "\n"


def usage(network: str, *, pretrained: bool) -> str:
    """How to make the network: with pretrained weights, or without."""
    if not pretrained:
        return f"```python\nfrom mnist_zoo import {network}\n\nmodel = {network}()\n```"
    return (
        "```python\n"
        f"from mnist_zoo import {network}, predict, sample_pictures\n\n"
        f'model = {network}(weights="mnist")\n'
        "print(predict(model, sample_pictures()[0]))  # or a file of yours\n"
        "```"
    )


def recipe_of_weights(network: str) -> str:
    """The recipe of the pretrained weights."""
    weights = get_weights(network)
    return (
        f"The pretrained weights are those of `{weights.recipe}` with seed {weights.seed}; with "
        "the same torch, processor and number of threads, training gives them to the bit. "
        "The settings that differ from the defaults of `Recipe`:\n\n"
        f"```json\n{settings(get_recipe(weights.recipe))}\n```"
    )


def settings(recipe: Recipe) -> str:
    """A recipe as JSON, without the settings that have their default value."""
    required = {name: getattr(recipe, name) for name in ("network", "lr", "epochs")}
    usual = Recipe(**required).to_dict()
    plain = recipe.to_dict()
    changed = {
        name: plain[name] for name in plain if name in required or plain[name] != usual[name]
    }
    return json.dumps(changed, indent=2, ensure_ascii=False)


def write_pages() -> None:
    """Writes every page and every derived list and table."""
    CARDS.mkdir(exist_ok=True)
    for network in list_models():
        (CARDS / f"{network}.md").write_text(card(network), encoding="utf-8")
    (CARDS / "index.md").write_text(index(), encoding="utf-8")
    for path, text in faces.written().items():
        path.write_text(text, encoding="utf-8")
    description = json.dumps([*points()])
    against_counted().savefig(PLOT, dpi=110, metadata={"Description": description})


def main() -> None:
    """Measures latency if asked to, and writes the pages."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--latency", action="store_true", help="measures latency")
    parser.add_argument("--int8", action="store_true", help="measures the sizes of int8 files")
    arguments = parser.parse_args()
    if arguments.latency:
        measure_latency()
    if arguments.int8:
        measure_int8()
    write_pages()


if __name__ == "__main__":
    main()
