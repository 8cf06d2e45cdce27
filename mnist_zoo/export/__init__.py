"""Export of networks to files that are checked, inference with ONNX Runtime, and int8.

The functions for ONNX need the extra ``onnx``: ``pip install "mnist-zoo[onnx]"``.
"""

from .int8 import QuantizationReport as QuantizationReport
from .int8 import quantize as quantize
from .program import ExportError as ExportError
from .session import Session as Session
from .session import load_session as load_session
from .writing import ExportReport as ExportReport
from .writing import export as export
