"""Trains by a recipe, and goes on where it was stopped.

``python examples/train.py mini_resnet_report`` trains as the report did, in a minute or two.
``python examples/train.py lenet5_report source=sample epochs=3 augmentation.rotation=10`` changes
the recipe, and works offline. ``torchrun --nproc-per-node=2 examples/train.py …`` shares every
batch between two processes. Without a recipe it lists them.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

from mnist_zoo import (
    Recipe,
    evaluate,
    fit,
    get_recipe,
    list_recipes,
    load_data,
    plots,
    save_model,
)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "recipe", nargs="?", help="a recipe's name, or a .json or .toml file of one"
    )
    parser.add_argument("changes", nargs="*", metavar="field=value", help="changes to the recipe")
    parser.add_argument("--out", type=Path, help="output folder; default: runs/<recipe>")
    parser.add_argument("--data", type=Path, help="folder of the data sets")
    parser.add_argument("--checkpoint-every", type=int, metavar="STEPS", help="default: an epoch")
    parser.add_argument("--tensorboard", action="store_true", help="write event files, too")
    return parser.parse_args()


def read_recipe(name: str) -> Recipe:
    """A recipe by its name, or from its file."""
    if name.endswith(".json"):
        return Recipe.from_json(Path(name).read_text(encoding="utf-8"))
    if name.endswith(".toml"):
        return Recipe.from_toml(Path(name).read_text(encoding="utf-8"))
    return get_recipe(name)


def changed(recipe: Recipe, changes: list[str]) -> Recipe:
    """The recipe with ``field=value`` and ``field.part=value`` applied."""
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


def main() -> None:
    """Trains, evaluates, and writes the results."""
    arguments = parse_arguments()
    if arguments.recipe is None:
        print("recipes:", *list_recipes(), sep="\n  ")
        return
    try:
        recipe = changed(read_recipe(arguments.recipe), arguments.changes)
    except (OSError, TypeError, ValueError) as error:
        raise SystemExit(f"{arguments.recipe}: {error}") from error
    out = arguments.out or Path("runs") / Path(arguments.recipe).stem
    train, validation, test = load_data(recipe, arguments.data)
    history = fit(
        recipe,
        train,
        validation or (None if recipe.chooses else test),
        folder=out,
        checkpoint_every=arguments.checkpoint_every,
        tensorboard=out if arguments.tensorboard else None,
    )
    if int(os.environ.get("RANK", "0")) != 0:
        return
    assert history.model is not None
    metrics = evaluate(history.model, test, recipe.preprocessing)
    history.save(out / "history.json")
    save_model(history.model, out / "weights.safetensors")
    plots.curves(history).savefig(out / "curves.png", dpi=150)
    print(f"test set: {metrics}")
    print(f"{history.seconds:.1f} s of training; wrote history, curves and weights to {out}")


if __name__ == "__main__":
    main()
