"""The pictures: training curves, accuracies, mistakes, and what a network looks at.

Every function returns a matplotlib Figure, which a notebook displays by itself and
``figure.savefig("name.png")`` writes. matplotlib is imported when a picture is drawn, and
pyplot not at all: no state is shared with the caller's own figures.
"""

from .cost import accuracy_against_cost as accuracy_against_cost
from .data import augmented as augmented
from .diagram import draw as draw
from .evaluation import class_accuracy as class_accuracy
from .evaluation import confusion_matrix as confusion_matrix
from .evaluation import mistakes as mistakes
from .inside import feature_maps as feature_maps
from .inside import filters as filters
from .training import curves as curves
