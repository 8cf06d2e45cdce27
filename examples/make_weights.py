"""Makes the weights that ship, their manifest, and a page for each network.

``python examples/reproduce.py weights weights_resnet18`` trains them, over several seeds. This
script then takes the first seed's weights in half precision, measures the very file on the test
set, and writes ``mnist_zoo/checkpoints`` and ``docs/models``. With ``--cards`` it only writes the
pages again.

The whole of MNIST is needed (12 MB, downloaded once).
"""

import argparse
import dataclasses
import hashlib
import inspect
import json
from pathlib import Path

import torch
from reproduce import DOCS, EXPERIMENTS, Run, results, spread

from mnist_zoo import (
    Digits,
    Metrics,
    Weights,
    evaluate,
    get_model,
    get_recipe,
    get_weights,
    list_models,
    load,
    load_mnist,
    plots,
    profile,
    save_weights,
    summary,
)
from mnist_zoo.registry import MODELS
from mnist_zoo.weights import CHECKPOINTS, manifest

CARDS = DOCS / "models"
TRAINED_BY = {"resnet18": "weights_resnet18"}  # experiment of a network, if not "weights"


def trained() -> list[str]:
    """The networks with a result of every seed, in the zoo's order."""
    return [
        network
        for network in list_models()
        if len(runs_of(network)) == len(EXPERIMENTS[TRAINED_BY.get(network, "weights")].seeds)
    ]


def shipped() -> list[str]:
    """The networks whose weights ship, in the zoo's order."""
    return list_models(pretrained=True)


def runs_of(network: str) -> list[Run]:
    """The results of its seeds, the first seed first."""
    found = results().get(TRAINED_BY.get(network, "weights"), [])
    return sorted((run for run in found if run["label"] == network), key=lambda run: run["seed"])


def measured_record(network: str, folder: Path, test: Digits) -> dict[str, object]:
    """Writes a network's file from its first seed's weights, measures it, and tells all of it."""
    runs = runs_of(network)
    experiment = TRAINED_BY.get(network, "weights")
    source = folder / experiment / f"{network}-seed{runs[0]['seed']}" / "weights.safetensors"
    file = CHECKPOINTS / f"{network}.safetensors"
    save_weights(load(source), file, dtype=torch.float16)
    model = load(file)
    metrics = evaluate(model, test)
    macs, params = profile(model)
    record = Weights(
        name=f"{network}.mnist",
        network=network,
        options=dict(model.options),
        file=file.name,
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        size=file.stat().st_size,
        recipe=f"{network}_mnist",
        seed=runs[0]["seed"],
        preprocessing=get_recipe(f"{network}_mnist").preprocessing,
        correct=metrics.correct,
        accuracies=tuple(run["test"]["correct"] / run["test"]["total"] for run in runs),
        nll=round(metrics.nll, 6),
        calibration_error=round(metrics.calibration_error, 6),
        params=params,
        macs=macs,
        training_seconds=round(runs[0]["train_seconds"], 1),
        machine=f"{runs[0]['machine']}; threads: {runs[0]['threads']}; {runs[0]['versions']}",
    )
    return dataclasses.asdict(record)


def card(network: str) -> str:
    """The page of a network, from the manifest and the code."""
    weights = get_weights(network)
    model = get_model(network)
    about = inspect.getdoc(MODELS[network]) or ""
    facts = {
        "parameters": f"{weights.params:,}",
        "MACs": f"{weights.macs:,}",
        "input": "×".join(map(str, model.input_size)),
        "MNIST test digits recognised by the file": f"{weights.correct:,} of 10,000",
        f"test accuracy, {len(weights.accuracies)} seeds (%)": spread(
            [100 * accuracy for accuracy in weights.accuracies]
        ),
        "negative log-likelihood (nats)": f"{weights.nll:.4f}",
        "calibration error, 15 bins": f"{weights.calibration_error:.4f}",
        "file": f"{weights.file}, half precision, {weights.size:,} bytes",
        "SHA-256": f"`{weights.sha256}`",
        "training": f"{weights.training_seconds:,.0f} s beside other work on {weights.machine}",
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    return "\n\n".join(
        [
            f"# {network}",
            about.partition("\n\n")[0],
            f"![The layers of {network}]({network}_architecture.png)",
            "```python\n"
            f"from mnist_zoo import {network}, predict\n\n"
            f'model = {network}(weights="mnist")\n'
            'predict(model, "photo.png").digit\n'
            "```",
            f"|  |  |\n| --- | --- |\n{table}",
            "## On the test set\n\n"
            f"![Confusion matrix]({network}_confusion.png)\n\n"
            f"![The most confident mistakes]({network}_mistakes.png)",
            f"## Recipe\n\n```toml\n{get_recipe(weights.recipe).to_toml().strip()}\n```",
            "To train it again (to the bit with the same torch, processor and number of "
            "threads):\n\n"
            f"```sh\npython examples/train.py {weights.recipe} seed={weights.seed}\n```",
            f"## Layers\n\n```text\n{summary(model, quiet=True)}\n```",
        ]
    )


def write_pictures(network: str, metrics: Metrics, test: Digits) -> None:
    """The pictures of a network's page."""
    pictures = {
        "architecture": plots.architecture(get_model(network)),
        "confusion": plots.confusion_matrix(metrics),
        "mistakes": plots.mistakes(test, metrics),
    }
    for name, figure in pictures.items():
        figure.savefig(CARDS / f"{network}_{name}.png", dpi=90)


def table(*, linked: bool) -> str:
    """What ships, a line a network, with or without links to their pages."""
    lines = []
    for weights in map(get_weights, shipped()):
        name = f"[{weights.network}]({weights.network}.md)" if linked else weights.network
        over_seeds = spread([100 * accuracy for accuracy in weights.accuracies])
        cells = [name, f"{weights.params:,}", f"{weights.macs:,}", f"{weights.correct:,}"]
        cells += [over_seeds, str(len(weights.accuracies))]
        lines.append(f"| {' | '.join(cells)} |")
    head = "| weights | parameters | MACs | correct of 10,000 | mean over seeds (%) | seeds |"
    return "\n".join([head, "|---|---:|---:|---:|---:|---:|", *lines])


def index() -> str:
    """The page that lists the networks' pages."""
    return (
        "# Weights\n\n"
        "Networks trained on MNIST's 60,000 training digits, whose weights come with the package. "
        "The settings were chosen on training digits alone, or not tuned; the weights are those "
        "of the first seed, not of the best. Written by `examples/make_weights.py`.\n\n"
        + table(linked=True)
        + "\n\n```{toctree}\n:hidden:\n\n"
        + "\n".join(shipped())
        + "\n```\n"
    )


def write_cards() -> None:
    """Every page, from the manifest."""
    CARDS.mkdir(exist_ok=True)
    for network in shipped():
        (CARDS / f"{network}.md").write_text(card(network) + "\n", encoding="utf-8")
    (CARDS / "index.md").write_text(index(), encoding="utf-8")


def main() -> None:
    """Makes the files, the manifest, and the pages."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of checkpoints")
    parser.add_argument("--data", type=Path, help="folder of the data sets")
    parser.add_argument("--cards", action="store_true", help="only writes the pages again")
    arguments = parser.parse_args()
    if not arguments.cards:
        test = load_mnist("test", arguments.data)
        CHECKPOINTS.mkdir(exist_ok=True)
        CARDS.mkdir(exist_ok=True)
        records = [measured_record(network, arguments.runs, test) for network in trained()]
        text = json.dumps(records, indent=1) + "\n"
        (CHECKPOINTS / "manifest.json").write_text(text, encoding="utf-8")
        for file in CHECKPOINTS.glob("*.safetensors"):
            if file.name not in [record["file"] for record in records]:
                file.unlink()
        manifest.cache_clear()
        for network in shipped():
            metrics = evaluate(load(CHECKPOINTS / f"{network}.safetensors"), test)
            write_pictures(network, metrics, test)
    write_cards()


if __name__ == "__main__":
    main()
