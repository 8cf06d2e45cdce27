"""Networks as one HTML file with a pad, which reads the digits that are drawn there."""

from .running import network_of as network_of
from .running import run as run
