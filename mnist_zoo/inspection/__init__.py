"""Tables and costs of any network, which stays unchanged.

`summary` and `profile` run a structural copy of the network whose tensors hold no data.
So its weights, modes, hooks and statistics do not change, nor does the random state, and
a large image takes no longer than a small one. torchsummary prints the table and thop
counts the multiply-accumulates. This package adds what they miss: parameters of any name,
shared parameters counted once, and nested outputs.
"""

from .comparison import Comparison as Comparison
from .comparison import ComparisonRow as ComparisonRow
from .comparison import compare as compare
from .costs import LayerProfile as LayerProfile
from .costs import Profile as Profile
from .costs import profile as profile
from .tables import ModelSummary as ModelSummary
from .tables import SummaryRow as SummaryRow
from .tables import summary as summary
