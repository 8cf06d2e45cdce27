"""The documentation: its code runs and gives what it says, and every public name has its place."""

import ast
import doctest
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("matplotlib", reason="the examples' extra is not installed")
pytest.importorskip("mlxtend", reason="the examples' extra is not installed")
pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")

from conftest import FACES, public_names, slow_if
from example_scripts import load_example

from mnist_zoo import Classifier, get_recipe, list_models, resnet18
from mnist_zoo.data import sources
from mnist_zoo.models.registry import MODELS
from mnist_zoo.weights.conversion import torch as torch_of_conversion

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
WRITTEN = {
    "reproduction.md",
    "our_experiments.md",
    "residual_variants.md",
    "benchmarks.md",
    "changelog.md",
}
LONG = ("export", "researcher", "student", "engineer", "ci", "transfer", "training")  # to run
reference = load_example("reference", DOCS)
PAGES = [page for page in sorted(DOCS.glob("*.md")) if page.name not in WRITTEN]
PAGES += [ROOT / "README.md", DOCS / "models" / "mini_resnet.md", DOCS / "models" / "resnet18.md"]
PYPROJECT = (ROOT / "pyproject.toml").read_text("utf-8")
EXTRAS = set(re.findall(r"^(\w+) = \[", PYPROJECT.partition("optional-dependencies]")[2], re.M))
EXAMPLES = sorted((ROOT / "examples").glob("plot_*.py"))


def blocks(page, language):
    """The code blocks of a page in that language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S)


def with_code(language):
    """The pages with code in that language."""
    return [
        slow_if(page.stem in LONG and language != "sh", page, name=page.stem)
        for page in PAGES
        if blocks(page, language)
    ]


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A folder with nothing but a checkpoint, and few digits for MNIST's."""
    monkeypatch.chdir(tmp_path)
    torch.save(resnet18().state_dict(), "checkpoint.pth")

    sample = sources.LOADERS["sample"]

    def few(split, root):
        return sample(split, root).split(1200 if split == "train" else 200)[0]

    monkeypatch.setitem(sources.LOADERS, "mnist", few)
    monkeypatch.setitem(sources.LOADERS, "sample", few)

    def state_dict(member, **options):
        return resnet18(in_channels=3, num_classes=1000).state_dict()

    torchvision_weights = importlib.import_module("torchvision.models").ResNet18_Weights
    monkeypatch.setattr(torchvision_weights, "get_state_dict", state_dict)
    monkeypatch.setattr(torch_of_conversion.hub, "get_dir", lambda: str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("page", with_code("pycon"))
def test_sessions_print_the_shown_output(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # for the files that they write
    result = doctest.testfile(str(page), module_relative=False, encoding="utf-8")
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.filterwarnings("ignore:.weights. were adapted")
@pytest.mark.parametrize("page", with_code("python"))
def test_code_runs(page, desk):
    names = {"__name__": page.stem}
    for block in blocks(page, "python"):
        exec(compile(block, str(page), "exec"), names)


@pytest.mark.parametrize("page", with_code("sh"))
def test_commands_refer_to_existing_scripts_recipes_and_extras(page):
    for block in blocks(page, "sh"):
        for script in re.findall(r"[\w/]+\.py\b", block):
            assert script == "mine.py" or (ROOT / script).exists()
        for recipe in re.findall(r"train\.py (\w+)", block):
            get_recipe(recipe)
        for named in re.findall(r'pip install "\.\[([\w,]+)\]"', block):
            assert set(named.split(",")) <= EXTRAS


def test_pages_contain_only_code_that_is_tested():
    known = {"pycon", "python", "sh", "text", "json", "bibtex", ""}
    known |= {"{toctree}", "{include}", "{eval-rst}"}
    for page in DOCS.rglob("*.md"):
        if not {"_build", "_examples", "gallery"} & set(page.relative_to(DOCS).parts):
            assert set(re.findall(r"^```(\S*)", page.read_text("utf-8"), re.M)) <= known, page


def test_reference_documents_every_public_name_once():
    """On a page of its own, or on the page of the network that it makes."""
    pages = reference.pages(DOCS)
    texts = {
        **pages,
        **{name: (DOCS / "models" / f"{name}.md").read_text("utf-8") for name in MODELS},
    }
    documented = {}
    for page, text in texts.items():
        for module, name in re.findall(
            r"^\.\. currentmodule:: (\S+)\n\n\.\. auto\w+:: (\w+)$", text, re.M
        ):
            assert documented.setdefault(f"{module}.{name}", page) == page
    expected = {}
    for face in FACES:  # the shortest first: a name that several share is documented there
        home = importlib.import_module(face)
        for name in public_names(home):
            expected.setdefault(getattr(home, name), f"{face}.{name}")
    assert sorted(documented) == sorted(expected.values())
    linked = " ".join(pages.values())
    assert all(f"`~{name}`" in linked for name in documented)


def test_reference_links_related_names():
    names = {name.full: name for name in reference.public()}
    related = [other.name for other in reference.related(names["mnist_zoo.fit"], names.values())]
    assert {"History", "Recipe"} <= {*related}
    assert "reset_classifier" in reference.members(Classifier)
    assert reference.members(type(resnet18())) == []  # all that it has is the base's


def test_every_page_is_in_the_table_of_contents():
    listed = set(re.findall(r"^([\w/]+)$", (DOCS / "index.md").read_text("utf-8"), re.M))
    pages = {page.stem for page in DOCS.glob("*.md")} - {"index"}
    assert pages <= listed
    cards = {page.stem for page in (DOCS / "models").glob("*.md")} - {"index"}
    assert cards == set(list_models())


def test_internal_links_exist():
    for page in [*DOCS.glob("*.md"), *(DOCS / "models").glob("*.md")]:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
            made = link.partition("/")[0] in ("gallery", "_pictures") or "/_pictures/" in link
            assert made or (page.parent / link).exists(), f"{page.name}: {link}"
            if link.startswith("gallery/plot_"):
                assert (ROOT / "examples" / Path(link).with_suffix(".py").name).exists()


# --- the gallery and the notebook -----------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_examples_run_offline(script, tmp_path):
    """The build of the documentation runs them, too."""
    environment = {**os.environ, "MNIST_ZOO_DATA": str(tmp_path), "http_proxy": "http://0.0.0.0:9"}
    command = [sys.executable, str(script)]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    named = re.findall(r'(?:savefig|\.save)\("(\w+\.png)"', script.read_text("utf-8"))
    assert named
    assert all((tmp_path / name).stat().st_size > 500 for name in named)


def test_every_picture_of_an_example_is_described():
    text = "".join(script.read_text("utf-8") for script in EXAMPLES)
    named = re.findall(r'(?:savefig|\.save)\("(\w+)\.png"', text)
    scrapers = (DOCS / "scrapers.py").read_text("utf-8")
    assert {*named} == {*re.findall(r'^    "(\w+)": "', scrapers, re.M)}


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_examples_begin_with_a_title(script):
    title, line = (ast.get_docstring(ast.parse(script.read_text("utf-8"))) or "").split("\n")[:2]
    assert line == "=" * len(title)


@pytest.mark.slow
def test_tour_notebook_runs_and_its_stored_outputs_are_those_of_today(tmp_path):
    """`jupyter execute --inplace examples/tour.ipynb` stores outputs; their kinds are compared."""
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    notebook = nbformat.read(ROOT / "examples" / "tour.ipynb", as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]

    def kinds():
        return [[sorted(output.get("data", {})) for output in cell.outputs] for cell in cells]

    stored = kinds()
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=120, resources=resources).execute()
    assert kinds() == stored
    flat = [kind for cell in stored for output in cell for kind in output]
    assert flat.count("image/png") >= 3
    assert {"text/html", "text/markdown"} & {*flat}
    assert [cell.execution_count for cell in cells] == [*range(1, len(cells) + 1)]
