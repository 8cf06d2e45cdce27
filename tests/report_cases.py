"""The networks of the five reports, written from the reports alone: nothing here is mnist_zoo's.

Modules have the reports' names, so that a state dict of these is a checkpoint of the report's code.
`conversion_cases.Net` is the network of the fifth report.
"""

import torch
import torch.nn.functional as F
from torch import nn


def conv3(inside, outside, stride=1, bias=False):
    return nn.Conv2d(inside, outside, 3, stride, 1, bias=bias)


def projection(inside, outside, stride):
    return nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside))


# --- ResNet-18 and ResNet-50, and the 34-layer ResNet with dropout -----------------------------


class Basic(nn.Module):
    """Two 3×3 convolutions and the sum."""

    def __init__(self, inside, width, stride):
        super().__init__()
        self.conv1 = conv3(inside, width, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = conv3(width, width)
        self.bn2 = nn.BatchNorm2d(width)
        if stride != 1 or inside != width:
            self.downsample = projection(inside, width, stride)

    def forward(self, x):
        shortcut = self.downsample(x) if hasattr(self, "downsample") else x
        inner = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(shortcut + self.bn2(self.conv2(inner)))


class Narrow(nn.Module):
    """1×1, 3×3 and 1×1 convolutions; separable: the 3×3 one works on each channel alone."""

    def __init__(self, inside, width, stride, separable=False):
        super().__init__()
        outside = 4 * width
        self.conv1 = nn.Conv2d(inside, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        groups = width if separable else 1
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outside, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outside)
        self.relu = nn.ReLU(inplace=True)
        if stride != 1 or inside != outside:
            self.downsample = projection(inside, outside, stride)

    def forward(self, x):
        shortcut = self.downsample(x) if hasattr(self, "downsample") else x
        inner = torch.relu(self.bn1(self.conv1(x)))
        inner = torch.relu(self.bn2(self.conv2(inner)))
        return torch.relu(shortcut + self.bn3(self.conv3(inner)))


def group(block, inside, width, depth, stride, outside=None, norms=False):
    """Blocks of one width; with norms, one follows every block but the first."""
    outside = outside or width
    layers = [block(inside, width, stride)]
    for _ in range(depth - 1):
        layers += [block(outside, width, 1)] + [nn.BatchNorm2d(outside)] * norms
    return nn.Sequential(*layers)


class Deep(nn.Module):
    """ResNet-18 or ResNet-50; its last pool needs 7×7 pixels, so an image of 224."""

    def __init__(self, block, depths, widening):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inside = 64
        for number, depth in enumerate(depths, 1):
            width = 32 * 2**number
            outside, stride = widening * width, 1 if number == 1 else 2
            layer = group(block, inside, width, depth, stride, outside)
            setattr(self, f"layer{number}", layer)
            inside = outside
        self.avgpool = nn.AvgPool2d(7, stride=1)
        self.fc = nn.Linear(inside, 10)

    def forward(self, x):
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))


class CNN(nn.Module):
    """The 34-layer ResNet: ReLU in the blocks, LeakyReLU in the stem."""

    def __init__(self, norms=False):
        super().__init__()
        self.conv1 = conv3(1, 64)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.LeakyReLU(0.01, inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = group(Basic, 64, 64, 3, 1, norms=norms)
        self.layer2 = group(Basic, 64, 128, 4, 2, norms=norms)
        self.layer3 = group(Basic, 128, 256, 6, 2, norms=norms)
        self.layer4 = group(Basic, 256, 512, 3, 2, norms=norms)
        self.global_avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.3)
        self.fc = nn.Linear(512, 10)

    def forward(self, x):
        x = self.maxpool(F.leaky_relu(self.bn1(self.conv1(x)), 0.01))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.dropout(x.mean((2, 3))))


# --- LeNet with one residual module ---------------------------------------------------------


class Module(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1 = conv3(channels, channels)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = conv3(channels, channels)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()

    def forward(self, x):
        inner = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(inner + self.shortcut(x))


class Le(nn.Module):
    """Network 1 (`place` is "conv") and network 2 ("fc"); None for the baseline."""

    def __init__(self, place=None):
        super().__init__()
        self.place = place
        self.conv1 = nn.Conv2d(1, 6, 5)
        self.pool = nn.MaxPool2d(2, 2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        if place == "conv":
            self.resnet_block = Module(16)
        self.fc1 = nn.Linear(256, 120)
        if place == "fc":
            self.resnet_block = Module(120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x):
        x = self.pool(torch.relu(self.conv1(x)))
        x = self.pool(torch.relu(self.conv2(x)))
        if self.place == "conv":
            x = self.resnet_block(x)
        x = torch.relu(self.fc1(x.reshape(len(x), 256)))
        if self.place == "fc":
            x = self.resnet_block(x.reshape(len(x), 120, 1, 1)).reshape(len(x), 120)
        return self.fc3(torch.relu(self.fc2(x)))


# --- A simple GoogLeNet and a simple ResNet -------------------------------------------------


class Inception(nn.Module):
    def __init__(self, inside):
        super().__init__()
        self.branch_pool = nn.Conv2d(inside, 24, 1)
        self.branch1x1 = nn.Conv2d(inside, 16, 1)
        self.branch5x5_1 = nn.Conv2d(inside, 16, 1)
        self.branch5x5_2 = nn.Conv2d(16, 24, 5, padding=2)
        self.branch3x3_1 = nn.Conv2d(inside, 16, 1)
        self.branch3x3_2 = conv3(16, 24, bias=True)
        self.branch3x3_3 = conv3(24, 24, bias=True)

    def forward(self, x):
        five = self.branch5x5_2(self.branch5x5_1(x))
        three = self.branch3x3_3(self.branch3x3_2(self.branch3x3_1(x)))
        pooled = self.branch_pool(F.avg_pool2d(x, 3, 1, 1))  # the border's zeros count
        return torch.cat([self.branch1x1(x), five, three, pooled], 1)


class Google(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 10, 5)
        self.conv2 = nn.Conv2d(88, 20, 5)
        self.incep1, self.incep2 = Inception(10), Inception(20)
        self.mp = nn.MaxPool2d(2)
        self.fc = nn.Linear(1408, 10)

    def forward(self, x):
        x = self.incep1(torch.relu(self.mp(self.conv1(x))))
        x = self.incep2(torch.relu(self.mp(self.conv2(x))))
        return self.fc(x.reshape(len(x), 1408))


class Simple(nn.Module):
    """Two convolutions with bias and a sum, without norms."""

    def __init__(self, channels):
        super().__init__()
        self.conv1 = conv3(channels, channels, bias=True)
        self.conv2 = conv3(channels, channels, bias=True)

    def forward(self, x):
        return torch.relu(x + self.conv2(torch.relu(self.conv1(x))))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 5)
        self.conv2 = nn.Conv2d(16, 32, 5)
        self.rblock1, self.rblock2 = Simple(16), Simple(32)
        self.mp = nn.MaxPool2d(2)
        self.fc = nn.Linear(512, 10)

    def forward(self, x):
        x = self.rblock1(self.mp(torch.relu(self.conv1(x))))
        x = self.rblock2(self.mp(torch.relu(self.conv2(x))))
        return self.fc(x.reshape(len(x), 512))
