"""The Inception module of the simple GoogLeNet."""

# annotations are no strings here: torch.fx writes those of a forward into the code of its graph
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._checks import check_positive

__all__ = ["InceptionA"]


class InceptionA(nn.Module):
    """Four parallel branches that keep the size, concatenated over the channels.

    In this order: 1×1; 1×1 then 5×5; 1×1 then 3×3 then 3×3; 3×3 average pool then 1×1.
    All convolutions have a bias; there are no norms or activations.

    Args:
        in_channels: Channels C of the input.
        branch1x1: Channels of the first branch.
        branch5x5: Channels of the two convolutions in the second branch.
        branch3x3: Channels of the three convolutions in the third branch.
        branch_pool: Channels of the fourth branch.

    Shape:
        (N, C, H, W) → (N, out_channels, H, W), where ``out_channels`` is the sum of the output
        channels of the branches: 16 + 24 + 24 + 24 = 88 by default.

    Raises:
        ValueError: If a number of channels is less than 1, or a branch has too many or too few
            numbers.

    Source:
        The report's simple GoogLeNet, after Szegedy et al. 2015 (Inception v3), figure 5.

    Example:
        >>> from mnist_zoo import InceptionA
        >>> InceptionA(10).out_channels
        88
    """

    def __init__(
        self,
        in_channels: int,
        *,
        branch1x1: int = 16,
        branch5x5: tuple[int, int] = (16, 24),
        branch3x3: tuple[int, int, int] = (16, 24, 24),
        branch_pool: int = 24,
    ) -> None:
        super().__init__()
        check_positive(in_channels=in_channels, branch1x1=branch1x1, branch_pool=branch_pool)
        for name, widths, length in (("branch5x5", branch5x5, 2), ("branch3x3", branch3x3, 3)):
            if not isinstance(widths, (tuple, list)) or len(widths) != length:
                raise ValueError(f"`{name}` (={widths!r}) must be {length} numbers of channels")
            for width in widths:
                check_positive(**{name: width})
        self.out_channels = branch1x1 + branch5x5[-1] + branch3x3[-1] + branch_pool
        self.branch1x1 = nn.Conv2d(in_channels, branch1x1, 1)
        self.branch5x5_1 = nn.Conv2d(in_channels, branch5x5[0], 1)
        self.branch5x5_2 = nn.Conv2d(branch5x5[0], branch5x5[1], 5, padding=2)
        self.branch3x3_1 = nn.Conv2d(in_channels, branch3x3[0], 1)
        self.branch3x3_2 = nn.Conv2d(branch3x3[0], branch3x3[1], 3, padding=1)
        self.branch3x3_3 = nn.Conv2d(branch3x3[1], branch3x3[2], 3, padding=1)
        self.branch_pool = nn.Conv2d(in_channels, branch_pool, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps feature maps (N, C, H, W) to the shape that the class states."""
        pooled = self.branch_pool(F.avg_pool2d(x, 3, stride=1, padding=1))
        small = self.branch1x1(x)
        medium = self.branch5x5_2(self.branch5x5_1(x))
        large = self.branch3x3_3(self.branch3x3_2(self.branch3x3_1(x)))
        return torch.cat([small, medium, large, pooled], dim=1)
