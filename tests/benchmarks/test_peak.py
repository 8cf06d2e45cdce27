"""The share of the machine's peak that networks reach: matrix products, measured in turn."""

import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from mnist_zoo import get_model

SIDE = 2048  # of the square matrices
NETWORKS = {"mini_resnet": (28, 64), "resnet18": (28, 64), "resnet50": (224, 4)}


def inference(model, x):
    model.eval()

    def run():
        with torch.inference_mode():
            model(x)

    return run


def training(model, x):
    optimizer = torch.optim.SGD(model.train().parameters(), lr=0.01, fused=True)
    y = torch.randint(10, (len(x),))

    def run():
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()

    return run


def flops_of(run):
    """What torch itself counts: convolutions and matrix products, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def products():
    """The product of two matrices in two libraries: MKL's is slow on processors of other makers."""
    left, right = torch.randn(SIDE, SIDE), torch.randn(SIDE, SIDE)
    maps = left.view(1, SIDE // 32, 32, SIDE).permute(0, 3, 1, 2)  # channels-last
    kernels = right.view(SIDE, SIDE, 1, 1)
    return lambda: left @ right, lambda: F.conv2d(maps, kernels)


WORK = {"inference": inference, "training": training}


@pytest.mark.question("peak")
@pytest.mark.parametrize("what", WORK)
@pytest.mark.parametrize(
    ("name", "size", "batch"), [(name, *case) for name, case in NETWORKS.items()]
)
def test_share_of_the_peak(report, seconds, name, size, batch, what):
    """`{name}`, {what}, {size}×{size}, batch {batch}"""
    model = get_model(name).to(memory_format=torch.channels_last)
    x = torch.randn(batch, 1, size, size).contiguous(memory_format=torch.channels_last)
    run = WORK[what](model, x)
    shares = []
    with torch.no_grad():
        product = min(products(), key=lambda each: min(seconds(each) for _ in range(5)))
    work = flops_of(run) / (2 * SIDE**3)
    for _ in range(15):
        with torch.no_grad():
            best = seconds(product)
        shares.append(work * best / seconds(run))
    report(shares)
