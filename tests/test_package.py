"""The package as a user meets it: its import, its names, its README, its hub entry."""

import ast
import doctest
import importlib
import inspect
import os
import re
import runpy
import subprocess
import sys
import textwrap
from importlib import metadata
from pathlib import Path

import pytest
import torch
from conftest import FACES, public_names
from PIL import Image
from torch import nn

import mnist_zoo
from mnist_zoo import list_models, mini_resnet, summary
from mnist_zoo.models.registry import MODELS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
COMPARISON = (ROOT / "docs" / "comparison.md").read_text("utf-8")


@pytest.fixture(scope="module")
def imported():
    """What a fresh import prints, and then the modules that it loads."""
    code = """
import sys, torch
before = torch.get_rng_state()
import mnist_zoo
assert before.equal(torch.get_rng_state())
print(*sys.modules)
"""
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout


def test_import_loads_torch_and_no_other_large_package(imported):
    modules = imported.split()
    heavy = (
        "torchvision",
        "thop",
        "torchsummary",
        "matplotlib",
        "onnx",
        "PIL",
        "safetensors",
        "scipy",
    )
    assert "torch" in modules
    assert not {module.partition(".")[0] for module in modules} & set(heavy)


def test_import_keeps_the_random_state_and_prints_nothing(imported):
    assert imported.count("\n") == 1
    assert imported.startswith("sys ")


def test_every_public_name_is_documented():
    for name in public_names(mnist_zoo):
        assert getattr(mnist_zoo, name).__doc__, name


@pytest.mark.parametrize("face", FACES)
def test_faces_import_public_names_and_do_nothing_else(face):
    module = importlib.import_module(face)
    if not hasattr(module, "__path__"):
        pytest.skip("a file, not a folder")
    docstring, *statements = ast.parse(Path(module.__file__).read_text("utf-8")).body
    assert isinstance(docstring, ast.Expr)
    if face == "mnist_zoo":
        assert ast.unparse(statements.pop()).startswith("__version__ = ")
    for statement in statements:
        assert isinstance(statement, ast.ImportFrom)
        (name,) = statement.names
        assert name.asname == name.name
        assert (
            name.name
            in importlib.import_module("." * statement.level + statement.module, face).__all__
        )


def public_objects():
    """Every class and function that can be imported under a public name, by that name."""
    found = {}
    for face in FACES:
        home = importlib.import_module(face)
        found.update({name: getattr(home, name) for name in public_names(home)})
    return {k: v for k, v in found.items() if inspect.isroutine(v) or inspect.isclass(v)}


def raises(function):
    """Whether a raise stands in its body, which one that dataclass made has not in a file."""
    if inspect.unwrap(function).__code__.co_filename == "<string>":
        return False
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    return any(isinstance(node, ast.Raise) for node in ast.walk(tree))


@pytest.mark.parametrize("name", public_objects())
def test_docstrings_state_shapes_errors_and_sources(name):
    thing = public_objects()[name]
    text = inspect.getdoc(thing)
    if inspect.isclass(thing):
        members = {key: getattr(thing, key) for key in vars(thing)}
        start = [members[key] for key in ("__init__", "__post_init__") if key in members]
        assert "Raises:" in text or not any(map(raises, start))
        methods = {
            key: value
            for key, value in members.items()
            if not key.startswith("_") and inspect.isroutine(value)
        }
    else:
        methods = {name: thing}
    for key, method in methods.items():
        assert inspect.getdoc(method), key
        assert "Raises:" in inspect.getdoc(method) or not raises(method), key
    if inspect.isclass(thing) and issubclass(thing, nn.Module):
        assert "Shape:" in text
        paper = thing.__module__.startswith(("mnist_zoo.blocks", "mnist_zoo.models"))
        assert "Source:" in text or not paper or thing is mnist_zoo.models.Classifier


def test_version_is_the_installed_one_and_in_the_changelog():
    assert metadata.version("mnist-zoo") == mnist_zoo.__version__
    assert f"## [{mnist_zoo.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_package_contains_py_typed():
    assert (Path(mnist_zoo.__file__).parent / "py.typed").exists()


def test_readme_is_short_and_its_session_prints_the_shown_output():
    assert len(README.splitlines()) <= 150
    result = doctest.testfile(str(ROOT / "README.md"), module_relative=False, encoding="utf-8")
    assert result.attempted >= 5
    assert result.failed == 0


def test_links_and_pictures_of_readme_exist():
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert {"docs/accuracy.png", "docs/draw_digit.png"} <= set(links)
    assert all((ROOT / link).is_file() for link in links)


def test_page_of_counts_shows_the_table_of_today():
    page = (ROOT / "docs" / "counts.md").read_text("utf-8")
    assert f"```text\n{summary(mini_resnet(), quiet=True)}\n```" in page


def test_docstrings_state_the_counted_macs_and_parameters(comparison):
    counted = {row.name: row for row in comparison.rows}
    stated = {name: MODELS[name].__doc__ for name in list_models()}
    found = {
        name: re.search(r"([\d,]+) parameters(?:, ([\d,]+) MACs)?", text)
        for name, text in stated.items()
    }
    assert sum(match is not None for match in found.values()) >= 10
    for name, match in found.items():
        if match:
            assert match[1] == f"{counted[name].params:,}"
            assert match[2] in (None, f"{counted[name].macs:,}")


def test_readme_states_what_the_metadata_say():
    about = metadata.metadata("mnist-zoo")
    versions = [
        name.rpartition(" ")[2]
        for name in about.get_all("Classifier")
        if re.search(r"Python :: 3\.\d", name)
    ]
    stated = f"{about['License-Expression']} licence. Python {versions[0]} to {versions[-1]}."
    assert f"{stated} Typed, and checked by `mypy --strict`." in README
    assert about["Requires-Python"] == f">={versions[0]}"
    assert "strict = true" in (ROOT / "pyproject.toml").read_text()


def test_citations_state_this_version():
    stated = [
        re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.M),
        *re.finditer(r"version = \{(\S+)\}", (ROOT / "docs" / "cite.md").read_text()),
        *re.finditer(r"version = \{(\S+)\}", (ROOT / "docs" / "references.bib").read_text()),
    ]
    assert [match[1] for match in stated] == 3 * [mnist_zoo.__version__]


def test_every_network_has_its_paper_in_the_table():
    table = (ROOT / "docs" / "cite.md").read_text().partition("| networks | paper |")[2]
    starts = [name.removesuffix("…") for name in re.findall(r"`(\w+…?)`", table)]
    ours = {"mini_convnet"}
    named = {name for name in list_models() if name.startswith(tuple(starts))}
    assert set(list_models()) - named == ours


def compared(row):
    """The cells of a row in the page of other libraries: torchvision's to ours."""
    (cells,) = re.findall(rf"^\| {row} \|(.+)\|$", COMPARISON, re.M)
    return [cell.strip() for cell in cells.split("|")]


def test_readme_comparison_states_the_number_of_our_networks():
    assert compared("classifiers")[-1] == str(len(list_models()))
    assert compared("weights for digits")[-1] == f"{len(list_models(pretrained=True))} networks"


def test_readme_comparison_is_true_for_the_other_libraries():
    torchvision = pytest.importorskip("torchvision")
    timm = pytest.importorskip("timm", reason="the benchmark extra is not installed")
    models = torchvision.models.list_models(module=torchvision.models)
    assert compared("classifiers")[0] == str(len(models))
    assert len(timm.list_models()) > 1000
    assert compared("weights for digits")[:2] == ["none", "none"]
    assert not timm.list_pretrained("*mnist*")
    weights = [torchvision.models.get_model_weights(name) for name in models]
    assert not [entry for file in weights for entry in file if "mnist" in entry.name.lower()]


@pytest.mark.parametrize("form", [*(ROOT / ".github").glob("ISSUE_TEMPLATE/*.yml")], ids=str)
def test_issue_forms_are_complete(form):
    yaml = pytest.importorskip("yaml")
    read = yaml.safe_load(form.read_text())
    assert {"name", "description", "body"} <= read.keys()
    for part in read["body"]:
        assert part["type"] in ("input", "textarea", "checkboxes")
        assert part["attributes"]["label"]
    names = [part["id"] for part in read["body"]]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", ["mini_resnet", "resnet18"])
def test_torch_hub_loads_a_network(name):
    model = torch.hub.load(str(ROOT), name, source="local", num_classes=3).eval()
    assert model(torch.zeros(1, 1, 28, 28)).shape == (1, 3)


def test_hubconf_lists_every_network():
    assert set(list_models()) <= set(runpy.run_path(str(ROOT / "hubconf.py")))


@pytest.mark.slow  # it trains for long; .ci/run begins with it
def test_quickstart_runs_offline(tmp_path):
    pytest.importorskip("mlxtend", reason="the examples' extra is not installed")
    script = ROOT / "examples" / "quickstart.py"
    environment = {**os.environ, "MNIST_ZOO_DATA": str(tmp_path), "http_proxy": "http://0.0.0.0:9"}
    done = subprocess.run(
        [sys.executable, script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(summary(mini_resnet(), quiet=True)) in done.stdout
    assert "sample_digit.jpg: 7 (" in done.stdout
    assert "27182 81828\n" in done.stdout
    assert "the outputs differ by 0\n" in done.stdout
    accuracy = re.search(r"accuracy on the 1,000 digits: ([\d.]+)%", done.stdout)
    assert float(accuracy[1]) > 96
    assert "open mistakes.png" in done.stdout.splitlines()[-1]
    with Image.open(tmp_path / "mistakes.png") as picture:
        assert min(picture.size) > 200
