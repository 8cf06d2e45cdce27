"""Networks out of Python: verified export, ONNX Runtime, int8.

What has to do with ONNX needs the extra ``onnx``.
"""

from .int8 import QuantizationReport as QuantizationReport
from .int8 import quantize as quantize
from .session import ExportError as ExportError
from .session import Session as Session
from .session import load_session as load_session
from .writing import ExportReport as ExportReport
from .writing import export as export
