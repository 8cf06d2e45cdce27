"""Tables and costs of any network, without touching it.

`summary` and `profile` run on a structural copy whose tensors hold no data, so the
network's weights, modes, hooks and statistics, and the random state, stay as they are,
and a large picture costs no more than a small one. torchsummary prints the table and thop
counts the multiply-accumulates; what they cannot see is added here: parameters of any
name, each once however often it is shared, and outputs of any nesting.
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
