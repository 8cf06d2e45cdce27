"""Networks that several tests of conversion share."""

import torch
import torch.nn.functional as F
import torchvision
from conftest import randomize_norms
from torch import nn

from mnist_zoo import from_torchvision, get_model

RESNETS = ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]

DENSENETS = ["densenet121", "densenet161", "densenet169", "densenet201"]

FAMILY = [*RESNETS, *DENSENETS]

SMALLEST = ("resnet18", "resnet50", "densenet121")  # of basic blocks, bottlenecks, dense blocks


def stem_of(name):
    return "conv1" if name in RESNETS else "features.conv0"


def torchvision_model(name, in_channels=3, num_classes=1000, **options):
    """torchvision's network, with a stem and head of the given size."""
    model = torchvision.models.get_model(name, num_classes=num_classes, **options)
    if in_channels != 3:
        channels = model.get_submodule(stem_of(name)).out_channels
        stem = nn.Conv2d(in_channels, channels, 7, stride=2, padding=3, bias=False)
        model.set_submodule(stem_of(name), stem)
    return randomize_norms(model)


def same_state(a, b):
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


class NetUnit(nn.Module):
    """The residual unit of the report on residual connections, with its sum."""

    def __init__(self, inside, outside, stride, bias, use_residual):
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=bias)
        self.bn1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=bias)
        self.bn2 = nn.BatchNorm2d(outside)
        self.use_residual = use_residual
        if stride != 1 or inside != outside:
            self.shortcut = nn.Conv2d(inside, outside, 1, stride, bias=bias)
            self.bn3 = nn.BatchNorm2d(outside)

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.use_residual:
            y = y + (self.bn3(self.shortcut(x)) if hasattr(self, "shortcut") else x)
        return F.relu(y)


class Net(nn.Module):
    """That report's ResNet-18; the names in its checkpoints begin with ``net.``.

    The report's code has a bias in its stem alone, its table in every convolution.
    """

    def __init__(
        self, in_channels=3, num_classes=10, bias=False, use_residual=True, stem_bias=None
    ):
        super().__init__()
        stem_bias = bias if stem_bias is None else stem_bias
        stem = nn.Sequential(
            nn.Conv2d(in_channels, 64, 7, 2, 3, bias=stem_bias),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
        )
        groups = [
            nn.Sequential(
                NetUnit(inside, outside, 1 if inside == outside else 2, bias, use_residual),
                NetUnit(outside, outside, 1, bias, use_residual),
            )
            for inside, outside in [(64, 64), (64, 128), (128, 256), (256, 512)]
        ]
        head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, num_classes))
        self.net = nn.Sequential(stem, *groups, *head)

    def forward(self, x):
        return self.net(x)


def twins(name, in_channels=3, num_classes=1000, **options):
    """torchvision's network, and ours with the same weights."""
    theirs = torchvision_model(name, in_channels, num_classes, **options)
    ours = get_model(name, in_channels=in_channels, num_classes=num_classes)
    report = from_torchvision(ours, theirs)
    assert report.copied == tuple(theirs.state_dict())
    return ours, theirs
