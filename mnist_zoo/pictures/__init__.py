"""Images of digits: reading them, and converting them to MNIST's format."""

from .familiarity import Familiarity as Familiarity
from .mnist_form import as_mnist as as_mnist
from .preprocessing import Preprocessing as Preprocessing
from .reading import PictureError as PictureError
from .transform import PictureTransform as PictureTransform
