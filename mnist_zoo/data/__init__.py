"""Data sets of handwritten digits: loading, splitting and augmentation."""

from .augmentation import Augmentation as Augmentation
from .augmentation import augment as augment
from .corruption import Corruption as Corruption
from .corruption import corrupt as corrupt
from .digits import Digits as Digits
from .sources import DataError as DataError
from .sources import load_mnist as load_mnist
from .style import Style as Style
from .style import restyle as restyle
