"""Training: recipes, the training loop, its checkpoints and its history."""

from .checkpoints import CheckpointError as CheckpointError
from .checkpoints import TrainingError as TrainingError
from .history import EpochRecord as EpochRecord
from .history import History as History
from .history import ValidationPoint as ValidationPoint
from .loop import fit as fit
from .recipe import Recipe as Recipe
from .recipes import get_recipe as get_recipe
from .recipes import list_recipes as list_recipes
from .recipes import load_data as load_data
