"""Networks that several tests of conversion share."""

import torch
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


def twins(name, in_channels=3, num_classes=1000, **options):
    """torchvision's network, and ours with the same weights."""
    theirs = torchvision_model(name, in_channels, num_classes, **options)
    ours = get_model(name, in_channels=in_channels, num_classes=num_classes)
    report = from_torchvision(ours, theirs)
    assert report.copied == tuple(theirs.state_dict())
    return ours, theirs
