"""Importing, building, loading and summing up, against torch, torchvision and torchsummary.

``pytest tests/benchmarks`` on an idle machine; not part of the tests.
"""

import compileall
import contextlib
import copy
import io
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import thop
import torch
import torchinfo
import torchsummary
import torchvision
from fvcore.nn import FlopCountAnalysis

import mnist_zoo
from mnist_zoo import compare, get_model, list_models, profile, resnet50, resnet152, summary

IMPORTS = """
from time import perf_counter as now
start = now(); import torch; middle = now(); import mnist_zoo; end = now()
print((middle - start) / (end - start))
"""


@pytest.mark.question("build")
def test_import_adds_less_than_five_percent(report):
    """importing torch alone: importing it and mnist_zoo"""
    # pip compiles what it installs, torch too; an editable install may be left as source
    assert compileall.compile_dir(Path(mnist_zoo.__file__).parent, quiet=1)
    shares = []
    for _ in range(15):
        command = [sys.executable, "-c", IMPORTS]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        shares.append(float(done.stdout))
    report(shares, at_least=1 / 1.05)


TWINS = {
    "resnet18": "resnet18",
    "resnet50": "resnet50",
    "resnet152": "resnet152",
    "resnet_cnn_norm": "resnet34",
    "resnet50_separable": "resnet50",
    "mini_googlenet": "googlenet",
}


@pytest.mark.question("build")
@pytest.mark.parametrize(("name", "twin"), TWINS.items())
def test_build(race, name, twin):
    """torchvision's `{twin}`, built: our `{name}`"""
    peer = partial(torchvision.models.get_model, twin)
    race(lambda: get_model(name, in_channels=3, num_classes=1000), peer, at_least=1.0)


@pytest.mark.question("build")
def test_load_resnet50(race, tmp_path):
    """torchvision's `resnet50`, loaded from a file"""
    file = tmp_path / "resnet50.pth"
    torch.save(torchvision.models.resnet50().state_dict(), file)

    def theirs():
        model = torchvision.models.resnet50()
        model.load_state_dict(torch.load(file, weights_only=True))
        return model

    race(lambda: resnet50(weights=file, in_channels=3, num_classes=1000), theirs, at_least=3.0)


@pytest.mark.question("build")
def test_load_resnet50_from_memory(race):
    """torchvision's `resnet50`, loaded from a state dict"""
    state = torchvision.models.resnet50().state_dict()

    def theirs():
        model = torchvision.models.resnet50()
        model.load_state_dict(state)
        return model

    race(lambda: resnet50(weights=state, in_channels=3, num_classes=1000), theirs, at_least=3.0)


@pytest.mark.question("count")
def test_summary_of_a_large_picture(race):
    """torchsummary on `resnet152`, 1024×1024"""
    model, size = resnet152(in_channels=3), (3, 1024, 1024)

    def theirs():
        with contextlib.redirect_stdout(io.StringIO()):
            torchsummary.summary(model, size, device="cpu")

    ours = lambda: str(summary(model, size, quiet=True))  # noqa: E731
    race(ours, theirs, at_least=20.0, rounds=9, warmup=0)


@pytest.mark.question("count")
@pytest.mark.parametrize("size", [28, 224])
@pytest.mark.parametrize("name", ["resnet50", "resnet152"])
def test_summary_against_torchinfo(race, name, size):
    """torchinfo on `{name}`, {size}×{size}"""
    model = get_model(name)
    theirs = lambda: str(torchinfo.summary(model, (1, 1, size, size), verbose=0))  # noqa: E731
    race(lambda: str(summary(model, (1, size, size), quiet=True)), theirs, at_least=1.0)


PROFILE_BARS = {("thop", 28): 1 / 2, ("thop", 224): 1 / 1.2, ("fvcore", 28): 0, ("fvcore", 224): 0}


@pytest.mark.question("count")
@pytest.mark.parametrize(("peer", "size"), PROFILE_BARS)
def test_profile_of_resnet50(race, peer, size):
    """{peer} on `resnet50`, {size}×{size}: `profile`"""
    model, x = resnet50().eval(), torch.randn(1, 1, size, size)
    copies = [copy.deepcopy(model) for _ in range(16)]  # thop leaves its buffers in them
    theirs = {
        "thop": lambda: thop.profile(copies.pop(), (x,), verbose=False),
        "fvcore": lambda: FlopCountAnalysis(model, x).unsupported_ops_warnings(False).total(),
    }
    ours = lambda: profile(model, (1, size, size))  # noqa: E731
    race(ours, theirs[peer], at_least=PROFILE_BARS[peer, size])


@pytest.mark.question("count")
def test_all_networks_are_compared_in_three_seconds(report, seconds):
    """three seconds: `compare` of all networks"""
    compare(["lenet5"])
    report([3 / seconds(lambda: compare(list_models())) for _ in range(9)], at_least=1.0)
