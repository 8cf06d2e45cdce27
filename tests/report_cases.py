"""The networks of the five reports, written from the reports alone: nothing here is mnist_zoo's.

Modules have the reports' names, so that a state dict of these is a checkpoint of the report's code.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    padding = kernel // 2
    return nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)


def projection(inputs: int, outputs: int, stride: int) -> nn.Module | None:
    """The shortcut's layers where the shape changes."""
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))


# --- S0 and S3: ResNets with torchvision's names --------------------------------------------


class Basic(nn.Module):
    """Two 3×3 convolutions; the stride is the first one's."""

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = conv(inputs, width, 3, stride), nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2, self.bn2 = conv(width, width, 3), nn.BatchNorm2d(width)
        self.downsample = projection(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        branch = torch.relu(self.bn1(self.conv1(x)))
        shortcut = self.downsample(x) if self.downsample else x
        return torch.relu(self.bn2(self.conv2(branch)) + shortcut)


class Bottleneck(nn.Module):
    """Convolutions of 1×1, 3×3 and 1×1, the last four times as wide; the stride is the 3×3 one's.

    If the 3×3 one is depthwise, the last two are a depthwise-separable convolution.
    """

    def __init__(self, inputs: int, width: int, stride: int, depthwise: bool = False):
        super().__init__()
        groups = width if depthwise else 1
        self.conv1, self.bn1 = conv(inputs, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width, width, 3, stride, groups), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = conv(width, 4 * width, 1), nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = projection(inputs, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        branch = torch.relu(self.bn1(self.conv1(x)))
        branch = torch.relu(self.bn2(self.conv2(branch)))
        shortcut = self.downsample(x) if self.downsample else x
        return torch.relu(self.bn3(self.conv3(branch)) + shortcut)


def stages(block, depths: tuple[int, ...], widening: int, norms: bool = False) -> nn.ModuleDict:
    """Four groups of blocks; with `norms`, one follows each block but the first of a group."""
    groups, inputs = nn.ModuleDict(), 64
    for place, depth in enumerate(depths):
        width = 64 * 2**place
        group = [block(inputs, width, 2 if place else 1)]
        inputs = widening * width
        for _ in range(1, depth):
            group.append(block(inputs, width, 1))
            if norms:
                group.append(nn.BatchNorm2d(inputs))
        groups[f"layer{place + 1}"] = nn.Sequential(*group)
    return groups


class Deep(nn.Module):
    """A ResNet: a stem of 7×7 and stride 2; its last pool of 7×7 needs images of 224 pixels."""

    def __init__(self, block, depths: tuple[int, ...], widening: int, pool: int = 7):
        super().__init__()
        self.conv1, self.bn1 = conv(1, 64, 7, 2), nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        for name, group in stages(block, depths, widening).items():
            self.add_module(name, group)
        self.avgpool = nn.AvgPool2d(pool, stride=1)
        self.fc = nn.Linear(512 * widening, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))


class CNN(nn.Module):
    """34 layers: a stem of 3×3 with LeakyReLU, blocks with ReLU, and dropout."""

    def __init__(self, norms: bool = False):
        super().__init__()
        self.conv1, self.bn1 = conv(1, 64, 3), nn.BatchNorm2d(64)
        self.relu = nn.LeakyReLU(0.01, inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        for name, group in stages(Basic, (3, 4, 6, 3), 1, norms).items():
            self.add_module(name, group)
        self.global_avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.dropout = nn.Dropout(0.3)
        self.fc = nn.Linear(512, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x))
        x = self.maxpool(x.clamp(min=0) + 0.01 * x.clamp(max=0))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.dropout(x.mean((2, 3))))


# --- S1: LeNet with one residual module -----------------------------------------------------


class Module(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv1, self.bn1 = conv(channels, channels, 3), nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2, self.bn2 = conv(channels, channels, 3), nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()

    def forward(self, x: Tensor) -> Tensor:
        branch = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(branch)) + x)


class Le(nn.Module):
    """The module on the 16 channels before the first linear layer, or on its 120, or nowhere."""

    def __init__(self, channels: int | None = None):
        super().__init__()
        self.channels = channels
        self.conv1, self.pool, self.conv2 = nn.Conv2d(1, 6, 5), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5)
        if channels == 16:
            self.resnet_block = Module(16)
        self.fc1 = nn.Linear(256, 120)
        if channels == 120:
            self.resnet_block = Module(120)
        self.fc2, self.fc3 = nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x: Tensor) -> Tensor:
        for convolution in (self.conv1, self.conv2):
            x = self.pool(torch.relu(convolution(x)))
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


class Google(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 10, 5), nn.Conv2d(88, 20, 5)
        self.incep1, self.incep2 = Inception(10), Inception(20)
        self.mp = nn.MaxPool2d(2)
        self.fc = nn.Linear(1408, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.incep1(torch.relu(self.mp(self.conv1(x))))
        x = self.incep2(torch.relu(self.mp(self.conv2(x))))
        return self.fc(x.flatten(1))


class Simple(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.conv2(torch.relu(self.conv1(x))))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 16, 5), nn.Conv2d(16, 32, 5)
        self.rblock1, self.rblock2 = Simple(16), Simple(32)
        self.mp = nn.MaxPool2d(2)
        self.fc = nn.Linear(512, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.rblock1(self.mp(torch.relu(self.conv1(x))))
        x = self.rblock2(self.mp(torch.relu(self.conv2(x))))
        return self.fc(x.flatten(1))


# --- S4: ResNet-18 with and without residual connections ------------------------------------


class Unit(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, bias: bool, use_residual: bool):
        super().__init__()
        self.use_residual = use_residual
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=bias)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=bias)
        projects = stride != 1 or inputs != outputs
        if projects:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=bias)
        self.bn1, self.bn2 = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)
        self.bn3 = nn.BatchNorm2d(outputs) if projects else None

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        if self.use_residual:
            out = out + (self.bn3(self.shortcut(x)) if self.bn3 else x)
        return torch.relu(out)


class Modules(nn.Module):
    """ResNet-18 as six modules; the names in its checkpoints begin with ``net.``.

    The report's code has a bias in its stem alone, its table in every convolution.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 10,
        *,
        use_residual: bool = True,
        bias: bool = False,
        stem_bias: bool = False,
    ):
        super().__init__()
        stem = nn.Conv2d(in_channels, 64, 7, 2, 3, bias=bias or stem_bias)
        first = nn.Sequential(stem, nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        shapes = ((64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2))
        groups = [
            nn.Sequential(
                Unit(inputs, outputs, stride, bias, use_residual),
                Unit(outputs, outputs, 1, bias, use_residual),
            )
            for inputs, outputs, stride in shapes
        ]
        last = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, num_classes))
        self.net = nn.Sequential(first, *groups, *last)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)
