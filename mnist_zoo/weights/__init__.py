"""Pretrained weights, files of weights, and weights carried over from torchvision."""

from .conversion import ConversionError as ConversionError
from .conversion import ConversionReport as ConversionReport
from .conversion import TensorReport as TensorReport
from .conversion import from_torchvision as from_torchvision
from .conversion import to_torchvision as to_torchvision
from .files import WeightsError as WeightsError
from .manifest import Weights as Weights
from .manifest import get_weights as get_weights
