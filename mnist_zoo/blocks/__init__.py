"""Composable building blocks: residual units, dense blocks, and the Inception module.

Every block maps a batch of feature maps ``(N, C, H, W)`` to another, and knows
its ``out_channels``, so that blocks chain::

    nn.Sequential(ResidualBlock(16), ResidualBlock(16, 32, stride=2), InceptionA(32))
"""

from .dense import DenseBlock as DenseBlock
from .dense import DenseLayer as DenseLayer
from .dense import Transition as Transition
from .inception import InceptionA as InceptionA
from .residual import BasicBlock as BasicBlock
from .residual import Bottleneck as Bottleneck
from .residual import ResidualBlock as ResidualBlock
from .residual import SeparableBottleneck as SeparableBottleneck
from .units import ResidualUnit as ResidualUnit
