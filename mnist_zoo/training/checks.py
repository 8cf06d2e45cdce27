"""What `fit` checks before the first step."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from types import NoneType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm
from torch.nn.parameter import is_lazy

from .._checks import check_data
from .._modes import eval_mode, modes_of, set_modes
from .._networks import (
    device_of,
    float_type,
    is_dense,
    numbers,
    tensors_of,
    unwrapped,
    with_own_state,
)
from ..data.digits import Digits
from ..pictures.logits import as_logits, check_logits, prepared
from ..pictures.preprocessing import Preprocessing, to_float
from ..weights.files import is_finite
from .recipe import Recipe
from .small_maps import SmallMapsAsProducts

TRAINED = (torch.float32, torch.float64)
# what `fit` notes on a network, and the types of such a note: others are the network's own
RECORDED: dict[str, tuple[type, ...]] = {
    "preprocessing": (Preprocessing, NoneType),
    "input_size": (NoneType,),
    "classes": (tuple, list, NoneType),
}
HEADS = ("fc", "classifier", "head", "heads")  # torchvision's names of the last layer


class Probe(NamedTuple):
    """What one forward pass tells about a network.

    Attributes:
        classes: Number of logits.
        norms: Names of the BatchNorm layers that see a single value of each image and channel, and
            are not frozen. They cannot train on one image.
        small_maps: Whether `SmallMapsAsProducts` has something to do.
    """

    classes: int
    norms: tuple[str, ...]
    small_maps: bool


def is_frozen(module: nn.Module) -> bool:
    """Whether a module has parameters, and none of them trains."""
    trains = [parameter.requires_grad for parameter in module.parameters()]
    return bool(trains) and not any(trains)


def infinite_in(network: nn.Module) -> set[str]:
    """The names of the tensors that hold infinity, as masks do, but are no statistics."""
    return {
        name
        for name, tensor in tensors_of(network)
        if not is_finite(tensor) and not tensor.isnan().any() and ".running_" not in f".{name}"
    }


def train_mode(model: nn.Module) -> None:
    """Puts a network into training mode, except for its frozen modules and all inside them."""
    model.train()
    for module in model.modules():
        if is_frozen(module):
            module.eval()


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
    """Checks that something trains, in a precision and a memory in which it can.

    Raises:
        ValueError: If all is frozen, the parameters' type does not suit the recipe, or their memory
            does not suit the optimiser.
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
    check_data(**{f"target.{name}": tensor for name, tensor in tensors_of(model)})
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not is_lazy(parameter) and not is_dense(parameter):
            raise ValueError(
                f"`target` ({kind}) must have parameters that fill their memory; {name} is a view "
                f"with strides {parameter.stride()}, which the optimiser would not follow: make it "
                "an nn.Parameter of tensor.contiguous()"
            )
    _check_recordable(unwrapped(model))
    if recipe.head_lr is not None and not head_parameters(unwrapped(model)):
        raise ValueError(
            f"`head_lr` (={recipe.head_lr!r}) of the recipe needs a last layer that trains; that "
            f"of {kind} is frozen, or has no parameters"
        )


def _check_recordable(network: nn.Module) -> None:
    """Checks that `record` will be able to note on the network what it was trained on.

    Raises:
        ValueError: If the network does not take an attribute.
    """
    examples = {"preprocessing": Preprocessing(), "input_size": (1, 28, 28), "classes": ("0", "1")}
    for name, value in examples.items():
        if not isinstance(own := getattr(network, name, None), RECORDED[name]):
            continue
        is_new = not hasattr(network, name)
        try:
            setattr(network, name, value)
            if is_new:
                vars(network).pop(name, None)
            else:
                setattr(network, name, own)
        except Exception as error:  # of any type, from the network's own __setattr__
            reason = str(error).partition("\n")[0]
            raise ValueError(
                f"`target` ({type(network).__name__}) must take an attribute {name!r}, where fit "
                f"notes what it was trained on: {reason:.200}"
            ) from error


def record(network: nn.Module, **values: object) -> None:
    """Notes on a network how its images are prepared, their shape, and its classes' names.

    An attribute of that name that means something else, such as a layer, stays.
    """
    for name, value in values.items():
        if isinstance(getattr(network, name, None), RECORDED[name]):
            setattr(network, name, value)


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


def check_style(recipe: Recipe, train: Digits) -> None:
    """Checks that the classes are digits, if the recipe redraws digits in other styles.

    Raises:
        ValueError: If they have other names.
    """
    names = train.classes or numbers(10)
    if recipe.style and names != numbers(len(names)):
        raise ValueError(
            f"`style` (={recipe.style!r}) of the recipe is for digits only; "
            f"the classes of `train` are {', '.join(names):.80}"
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
    """Runs the network on two images in eval mode; buffers, modes and numbers are restored.

    Raises:
        ValueError: If it does not give logits (N, classes), but probabilities or something else.
    """
    network = unwrapped(model)  # a compiled one would be compiled for this batch, too
    inputs = _two_images(network, digits, preprocessing)
    with ExitStack() as stack:
        for each in (_left_as_is(network), eval_mode(network), torch.no_grad()):
            stack.enter_context(each)
        norms = stack.enter_context(_narrow_norms(network))
        products = stack.enter_context(SmallMapsAsProducts())
        logits = _output(network, inputs, argument)
    return Probe(logits.shape[1], tuple(norms), products.found)


def check_validation(model: nn.Module, digits: Digits, preprocessing: Preprocessing) -> None:
    """Evaluates the network on two validation images; buffers, modes and numbers are restored.

    Raises:
        ValueError: If it cannot take them.
    """
    network = unwrapped(model)
    try:
        inputs = prepared(network, digits.images[:2], preprocessing)
        with _left_as_is(network), eval_mode(network), torch.no_grad():
            _output(network, inputs, "target")
    except ValueError as error:
        raise ValueError(f"`validation` (={digits!r}) must suit the network; {error}") from error


def check_training_mode(
    model: nn.Module, digits: Digits, preprocessing: Preprocessing, classes: int
) -> None:
    """Runs the network on two images in training mode; buffers, modes and numbers are restored.

    Raises:
        ValueError: If it gives something else than as many logits as in eval mode, or they are
            probabilities, or they do not depend on its parameters, or on others as well.
    """
    network = unwrapped(model)
    kind = type(network).__name__
    inputs = _two_images(network, digits, preprocessing)
    with _left_as_is(network), torch.enable_grad():
        train_mode(network)
        logits = _output(network, inputs, "target")
    if logits.shape[1] != classes:
        raise ValueError(
            f"`target` ({kind}) must give as many logits in training as in eval mode, {classes}; "
            f"it gives {logits.shape[1]}"
        )
    if not logits.requires_grad:
        raise ValueError(
            f"`target` ({kind}) must give logits that depend on parameters that require "
            "gradients; nothing would train"
        )
    own = set(network.parameters())
    for parameter in _parameters_behind(logits):
        if parameter not in own:
            raise ValueError(
                f"`target` ({kind}) must name all its parameters; one of shape "
                f"{tuple(parameter.shape)} would not train: keep layers in nn.ModuleList or "
                "nn.Sequential, not in a list or a dictionary"
            )


def _two_images(network: nn.Module, digits: Digits, preprocessing: Preprocessing) -> Tensor:
    images = to_float(digits.images[:2].to(device_of(network)))
    return preprocessing(images).to(float_type(network))


def _output(network: nn.Module, inputs: Tensor, argument: str) -> Tensor:
    """The network's logits (N, classes)."""
    is_compiled = network._compiled_call_impl is not None  # in place, for other batches than this
    try:
        with torch.compiler.set_stance("force_eager") if is_compiled else nullcontext():
            output = network(inputs)
    except (RuntimeError, TypeError, ValueError, AttributeError, LookupError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"`{argument}` ({type(network).__name__}) cannot take images {tuple(inputs.shape)} of "
            f"{inputs.dtype}: {reason:.300}"
        ) from error
    logits = as_logits(output, len(inputs), network, argument)
    finite = argument != "target"  # whose NaN is reported by the loop
    check_logits(logits.detach(), network, argument, finite=finite)
    return logits


def _parameters_behind(output: Tensor) -> Iterator[nn.Parameter]:
    """The parameters on which a tensor depends, by its graph."""
    found, ahead = set(), [output.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is None or node in found:
            continue
        found.add(node)
        if isinstance(parameter := getattr(node, "variable", None), nn.Parameter):
            yield parameter
        ahead.extend(after for after, _ in node.next_functions)


@contextmanager
def _left_as_is(network: nn.Module) -> Iterator[None]:
    """Restores modes, buffers, also those that were replaced, numbers and states of its own."""
    modes = modes_of(network)
    numbers = [
        (module, {k: v for k, v in vars(module).items() if type(v) in (int, float)})
        for module in modes
    ]
    kept = [
        (module, name, buffer, None if buffer is None else buffer.clone())
        for module in modes
        for name, buffer in module._buffers.items()
        if buffer is None or not is_lazy(buffer)
    ]
    states = []
    for module in with_own_state(network):
        with suppress(Exception):  # of any type: the state is the network's own business
            states.append((module, copy.deepcopy(module.get_extra_state())))
    try:
        yield
    finally:
        with torch.no_grad():
            for module, name, buffer, value in kept:
                if getattr(module, name) is not buffer:
                    setattr(module, name, buffer)
                if buffer is not None and value is not None and not torch.equal(buffer, value):
                    buffer.copy_(value)
        for module, values in numbers:
            vars(module).update(values)
        for module, state in states:
            with suppress(Exception):
                module.set_extra_state(state)
        set_modes(modes)


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
