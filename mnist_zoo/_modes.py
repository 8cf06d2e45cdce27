"""Training and eval mode of networks that threads may share."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import nn

_LOCK = threading.RLock()  # a network's own eval() may ask again
_SWITCHED: dict[nn.Module, tuple[bool, int]] = {}  # own mode and users of modules in `eval_mode`


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Puts a network into eval mode, and restores the mode of each of its modules afterwards.

    Threads may share the network or a part of it: the first one in switches a module, and the last
    one out restores it. Training the network meanwhile would be training in eval mode.
    """
    with _LOCK:
        modules = list(model.modules())
        if not any(module.training or module in _SWITCHED for module in modules):
            modules = []  # nothing to switch, and no other thread will switch it back
        for module in modules:
            own, users = _SWITCHED.get(module, (module.training, 0))
            _SWITCHED[module] = (own, users + 1)
    try:
        with _LOCK:
            if any(module.training for module in modules):
                _switch(model)
        yield
    finally:
        with _LOCK:
            freed = {}
            for module in modules:
                own, users = _SWITCHED.pop(module)
                if users > 1:
                    _SWITCHED[module] = (own, users - 1)
                else:
                    freed[module] = own
            _set(freed)


def _switch(model: nn.Module) -> None:
    """Puts a network into eval mode.

    Raises:
        ValueError: If it has none, as the modules that torch.export makes.
    """
    try:
        model.eval()
    except NotImplementedError as error:
        raise ValueError(
            f"`model` ({type(model).__name__}) must have an eval mode: {error} (export the network "
            "by mnist_zoo.export, whose load_session reads files of torch.export)"
        ) from error


def modes_of(model: nn.Module) -> dict[nn.Module, bool]:
    """The training mode of each module, as it is outside of `eval_mode`."""
    with _LOCK:
        return {m: _SWITCHED.get(m, (m.training, 0))[0] for m in model.modules()}


def set_modes(modes: Mapping[nn.Module, bool]) -> None:
    """Sets the modes that `modes_of` gave; a module in `eval_mode` gets its own when that ends."""
    with _LOCK:
        free = {}
        for module, own in modes.items():
            if module in _SWITCHED:
                _SWITCHED[module] = (own, _SWITCHED[module][1])
            else:
                free[module] = own
        _set(free)


def _set(modes: Mapping[nn.Module, bool]) -> None:
    """Sets modes, by the module's own `train` where it has one: it may do more, as LoRA's does."""
    for module, own in modes.items():
        if module.training != own and type(module).train is not nn.Module.train:
            in_use = [inner for inner in module.modules() if inner in _SWITCHED]
            module.train(own)  # of the modules inside as well, which come later here
            for inner in in_use:
                inner.training = False
    for module, own in modes.items():
        if module.training != own:
            module.training = own
