"""Type checkers know every option of every factory, and the class of its network."""

import os
import re
import subprocess
import sys
from inspect import signature
from pathlib import Path

import pytest

import mnist_zoo
from mnist_zoo import DenseNet, PreActResNet, ResNet, densenet121, preact_resnet18, resnet18
from mnist_zoo.models import DenseNetOptions, PreActResNetOptions, ResNetOptions

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
