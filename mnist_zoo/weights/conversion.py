"""TODO."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._checks import check_positive
from .._networks import from_thop, state_of, unwrapped
from .files import WeightsError, inner_state, is_finite, read_file
from .manifest import Weights

__all__ = [
    "ConversionError",
    "ConversionReport",
    "TensorReport",
    "from_torchvision",
    "to_torchvision",
]

Source: TypeAlias = nn.Module | Mapping[str, Tensor] | Weights | Enum | str | os.PathLike[str]
"""A network, its state dict, weights that ship, a member of a torchvision weights enum, or a
file."""

PREFIXES = ("module.", "_orig_mod.", "model.")
GREY_TO_RGB = (0.25, 0.5, 0.25)


Action: TypeAlias = Literal["copied", "adapted", "skipped", "missing"]
ACTIONS: tuple[Action, ...] = ("copied", "adapted", "skipped", "missing")


@dataclass(frozen=True)
class TensorReport:
    """What happened to one tensor.

    Attributes:
        name: Its name in the network, or in the source if the network has no place for it.
        action: ``"copied"``; ``"adapted"``, to another shape; ``"skipped"``, not carried
            over; ``"missing"``, not in the source, so that the network's own stays.
        note: How it was adapted, or why it was not carried over.
        fatal: Whether a strict conversion refuses it.
    """

    name: str
    action: Action
    note: str = ""
    fatal: bool = False


@dataclass(frozen=True, repr=False)
class ConversionReport:
    """What happened to every tensor of a network and of the source; its repr is a table."""

    tensors: tuple[TensorReport, ...]

    def names(self, action: Action) -> tuple[str, ...]:
        """The names of the tensors to which this happened."""
        return tuple(tensor.name for tensor in self.tensors if tensor.action == action)

    @property
    def copied(self) -> tuple[str, ...]:
        """Names of the tensors carried over as they were."""
        return self.names("copied")

    @property
    def adapted(self) -> tuple[str, ...]:
        """Names of the tensors carried over into another shape."""
        return self.names("adapted")

    @property
    def skipped(self) -> tuple[str, ...]:
        """Names of the tensors not carried over."""
        return self.names("skipped")

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the network's tensors that the source lacks."""
        return self.names("missing")

    def __repr__(self) -> str:
        counts = Counter(tensor.action for tensor in self.tensors)
        lines = [", ".join(f"{counts[action]} {action}" for action in ACTIONS)]
        told = [tensor for tensor in self.tensors if tensor.action != "copied"]
        width = max((len(tensor.name) for tensor in told), default=0)
        lines += [f"  {t.action:<8} {t.name:<{width}}  {t.note}".rstrip() for t in told]
        return "\n".join(lines)


class ConversionError(WeightsError):
    """The source does not fit the network, which is as it was.

    Attributes:
        report: What would have happened to every tensor; empty where none was looked at.
    """

    def __init__(self, message: str, report: ConversionReport | None = None) -> None:
        super().__init__(message)
        self.report = report or ConversionReport(())


def from_torchvision(
    model: nn.Module,
    source: Source,
    *,
    head: Literal["reset", "keep"] = "reset",
    strict: bool = True,
) -> ConversionReport:
    """Copies the weights of a torchvision network, or of any checkpoint of ours, into a network.

    Tensors go by name. The prefixes ``module.``, ``_orig_mod.`` and ``model.`` and thop's
    ``total_ops`` and ``total_params`` are dropped; the layout ``net.<group>.<block>`` of the
    report on ResNet-18 with and without residual connections is read too, and the old names in
    torchvision's files of DenseNets (``denselayer1.norm.1``).

    The stem (the first convolution) adapts: from RGB to grey by the sum over its channels,
    from grey to RGB by 1/4, 1/2 and 1/4 of it; a smaller kernel takes the centre of a larger
    one, a larger one gets zeros around the smaller. The report tells so.

    Args:
        model: The network; its tensors are filled in place.
        source: A network, its state dict, `Weights` that ship, a member of a torchvision weights
            enum (which is downloaded, and its hash checked), or a file: safetensors, or a state
            dict saved by ``torch.save``. No pickled code runs.
        head: What becomes of the head (the last linear layer) where the source's has another
            number of classes: drawn anew, or kept as it is.
        strict: Whether every tensor of the network must be found and every tensor of the
            source used. If not, what fits is copied and the report tells the rest.

    Returns:
        What happened to every tensor.

    Raises:
        ConversionError: If the source does not fit; nothing is copied.
        WeightsError: If a file is damaged, none of these, or holds NaN or infinity; nothing is
            copied.
        FileNotFoundError: If the file does not exist, or cannot be downloaded.
        TypeError: If the source is none of the above.
        ValueError: If `head` is neither ``"reset"`` nor ``"keep"``.
    """
    if head not in ("reset", "keep"):
        raise ValueError(f"`head` (={head!r}) must be 'reset' or 'keep'")
    model = unwrapped(model)
    target = state_of(model)
    if any(tensor.is_meta for tensor in target.values()):
        raise ConversionError("`model` must hold data; it has tensors on device meta")
    given, reports = _rename(_read(source), target)
    from_file = isinstance(source, (str, os.PathLike))
    stem, last = _stem_and_head(model)
    resized = _other_classes(given.get(f"{last}.weight"), target.get(f"{last}.weight"))
    fate = "drawn anew" if head == "reset" else "kept as it is"
    values: dict[str, Tensor] = {}
    for name, tensor in target.items():
        value = given.pop(name, None)
        if value is not None and resized and name.rpartition(".")[0] == last:
            reports.append(TensorReport(name, "skipped", f"{_shape_change(value, tensor)}; {fate}"))
            continue
        report, fitted = _fit(name, value, tensor, adaptable=name == f"{stem}.weight")
        reports.append(report)
        if fitted is not None:
            values[name] = fitted
            if from_file and not is_finite(fitted.to(tensor.dtype)):
                raise ConversionError(f"'{source}' must hold finite numbers; {name} does not")
    for name in given:
        reports.append(TensorReport(name, "skipped", "no such tensor in the network", fatal=True))

    told = ConversionReport(tuple(reports))
    if strict:
        _refuse_misfits(told, model, f"'{source}'" if from_file else "`source`")
    with torch.no_grad():
        for name, value in values.items():
            target[name].copy_(value)
        if resized and head == "reset":
            cast(nn.Linear, model.get_submodule(cast(str, last))).reset_parameters()
    return told


def to_torchvision(model: nn.Module, *, in_channels: int = 3) -> dict[str, Tensor]:
    """The weights of one of our ResNets or DenseNets as a state dict for torchvision's.

    ``torchvision.models.resnet18(num_classes=10).load_state_dict(to_torchvision(resnet18()))``

    Only tensors are carried: a network with another activation or stem stride, or without
    residual sums, needs the same change in torchvision's to compute the same.

    Args:
        model: A ResNet or DenseNet whose tensors torchvision's has too: with BatchNorm, without
            conv bias, block norm or depthwise convolutions; with bottlenecks, half the channels
            behind each transition, and a norm in the stem.
        in_channels: Channels of torchvision's stem. A grey stem is spread over three as 1/4,
            1/2 and 1/4 of it, an RGB stem summed into one; a 3×3 kernel gets zeros around
            it, as torchvision's has 7×7.

    Returns:
        The tensors by torchvision's names, in its order; they share the model's memory,
        but for an adapted stem.

    Raises:
        ConversionError: If a tensor has no place in torchvision's network or the stem cannot
            be adapted.
        ValueError: If `in_channels` is less than 1.
    """
    check_positive(in_channels=in_channels)
    state = state_of(unwrapped(model))
    family = "DenseNet" if "features.conv0.weight" in state else "ResNet"
    if strange := _strange_to_torchvision(state, family):
        raise ConversionError(
            f"`model` ({type(model).__name__}) must have the tensors of a torchvision {family}; "
            f"it has {', '.join(strange[:3])}"
        )
    name = TORCHVISION[family][0][0]
    stem = state[name]
    wanted = torch.empty(stem.shape[0], in_channels, 7, 7, device="meta")
    if stem.shape != wanted.shape:
        adapted = _adapt_stem(stem, wanted)
        if adapted is None:
            raise ConversionError(
                f"`in_channels` (={in_channels}) must be 1, 3 or the stem's {stem.shape[1]}"
            )
        state[name] = adapted[0].to(stem.dtype)
    return state


def _strange_to_torchvision(state: Mapping[str, Tensor], family: str) -> list[str]:
    """What a state dict has that those of torchvision's family have not, or lacks."""
    needed, names = TORCHVISION[family]
    strange = [name for name in state if not names.fullmatch(name)]
    for name, tensor in state.items():
        mean = name.replace("weight", "running_mean")
        if name.endswith("conv2.weight") and tensor.shape[1] == 1:
            strange.append(f"depthwise {name}")
        if re.search(r"denselayer\d+\.conv1\.weight", name) and tensor.shape[2] != 1:
            strange.append(f"no bottleneck in {name}")
        if "transition" in name and tensor.dim() == 4 and tensor.shape[0] != tensor.shape[1] // 2:
            strange.append(f"not half the channels in {name}")
        if re.search(r"(bn\d|norm\d?)\.weight", name) and mean not in state:
            strange.append(f"no {mean}")
    return strange + [f"no {name}" for name in needed if name not in state]


# family: what it needs, its stem first, and the names of all its tensors
TORCHVISION: dict[str, tuple[tuple[str, ...], re.Pattern[str]]] = {
    "ResNet": (
        ("conv1.weight",),
        re.compile(
            r"conv1\.weight|bn1\.\w+|fc\.(weight|bias)|layer[1-4]\.\d+\."
            r"(conv[123]\.weight|bn[123]\.\w+|downsample\.0\.weight|downsample\.1\.\w+)"
        ),
    ),
    "DenseNet": (
        ("features.conv0.weight", "features.norm0.weight"),
        re.compile(
            r"features\.(conv0\.weight|norm[05]\.\w+|transition\d+\.(norm\.\w+|conv\.weight)|"
            r"denseblock\d+\.denselayer\d+\.(norm[12]\.\w+|conv[12]\.weight))|"
            r"classifier\.(weight|bias)"
        ),
    ),
}


def _fit(
    name: str, value: Tensor | None, tensor: Tensor, *, adaptable: bool
) -> tuple[TensorReport, Tensor | None]:
    """What becomes of one tensor of the network, and the value it gets, if any."""
    if value is None:
        counter = name.endswith("num_batches_tracked")  # old checkpoints lack it
        return TensorReport(name, "missing", "not in the source", fatal=not counter), None
    if why := _unusable(value, tensor):
        return TensorReport(name, "skipped", why, fatal=True), None
    if value.shape == tensor.shape:
        note = "" if value.dtype == tensor.dtype else f"{value.dtype} → {tensor.dtype}"
        return TensorReport(name, "copied", note), value
    shapes = _shape_change(value, tensor)
    if adaptable and (adapted := _adapt_stem(value, tensor)):
        return TensorReport(name, "adapted", f"{shapes}; {adapted[1]}"), adapted[0]
    return TensorReport(name, "skipped", f"{shapes}; the shapes must be equal", fatal=True), None


def _refuse_misfits(report: ConversionReport, model: nn.Module, what: str) -> None:
    fatal = [f"  {t.name:.200}: {t.note:.200}" for t in report.tensors if t.fatal]
    if fatal:
        more = [f"  and {len(fatal) - 8} more, all in this error's `report`"] * (len(fatal) > 8)
        message = "\n".join([f"{what} must fit {type(model).__name__}:", *fatal[:8], *more])
        raise ConversionError(message, report)


def _other_classes(value: Tensor | None, weight: Tensor | None) -> bool:
    """Whether two heads' weights see the same features and give other numbers of logits."""
    if value is None or weight is None or value.is_nested:
        return False
    return value.shape != weight.shape and value.shape[1:] == weight.shape[1:]


def _unusable(value: Tensor, tensor: Tensor) -> str:
    """Why a value cannot be copied into the tensor whatever its shape; empty if it can."""
    if value.is_meta:
        return "holds no data (device meta)"
    if value.is_quantized or value.layout != torch.strided or value.is_nested:
        return "is quantized, sparse or nested"
    if not torch.can_cast(value.dtype, tensor.dtype) or (
        value.is_floating_point() != tensor.is_floating_point()
    ):
        return f"{value.dtype} → {tensor.dtype} would lose its meaning"
    return ""


def _shape_change(value: Tensor, tensor: Tensor) -> str:
    return f"{tuple(value.shape)} → {tuple(tensor.shape)}"


def _stem_and_head(model: nn.Module) -> tuple[str | None, str | None]:
    """The names of the first convolution and of the last linear layer."""
    names = [(name, type(module)) for name, module in model.named_modules()]
    convs = [name for name, kind in names if issubclass(kind, nn.Conv2d)]
    linears = [name for name, kind in names if issubclass(kind, nn.Linear)]
    return (convs[0] if convs else None), (linears[-1] if linears else None)


def _adapt_stem(weight: Tensor, target: Tensor) -> tuple[Tensor, str] | None:
    """The stem's weight in the target's shape, and in words how; None if there is no rule."""
    if weight.dim() != 4:
        return None
    (out, channels, height, width), (new_out, new_channels, *kernel) = weight.shape, target.shape
    margin, odd = divmod(kernel[0] - height, 2)
    if out != new_out or odd or height != width or kernel[0] != kernel[1]:
        return None
    steps = []
    weight = weight.to(torch.promote_types(weight.dtype, torch.float32))  # half sums are coarse
    if margin:
        weight = F.pad(weight, [margin] * 4)
        steps.append(f"{'zeros around' if margin > 0 else 'centre of'} {height}×{width}")
    if new_channels == 1 and channels > 1:
        weight = weight.sum(dim=1, keepdim=True)
        steps.append(f"summed over {channels} channels")
    elif new_channels == 3 and channels == 1:
        weight = weight * weight.new_tensor(GREY_TO_RGB).view(1, 3, 1, 1)
        steps.append("spread over RGB as 1/4, 1/2, 1/4")
    elif new_channels != channels:
        return None
    return weight, ", ".join(steps)


def _rename(
    state: Mapping[str, Any], target: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[TensorReport]]:
    """The source's tensors by the network's names, and what was dropped on the way."""
    state = {str(name): value for name, value in state.items()}
    names = {name: _strip_prefixes(name, target) for name in state}
    if "net.0.0.weight" in names.values() and "net.0.0.weight" not in target:
        names = {name: _from_net_layout(short) for name, short in names.items()}
    names = {
        name: short if short in target else OLD_DENSE_LAYER.sub(r"\1\2", short)
        for name, short in names.items()
    }
    renamed: dict[str, Tensor] = {}
    dropped = []
    for name, short in names.items():
        if from_thop(name) and short not in target:
            dropped.append(TensorReport(name, "skipped", "a counter left by thop"))
        elif not isinstance(state[name], Tensor):
            dropped.append(TensorReport(name, "skipped", "not a tensor", fatal=True))
        elif short in renamed:
            raise ConversionError(f"the source has two tensors for {short}, one of them {name}")
        else:
            renamed[short] = state[name]
    return renamed, dropped


def _strip_prefixes(name: str, target: Mapping[str, Tensor]) -> str:
    while name not in target and name.startswith(PREFIXES):
        name = name.partition(".")[2]
    return name


NET_LAYOUT = (
    (re.compile(r"net\.0\.0\."), "conv1."),
    (re.compile(r"net\.0\.1\."), "bn1."),
    (re.compile(r"net\.7\."), "fc."),
    (re.compile(r"net\.([1-4])\.(\d+)\.shortcut\."), r"layer\1.\2.downsample.0."),
    (re.compile(r"net\.([1-4])\.(\d+)\.bn3\."), r"layer\1.\2.downsample.1."),
    (re.compile(r"net\.([1-4])\.(\d+)\."), r"layer\1.\2."),
)


# torchvision's files of DenseNets are older than the rule that a module's name has no dot
OLD_DENSE_LAYER = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")


def _from_net_layout(name: str) -> str:
    """The name in torchvision's layout of a tensor in the report's ``net.*`` layout."""
    for pattern, replacement in NET_LAYOUT:
        if pattern.match(name):
            return pattern.sub(replacement, name, count=1)
    return name


def _read(source: Source) -> Mapping[str, Any]:
    """The state dict of any source."""
    if isinstance(source, nn.Module):
        return source.state_dict()
    if isinstance(source, Enum) and hasattr(source.value, "url"):
        return _read_torchvision(source)
    if isinstance(source, Weights):
        return source.state_dict()
    if isinstance(source, (str, os.PathLike)):
        return read_file(Path(source).expanduser())
    if isinstance(source, Mapping):
        return inner_state(source)
    raise TypeError(
        f"`source` (={source!r:.80}) must be a network, a state dict, weights that ship, a "
        "torchvision weights enum member or a file"
    )


def _read_torchvision(member: Any) -> Mapping[str, Any]:
    """The state dict of torchvision's weights, from torch.hub's cache or by download."""
    url: str = member.value.url
    path = Path(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2])
    if path.exists():
        _check_hash(path)
        return read_file(path)
    try:
        state: Mapping[str, Any] = member.get_state_dict(check_hash=True, weights_only=True)
    except RuntimeError as error:  # torch.hub's word for another hash
        raise ConversionError(f"{url} must hold what its name says: {error}") from error
    except OSError as error:
        raise FileNotFoundError(
            f"cannot download {url} ({error}); fetch it on another machine and put it at '{path}'"
        ) from error
    return state


def _check_hash(path: Path) -> None:
    """Raises ConversionError unless the file's SHA-256 begins as its name says it does."""
    stated = path.stem.rpartition("-")[2]
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if not found.startswith(stated):
        raise ConversionError(
            f"'{path}' must have the SHA-256 {stated}…, it has {found}; delete it and fetch it anew"
        )
