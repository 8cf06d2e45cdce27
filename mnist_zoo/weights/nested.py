"""Where a training checkpoint keeps the state dict of its network."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from .pickles import StoredTensor

# the usual keys, and a pattern of those of averaged weights, which come first, as timm reads them
USUAL = ("state_dict", "model_state_dict", "model", "net", "network", "module")
AVERAGED = re.compile(r"(^|_)(ema|swa|average|averaged|avg)(_|$)")
WRAPPED = re.compile(r"(?:(?:module|_orig_mod|model|backbone|net)\.)*")


class AmbiguousError(ValueError):
    """A checkpoint holds the weights of several networks; the message is the reason alone."""


def nested_state(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """The state dict inside a training checkpoint; a state dict alone comes back unchanged.

    It is under a key of averaged weights, or a usual key, or the only one there is.

    Raises:
        AmbiguousError: If another one that is as good holds tensors of the same names.
    """
    found = {key: inner for key, inner in state.items() if _has_tensors(inner)}
    averaged = [key for key in found if AVERAGED.search(str(key))]
    usual = [key for key in USUAL if key in found]
    if not found or (any(map(_is_tensor, state.values())) and not averaged + usual):
        return state
    best = (averaged or usual or list(found))[0]
    rivals = [key for key in (averaged or found) if _names(found[key]) == _names(found[best])]
    if len(rivals) > 1 or (best not in usual + averaged and len(found) > 1):
        keys = ", ".join(f"{key!r:.40}" for key in [*found][:8])
        raise AmbiguousError(
            f"it holds several state dicts: {keys}; choose one: "
            "torch.load(path, weights_only=True)[key]"
        )
    inner: Mapping[str, Any] = found[best]
    return inner if any(map(_is_tensor, inner.values())) else nested_state(inner)


def _has_tensors(value: object, depth: int = 2) -> bool:
    """Whether a value is a state dict, or a dictionary that holds one; not an optimiser's state."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        return False
    parts = value.values()
    return any(map(_is_tensor, parts)) or (
        depth > 1 and "param_groups" not in value and any(_has_tensors(p, 1) for p in parts)
    )


def _is_tensor(value: object) -> bool:
    return isinstance(value, (Tensor, StoredTensor))


def _names(state: Mapping[str, Any]) -> set[str]:
    """The names of the tensors, without the prefixes of wrappers and an average's counter."""
    if not any(map(_is_tensor, state.values())):
        state = next(filter(_has_tensors, state.values()))
    return {WRAPPED.sub("", name, count=1) for name in state} - {"n_averaged"}
