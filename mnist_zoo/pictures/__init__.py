"""Images of digits: reading them, and converting them to MNIST's format."""

from .familiarity import Familiarity as Familiarity
from .mnist_form import as_mnist as as_mnist
from .preprocessing import Preprocessing as Preprocessing
from .reading import PictureError as PictureError
from .samples import SamplePictures as SamplePictures
from .samples import sample_pictures as sample_pictures
from .transform import PictureTransform as PictureTransform
