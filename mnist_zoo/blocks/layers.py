"""Parts that all blocks share: convolutions, and building without random weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._device import DeviceContext
from typing_extensions import override

NormLayer = Callable[[int], nn.Module]
ActLayer = Callable[[], nn.Module]
ReLU: ActLayer = partial(nn.ReLU, inplace=True)


# Every random initialisation of torch's layers calls one of the first two; some are intercepted
# earlier.
_RANDOM_INIT = frozenset(
    [
        Tensor.normal_,
        Tensor.uniform_,
        nn.init.normal_,
        nn.init.uniform_,
        nn.init.kaiming_normal_,
        nn.init.kaiming_uniform_,
    ]
)
_SETS_VALUES = _RANDOM_INIT | {Tensor.zero_, Tensor.fill_}
_FULL = frozenset([torch.zeros, torch.ones])


class no_random_init(TorchFunctionMode):  # noqa: N801  (a context manager, named like torch's)
    """Builds modules without drawing random weights, because others will replace them.

    Only the first draw of a parameter is left out, which is that of torch's own layer. A block of
    the user's may draw anew: by `trunc_normal_`, which draws until all values lie within bounds, or
    in a loop of its own. That happens as without this mode, and so does constant initialisation
    (the ones and zeros of BatchNorm).
    """

    def __init__(self) -> None:
        super().__init__()
        # a parameter that is gone leaves its id to another, which is drawn for the first time
        self._left_out: WeakValueDictionary[int, nn.Parameter] = WeakValueDictionary()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in _RANDOM_INIT:
            tensor = args[0] if args else kwargs["tensor"]
            if isinstance(tensor, nn.Parameter) and self._left_out.get(id(tensor)) is not tensor:
                self._left_out[id(tensor)] = tensor
                return tensor
        return func(*args, **kwargs)


class no_data(DeviceContext):  # noqa: N801  (see above)
    """Builds modules on device meta, without the setting of values, which has no effect there."""

    def __init__(self) -> None:
        super().__init__("meta")

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func in _SETS_VALUES and args and args[0].is_meta:
            return args[0]
        if kwargs is None:
            return func(*args)
        if func in _FULL and kwargs.get("device") is None:
            func = torch.empty  # torch takes longer for a tensor with values that it does not keep
        return super().__torch_function__(func, types, args, kwargs)  # type: ignore[no-untyped-call]


class _Undrawn(nn.Conv2d):
    """A convolution whose values are yet to be set; it then becomes an ``nn.Conv2d``."""

    @override
    def reset_parameters(self) -> None:
        """Draws nothing."""


def conv(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    stride: int = 1,
    *,
    groups: int = 1,
    dilation: int = 1,
    bias: bool = False,
    mode: Literal["fan_in", "fan_out"] = "fan_out",
) -> nn.Conv2d:
    """A convolution with "same" padding and the initialisation of He et al. 2015.

    The weights are drawn as in torchvision: from a normal distribution with the gain of ReLU, and
    mode "fan_out" in ResNets and "fan_in" in DenseNets. They are drawn once, whereas ``nn.Conv2d``
    followed by ``kaiming_normal_`` draws twice. A bias starts at zero.
    """
    layer: nn.Conv2d = _Undrawn(
        in_channels,
        out_channels,
        kernel_size,
        stride,
        padding=dilation * (kernel_size // 2),
        dilation=dilation,
        groups=groups,
        bias=bias,
    )
    layer.__class__ = nn.Conv2d
    nn.init.kaiming_normal_(layer.weight, mode=mode, nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
