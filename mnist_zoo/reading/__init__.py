"""Reading several digits on one image: rows of numbers, forms and grids."""

from .reader import read_digits as read_digits
from .result import FoundDigit as FoundDigit
from .result import Mark as Mark
from .result import Number as Number
from .result import Reading as Reading
