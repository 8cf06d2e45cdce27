"""Data sets of handwritten digits: loading, splitting and augmentation."""

from .augmentation import Augmentation as Augmentation
from .augmentation import augment as augment
from .digits import Digits as Digits
from .sources import DataError as DataError
from .sources import load_mnist as load_mnist
