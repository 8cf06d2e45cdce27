"""Figures: training curves, accuracies, mistakes, what is seen on a photo, and inside a network.

Every function returns a matplotlib Figure. A notebook displays it by itself, and
``figure.savefig("name.png")`` saves it. matplotlib is imported only when a figure is made, and
pyplot never: figures share no state with your own.
"""

from .cost import accuracy_against_cost as accuracy_against_cost
from .data import augmented as augmented
from .diagram import draw as draw
from .evaluation import class_accuracy as class_accuracy
from .evaluation import confusion_matrix as confusion_matrix
from .evaluation import mistakes as mistakes
from .inside import feature_maps as feature_maps
from .inside import filters as filters
from .preparation import preparation as preparation
from .training import curves as curves
