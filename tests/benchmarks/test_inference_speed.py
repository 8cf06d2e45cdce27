"""Forward passes: ours against torchvision's and timm's, and every faster way against eager."""

from functools import partial

import pytest
import timm
import torch
import torchvision
from torch import nn

from mnist_zoo import fuse, get_model, load_mnist, optimize
from mnist_zoo.export import export, load_session, quantize

BATCHES = (1, 256)
WAYS = ("fused", "optimized", "compiled", "ONNX Runtime", "int8")


def of_torchvision(name):
    """torchvision's network with one channel and ten classes."""
    model = torchvision.models.get_model(name, num_classes=10)
    model.conv1 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    return model.eval()


def of_timm(name):
    return timm.create_model(name, in_chans=1, num_classes=10).eval()


PEERS = {"torchvision": of_torchvision, "timm": of_timm}


def repeated(model, x, count):
    def run():
        with torch.inference_mode():
            for _ in range(count):
                model(x)

    return run


@pytest.mark.question("forward")
@pytest.mark.parametrize(("size", "batch"), [(28, 1), (28, 16), (64, 16)])
@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
@pytest.mark.parametrize("peer", PEERS)
def test_eager_forward(race, peer, name, size, batch):
    """{peer}'s `{name}`, {size}×{size}, batch {batch}"""
    ours, theirs = get_model(name).eval(), PEERS[peer](name)
    x = torch.randn(batch, 1, size, size)
    run = partial(repeated, x=x, count=1)
    race(run(ours), run(theirs), at_least=0.97, rounds=200 if batch == 1 else 60, warmup=10)


SESSION_BARS = {28: 4.0, 224: 1.3}


@pytest.mark.question("ways")
@pytest.mark.parametrize("size", SESSION_BARS)
def test_session_of_resnet18_against_torchvisions_eager(race, tmp_path, size):
    """torchvision's `resnet18` in eager mode, {size}×{size}, batch 1: a Session of ours"""
    export(get_model("resnet18", image_size=size), tmp_path / "ours.onnx")
    x = torch.randn(1, 1, size, size)
    run = partial(repeated, x=x, count=50 if size == 28 else 3)
    ours, theirs = load_session(tmp_path / "ours.onnx"), of_torchvision("resnet18")
    race(run(ours), run(theirs), at_least=SESSION_BARS[size])


@pytest.mark.question("ways")
def test_session_of_mini_resnet_against_its_own_eager(race, tmp_path):
    """our `mini_resnet` in eager mode, pretrained, 28×28, batch 1: its Session"""
    model = get_model("mini_resnet", weights="mnist").eval()
    export(model, tmp_path / "ours.onnx")
    run = partial(repeated, x=torch.randn(1, 1, 28, 28), count=200)
    race(run(load_session(tmp_path / "ours.onnx")), run(model), at_least=5.0)


@pytest.mark.question("ways")
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["mini_resnet", "resnet18"])
def test_other_ways_against_eager(race, tmp_path, name, way, batch):
    """our `{name}` in eager mode, 28×28, batch {batch}: {way}"""
    model = get_model(name).eval()
    x = torch.randn(batch, 1, 28, 28)
    run = partial(
        repeated, x=x, count=max(1, 256 // batch if name == "mini_resnet" else 32 // batch)
    )
    race(run(made(model, way, batch, tmp_path)), run(model), rounds=9, warmup=3)


def made(model, way, batch, folder):
    """The network by one of the faster ways."""
    if way == "fused":
        return fuse(model)
    if way == "optimized":
        return optimize(model, batch_size=batch).model
    if way == "compiled":
        return torch.compile(fuse(model), options={"freezing": True}, fullgraph=True)
    export(model, folder / "float.onnx")
    if way == "ONNX Runtime":
        return load_session(folder / "float.onnx")
    (digits,) = load_mnist("train", source="sample").split(1000)
    quantize(folder / "float.onnx", folder / "int8.onnx", digits)
    return load_session(folder / "int8.onnx")


@pytest.mark.question("training")
@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_training_step(race, name, peer):
    """{peer}'s `{name}`, a step of SGD, 28×28, batch 64"""
    x, y = torch.randn(64, 1, 28, 28), torch.randint(10, (64,))

    def step_of(model):
        optimizer = torch.optim.SGD(model.train().parameters(), lr=0.01)

        def step():
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()

        return step

    race(step_of(get_model(name)), step_of(PEERS[peer](name)), at_least=0.9, rounds=15)
