"""Trains a network by a recipe.

``python examples/train.py mini_resnet_report`` trains with the report's settings, in a minute or
two; if interrupted, rerun the same command to resume.
``python examples/train.py lenet5_report source=sample epochs=3 augmentation.rotation=10`` changes
the recipe, and works offline. ``torchrun --nproc-per-node=2 examples/train.py …`` shares every
batch between two processes. Without a recipe the script lists the recipes.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

from mnist_zoo import (
    CheckpointError,
    Recipe,
    TrainingError,
    ensemble,
    evaluate,
    fit,
    get_recipe,
    list_recipes,
    load_data,
    load_model,
    plots,
    save_model,
)


def parse_arguments() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", nargs="?", help="name of a recipe, or a .json file with one")
    parser.add_argument("changes", nargs="*", metavar="field=value", help="changes to the recipe")
    parser.add_argument("--out", type=Path, help="output folder; default: runs/<recipe>")
    parser.add_argument(
        "--data",
        type=Path,
        help="folder of the data sets, also for downloads, as load_mnist's root",
    )
    parser.add_argument(
        "--teacher", type=Path, nargs="+", help="files of networks that teach, as an ensemble"
    )
    parser.add_argument("--checkpoint-every", type=int, metavar="STEPS", help="default: an epoch")
    parser.add_argument("--tensorboard", action="store_true", help="also write event files")
    return parser.parse_args()


def read_recipe(name: str) -> Recipe:
    """Returns the recipe of that name, or the one in that file."""
    if name.endswith(".json"):
        return Recipe.from_json(Path(name).read_text(encoding="utf-8"))
    return get_recipe(name)


def changed(recipe: Recipe, changes: list[str]) -> Recipe:
    """Returns the recipe with ``field=value`` and ``field.part=value`` applied."""
    values = recipe.to_dict()
    for change in changes:
        field, equals, text = change.partition("=")
        if not equals:
            raise SystemExit(f"{change!r} must have the form field=value")
        try:
            value: Any = json.loads(text)
        except json.JSONDecodeError:
            value = text
        target = values
        *parents, last = field.split(".")
        for parent in parents:
            target = target.setdefault(parent, {})
            if not isinstance(target, dict):
                raise SystemExit(f"{change!r}: {parent!r} has no parts")
        target[last] = value
    return Recipe.from_dict(values)


def one_line(error: Exception) -> str:
    """Returns the message of an error on one line."""
    return " ".join(str(error).split())


def main() -> None:
    """Trains, evaluates and writes the results."""
    arguments = parse_arguments()
    if arguments.recipe is None:
        print(list_recipes())
        return
    if arguments.data:
        os.environ["MNIST_ZOO_DATA"] = str(arguments.data)
    out = arguments.out or Path("runs") / Path(arguments.recipe).stem
    try:
        recipe = changed(read_recipe(arguments.recipe), arguments.changes)
        _, _, test = load_data(recipe, arguments.data)
        teachers = [load_model(path) for path in arguments.teacher or ()]
        history = fit(
            recipe,
            teacher=ensemble(teachers) if teachers else None,
            folder=out,
            checkpoint_every=arguments.checkpoint_every,
            tensorboard=out if arguments.tensorboard else None,
        )
    except CheckpointError as error:
        raise SystemExit(f"{one_line(error)}; choose another folder by --out") from error
    except (OSError, TypeError, ValueError, ModuleNotFoundError, TrainingError) as error:
        raise SystemExit(f"{arguments.recipe}: {one_line(error)}") from error
    if int(os.environ.get("RANK", "0")) != 0:
        return
    metrics = evaluate(history.model, test, recipe.preprocessing)
    history.save(out / "history.json")
    save_model(history.model, out / "weights.safetensors")
    plots.curves(history).savefig(out / "curves.png", dpi=150)
    print(f"test set: {metrics}")
    print(f"{history.seconds:.1f} s of training; history, curves and weights are in {out}")


if __name__ == "__main__":
    main()
