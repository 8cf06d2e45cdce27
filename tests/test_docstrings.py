"""The examples in docstrings give what they say, and every public name has one."""

import doctest
import importlib
import inspect
import pkgutil

import pytest
import torch
from conftest import FACES, public_names

import mnist_zoo

MODULES = sorted(info.name for info in pkgutil.walk_packages(mnist_zoo.__path__, "mnist_zoo."))


@pytest.mark.parametrize("module", MODULES)
def test_examples_in_docstrings_give_what_they_say(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    result = doctest.testmod(importlib.import_module(module), optionflags=flags)
    assert result.failed == 0


@pytest.mark.parametrize("face", FACES)
def test_every_public_function_and_class_has_an_example(face):
    home = importlib.import_module(face)
    public = {name: getattr(home, name) for name in public_names(home)}
    without = [
        name
        for name, thing in public.items()
        if (inspect.isroutine(thing) or inspect.isclass(thing))
        and ">>>" not in (inspect.getdoc(thing) or "")
    ]
    assert not without
