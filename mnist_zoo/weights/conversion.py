"""Copies weights by name: from torchvision and checkpoints into a network, and to torchvision."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from enum import Enum
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import torch
from torch import Tensor, nn

from .._checks import check_positive
from .._files import expanded
from .._names import printable
from .._networks import check_network, from_thop, state_of, unwrapped
from ..pictures.familiarity import forget_familiarity
from .files import (
    MAX_TENSORS,
    WeightsFile,
    inner_state,
    is_finite,
    read_content,
    read_file,
    read_saved,
)
from .fitting import RESNET, adapt_stem, fold_biases, names_in, why_unusable
from .manifest import Weights
from .nested import AmbiguousError
from .report import ConversionError, ConversionReport, TensorReport

__all__ = ["from_torchvision", "to_torchvision"]

Source: TypeAlias = nn.Module | Mapping[str, Tensor] | Weights | Enum | str | os.PathLike[str]
"""A network, its state dict, pretrained weights, a member of a torchvision weights enum, or a
file."""


def from_torchvision(
    model: nn.Module,
    source: Source,
    *,
    head: Literal["reset", "keep"] = "reset",
    strict: bool = True,
) -> ConversionReport:
    """Copies the weights of a torchvision network, or of any checkpoint, into a network.

    Tensors are matched by name. The prefixes ``module.``, ``_orig_mod.``, ``model.``,
    ``backbone.`` and ``net.`` are dropped, and so are thop's ``total_ops`` and ``total_params``
    and the counter of torch's AveragedModel. Two other layouts are read as well:
    ``net.<group>.<block>`` of the report on ResNet-18 with and without residual connections, and
    the old names in torchvision's files of DenseNets (``denselayer1.norm.1``).

    A training checkpoint is read by its usual keys, such as ``state_dict`` or ``model``, or by the
    only key that has a state dict; averaged weights come first (``state_dict_ema``, ``model_ema``,
    ``ema``). One that holds two networks of the same names, and no average, is an error. Of a
    checkpoint of `fit`, the weights are those that `fit` would return: the best ones or the
    average, as its recipe says.

    The first convolution is adapted. From RGB to grey, its weights are summed over the channels;
    from grey to RGB, they are spread as 1/4, 1/2 and 1/4. A smaller kernel takes the centre of a
    larger one; a larger kernel gets zeros around a smaller one. The report says so.

    A ResNet without conv biases takes those of the source, too: each is subtracted from the running
    mean of the BatchNorm behind it, which gives the same outputs, and the same training.

    Args:
        model: The network; its tensors are filled in place.
        source: A network, its state dict, pretrained `Weights`, a member of a torchvision weights
            enum (which is downloaded, and its hash checked), or a file: safetensors, or a state
            dict or training checkpoint saved by ``torch.save``. No pickled code runs.
        head: What happens to the head (the last linear layer) if the source has another number
            of classes: it is re-initialised, or keeps its values.
        strict: Whether every tensor of the network must be found, and every tensor of the source
            used. If not, whatever fits is copied, and the report lists the rest.

    Returns:
        What happened to every tensor.

    Raises:
        ConversionError: If the source does not fit; nothing is copied.
        WeightsError: If a file is damaged, is of another kind, or holds NaN or infinity; nothing
            is copied.
        FileNotFoundError: If the file does not exist, or cannot be downloaded.
        TypeError: If `model` is no network, or the source is none of the above.
        ValueError: If `head` is neither ``"reset"`` nor ``"keep"``.

    Example:
        >>> import torchvision
        >>> from mnist_zoo import from_torchvision, resnet18
        >>> from_torchvision(resnet18(), torchvision.models.resnet18())
        119 copied, 1 adapted, 2 skipped, 0 missing
          adapted  conv1.weight  (64, 3, 7, 7) → (64, 1, 7, 7); summed over 3 channels
          skipped  fc.weight     (1000, 512) → (10, 512); re-initialised
          skipped  fc.bias       (1000,) → (10,); re-initialised
    """
    return fill(model, source, head=head, strict=strict)


def fill(
    model: nn.Module,
    source: Source | WeightsFile,
    *,
    argument: str = "source",
    head: Literal["reset", "keep"] = "reset",
    strict: bool = True,
    adopt: bool = False,
) -> ConversionReport:
    """Copies the weights of any source into a network, as `from_torchvision` describes.

    Args:
        model: The network; its tensors are filled in place.
        source: As for `from_torchvision`, or a file that was already read.
        argument: The name of the caller's argument, for messages about a source without a name.
        head: As for `from_torchvision`.
        strict: As for `from_torchvision`.
        adopt: Whether the network may have the source's tensors as its own, instead of copies.
    """
    if head not in ("reset", "keep"):
        raise ValueError(f"`head` (={head!r}) must be 'reset' or 'keep'")
    check_network(model=model)
    model = unwrapped(model)
    target = state_of(model)
    if any(tensor.is_meta for tensor in target.values()):
        raise ConversionError("`model` must hold data; it has tensors on device meta")
    if isinstance(source, (str, os.PathLike)):
        source = read_file(expanded(source), most_bytes(model))
    from_file = isinstance(source, WeightsFile)
    label = f"'{source.path}'" if isinstance(source, WeightsFile) else f"`{argument}`"
    given, reports = _rename(_state_dict(source), target)
    folded = fold_biases(given, target)
    stem, last = _stem_and_head(model)
    resized = _other_classes(given.get(f"{last}.weight"), target.get(f"{last}.weight"))
    fate = "re-initialised" if head == "reset" else "kept"
    values: dict[str, Tensor] = {}
    for name, tensor in target.items():
        value = given.pop(name, None)
        if value is not None and resized and name.rpartition(".")[0] == last:
            reports.append(TensorReport(name, "skipped", f"{_shape_change(value, tensor)}; {fate}"))
            continue
        report, fitted = _fit(name, value, tensor, adaptable=name == f"{stem}.weight")
        if name in folded:
            report = TensorReport(name, "adapted", f"{folded[name]} subtracted")
        reports.append(report)
        if fitted is not None:
            values[name] = fitted
            if _becomes_infinite(fitted, tensor.dtype, from_file):
                kind = f" as {tensor.dtype}" if is_finite(fitted) else ""
                raise ConversionError(f"{label} must hold finite numbers; {name} does not{kind}")
    for mean, bias in folded.items():
        reports.append(TensorReport(bias, "skipped", f"folded into {mean}"))
    for name in given:
        reports.append(TensorReport(name, "skipped", "no such tensor in the network", fatal=True))

    result = ConversionReport(tuple(reports))
    if strict:
        _refuse_misfits(result, model, label)
    forget_familiarity(model)
    parameters = dict(model.named_parameters()) if adopt else {}
    with torch.no_grad():
        taken: set[int] = set()
        for name, value in values.items():
            place = value.untyped_storage().data_ptr()
            if name in parameters and place not in taken and _is_alike(value, target[name]):
                parameters[name].data = value
                taken.add(place)
            else:
                target[name].copy_(value)
        if resized and head == "reset":
            cast(nn.Linear, model.get_submodule(cast(str, last))).reset_parameters()
    return result


def _becomes_infinite(value: Tensor, dtype: torch.dtype, from_file: bool) -> bool:
    """Whether a type cannot hold a value; infinity is allowed in memory, not in files."""
    is_wider = value.is_floating_point() and torch.promote_types(value.dtype, dtype) == dtype
    if not from_file and (is_wider or value.dtype == dtype or not is_finite(value)):
        return False
    return not is_finite(value.to(dtype))


def _is_alike(value: Tensor, tensor: Tensor) -> bool:
    """Whether a value of whole storage could take a tensor's place in memory."""
    kinds = [(t.dtype, t.device, t.stride(), t.untyped_storage().nbytes()) for t in (value, tensor)]
    return kinds[0] == kinds[1]


def most_bytes(model: nn.Module) -> int:
    """The most bytes that the tensors of a file for a network may take.

    It is ample: several times as much as in double precision. A larger file is of another network.
    """
    return MAX_TENSORS + 32 * sum(tensor.numel() for tensor in state_of(model).values())


def to_torchvision(model: nn.Module, *, in_channels: int = 3) -> dict[str, Tensor]:
    """The weights of one of our ResNets or DenseNets as a state dict for torchvision's network.

    Only tensors are converted. If the network has another activation or stem stride, or no
    residual sums, torchvision's network needs the same change to compute the same outputs.

    Args:
        model: A ResNet or DenseNet whose tensors torchvision's network has as well: with
            BatchNorm, without conv bias, block norm or depthwise convolutions; a DenseNet with
            bottlenecks, half the channels behind each transition, and a norm in the stem.
        in_channels: Channels of torchvision's first convolution. Grey weights are spread over
            three channels as 1/4, 1/2 and 1/4, RGB weights are summed into one; a 3×3 kernel gets
            zeros around it, because torchvision's is 7×7.

    Returns:
        The tensors by torchvision's names, in its order. They share the model's memory, except
        for an adapted first convolution.

    Raises:
        ConversionError: If torchvision's network lacks one of the tensors, or the first
            convolution cannot be adapted.
        TypeError: If `model` is no network.
        ValueError: If `in_channels` is less than 1.

    Example:
        >>> import torchvision
        >>> from mnist_zoo import resnet18, to_torchvision
        >>> theirs = torchvision.models.resnet18(num_classes=10)
        >>> theirs.load_state_dict(to_torchvision(resnet18()))
        <All keys matched successfully>
    """
    check_network(model=model)
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
    shape = torch.Size((stem.shape[0], in_channels, 7, 7))
    if stem.shape != shape:
        adapted = adapt_stem(stem, shape)
        if adapted is None:
            raise ConversionError(
                f"`in_channels` (={in_channels}) must be 1, 3 or the stem's {stem.shape[1]}"
            )
        state[name] = adapted[0].to(stem.dtype)
    return state


def _strange_to_torchvision(state: Mapping[str, Tensor], family: str) -> list[str]:
    """The differences between a state dict and those of a family of torchvision's."""
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


# per family: the tensors that it must have, its stem first, and the names of all its tensors
TORCHVISION: dict[str, tuple[tuple[str, ...], re.Pattern[str]]] = {
    "ResNet": (
        ("conv1.weight",),
        RESNET,
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
    """The report on one tensor of the network, and its new value, if any."""
    if value is None:
        counter = name.endswith("num_batches_tracked")  # old checkpoints lack it
        return TensorReport(name, "missing", "not in the source", fatal=not counter), None
    if reason := why_unusable(value, tensor):
        return TensorReport(name, "skipped", reason, fatal=True), None
    if value.shape == tensor.shape:
        note = "" if value.dtype == tensor.dtype else f"{value.dtype} → {tensor.dtype}"
        return TensorReport(name, "copied", note), value
    shapes = _shape_change(value, tensor)
    if adaptable and (adapted := adapt_stem(value, tensor.shape)):
        return TensorReport(name, "adapted", f"{shapes}; {adapted[1]}"), adapted[0]
    return TensorReport(name, "skipped", f"{shapes}; the shapes must be equal", fatal=True), None


def _refuse_misfits(report: ConversionReport, model: nn.Module, label: str) -> None:
    fatal = [f"  {t.shown_name:.200}: {t.note:.200}" for t in report.tensors if t.fatal]
    if fatal:
        more = [f"  and {len(fatal) - 8} more, all in this error's `report`"] * (len(fatal) > 8)
        message = "\n".join([f"{label} must fit {type(model).__name__}:", *fatal[:8], *more])
        raise ConversionError(message, report)


def _other_classes(value: Tensor | None, weight: Tensor | None) -> bool:
    """Whether two heads take the same features and give different numbers of logits."""
    if value is None or weight is None or value.is_nested:
        return False
    return value.shape != weight.shape and value.shape[1:] == weight.shape[1:]


def _shape_change(value: Tensor, tensor: Tensor) -> str:
    return f"{tuple(value.shape)} → {tuple(tensor.shape)}"


def _stem_and_head(model: nn.Module) -> tuple[str | None, str | None]:
    """The names of the first convolution and of the last linear layer."""
    names = [(name, type(module)) for name, module in model.named_modules()]
    convs = [name for name, kind in names if issubclass(kind, nn.Conv2d)]
    linears = [name for name, kind in names if issubclass(kind, nn.Linear)]
    return (convs[0] if convs else None), (linears[-1] if linears else None)


def _rename(
    state: Mapping[str, Any], target: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[TensorReport]]:
    """The source's tensors by the network's names, and reports on those that are dropped."""
    state = {str(name): value for name, value in state.items()}
    renamed: dict[str, Tensor] = {}
    dropped = []
    for name, new in names_in(target, list(state)).items():
        if from_thop(name) and new not in target:
            dropped.append(TensorReport(name, "skipped", "a counter left by thop"))
        elif new == "n_averaged" and new not in target:
            dropped.append(TensorReport(name, "skipped", "the counter of an AveragedModel"))
        elif not isinstance(state[name], Tensor):
            dropped.append(TensorReport(name, "skipped", "not a tensor", fatal=True))
        elif new in renamed:
            raise ConversionError(
                f"the source has two tensors for {printable(new):.200}, one of them {name!r:.200}"
            )
        else:
            renamed[new] = state[name]
    return renamed, dropped


def _state_dict(source: Source | WeightsFile) -> Mapping[str, Any]:
    if isinstance(source, WeightsFile):
        return source.state
    if isinstance(source, (nn.Module, Weights)):
        return source.state_dict()
    if isinstance(source, Enum) and hasattr(source.value, "url"):
        return _read_torchvision(source)
    if isinstance(source, Mapping):
        try:
            return inner_state(source)
        except AmbiguousError as error:
            raise ConversionError(f"the checkpoint must hold one network; {error}") from error
    raise TypeError(
        f"`source` (={source!r:.80}) must be a network, a state dict, pretrained weights, a "
        "torchvision weights enum member or a file"
    )


def _read_torchvision(member: Any) -> Mapping[str, Any]:
    """The state dict of torchvision's weights, from torch.hub's cache or by download."""
    url: str = member.value.url
    path = Path(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2])
    if path.exists():
        content = read_content(path)
        _check_hash(content, path)
        return read_saved(BytesIO(content), len(content), path).state
    try:
        state: Mapping[str, Any] = member.get_state_dict(check_hash=True, weights_only=True)
    except RuntimeError as error:  # raised by torch.hub for another hash
        raise ConversionError(f"{url} must hold what its name says: {error}") from error
    except OSError as error:
        raise FileNotFoundError(
            f"cannot download {url} ({error}); fetch it on another machine and put it at '{path}'"
        ) from error
    return state


def _check_hash(content: bytes, path: Path) -> None:
    """Raises ConversionError unless the SHA-256 begins as the file's name says."""
    stated = path.stem.rpartition("-")[2]
    found = hashlib.sha256(content).hexdigest()
    if not found.startswith(stated):
        raise ConversionError(
            f"'{path}' must have the SHA-256 {stated}…; it has {found}; delete it and download it "
            "again"
        )
