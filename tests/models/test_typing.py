"""Type checkers know every option of every factory, and the class of its network."""

import doctest
import json
import os
import re
import shutil
import subprocess
import sys
from inspect import signature
from pathlib import Path
from typing import get_args

import pytest

import mnist_zoo
from mnist_zoo import (
    DenseNet,
    PreActResNet,
    ResNet,
    densenet121,
    list_models,
    list_recipes,
    preact_resnet18,
    resnet18,
)
from mnist_zoo.models import DenseNetOptions, PreActResNetOptions, ResNetOptions
from mnist_zoo.models.names import NetworkName
from mnist_zoo.training.names import RecipeName

# Each line with a comment must give the error of that code, or reveal that type; no other line may.
SCRIPT = """
from typing_extensions import Unpack
from mnist_zoo import Bottleneck, densenet121, densenet161, lenet5, lenet5_fc_residual
from mnist_zoo import mini_convnet, mini_googlenet, mini_resnet, preact_resnet18, preact_resnet110
from mnist_zoo import resnet18, resnet34
from mnist_zoo.models import ResNetOptions

reveal_type(resnet18(stem="3x3", weights="imagenet", num_classes=26))  # models.resnet.ResNet
reveal_type(resnet34(weights="mnist", in_channels=3, block=Bottleneck))  # models.resnet.ResNet
reveal_type(densenet121(dropout=0.1))  # models.densenet.DenseNet
reveal_type(densenet161(growth_rate=8, num_classes=26))  # models.densenet.DenseNet
reveal_type(preact_resnet18(stem="3x3"))  # models.preact.PreActResNet
reveal_type(preact_resnet110(order="original", weights=resnet18()))  # models.preact.PreActResNet
reveal_type(lenet5(image_size=32))  # models.lenet.LeNet5
reveal_type(lenet5_fc_residual(weights=None))  # models.lenet.LeNet5
reveal_type(mini_googlenet(weights="mnist"))  # models.mini.MiniGoogLeNet
reveal_type(mini_resnet(weights="model.safetensors"))  # models.mini.MiniResNet
reveal_type(mini_convnet(image_size=32))  # models.mini.MiniConvNet

def mine(**options: Unpack[ResNetOptions]) -> None:
    resnet18(**options)
    resnet34(**options)

resnet18(stm="3x3")  # [call-arg]
resnet34(stm="3x3")  # [call-arg]
densenet161(growth=8)  # [call-arg]
preact_resnet110(dropout=0.5)  # [call-arg]
lenet5_fc_residual(residual="conv")  # [call-arg]
mini_resnet(stem="3x3")  # [call-arg]
resnet18(stem="5x5")  # [arg-type]
resnet34(stem="5x5")  # [arg-type]
resnet34(num_classes="ten")  # [arg-type]
densenet161(growth_rate=1.5)  # [arg-type]
preact_resnet110(order="post")  # [arg-type]
mini_resnet(image_size="28")  # [arg-type]
resnet18("mnist")  # [call-arg]
resnet34("mnist")  # [call-arg]
mini_resnet("mnist")  # [call-arg]
"""

# torch's own types take most of mypy's time and say nothing about options
CONFIG = """
[mypy]
strict = true
disallow_subclassing_any = false
disallow_untyped_decorators = false
warn_unused_ignores = false
[mypy-torch.*,torchvision.*,numpy.*,thop.*,torchsummary.*,scipy.*,tqdm.*,safetensors.*]
follow_imports = skip
ignore_missing_imports = true
[mypy-mnist_zoo.*]
ignore_errors = true
"""


@pytest.mark.slow
def test_mypy_accepts_the_options_of_each_factory_and_no_others(tmp_path):
    pytest.importorskip("mypy")
    (tmp_path / "user.py").write_text(SCRIPT)
    (tmp_path / "mypy.ini").write_text(CONFIG)
    command = [sys.executable, "-m", "mypy", "--show-error-codes", "user.py"]
    paths = {"MYPYPATH": str(Path(mnist_zoo.__file__).parent.parent)}
    found = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, **paths}, capture_output=True, text=True
    )
    messages = re.findall(
        r"^user\.py:(\d+): (?:error: .*?(\[[\w-]+\])|note: Revealed type is \"mnist_zoo\.(.+)\")$",
        found.stdout,
        re.M,
    )
    # the first message of a line counts: mypy may go on to the types of a misplaced argument
    assert {int(line): code or kind for line, code, kind in reversed(messages)} == {
        number: line.rpartition("  # ")[2]
        for number, line in enumerate(SCRIPT.splitlines(), 1)
        if "  # " in line
    }, found.stdout
    others = [line for line in found.stdout.splitlines()[:-1] if not line.startswith("user.py:")]
    assert not others, found.stdout + found.stderr


@pytest.mark.parametrize(
    ("factory", "network", "options"),
    [
        (resnet18, ResNet, ResNetOptions),
        (preact_resnet18, PreActResNet, PreActResNetOptions),
        (densenet121, DenseNet, DenseNetOptions),
    ],
)
def test_options_are_those_of_the_network_and_documented(factory, network, options):
    structure = {"layers", "widths"} | ({"bottleneck"} if network is PreActResNet else set())
    taken = set(signature(network).parameters) - structure
    assert set(options.__annotations__) == {"weights"} | taken
    named = {*signature(factory).parameters, *re.findall(r"`(\w+)`", factory.__doc__)}
    assert set(options.__annotations__) <= named


def test_editors_complete_the_names_of_networks_and_recipes():
    assert [*get_args(NetworkName)] == list_models()
    assert [*get_args(RecipeName)] == list_recipes()


# after README's lines; each line with a comment must reveal that type
LINES = """
import numpy as np
from mnist_zoo import evaluate, fit, get_model, get_recipe, load_mnist, mini_resnet, predict

array, network = np.zeros((64, 80), np.uint8), mini_resnet()
reveal_type(predict(network, array))  # Prediction
reveal_type(predict(network, [array, array]))  # list[Prediction]
reveal_type(predict(network, "photo.png"))  # Prediction
history = fit(get_recipe("mini_resnet_report", source="sample"))
reveal_type(history.model)  # Module
evaluate(history.model, load_mnist("test", source="sample"))
for name in list_models():
    reveal_type(get_model(name))  # Classifier
"""


@pytest.mark.slow
@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_readme_and_a_users_lines_are_typed(tmp_path, checker):
    if not shutil.which(checker, path=Path(sys.executable).parent):
        pytest.skip(f"{checker} is not installed")
    readme = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
    lines = [example.source for example in doctest.DocTestParser().get_examples(readme)]
    script = "".join(lines) + "from mnist_zoo import list_models\n" + LINES
    (tmp_path / "user.py").write_text(script)
    paths = str(Path(mnist_zoo.__file__).parent.parent)
    settings = {"extraPaths": [paths], "typeCheckingMode": "standard"}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    options = ["--strict"] if checker == "mypy" else ["--pythonpath", sys.executable]
    found = subprocess.run(
        [Path(sys.executable).parent / checker, *options, "user.py"],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": paths},
        capture_output=True,
        text=True,
    )
    told = re.findall(r"user\.py:(\d+).*? is \"(?:[\w.]+\.)?([A-Z]\w+|list\[.+\])\"", found.stdout)
    revealed = {int(line): re.sub(r"[\w.]+\.", "", kind) for line, kind in told}
    expected = {
        number: line.rpartition("  # ")[2]
        for number, line in enumerate(script.splitlines(), 1)
        if "reveal_type" in line
    }
    assert revealed == expected, found.stdout + found.stderr
    assert not re.search(r"user\.py:.*\berror\b", found.stdout), found.stdout
