"""Pretrained weights, files of weights, and weights carried over from torchvision."""

from .conversion import from_torchvision as from_torchvision
from .conversion import to_torchvision as to_torchvision
from .files import WeightsError as WeightsError
from .manifest import Weights as Weights
from .manifest import get_weights as get_weights
from .report import ConversionError as ConversionError
from .report import ConversionReport as ConversionReport
from .report import TensorReport as TensorReport
