"""The reports' own training loop, in a process of its own: ours changes how malloc keeps memory.

``python reports_loop.py mini_resnet 9600`` trains an epoch for every line that it reads, and
answers each with a line.
"""

import os
import subprocess
import sys
from contextlib import contextmanager

import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, transforms

from mnist_zoo import MiniGoogLeNet, MiniResNet


class ReportsResNet(MiniResNet):
    """The network as its report writes it, with ReLU before pooling."""

    def forward_features(self, x):
        x = self.rblock1(self.mp(F.relu(self.conv1(x))))
        return self.rblock2(self.mp(F.relu(self.conv2(x))))


NETWORKS = {"mini_resnet": ReportsResNet, "mini_googlenet": MiniGoogLeNet}


def reports_loop(name, count):
    """One epoch as the reports write it: ToTensor and Normalize a picture, batches of 64."""
    to_input = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize((0.1370,), (0.3081,))]
    )
    full = datasets.MNIST(os.environ["MNIST_ZOO_DATA"], train=True, transform=to_input)
    loader = DataLoader(Subset(full, range(count)), batch_size=64, shuffle=True)
    model = NETWORKS[name]().train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.5)

    def run():
        for inputs, target in loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(inputs), target)
            loss.backward()
            optimizer.step()
            loss.item()

    run.model = model
    return run


@contextmanager
def in_a_process(name, count):
    """The same loop in a process of its own, as a function."""
    command = [sys.executable, __file__, name, str(count)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
    with subprocess.Popen(command, **pipes) as process:

        def run():
            process.stdin.write("epoch\n")
            assert process.stdout.readline() == "done\n"

        yield run
        process.stdin.close()


if __name__ == "__main__":
    epoch = reports_loop(sys.argv[1], int(sys.argv[2]))
    for _ in sys.stdin:
        epoch()
        print("done", flush=True)
