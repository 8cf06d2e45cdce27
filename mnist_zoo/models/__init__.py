"""The networks, one family a file."""

from .base import Classifier
from .lenet import LeNet5, lenet5, lenet5_conv_residual, lenet5_fc_residual
from .mini import (
    MiniConvNet,
    MiniGoogLeNet,
    MiniResNet,
    mini_convnet,
    mini_googlenet,
    mini_resnet,
)
from .resnet import (
    ResNet,
    ResNetOptions,
    plain18,
    plain34,
    resnet18,
    resnet34,
    resnet50,
    resnet50_separable,
    resnet101,
    resnet152,
    resnet_cnn,
    resnet_cnn_norm,
)

__all__ = [
    "Classifier",
    "LeNet5",
    "MiniConvNet",
    "MiniGoogLeNet",
    "MiniResNet",
    "ResNet",
    "ResNetOptions",
    "lenet5",
    "lenet5_conv_residual",
    "lenet5_fc_residual",
    "mini_convnet",
    "mini_googlenet",
    "mini_resnet",
    "plain18",
    "plain34",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet50_separable",
    "resnet101",
    "resnet152",
    "resnet_cnn",
    "resnet_cnn_norm",
]
