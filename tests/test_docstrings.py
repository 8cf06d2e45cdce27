"""Every public name has an example in its docstring, and the examples give the output they show."""

import doctest
import importlib
import inspect
import pkgutil

import pytest
import torch
from conftest import FACES, public_names

import mnist_zoo

MODULES = sorted(info.name for info in pkgutil.walk_packages(mnist_zoo.__path__, "mnist_zoo."))
# the optional packages that examples need, by the beginning of the module's name
NEEDED = {
    "mnist_zoo.data": ["mlxtend"],
    "mnist_zoo.prediction": ["mlxtend"],
    "mnist_zoo.evaluation": ["mlxtend"],
    "mnist_zoo.training": ["mlxtend"],
    "mnist_zoo.optimization": ["mlxtend"],
    "mnist_zoo.plots": ["matplotlib", "mlxtend"],
    "mnist_zoo.export": ["onnx", "onnxruntime", "onnxscript", "mlxtend"],
    "mnist_zoo.hub": ["huggingface_hub"],
}


def import_or_skip(module):
    """Imports a module, or skips the test if a package that its examples need is missing."""
    for start, packages in NEEDED.items():
        if f"{module}.".startswith(f"{start}."):
            for package in packages:
                pytest.importorskip(package, reason=f"{package} is not installed")
    return importlib.import_module(module)


@pytest.mark.parametrize("module", MODULES)
def test_examples_in_docstrings_give_the_output_they_show(module, tmp_path, monkeypatch):
    home = import_or_skip(module)
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    result = doctest.testmod(home, optionflags=flags)
    assert result.failed == 0


@pytest.mark.parametrize("face", FACES)
def test_every_public_function_and_class_has_an_example(face):
    home = import_or_skip(face)
    public = {name: getattr(home, name) for name in public_names(home)}
    without = [
        name
        for name, thing in public.items()
        if (inspect.isroutine(thing) or inspect.isclass(thing))
        and ">>>" not in (inspect.getdoc(thing) or "")
    ]
    assert not without
