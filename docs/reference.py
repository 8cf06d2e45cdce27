"""Writes the API reference: a page per section and a page per public name.

Sphinx calls it before each build. The pages of the networks, which `examples/catalogue.py` writes,
hold the reference of their factories.
"""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn
from typing_extensions import is_typeddict

import mnist_zoo
from mnist_zoo.models.registry import MODELS

DOCS = Path(__file__).parent
TITLES = {  # of the sections, by a part of the package; others are titled by the part's name
    "models": "Networks",
    "blocks": "Blocks",
    "weights": "Weights and conversion",
    "inspection": "Counting and comparing",
    "prediction": "Recognising digits",
    "pictures": "Recognising digits",
    "familiarity": "Recognising digits",
    "committee": "Recognising digits",
    "reading": "Reading numbers",
    "data": "Data",
    "training": "Training",
    "evaluation": "Evaluation",
    "optimization": "Speed",
    "export": "Export",
    "plots": "Plots",
    "hub": "The Hugging Face Hub",
}
MOST_RELATED = 8
ADOPTED = {"extra_repr"}  # torch's methods, of which a class has nothing to say


@dataclass(frozen=True)
class Name:
    """A public name: the module that users import it from, and what it is."""

    face: str
    name: str
    thing: Any

    @property
    def full(self) -> str:
        """The name as users write it."""
        return f"{self.face}.{self.name}"

    @property
    def part(self) -> str:
        """The part of the package whose section describes it."""
        return self.home.split(".")[1]

    @property
    def home(self) -> str:
        """The module in which it is defined."""
        return str(self.thing.__module__)

    @property
    def page(self) -> str:
        """The page that describes it, as Sphinx names it."""
        return f"/models/{self.name}" if self.name in MODELS else f"/reference/{self.full}"

    @property
    def rank(self) -> tuple[int, int, str]:
        """Functions come first, networks in their order; exceptions come last."""
        place = [*MODELS].index(self.name) if self.name in MODELS else -1
        if not inspect.isclass(self.thing):
            return 0, place, self.name
        return 2 if issubclass(self.thing, BaseException) else 1, place, self.name

    @cached_property
    def mentioned(self) -> set[str]:
        """The words of its signature, and those that its docstring has in backticks."""
        text = inspect.getdoc(self.thing) or ""
        found = set(re.findall(r"\w+", " ".join(re.findall(r"`([\w.]+)`", text))))
        if not inspect.isclass(self.thing):
            found |= set(re.findall(r"\w+", str(inspect.signature(self.thing))))
        return found


def public() -> list[Name]:
    """Every public name once, under the shortest module that has it."""
    parts = [f"mnist_zoo.{info.name}" for info in pkgutil.iter_modules(mnist_zoo.__path__)]
    found: dict[int, Name] = {}
    for face in ["mnist_zoo", *(part for part in parts if "._" not in part)]:
        module = importlib.import_module(face)
        members = {k: v for k, v in vars(module).items() if k[0] != "_"}
        for name in getattr(module, "__all__", members):
            if not inspect.ismodule(members[name]):
                found.setdefault(id(members[name]), Name(face, name, members[name]))
    return sorted(found.values(), key=lambda name: name.rank)


# --- A name ------------------------------------------------------------------------------------


def members(kind: type) -> list[str]:
    """The documented members of a class that no base has, but for `torch.nn.Module`."""
    bases = [base for base in kind.__mro__[1:] if base not in (nn.Module, object)]
    return [
        name
        for name, member in vars(kind).items()
        if name[0] != "_"
        and name not in ADOPTED
        and (inspect.isroutine(member) or isinstance(member, (property, cached_property)))
        and getattr(member, "__doc__", None)
        and not any(name in vars(base) for base in bases)
    ]


def directive(name: Name) -> str:
    """What documents a name."""
    lines = [f".. currentmodule:: {name.face}", ""]
    if not inspect.isclass(name.thing):
        return "\n".join([*lines, f".. autofunction:: {name.name}"])
    kind = "exception" if issubclass(name.thing, BaseException) else "class"
    lines.append(f".. auto{kind}:: {name.name}")
    if not is_typeddict(name.thing) and (shown := members(name.thing)):
        lines.append(f"   :members: {', '.join(shown)}")
    return "\n".join(lines)


def summaries(names: Iterable[Name]) -> str:
    """A list of names with the first line of their documentation."""
    lines = []
    for name in names:
        about = (inspect.getdoc(name.thing) or "").partition("\n")[0]
        lines.append(f"* :py:obj:`~{name.full}`: {about}")
    return "\n".join(lines)


def related(name: Name, names: Iterable[Name]) -> list[Name]:
    """The names that its documentation mentions, then those that mention it."""
    others = [other for other in names if other != name and other.name not in MODELS]
    mentioned = [other for other in others if other.name in name.mentioned]
    mention = [other for other in others if name.name in other.mentioned]
    both = [other for other in mentioned if other in mention]
    return [*dict.fromkeys([*both, *mentioned, *mention])][:MOST_RELATED]


def guides(docs: Path) -> dict[Path, set[str]]:
    """The hand-written pages, and the words that each has in code."""
    found = {}
    for path in sorted(docs.glob("*.md")):
        text = path.read_text("utf-8")
        code = re.findall(r"^```py\w+\n(.*?)^```|`([^`\n]+)`", text, re.M | re.S)
        found[path] = {word for pair in code for part in pair for word in re.findall(r"\w+", part)}
    return found


def see_also(name: Name, names: list[Name], pages: dict[Path, set[str]]) -> str:
    """Links to related names, to the guides that use the name, and to examples."""
    parts = []
    if others := related(name, names):
        parts += [".. rubric:: See also", summaries(others)]
    if using := [path.stem for path, words in pages.items() if name.name in words]:
        parts += [".. rubric:: Pages that use it", " · ".join(f":doc:`/{stem}`" for stem in using)]
    parts.append(
        f".. minigallery:: {name.full}\n   :add-heading: Examples that use it\n   :heading-level: -"
    )
    return "\n\n".join(parts)


# --- Pages -------------------------------------------------------------------------------------


def titled(title: str, *parts: str) -> str:
    """A page."""
    return "\n\n".join([f"{title}\n{'=' * len(title)}", *parts]) + "\n"


def toctree(pages: Iterable[str], depth: int = 1) -> str:
    """A hidden list of the pages below."""
    lines = [".. toctree::", "   :hidden:", f"   :maxdepth: {depth}", ""]
    return "\n".join([*lines, *(f"   {page}" for page in pages)])


def section(title: str, names: list[Name]) -> str:
    """The page of a section: its names by the module that defines them, each with its summary."""
    parts = []
    for home in dict.fromkeys(name.home for name in names):
        about = inspect.getdoc(importlib.import_module(home)) or ""
        parts.append(about.partition("\n")[0])
        parts.append(summaries(name for name in names if name.home == home))
    return titled(title, *parts, toctree(n.page for n in names if n.name not in MODELS))


def slug(title: str) -> str:
    """The file name of a section."""
    return re.sub(r"\W+", "_", title.lower())


def pages(docs: Path = DOCS) -> dict[str, str]:
    """The text of every page by its name."""
    names, using = public(), guides(docs)
    sections: dict[str, list[Name]] = {title: [] for title in TITLES.values()}
    for name in names:
        sections.setdefault(TITLES.get(name.part, name.part), []).append(name)
    filled = {title: found for title, found in sections.items() if found}
    texts = {slug(title): section(title, found) for title, found in filled.items()}
    for name in names:
        if name.name not in MODELS:
            texts[name.full] = titled(name.name, directive(name), see_also(name, names, using))
    listed = "\n\n".join(
        f":doc:`{title} <{slug(title)}>`\n   "
        + ", ".join(f":py:obj:`~{name.full}`" for name in found if name.name not in MODELS)
        for title, found in filled.items()
    )
    texts["index"] = titled("API reference", INTRODUCTION, listed, toctree(map(slug, filled)))
    return texts


INTRODUCTION = """\
Every public name with its signature, an example that runs, and where it is used. Import a name from
the module under which its page lists it: most from ``mnist_zoo`` itself, others from one of its
parts, such as ``mnist_zoo.plots``. The page of each :doc:`network </models/index>` describes the
function that makes it."""


def write(folder: Path) -> None:
    """Writes the pages that changed, and removes those of names that are gone."""
    folder.mkdir(exist_ok=True)
    wanted = {folder / f"{name}.rst": text for name, text in pages().items()}
    for path in {*folder.iterdir()} - {*wanted}:
        path.unlink()
    for path, text in wanted.items():
        if not path.exists() or path.read_text("utf-8") != text:  # Sphinx reads what is newer
            path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(DOCS / "reference")
