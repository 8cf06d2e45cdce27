"""What is derived from `MODELS` and each file's ``__all__``; `catalogue.py` writes it.

The package's faces (``__init__.py``), the names that editors complete, and our numbers in
``docs/comparison.md``.
"""

import importlib
import json
import re
from pathlib import Path
from typing import Any

from typing_extensions import is_typeddict

from mnist_zoo import list_models, list_recipes
from mnist_zoo.models.registry import MODELS

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "mnist_zoo"
TOP, MODELS_FACE = PACKAGE / "__init__.py", PACKAGE / "models" / "__init__.py"
COMPARISON, PACKAGES = ROOT / "docs" / "comparison.md", ROOT / "docs" / "digit_packages.json"
COMMON = ("weights", "in_channels", "num_classes", "image_size")  # options of every factory
IMPORT = r"from \.\S+ import \w+ as \w+\n"


# --- Faces -----------------------------------------------------------------------------------


def natural(text: str) -> list[str | int]:
    """A key that sorts ``resnet50`` before ``resnet101``, as ruff does."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", text.lower())]


def with_imports(text: str, home: dict[str, str]) -> str:
    """The text of a face, importing each of these names from its module, in ruff's order."""
    head, *_, tail = re.split(IMPORT, text)
    order = sorted(home, key=lambda k: (natural(home[k]), not k[0].isupper(), natural(k)))
    return head + "".join(f"from .{home[name]} import {name} as {name}\n" for name in order) + tail


def top_level(text: str) -> str:
    """The text of the package's face: the names that it has, and every network."""
    home = {name: module for module, name in re.findall(r"from \.(\S+) import (\w+)", text)}
    networks = {name: make.__module__.partition(".")[2] for name, make in MODELS.items()}
    return with_imports(text, home | networks)


def of_folder(folder: Path, text: str) -> str:
    """The text of a folder's face: the public names of all its files."""
    home = {}
    for file in folder.glob("[!_]*.py"):
        module = importlib.import_module(f"mnist_zoo.{folder.name}.{file.stem}")
        home.update(dict.fromkeys(getattr(module, "__all__", ()), file.stem))
    return with_imports(text, home)


# --- Pages ------------------------------------------------------------------------------------


def families() -> dict[str, list[str]]:
    """The networks of each file, in the registry's order; the families by their last network."""
    found: dict[str, list[str]] = {}
    for name, factory in MODELS.items():
        family = factory.__module__.rpartition(".")[2]
        found[family] = [*found.pop(family, []), name]
    return found


def module_of(family: str) -> Any:
    """The module of a family."""
    return importlib.import_module(f"mnist_zoo.models.{family}")


def table_of_families() -> str:
    """Each family's networks and options."""
    lines = ["| family | networks | options |", "|---|---|---|"]
    for family, networks in families().items():
        module = module_of(family)
        public = [getattr(module, name) for name in module.__all__]
        known = [name for thing in public if is_typeddict(thing) for name in thing.__annotations__]
        options = ", ".join(f"`{name}`" for name in known if name not in COMMON)
        about = (module.__doc__ or "").partition("\n")[0].rstrip(".")
        lines.append(f"| {about} | {', '.join(f'`{name}`' for name in networks)} | {options} |")
    return "\n".join(lines)


def packages() -> str:
    """How many digits each package recognises, as its benchmark stored."""
    found = json.loads(PACKAGES.read_text("utf-8"))
    counts, columns = found["images"], ("parameters", "mnist", "photos")
    head = ["package", "parameters", f"of {counts['mnist']:,} test digits"]
    head.append(f"of {counts['photos']:,} drawn photos")
    rows = [
        [f"{row['package']} {row['version']}", *(f"{row[name]:,}" for name in columns)]
        for row in found["packages"]
    ]
    lines = [head, ["---", "---:", "---:", "---:"], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def comparison(text: str) -> str:
    """The page of other libraries with our numbers of networks, and of those with weights."""
    text = re.sub(r"(?m)^(\| classifiers \|.* )\d+ \|$", rf"\g<1>{len(MODELS)} |", text)
    trained = len(list_models(pretrained=True))
    text = re.sub(r"(?s)(<!-- packages .*?-->\n\n).*?(\n\n<!--)", rf"\g<1>{packages()}\2", text)
    return re.sub(
        r"(?m)^(\| weights for digits \|.* )\d+ networks \|$", rf"\g<1>{trained} networks |", text
    )


def literal(path: Path, name: str, values: list[str]) -> tuple[Path, str]:
    """A file with the names that editors complete, and its text."""
    about = "networks" if name == "NetworkName" else "recipes"
    lines = "".join(f'    "{value}",\n' for value in values)
    return path, (
        f'"""The names of the {about}, for editors and type checkers; written by '
        'examples/catalogue.py."""\n\nfrom typing import Literal, TypeAlias\n\n'
        f"{name}: TypeAlias = Literal[\n{lines}]\n"
    )


def written() -> dict[Path, str]:
    """Every file that this module derives, and the text that it should have."""
    texts = {TOP: top_level(TOP.read_text("utf-8"))}
    for face in sorted(PACKAGE.glob("*/__init__.py")):
        texts[face] = of_folder(face.parent, face.read_text("utf-8"))
    texts |= [
        literal(PACKAGE / "models" / "names.py", "NetworkName", [*MODELS]),
        literal(PACKAGE / "training" / "names.py", "RecipeName", list_recipes()),
    ]
    texts[COMPARISON] = comparison(COMPARISON.read_text("utf-8"))
    return texts
