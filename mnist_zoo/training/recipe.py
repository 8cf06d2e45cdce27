"""How a network is trained, as data: `Recipe`."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

from .._checks import check_choice, check_known, check_positive, check_range
from ..data.augmentation import Augmentation
from ..data.sources import LOADERS, Dataset
from ..models.registry import MODELS, outline
from ..pictures.preprocessing import Preprocessing

__all__ = ["Recipe"]

Optimizer: TypeAlias = Literal["sgd", "adam", "adamw"]
Schedule: TypeAlias = Literal["constant", "onecycle", "cosine", "step", "exponential"]
Precision: TypeAlias = Literal["float32", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides how a network is trained, as data.

    Attributes:
        network: Name of the network, one of `list_models`.
        options: Options of its factory.
        source: Data set, one of `load_mnist`'s.
        sizes: Training, validation and test pictures, drawn at random with `seed`: the first two
            from the training set, the third from the test set. None trains on the whole training
            set, and keeps nothing for validation.
        preprocessing: Size and normalisation of the pictures.
        augmentation: How training pictures are moved and bent.
        optimizer: ``"sgd"``, ``"adam"`` or ``"adamw"``.
        lr: Learning rate; the highest one where there is a schedule.
        momentum: Of SGD.
        nesterov: Nesterov's form of it.
        betas: Of Adam and AdamW: decay of the mean and of the mean square of the gradients.
        weight_decay: As the optimiser means it: L2 for SGD and Adam, decoupled for AdamW.
        schedule: The learning rate over the steps: ``"constant"``; ``"onecycle"``, up over the
            `warmup` part of the steps and down by a cosine (Smith and Topin 2018), with the
            momentum as it is; ``"cosine"`` down to 0; ``"step"``, times `gamma` every
            `step_epochs`; ``"exponential"``, times `gamma` every epoch, in equal steps.
        warmup: Part of the steps in which ``"onecycle"`` rises, from `lr` / 25.
        gamma: Factor of ``"step"`` and ``"exponential"``.
        step_epochs: Epochs between two changes of ``"step"``.
        batch_size: Pictures a step, over all processes. A last batch of one is left out.
        epochs: Passes over the training pictures.
        label_smoothing: Part of each target spread evenly over the classes.
        clip_grad_norm: Largest norm of all gradients together; None for any.
        ema_decay: Decay a step of an exponential moving average of the weights, which is then
            evaluated and returned; None for the weights themselves.
        eval_every: Steps between two evaluations, beside the one at the end of each epoch; None
            for that one alone.
        select: ``"last"``: the weights after the last step; ``"best"``: those with the highest
            validation accuracy, the earlier of two equals.
        patience: Evaluations without a higher validation accuracy after which training stops;
            None for never.
        seed: Of initial weights, order, augmentation and dropout.
        precision: ``"bfloat16"`` runs forward under autocast.
        channels_last: Whether the network and its input are kept in channels-last memory order.
        compile: Whether the network runs through `torch.compile`.
        reference: Where the recipe comes from, and what of it the source leaves open.

    Raises:
        ValueError: If a value is impossible; the message gives the rule.
    """

    network: str
    options: Mapping[str, Any] = field(default_factory=dict)
    source: Dataset = "mnist"
    sizes: tuple[int, int, int] | None = None
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    augmentation: Augmentation = field(default_factory=Augmentation)
    optimizer: Optimizer = "sgd"
    lr: float
    momentum: float = 0.0
    nesterov: bool = False
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    schedule: Schedule = "constant"
    warmup: float = 0.3
    gamma: float = 0.1
    step_epochs: int = 1
    batch_size: int = 64
    epochs: int
    label_smoothing: float = 0.0
    clip_grad_norm: float | None = None
    ema_decay: float | None = None
    eval_every: int | None = None
    select: Literal["last", "best"] = "last"
    patience: int | None = None
    seed: int = 0
    precision: Precision = "float32"
    channels_last: bool = False
    compile: bool = False
    reference: str = ""

    def __post_init__(self) -> None:
        check_choice(
            network=(self.network, MODELS),
            source=(self.source, LOADERS),
            optimizer=(self.optimizer, get_args(Optimizer)),
            schedule=(self.schedule, get_args(Schedule)),
            precision=(self.precision, get_args(Precision)),
            select=(self.select, ("last", "best")),
        )
        for name in ("nesterov", "channels_last", "compile"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"`{name}` (={getattr(self, name)!r}) must be True or False")
        for name, kind in (("preprocessing", Preprocessing), ("augmentation", Augmentation)):
            if not isinstance(getattr(self, name), kind):
                raise ValueError(f"`{name}` (={getattr(self, name)!r}) must be a {kind.__name__}")
        check_positive(batch_size=self.batch_size, epochs=self.epochs, step_epochs=self.step_epochs)
        for name in ("eval_every", "patience"):
            if getattr(self, name) is not None:
                check_positive(**{name: getattr(self, name)})
        for name, count in (("betas", 2), ("sizes", 3)):
            values = getattr(self, name)
            if values is not None and not (isinstance(values, tuple) and len(values) == count):
                raise ValueError(f"`{name}` (={values!r}) must be a tuple of {count}")
        for size in self.sizes or ():
            check_positive(sizes=size)
        check_range(above=0, lr=self.lr, gamma=self.gamma)
        check_range(at_least=0, weight_decay=self.weight_decay)
        if self.clip_grad_norm is not None:
            check_range(above=0, clip_grad_norm=self.clip_grad_norm)
        check_range(
            at_least=0, below=1, momentum=self.momentum, label_smoothing=self.label_smoothing
        )
        check_range(at_least=0, below=1, beta1=self.betas[0], beta2=self.betas[1])
        check_range(above=0, below=1, warmup=self.warmup)
        if self.ema_decay is not None:
            check_range(above=0, below=1, ema_decay=self.ema_decay)
        if self.nesterov and not self.momentum:
            raise ValueError("`nesterov` (=True) needs `momentum` (=0.0) to be more than 0")
        if self.momentum and self.optimizer != "sgd":
            raise ValueError(f"`momentum` (={self.momentum!r}) is SGD's; Adam's are `betas`")
        if type(self.seed) is not int or not 0 <= self.seed < 2**63:
            raise ValueError(f"`seed` (={self.seed!r}) must be a whole number from 0 to 2**63 - 1")
        object.__setattr__(self, "options", dict(self.options))
        if self.options:
            _check_options(self.network, self.options)

    @property
    def chooses(self) -> bool:
        """Whether validation accuracy decides anything: which weights are kept, or when to stop.

        Where it does, the test set must not stand in for validation pictures.
        """
        return self.select == "best" or self.patience is not None

    def replace(self, **changes: Any) -> Recipe:
        """The same recipe with some values changed: ``recipe.replace(epochs=3)``.

        Raises:
            ValueError: If a value is impossible.
            TypeError: If a recipe has no such field.
        """
        _check_names(type(self), changes)
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain numbers, strings, lists and dictionaries."""
        text = json.dumps(dataclasses.asdict(self), default=lambda number: number.item())  # NumPy's
        plain: dict[str, Any] = json.loads(text)
        return plain

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """The recipe that `to_dict` gave; what is missing has its default.

        Raises:
            ValueError: If a value is impossible.
            TypeError: If a field is unknown, or one without a default is missing.
        """
        _check_names(cls, values)
        parts: dict[str, Any] = {**values}
        for name, kind in (("preprocessing", Preprocessing), ("augmentation", Augmentation)):
            if isinstance(parts.get(name), Mapping):
                _check_names(kind, parts[name])
                parts[name] = kind(**parts[name])
        for name in ("sizes", "betas"):
            if isinstance(parts.get(name), list):
                parts[name] = tuple(parts[name])
        return cls(**parts)

    def to_json(self) -> str:
        """The recipe as JSON."""
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """The recipe that `to_json` gave.

        Raises:
            ValueError: If the text is not JSON, or a value is impossible.
            TypeError: If a field is unknown or missing.
        """
        return cls.from_dict(json.loads(text))

    def to_toml(self) -> str:
        """The recipe as TOML, which has no None: what is None is left out."""
        import tomli_w

        values = {name: value for name, value in self.to_dict().items() if value is not None}
        return tomli_w.dumps(values)

    @classmethod
    def from_toml(cls, text: str) -> Recipe:
        """The recipe that `to_toml` gave.

        Raises:
            ValueError: If the text is not TOML, or a value is impossible.
            TypeError: If a field is unknown or missing.
        """
        if sys.version_info >= (3, 11):
            import tomllib
        else:
            import tomli as tomllib

        return cls.from_dict(tomllib.loads(text))


def _check_options(network: str, options: Mapping[str, Any]) -> None:
    """The options must be plain values, and the network's factory must take them."""
    try:
        json.dumps(dict(options))
        outline(network, options)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`options` (={dict(options)!r}) do not suit {network}: {error}"
        ) from error


def _check_names(kind: type, values: Mapping[str, Any]) -> None:
    known = [entry.name for entry in dataclasses.fields(kind)]
    check_known(f"a {kind.__name__} has no field", values, known)
