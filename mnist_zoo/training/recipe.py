"""How a network is trained, as data: `Recipe`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from .._checks import check_positive, check_range, plain
from .._names import check_choice, check_known
from ..data.augmentation import Augmentation
from ..data.corruption import Corruption
from ..data.sources import LOADERS, Dataset
from ..data.style import Style
from ..models.registry import MODELS, outline
from ..pictures.preprocessing import Preprocessing

if TYPE_CHECKING:
    from ..models.names import NetworkName

__all__ = ["Recipe"]

Optimizer: TypeAlias = Literal["sgd", "adam", "adamw"]
Schedule: TypeAlias = Literal["constant", "onecycle"]
Precision: TypeAlias = Literal["float32", "bfloat16"]
Selection: TypeAlias = Literal["last", "best"]
Sampling: TypeAlias = Literal["random", "first"]
PARTS = {
    "preprocessing": Preprocessing,
    "style": Style,
    "augmentation": Augmentation,
    "corruption": Corruption,
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network is trained: every setting that decides the result.

    Attributes:
        network: Name of the network, one of `list_models`. None leaves the choice to the caller,
            who passes a network to `fit` along with the recipe.
        options: Options of the network's factory.
        source: Data set, one of those of `load_mnist`.
        sizes: Numbers of training, validation and test images: the first two from the training
            set, the third from the test set. None trains on the whole training set and keeps no
            validation images.
        sampling: How the images of `sizes` are chosen: ``"random"`` draws them with `seed`;
            ``"first"`` takes the first of each part, where the last images of the training set, as
            many as the test set has, are the part for validation (MNIST's usual 50,000 and 10,000).
        preprocessing: Size and normalisation of the images.
        style: Styles of writing in which some of the training digits are redrawn, first of all.
        augmentation: Random shifts, rotations and distortions of the training images.
        corruption: Changes of some of the training images beyond geometry, last of all.
        optimizer: ``"sgd"``, ``"adam"`` or ``"adamw"``.
        lr: Learning rate; with ``"onecycle"``, the highest one.
        momentum: Momentum of SGD.
        nesterov: Whether SGD uses Nesterov momentum.
        betas: Decay rates of Adam and AdamW: for the mean of the gradients, and for the mean of
            their squares.
        head_lr: Learning rate of the network's last layer, to fine-tune a new head faster than the
            rest; it follows the same schedule. None gives all the same. In networks of your own,
            the last layer is named ``fc``, ``classifier``, ``head`` or ``heads``, as in
            torchvision, or is what a method ``get_classifier`` returns.
        weight_decay: L2 penalty for SGD and Adam, decoupled weight decay for AdamW.
        schedule: ``"constant"`` keeps the learning rate. ``"onecycle"`` raises it over the first
            steps and then lowers it, both along a cosine (Smith and Topin 2018); the momentum
            stays constant.
        warmup: Fraction of the steps in which ``"onecycle"`` raises the learning rate, starting
            from `lr` / 25.
        batch_size: Images per step, over all processes. A last batch of one image is left out.
        epochs: Passes over the training images.
        class_weights: Weight of each class in the training loss, in the order of the classes, for
            data in which some are rare. The loss of a batch is the weighted mean over its images,
            as in ``nn.CrossEntropyLoss(weight=…)`` without label smoothing. ``"balanced"`` divides
            by the number of training images of the class. None weighs all images alike. Accuracies
            and the validation loss are never weighted.
        label_smoothing: Fraction of each target that is spread evenly over the classes.
        distillation: Fraction of the loss that compares with the teacher, which `fit` then needs
            (Hinton et al. 2015); 0 trains without one.
        temperature: Divides the logits of both networks in that comparison.
        ema_decay: Decay per step of an exponential moving average of the weights, which is then
            evaluated and returned. None keeps no average and returns the weights themselves.
        eval_every: Steps between two evaluations, in addition to the one after each epoch; None
            evaluates only after each epoch.
        select: Which weights are returned: ``"last"`` for those after the last step, ``"best"``
            for those with the highest validation accuracy (the earliest of them in a tie).
        seed: Seed of the initial weights, the order of the images, augmentation and dropout.
        precision: ``"bfloat16"`` runs the forward pass under autocast.
        channels_last: Whether the network and its input use the channels-last memory format.
        reference: Where the recipe comes from, and which settings the source leaves open.

    Raises:
        ValueError: If a value is impossible; the message states the rule.

    Example:
        >>> from mnist_zoo import Recipe
        >>> recipe = Recipe(network="lenet5", lr=0.05, momentum=0.9, epochs=3)
        >>> recipe.batch_size
        64
        >>> Recipe.from_json(recipe.to_json()) == recipe
        True
        >>> Recipe(lr=0.0, epochs=3)
        Traceback (most recent call last):
        ...
        ValueError: `lr` (=0.0) must be ...
    """

    network: NetworkName | str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    source: Dataset = "mnist"
    sizes: tuple[int, int, int] | None = None
    sampling: Sampling = "random"
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    style: Style = field(default_factory=Style)
    augmentation: Augmentation = field(default_factory=Augmentation)
    corruption: Corruption = field(default_factory=Corruption)
    optimizer: Optimizer = "sgd"
    lr: float
    momentum: float = 0.0
    nesterov: bool = False
    betas: tuple[float, float] = (0.9, 0.999)
    head_lr: float | None = None
    weight_decay: float = 0.0
    schedule: Schedule = "constant"
    warmup: float = 0.3
    batch_size: int = 64
    epochs: int
    class_weights: tuple[float, ...] | Literal["balanced"] | None = None
    label_smoothing: float = 0.0
    distillation: float = 0.0
    temperature: float = 4.0
    ema_decay: float | None = None
    eval_every: int | None = None
    select: Selection = "last"
    seed: int = 0
    precision: Precision = "float32"
    channels_last: bool = False
    reference: str = ""

    def __post_init__(self) -> None:
        for entry in dataclasses.fields(self):
            value = getattr(self, entry.name)
            value = value.tolist() if getattr(value, "ndim", 0) == 1 else value
            listed = isinstance(value, (list, tuple))
            value = tuple(map(plain, value)) if listed else plain(value)
            object.__setattr__(self, entry.name, value)
        check_choice(
            source=(self.source, LOADERS),
            optimizer=(self.optimizer, get_args(Optimizer)),
            schedule=(self.schedule, get_args(Schedule)),
            precision=(self.precision, get_args(Precision)),
            select=(self.select, get_args(Selection)),
            sampling=(self.sampling, get_args(Sampling)),
        )
        for name in ("nesterov", "channels_last"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"`{name}` (={getattr(self, name)!r}) must be True or False")
        for name, kind in PARTS.items():
            if not isinstance(getattr(self, name), kind):
                raise ValueError(
                    f"`{name}` (={getattr(self, name)!r}) must be of type {kind.__name__}"
                )
        check_positive(batch_size=self.batch_size, epochs=self.epochs)
        if self.eval_every is not None:
            check_positive(eval_every=self.eval_every)
        for name, count in (("betas", 2), ("sizes", 3)):
            values = getattr(self, name)
            if values is not None and not (isinstance(values, tuple) and len(values) == count):
                raise ValueError(f"`{name}` (={values!r}) must be a tuple of {count} numbers")
        for size in self.sizes or ():
            check_positive(sizes=size)
        check_range(above=0, lr=self.lr)
        if self.head_lr is not None:
            check_range(above=0, head_lr=self.head_lr)
        _check_class_weights(self.class_weights)
        check_range(at_least=0, weight_decay=self.weight_decay)
        check_range(
            at_least=0, below=1, momentum=self.momentum, label_smoothing=self.label_smoothing
        )
        check_range(at_least=0, below=1, beta1=self.betas[0], beta2=self.betas[1])
        check_range(above=0, below=1, warmup=self.warmup)
        check_range(at_least=0, at_most=1, distillation=self.distillation)
        check_range(above=0, at_most=1000, temperature=self.temperature)
        if self.ema_decay is not None:
            check_range(above=0, below=1, ema_decay=self.ema_decay)
        if self.nesterov and not self.momentum:
            raise ValueError("`nesterov` (=True) needs `momentum` (=0.0) to be more than 0")
        if self.momentum and self.optimizer != "sgd":
            raise ValueError(
                f"`momentum` (={self.momentum!r}) is for SGD; `betas` are those of {self.optimizer}"
            )
        if type(self.seed) is not int or not 0 <= self.seed < 2**63:
            raise ValueError(f"`seed` (={self.seed!r}) must be a whole number from 0 to 2**63 - 1")
        object.__setattr__(self, "options", dict(self.options))
        _check_network(self.network, self.options)

    def replace(self, **changes: Any) -> Recipe:
        """Returns a copy with some fields changed: ``recipe.replace(epochs=3)``.

        Raises:
            ValueError: If a value is impossible.
            TypeError: If a field is unknown.
        """
        _check_fields(type(self), changes)
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Returns the recipe as a dictionary of plain JSON values."""
        values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self), default=plain))
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """Builds a recipe from what `to_dict` returned; missing fields get their defaults.

        Raises:
            ValueError: If a value is impossible.
            TypeError: If a field is unknown, or `lr` or `epochs` is missing.
        """
        _check_fields(cls, values)
        parts: dict[str, Any] = {**values}
        for name, kind in PARTS.items():
            if isinstance(parts.get(name), Mapping):
                _check_fields(kind, parts[name])
                parts[name] = kind(**parts[name])
        return cls(**parts)

    def to_json(self) -> str:
        """Returns the recipe as JSON."""
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """Builds a recipe from the JSON that `to_json` returned.

        Raises:
            ValueError: If the text is not a JSON object, or a value is impossible.
            TypeError: If a field is unknown, or `lr` or `epochs` is missing.
        """
        values = json.loads(text)
        if not isinstance(values, dict):
            raise ValueError(
                f"`text` (={text!r:.80}) must be a JSON object, as to_json returned it"
            )
        return cls.from_dict(values)


def _check_class_weights(weights: object) -> None:
    if weights is None or (isinstance(weights, str) and weights == "balanced"):
        return
    if not isinstance(weights, tuple) or len(weights) < 2:
        raise ValueError(
            f"`class_weights` (={weights!r}) must be 'balanced', None, or one number per class"
        )
    for weight in weights:
        check_range(at_least=1e-6, at_most=1e6, class_weights=weight)


def _check_network(network: str | None, options: Mapping[str, Any]) -> None:
    """Checks that the network exists, and that its factory takes the options, as plain values."""
    if network is None:
        if options:
            raise ValueError(f"`options` (={options!r}) need a `network`, which is None")
        return
    check_choice(network=(network, MODELS))
    if not options:
        return
    try:
        json.dumps(options)
        outline(network, options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`options` (={options!r}) do not fit {network}: {error}") from error


def _check_fields(kind: type, values: Mapping[str, Any]) -> None:
    known = [entry.name for entry in dataclasses.fields(kind)]
    check_known(f"{kind.__name__} has no field", values, known)
