"""A model zoo for handwritten digits: the networks of five published MNIST experiments."""

from .blocks.dense import DenseBlock, DenseLayer, Transition
from .blocks.inception import InceptionA
from .blocks.residual import BasicBlock, Bottleneck, ResidualBlock, SeparableBottleneck
from .blocks.units import ResidualUnit
from .data.augmentation import Augmentation, augment
from .data.digits import Digits
from .data.sources import DataError, load_mnist
from .evaluation import Metrics, Mistake, evaluate
from .inspection.comparison import Comparison, ComparisonRow, compare
from .inspection.costs import LayerProfile, Profile, profile
from .inspection.tables import ModelSummary, SummaryRow, summary
from .models.base import Classifier
from .models.densenet import (
    DenseNet,
    DenseNetOptions,
    densenet40_12,
    densenet121,
    densenet161,
    densenet169,
    densenet201,
    densenet_bc100_12,
    mini_densenet,
)
from .models.lenet import LeNet5, lenet5, lenet5_conv_residual, lenet5_fc_residual
from .models.mini import (
    MiniConvNet,
    MiniGoogLeNet,
    MiniResNet,
    mini_convnet,
    mini_googlenet,
    mini_resnet,
)
from .models.preact import (
    PreActResNet,
    PreActResNetOptions,
    preact_resnet18,
    preact_resnet20,
    preact_resnet34,
    preact_resnet50,
    preact_resnet110,
    preact_resnet164,
)
from .models.registry import get_model, list_models
from .models.resnet import (
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
from .models.saving import load, save_weights
from .optimization import Optimization, OptimizationStep, fuse, optimize
from .pictures.mnist_form import PictureTransform, as_mnist
from .pictures.preprocessing import Preprocessing
from .pictures.reading import PictureError
from .prediction import Ensemble, Prediction, ensemble, predict
from .training.checkpoints import CheckpointError, TrainingError
from .training.history import EpochRecord, Evaluation, History
from .training.loop import fit
from .training.recipe import Recipe
from .training.recipes import get_recipe, list_recipes, load_data
from .weights.conversion import (
    ConversionError,
    ConversionReport,
    TensorReport,
    from_torchvision,
    to_torchvision,
)
from .weights.files import WeightsError
from .weights.manifest import Weights, get_weights

__version__ = "0.1.0"

__all__ = [
    "Augmentation",
    "BasicBlock",
    "Bottleneck",
    "CheckpointError",
    "Classifier",
    "Comparison",
    "ComparisonRow",
    "ConversionError",
    "ConversionReport",
    "DataError",
    "DenseBlock",
    "DenseLayer",
    "DenseNet",
    "DenseNetOptions",
    "Digits",
    "Ensemble",
    "EpochRecord",
    "Evaluation",
    "History",
    "InceptionA",
    "LayerProfile",
    "LeNet5",
    "Metrics",
    "MiniConvNet",
    "MiniGoogLeNet",
    "MiniResNet",
    "Mistake",
    "ModelSummary",
    "Optimization",
    "OptimizationStep",
    "PictureError",
    "PictureTransform",
    "PreActResNet",
    "PreActResNetOptions",
    "Prediction",
    "Preprocessing",
    "Profile",
    "Recipe",
    "ResNet",
    "ResNetOptions",
    "ResidualBlock",
    "ResidualUnit",
    "SeparableBottleneck",
    "SummaryRow",
    "TensorReport",
    "TrainingError",
    "Transition",
    "Weights",
    "WeightsError",
    "as_mnist",
    "augment",
    "compare",
    "densenet40_12",
    "densenet121",
    "densenet161",
    "densenet169",
    "densenet201",
    "densenet_bc100_12",
    "ensemble",
    "evaluate",
    "fit",
    "from_torchvision",
    "fuse",
    "get_model",
    "get_recipe",
    "get_weights",
    "lenet5",
    "lenet5_conv_residual",
    "lenet5_fc_residual",
    "list_models",
    "list_recipes",
    "load",
    "load_data",
    "load_mnist",
    "mini_convnet",
    "mini_densenet",
    "mini_googlenet",
    "mini_resnet",
    "optimize",
    "plain18",
    "plain34",
    "preact_resnet18",
    "preact_resnet20",
    "preact_resnet34",
    "preact_resnet50",
    "preact_resnet110",
    "preact_resnet164",
    "predict",
    "profile",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet50_separable",
    "resnet101",
    "resnet152",
    "resnet_cnn",
    "resnet_cnn_norm",
    "save_weights",
    "summary",
    "to_torchvision",
]
