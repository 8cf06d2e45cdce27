"""Makes the files of the pretrained weights, their manifest, and the pages of the networks.

``python examples/reproduce.py weights weights_resnet18`` trains them, over several seeds. This
script then saves the weights of the first seed in half precision, with a record of familiarity
fitted on the training digits, measures the saved file on the test set, and writes
``mnist_zoo/weights/checkpoints`` and, with ``catalogue.py``, ``docs/models``.

It needs the whole of MNIST (12 MB, downloaded once). ``--familiarity`` fits the records of the
files in the package anew, and leaves their weights as they are.
"""

import argparse
import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from catalogue import CARDS, write_pages
from reproduce import DIGITNETS, EXPERIMENTS, Run, results

from mnist_zoo import (
    Digits,
    Metrics,
    Weights,
    evaluate,
    fit_familiarity,
    get_recipe,
    list_models,
    load_mnist,
    load_model,
    plots,
    predict,
    profile,
    save_model,
)
from mnist_zoo.weights.manifest import CHECKPOINTS, manifest

TRAINED_BY = {  # the experiment of a network, if it is not "weights"
    **dict.fromkeys(DIGITNETS[:5], "weights_digitnet"),
    **dict.fromkeys(DIGITNETS[5:], "weights_digitnet_large"),
    "resnet18": "weights_resnet18",
}


def trained() -> list[str]:
    """The networks with a result for the first seed, in the order of `list_models`."""
    return [
        network
        for network in list_models()
        for run in runs_of(network)[:1]
        if run["seed"] == EXPERIMENTS[TRAINED_BY.get(network, "weights")].seeds[0]
    ]


def runs_of(network: str) -> list[Run]:
    """The results of a network, in the order of the seeds."""
    found = results().get(TRAINED_BY.get(network, "weights"), [])
    return sorted((run for run in found if run["label"] == network), key=lambda run: run["seed"])


def digits_by_writer(data: Path | None, writers: Path | None) -> Digits:
    """The training digits, with their writers where an NPZ file names them."""
    train = load_mnist("train", data)
    if writers is None:
        return train
    names = torch.from_numpy(np.load(writers)["train_writer"])
    return dataclasses.replace(train, writers=names)


def add_familiarity(file: Path, train: Digits, test: Digits) -> dict[str, Any]:
    """Fits a file's record of familiarity and saves it beside the same weights; measures it."""
    model = load_model(file)
    fit_familiarity(model, train)
    save_model(model, file, dtype=torch.float16)
    found = predict(load_model(file), list(test.images))
    return {
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "size": file.stat().st_size,
        "refused": sum(not prediction.is_digit for prediction in found),
    }


def measured_record(network: str, folder: Path, train: Digits, test: Digits) -> dict[str, object]:
    """Saves the first seed's weights, measures the file, and returns its manifest record."""
    runs = runs_of(network)
    experiment = TRAINED_BY.get(network, "weights")
    source = folder / experiment / f"{network}-seed{runs[0]['seed']}" / "weights.safetensors"
    file = CHECKPOINTS / f"{network}.safetensors"
    save_model(load_model(source), file, dtype=torch.float16)
    familiarity = add_familiarity(file, train, test)
    model = load_model(file)
    metrics = evaluate(model, test)
    macs, params = profile(model)
    record = Weights(
        name=f"{network}.mnist",
        network=network,
        options=dict(model.options),
        file=file.name,
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
        **familiarity,
    )
    return dataclasses.asdict(record)


def write_manifest(records: list[dict[str, object]]) -> None:
    """Writes the manifest, and reads it anew."""
    text = json.dumps(records, indent=1) + "\n"
    (CHECKPOINTS / "manifest.json").write_text(text, encoding="utf-8")
    manifest.cache_clear()


def write_pictures(network: str, metrics: Metrics, test: Digits) -> None:
    """Draws the figures of a network's page."""
    pictures = {
        "confusion": plots.confusion_matrix(metrics),
        "mistakes": plots.mistakes(test, metrics),
    }
    for name, figure in pictures.items():
        figure.savefig(CARDS / f"{network}_{name}.png", dpi=90)


def main() -> None:
    """Makes the files, the manifest and the pages."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of checkpoints")
    parser.add_argument("--data", type=Path, help="folder of the data sets")
    parser.add_argument("--writers", type=Path, help="NPZ file of train_writer, as QMNIST tells")
    parser.add_argument("--familiarity", action="store_true", help="fits only these records")
    arguments = parser.parse_args()
    train = digits_by_writer(arguments.data, arguments.writers)
    test = load_mnist("test", arguments.data)
    if arguments.familiarity:
        known = json.loads((CHECKPOINTS / "manifest.json").read_text("utf-8"))
        write_manifest(
            [
                record | add_familiarity(CHECKPOINTS / record["file"], train, test)
                for record in known
            ]
        )
        write_pages()
        return
    CHECKPOINTS.mkdir(exist_ok=True)
    CARDS.mkdir(exist_ok=True)
    records = [measured_record(network, arguments.runs, train, test) for network in trained()]
    write_manifest(records)
    for file in CHECKPOINTS.glob("*.safetensors"):
        if file.name not in [record["file"] for record in records]:
            file.unlink()
    for network in list_models(pretrained=True):
        metrics = evaluate(load_model(CHECKPOINTS / f"{network}.safetensors"), test)
        write_pictures(network, metrics, test)
    write_pages()


if __name__ == "__main__":
    main()
