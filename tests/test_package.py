"""The package as a user meets it: its import, its names, its README, its hub entry."""

import ast
import doctest
import importlib
import inspect
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
from torch import nn

import mnist_zoo
from mnist_zoo import list_models, mini_resnet, summary
from mnist_zoo.models.registry import MODELS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


def test_import_brings_torch_and_nothing_heavy():
    modules = run("import sys, mnist_zoo; print(*sys.modules)").split()
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


def test_import_leaves_the_random_state_and_prints_nothing():
    state = "torch.get_rng_state()"
    assert run(f"import torch; a = {state}; import mnist_zoo; assert a.equal({state})") == ""


def test_every_public_name_exists_and_is_documented():
    for name in public_names(mnist_zoo):
        assert getattr(mnist_zoo, name).__doc__, name
    assert sorted(mnist_zoo.__all__) == sorted(set(mnist_zoo.__all__))


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


def test_package_says_it_is_typed():
    assert (Path(mnist_zoo.__file__).parent / "py.typed").exists()


def test_readme_examples_give_what_they_say():
    result = doctest.testfile(str(ROOT / "README.md"), module_relative=False, encoding="utf-8")
    assert result.attempted > 10
    assert result.failed == 0


def test_readme_tables_are_what_the_library_counts(comparison):
    assert comparison.markdown() in README
    assert f"```text\n{summary(mini_resnet(), quiet=True)}\n```" in README


def test_docstrings_state_what_the_library_counts(comparison):
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


def test_readme_names_every_network():
    named = set(re.findall(r"`(\w+)`", README[README.index("| family |") :]))
    assert set(list_models()) <= named


def test_badges_are_true():
    badges = dict(
        re.findall(r"^!\[(\w+): ([\w .]+)\]\(https://img.shields.io/\S+\)$", README, re.M)
    )
    assert badges.keys() == {"licence", "Python", "types"}
    about = metadata.metadata("mnist-zoo")
    assert badges["licence"] == about["License-Expression"]
    versions = [
        name.rpartition(" ")[2]
        for name in about.get_all("Classifier")
        if re.search(r"Python :: 3\.\d", name)
    ]
    assert badges["Python"] == f"{versions[0]} to {versions[-1]}"
    assert about["Requires-Python"] == f">={versions[0]}"
    assert "strict = true" in (ROOT / "pyproject.toml").read_text()
    for label, message in badges.items():
        assert f"/badge/{label}-{message.replace(' ', '_')}-blue)" in README


def test_citations_are_of_this_version():
    stated = [
        re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.M),
        *re.finditer(r"version = \{(\S+)\}", README),
        *re.finditer(r"version = \{(\S+)\}", (ROOT / "docs" / "references.bib").read_text()),
    ]
    assert [match[1] for match in stated] == 3 * [mnist_zoo.__version__]


def test_every_network_has_its_paper_in_the_table():
    table = README[README.index("| networks | paper |") : README.index("## More")]
    starts = [name.removesuffix("…") for name in re.findall(r"`(\w+…?)`", table)]
    ours = {"mini_convnet"}
    named = {name for name in list_models() if name.startswith(tuple(starts))}
    assert set(list_models()) - named == ours


def compared(row):
    """The cells of a row in the README's comparison: torchvision's to ours."""
    (cells,) = re.findall(rf"^\| {row} \|(.+)\|$", README, re.M)
    return [cell.strip() for cell in cells.split("|")]


def test_the_comparison_counts_our_networks():
    assert compared("classifiers")[-1] == str(len(list_models()))
    assert compared("weights for digits")[-1] == f"{len(list_models(pretrained=True))} networks"


def test_the_comparison_is_true_of_the_others():
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
def test_torch_hub(name):
    model = torch.hub.load(str(ROOT), name, source="local", num_classes=3).eval()
    assert model(torch.zeros(1, 1, 28, 28)).shape == (1, 3)


def test_torch_hub_has_every_network():
    assert set(list_models()) <= set(runpy.run_path(str(ROOT / "hubconf.py")))


def test_quickstart_runs_offline(tmp_path):
    pytest.importorskip("mlxtend", reason="the examples' extra is not installed")
    script = ROOT / "examples" / "quickstart.py"
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "resnet18 against torchvision's: difference 0 there, 0 back" in done.stdout
    assert "a printed 7 is taken for a 7, probability" in done.stdout
    accuracy = re.search(r"accuracy on the other 1,000 digits: ([\d.]+)%", done.stdout)
    assert float(accuracy[1]) > 96
    assert (tmp_path / "digits.png").stat().st_size > 10_000
