"""The networks of the five reports, written anew from the reports alone, against the zoo's.

Nothing here uses the zoo's blocks. Each network has the parameter names of its report.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import mnist_zoo


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    padding = kernel // 2
    return nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)


def projection(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    if stride == 1 and inputs == outputs:
        return nn.Sequential()
    return nn.Sequential(conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))


# --- S0 and S3: ResNets with torchvision's names --------------------------------------------


class Basic(nn.Module):
    """Two 3×3 convolutions; the stride is the first one's."""

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = conv(inputs, width, 3, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width, width, 3), nn.BatchNorm2d(width)
        self.downsample = projection(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        branch = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(branch)) + self.downsample(x))


class Bottleneck(nn.Module):
    """Convolutions of 1×1, 3×3 and 1×1, the last four times as wide; the stride is the 3×3 one's.

    `groups` as many as channels make the last two a depthwise-separable convolution.
    """

    def __init__(self, inputs: int, width: int, stride: int, *, depthwise: bool = False):
        super().__init__()
        groups = width if depthwise else 1
        self.conv1, self.bn1 = conv(inputs, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width, width, 3, stride, groups), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = conv(width, 4 * width, 1), nn.BatchNorm2d(4 * width)
        self.downsample = projection(inputs, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        branch = torch.relu(self.bn1(self.conv1(x)))
        branch = torch.relu(self.bn2(self.conv2(branch)))
        return torch.relu(self.bn3(self.conv3(branch)) + self.downsample(x))


class Separable(Bottleneck):
    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__(inputs, width, stride, depthwise=True)


class ResNet(nn.Module):
    """The report on Bottleneck: a stem of 7×7 and stride 2, and an average pool of 7×7."""

    def __init__(self, block: type[nn.Module], depths: tuple[int, ...], *, kernel: int = 7):
        super().__init__()
        expansion = 1 if block is Basic else 4
        self.conv1, self.bn1 = conv(1, 64, kernel, 2 if kernel == 7 else 1), nn.BatchNorm2d(64)
        inputs = 64
        for stage, depth in enumerate(depths):
            width, blocks = 64 * 2**stage, []
            for place in range(depth):
                blocks.append(block(inputs, width, 2 if stage and not place else 1))
                inputs = expansion * width
            self.add_module(f"layer{stage + 1}", self.stage(blocks, inputs))
        self.fc = nn.Linear(inputs, 10)

    def stage(self, blocks: list[nn.Module], channels: int) -> nn.Sequential:
        return nn.Sequential(*blocks)

    def stem_activation(self, x: Tensor) -> Tensor:
        return torch.relu(x)

    def pooled(self, x: Tensor) -> Tensor:
        return functional.avg_pool2d(x, min(7, x.shape[-1]), 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem_activation(self.bn1(self.conv1(x)))
        x = functional.max_pool2d(x, 3, 2, 1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.pooled(x).flatten(1))


class ResNetCNN(ResNet):
    """The report on ResNet_CNN: a stem of 3×3, stride 1 and LeakyReLU, and dropout."""

    def __init__(self, *, norm: bool = False):
        self.norm = norm
        super().__init__(Basic, (3, 4, 6, 3), kernel=3)

    def stage(self, blocks: list[nn.Module], channels: int) -> nn.Sequential:
        first, *later = blocks
        if self.norm:
            later = [part for block in later for part in (block, nn.BatchNorm2d(channels))]
        return nn.Sequential(first, *later)

    def stem_activation(self, x: Tensor) -> Tensor:
        return functional.leaky_relu(x, 0.01)

    def pooled(self, x: Tensor) -> Tensor:
        return functional.dropout(x.mean((2, 3)), 0.3, self.training)


# --- S1: LeNet with one residual module -----------------------------------------------------


class Module(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv1, self.bn1 = conv(channels, channels, 3), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = conv(channels, channels, 3), nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        branch = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(branch)) + x)


class LeNet(nn.Module):
    """The module on the convolutions' 16 channels, behind the first layer of 120, or nowhere."""

    def __init__(self, channels: int | None = None):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5), nn.Conv2d(6, 16, 5)
        if channels:
            self.resnet_block = Module(channels)
        self.fc1, self.fc2, self.fc3 = nn.Linear(256, 120), nn.Linear(120, 84), nn.Linear(84, 10)
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        for convolution in (self.conv1, self.conv2):
            x = functional.max_pool2d(torch.relu(convolution(x)), 2)
        if self.channels == 16:
            x = self.resnet_block(x)
        x = torch.relu(self.fc1(x.flatten(1)))
        if self.channels == 120:
            x = self.resnet_block(x[:, :, None, None]).flatten(1)
        return self.fc3(torch.relu(self.fc2(x)))


# --- S2: a simple GoogLeNet and a simple ResNet ---------------------------------------------


class Inception(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.branch_pool = nn.Conv2d(channels, 24, 1)
        self.branch1x1 = nn.Conv2d(channels, 16, 1)
        self.branch5x5_1 = nn.Conv2d(channels, 16, 1)
        self.branch5x5_2 = nn.Conv2d(16, 24, 5, padding=2)
        self.branch3x3_1 = nn.Conv2d(channels, 16, 1)
        self.branch3x3_2 = nn.Conv2d(16, 24, 3, padding=1)
        self.branch3x3_3 = nn.Conv2d(24, 24, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        nine = functional.unfold(x, 3, padding=1).unflatten(1, (x.shape[1], 9))
        mean = nine.mean(2).view_as(x)  # zeros around the picture count
        five = self.branch5x5_2(self.branch5x5_1(x))
        three = self.branch3x3_3(self.branch3x3_2(self.branch3x3_1(x)))
        return torch.cat([self.branch1x1(x), five, three, self.branch_pool(mean)], 1)


class GoogLeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 10, 5), nn.Conv2d(88, 20, 5)
        self.incep1, self.incep2 = Inception(10), Inception(20)
        self.fc = nn.Linear(1408, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.incep1(torch.relu(functional.max_pool2d(self.conv1(x), 2)))
        x = self.incep2(torch.relu(functional.max_pool2d(self.conv2(x), 2)))
        return self.fc(x.flatten(1))


class Residual(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.conv2(torch.relu(self.conv1(x))))


class SimpleResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 16, 5), nn.Conv2d(16, 32, 5)
        self.rblock1, self.rblock2 = Residual(16), Residual(32)
        self.fc = nn.Linear(512, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.rblock1(functional.max_pool2d(torch.relu(self.conv1(x)), 2))
        x = self.rblock2(functional.max_pool2d(torch.relu(self.conv2(x)), 2))
        return self.fc(x.flatten(1))


# --- S4: ResNet-18 with and without residual connections ------------------------------------


class Unit(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, *, residual: bool, bias: bool):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=bias)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=bias)
        self.bn1, self.bn2 = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=bias)
            self.bn3 = nn.BatchNorm2d(outputs)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        branch = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        if not self.residual:
            return torch.relu(branch)
        return torch.relu(branch + (self.bn3(self.shortcut(x)) if hasattr(self, "bn3") else x))


class Tutorial(nn.Module):
    """Six modules. `biases`: of "every" convolution, of the "stem"'s alone, or of "none"."""

    def __init__(self, *, residual: bool, biases: str = "none", channels: int = 1):
        super().__init__()
        stem = nn.Conv2d(channels, 64, 7, 2, 3, bias=biases != "none")
        first = nn.Sequential(stem, nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        kind = {"residual": residual, "bias": biases == "every"}
        shapes = ((64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2))
        groups = [
            nn.Sequential(Unit(*shape, **kind), Unit(shape[1], shape[1], 1, **kind))
            for shape in shapes
        ]
        last = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))
        self.net = nn.Sequential(first, *groups, *last)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)
