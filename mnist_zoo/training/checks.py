"""What `fit` checks before the first step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from .._modes import eval_mode
from .._networks import device_of, unwrapped
from ..data.digits import Digits
from ..pictures.preprocessing import Preprocessing, to_float
from .recipe import Recipe
from .small_maps import SmallMapsAsProducts

TRAINED = (torch.float32, torch.float64)
HEADS = ("fc", "classifier", "head", "heads")  # torchvision's names of the last layer


class Probe(NamedTuple):
    """What one forward pass tells about a network.

    Attributes:
        classes: Number of logits.
        norms: Names of the BatchNorm layers that see a single value of each image and channel, and
            are not frozen. They cannot train on one image.
    """

    classes: int
    norms: tuple[str, ...]


def is_frozen(module: nn.Module) -> bool:
    """Whether a module has parameters, and none of them trains."""
    trains = [parameter.requires_grad for parameter in module.parameters()]
    return bool(trains) and not any(trains)


def train_mode(model: nn.Module) -> None:
    """Puts a network into training mode, except for its frozen modules and all inside them."""
    model.train()
    for module in model.modules():
        if is_frozen(module):
            module.eval()


def float_type(model: nn.Module) -> torch.dtype:
    """The type of the network's first floating-point parameter, which its input must have."""
    types = (p.dtype for p in model.parameters() if p.is_floating_point())
    return next(types, torch.float32)


def check_sizes(recipe: Recipe, train: Digits, validation: Digits | None) -> None:
    """Checks that there are images to train on, and to validate on where that is needed.

    Raises:
        ValueError: If there are too few.
    """
    if len(train) < 2:
        raise ValueError(f"`train` (={train!r}) must hold at least 2 images")
    if validation is not None and not len(validation):
        raise ValueError(f"`validation` (={validation!r}) must hold at least 1 image, or be None")
    if validation is None and recipe.select == "best":
        raise ValueError("`validation` (=None) must be given if `select` of the recipe is 'best'")


def check_trainable(model: nn.Module, recipe: Recipe) -> None:
    """Checks that something trains, in a precision in which it can.

    Raises:
        ValueError: If all is frozen, or the parameters' type does not suit the recipe.
    """
    kind = type(unwrapped(model)).__name__
    trained = {name: p.dtype for name, p in model.named_parameters() if p.requires_grad}
    if not trained:
        raise ValueError(
            f"`target` ({kind}) must have a parameter that requires gradients; nothing would train"
        )
    for name, dtype in trained.items():
        if dtype not in TRAINED:
            raise ValueError(
                f"`target` ({kind}) must be trained in torch.float32 or float64, because smaller "
                f"types round small steps away; {name} is {dtype}. Call `.float()` on the network; "
                "`precision='bfloat16'` of the recipe makes its forward pass as fast"
            )
        if dtype == torch.float64 and recipe.precision != "float32":
            raise ValueError(
                f"`precision` (={recipe.precision!r}) of the recipe needs a network of "
                f"torch.float32; {name} of {kind} is {dtype}"
            )
    if recipe.head_lr is not None and not head_parameters(unwrapped(model)):
        raise ValueError(
            f"`head_lr` (={recipe.head_lr!r}) of the recipe needs a last layer that trains; that "
            f"of {kind} is frozen"
        )


def head_parameters(network: nn.Module) -> list[nn.Parameter]:
    """The parameters of the last layer that train.

    Raises:
        ValueError: If the network does not tell which layer is the last.
    """
    names = (getattr(network, "classifier_name", ""), *HEADS)
    named = [child for name, child in network.named_children() if name in names]
    get = getattr(network, "get_classifier", None)
    head = named[0] if len(named) == 1 else get() if callable(get) else None
    if not isinstance(head, nn.Module):
        raise ValueError(
            f"`head_lr` of the recipe needs to know the last layer of {type(network).__name__}: "
            "name it 'fc', 'classifier' or 'head', or give the network a method get_classifier() "
            "that returns it"
        )
    return [parameter for parameter in head.parameters() if parameter.requires_grad]


def check_class_weights(recipe: Recipe, classes: int) -> None:
    """Checks that there is one weight for each class of the network.

    Raises:
        ValueError: If there are more or fewer.
    """
    weights = recipe.class_weights
    if isinstance(weights, tuple) and len(weights) != classes:
        raise ValueError(
            f"`class_weights` (={weights!r}) of the recipe must be {classes} numbers, one for each "
            f"class of the network; they are {len(weights)}"
        )


def check_labels(classes: int, **data: Digits | None) -> None:
    """Checks that every label is a class of the network.

    Raises:
        ValueError: If one is not; the message names the argument that holds it.
    """
    for name, digits in data.items():
        if digits is None:
            continue
        lowest, highest = (int(limit) for limit in digits.labels.aminmax())
        if lowest < 0 or highest >= classes:
            raise ValueError(
                f"`{name}` has an image of class {lowest if lowest < 0 else highest}; the classes "
                f"of the network are 0 to {classes - 1}"
            )


def check_batches(recipe: Recipe, images: int, processes: int, norms: tuple[str, ...]) -> None:
    """Checks that every process gets two images of every batch, where BatchNorm needs them.

    Raises:
        ValueError: If BatchNorm would have to train on a single value.
    """
    full, rest = divmod(images, recipe.batch_size)
    for size in [recipe.batch_size] * (full > 0) + [rest] * (rest > 1):
        if norms and size // processes < 2:
            given = (
                f"`batch_size` (={recipe.batch_size}) with {images} images gives a batch of {size}"
            )
            whose = f" for one of {processes} processes" if processes > 1 else ""
            raise ValueError(
                f"{given}, a single image{whose}; BatchNorm ({norms[0]}) sees maps of one pixel, "
                "on which it cannot train: change `batch_size`, or use stem='3x3' where a network "
                "has it"
            )


def probed(
    model: nn.Module, digits: Digits, preprocessing: Preprocessing, *, argument: str = "target"
) -> Probe:
    """Runs the network on two images in eval mode; its buffers and modes are restored.

    Raises:
        ValueError: If it does not give logits (N, classes).
    """
    network = unwrapped(model)  # a compiled one would be compiled for this batch, too
    images = to_float(digits.images[:2].to(device_of(network)))
    inputs = preprocessing(images).to(float_type(network))
    logits: object
    kind = type(network).__name__
    with ExitStack() as stack:
        for each in (eval_mode(network), _buffers_kept(network), torch.no_grad()):
            stack.enter_context(each)
        norms = stack.enter_context(_narrow_norms(network))
        stack.enter_context(SmallMapsAsProducts())
        logits = network(inputs)
    if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != len(inputs):
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(
            f"`{argument}` ({kind}) must give logits ({len(inputs)}, classes) for {len(inputs)} "
            f"images, got {found}"
        )
    if logits.shape[1] < 2:
        raise ValueError(
            f"`{argument}` ({kind}) must give at least 2 logits, got 1, of which the "
            "cross-entropy is always 0; nothing would train"
        )
    return Probe(logits.shape[1], tuple(norms))


@contextmanager
def _buffers_kept(network: nn.Module) -> Iterator[None]:
    """Restores every buffer afterwards, also one that a forward pass replaced."""
    kept = [
        (module, name, buffer, buffer.clone())
        for module in network.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]
    try:
        yield
    finally:
        for module, name, buffer, value in kept:
            if getattr(module, name) is not buffer:
                setattr(module, name, buffer)
            if not torch.equal(buffer, value):
                buffer.copy_(value)


@contextmanager
def _narrow_norms(network: nn.Module) -> Iterator[list[str]]:
    """Collects the names of BatchNorm layers that train and see one value per image and channel."""
    found: list[str] = []

    def watch(name: str) -> Any:
        def before(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            x = inputs[0] if inputs else None
            if x is not None and x.numel() == x.shape[0] * x.shape[1]:
                found.append(name)

        return before

    with ExitStack() as stack:
        frozen = {inner for m in network.modules() if is_frozen(m) for inner in m.modules()}
        for name, module in network.named_modules():
            if isinstance(module, BatchNorm) and module not in frozen:
                stack.callback(module.register_forward_pre_hook(watch(name)).remove)
        yield found
