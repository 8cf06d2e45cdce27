"""What the tests share: every registered network, and golden files."""

import copy
import inspect
import os
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn

from mnist_zoo import Classifier, compare, get_model, list_models

if "PYTEST_XDIST_WORKER" in os.environ:  # the workers share the cores
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that tests start


def pytest_addoption(parser):
    parser.addoption("--rewrite-golden", action="store_true", help="write tests/golden anew")
    parser.addoption("--screenshots", metavar="FOLDER", help="keep pictures of the page")


# every module and folder that has public names
FACES = ["mnist_zoo"] + [
    f"mnist_zoo.{part}"
    for part in (
        *("blocks", "weights", "models", "inspection", "pictures", "data", "prediction"),
        *("reading", "evaluation", "familiarity", "committee", "training", "optimization"),
        *("export", "plots", "hub"),
    )
]

# Each repeats the blocks of smaller networks of its family: tests that visit every network visit
# these with `-m slow` only. A network that is not listed is tested by default.
DEEPER_VARIANTS = (
    "plain34",
    "resnet34",
    "resnet101",
    "resnet152",
    "resnet_cnn",  # resnet_cnn_norm has all of it, and norms between the blocks
    "preact_resnet18",  # the units of preact_resnet20 behind the stem of preact_resnet50
    "preact_resnet34",
    "preact_resnet110",
    "preact_resnet164",
    "digitnet_2k",  # the repeated layers of digitnet_1k
    "digitnet_6k",
    "digitnet_50k",  # the layers of digitnet_20k
    "digitnet_150k",
    "digitnet_400k",
    "densenet121",  # the layers of mini_densenet behind the stem of resnet18
    "densenet161",
    "densenet169",
    "densenet201",
    "densenet_bc100_12",
)


def slow_if(is_slow, *values, name=None):
    """A parameter, or several, whose tests run only with ``-m slow`` if they are slow."""
    return pytest.param(*values, marks=[pytest.mark.slow] if is_slow else [], id=name)


def each_network(others=()):
    """Every network as a parameter; the deeper variants are slow, and others that are named."""
    return [slow_if(name in (*DEEPER_VARIANTS, *others), name) for name in list_models()]


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def briefly_timed():
    """`export`, `quantize` and `optimize` time networks for seconds; no test needs the figures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mnist_zoo.inspection.latency.SECONDS", 0.05)
        yield


@cache
def _network(name: str) -> Classifier:
    with torch.random.fork_rng():
        return randomize_norms(get_model(name)).eval()


def made(name: str) -> Classifier:
    """A network in eval mode, with BatchNorm statistics that matter."""
    return copy.deepcopy(_network(name))  # drawing the weights takes three times as long


@pytest.fixture(params=each_network())
def network(request) -> Classifier:
    """Every network of the registry, in eval mode, with BatchNorm statistics that matter."""
    return made(request.param)


@pytest.fixture
def pictures(network) -> torch.Tensor:
    """Three pictures of the network's size."""
    return torch.randn(3, *network.input_size)


@pytest.fixture(scope="session")
def comparison():
    """The cost of every network, counted once."""
    return compare(list_models())


@pytest.fixture
def golden(request):
    """Compares a text with the golden file of that name, or rewrites the file."""

    def check(name: str, text: str) -> None:
        path = Path(__file__).parent / "golden" / f"{name}.txt"
        if request.config.getoption("--rewrite-golden"):
            path.write_text(text + "\n")
        assert text + "\n" == path.read_text()

    return check


def public_names(module):
    """The names that a module offers: its ``__all__``, or all that a folder's face imports."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    return [k for k, v in vars(module).items() if k[0] != "_" and not inspect.ismodule(v)]


def randomize_norms(model):
    """Gives every BatchNorm random statistics and affine parameters, as training would."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model
