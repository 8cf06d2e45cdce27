"""Shares networks on the Hugging Face Hub; needs the extra ``hub``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import Self, override

try:
    from huggingface_hub import EvalResult, ModelCard, ModelCardData, ModelHubMixin, hf_hub_download
except ModuleNotFoundError as error:
    message = 'mnist_zoo.hub needs huggingface_hub: pip install "mnist-zoo[hub]"'
    raise ModuleNotFoundError(message, name="huggingface_hub") from error

from ._files import written_whole
from ._networks import check_network, class_names, state_of, stated_classes, unwrapped
from .models.base import Classifier
from .models.saving import load_model, save_model
from .weights.manifest import Weights, manifest

__all__ = ["HubModel"]

FILE = "model.safetensors"


class HubModel(
    nn.Module,
    ModelHubMixin,
    library_name="mnist_zoo",
    tags=["mnist", "image-classification"],
    license="mit",
):
    """A network of the zoo that can be pushed to the Hub and downloaded from it.

    ``HubModel(mini_resnet(weights="mnist")).push_to_hub("me/digits")``
    ``model = HubModel.from_pretrained("me/digits").model``

    A local folder works in the same way, as in the example. Beside the network goes a model card,
    README.md with the Hub's metadata; that of pretrained weights states their data set, recipe and
    measured results.

    Attributes:
        model: The network.

    Shape:
        The network's.

    Raises:
        TypeError: If `model` is no network.

    Example:
        >>> from mnist_zoo import mini_resnet
        >>> from mnist_zoo.hub import HubModel
        >>> _ = HubModel(mini_resnet(weights="mnist")).save_pretrained("digits")
        >>> HubModel.from_pretrained("digits").model.input_size
        (1, 28, 28)
    """

    wrapped_as: ClassVar[str] = "model"  # where `unwrapped` finds the network

    def __init__(self, model: Classifier) -> None:
        check_network(model=model)
        super().__init__()
        self.model = model
        self.training = model.training  # train() would change the modules inside

    @override
    def __getattr__(self, name: str) -> Any:
        """The network's attribute, such as `input_size`, where this module has none."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            model: Any = super().__getattr__("model")
            return getattr(unwrapped(model), name)

    @override
    def __setattr__(self, name: str, value: Any) -> None:
        """Sets the preprocessing and the names of the classes of the network inside."""
        if name in ("preprocessing", "classes"):
            setattr(unwrapped(self), name, value)
        else:
            super().__setattr__(name, value)

    def forward(self, x: Tensor) -> Tensor:
        """The network's output."""
        return self.model(x)

    @override
    def _save_pretrained(self, save_directory: Path) -> None:
        network: Any = unwrapped(self)
        save_model(network, save_directory / FILE)
        options = {**network.options, "num_classes": int(network.num_classes)}
        config: dict[str, Any] = {"network": network.factory, "options": options}
        if network.preprocessing is not None:
            config["preprocessing"] = asdict(network.preprocessing)
        if names := stated_classes(network):
            config["classes"] = class_names(names, network.num_classes)
        with written_whole(save_directory / "config.json") as file:
            file.write(json.dumps(config).encode())

    @override
    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """The model card that is stored beside the network."""
        network: Any = unwrapped(self)
        return ModelCard(_card(network))

    @classmethod
    @override
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
        **ignored: Any,
    ) -> Self:
        if unknown := ignored.keys() - {"proxies", "resume_download", "config"}:
            raise TypeError(f"from_pretrained takes no {', '.join(sorted(unknown))}")
        folder = Path(model_id)
        if folder.is_dir():
            return cls(load_model(folder / FILE))
        file = hf_hub_download(
            model_id,
            FILE,
            revision=revision,
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
            token=token,
        )
        return cls(load_model(file))


USE = """```python
from mnist_zoo import predict
from mnist_zoo.hub import HubModel

model = HubModel.from_pretrained("…").model  # this repository's name, or a folder
print(predict(model, "photo.png"))
```"""


def _card(model: Classifier) -> str:
    """The text of a model card: metadata, what the network is, how to use it, what was measured."""
    weights = _pretrained(model)
    data = ModelCardData(
        model_name=model.factory,
        library_name="mnist_zoo",
        license="mit",
        pipeline_tag="image-classification",
        tags=["mnist", "image-classification"],
        datasets=["ylecun/mnist"] if weights else None,
        metrics=["accuracy"] if weights else None,
        eval_results=[_result(weights)] if weights else None,
    )
    size = "×".join(map(str, model.input_size))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    about = (
        f"`{model.factory}` of the model zoo mnist_zoo: {parameters:,} parameters, images of "
        f"{size}, {model.num_classes} classes."
    )
    how = "With mnist_zoo and its extra `hub` installed:"
    parts = [f"# {model.factory}", about, "## Use", how, USE]
    parts += _measured(weights) if weights else []
    return f"---\n{data}\n---\n\n" + "\n\n".join(parts) + "\n"


def _pretrained(model: Classifier) -> Weights | None:
    """The record of the pretrained weights that a network holds unchanged, for the same images.

    None if it does not.
    """
    record = manifest().get(f"{model.factory}.mnist")
    if record is None or model.preprocessing != record.preprocessing:
        return None
    own, stored = state_of(model), record.state_dict()
    same = own.keys() == stored.keys() and all(
        torch.equal(own[name].cpu(), value.to(own[name].dtype)) for name, value in stored.items()
    )
    return record if same else None


def _result(weights: Weights) -> EvalResult:
    """The accuracy of pretrained weights, as the Hub shows it."""
    return EvalResult(
        task_type="image-classification",
        dataset_type="ylecun/mnist",
        dataset_name="MNIST",
        dataset_split="test",
        metric_type="accuracy",
        metric_name="accuracy",
        metric_value=weights.accuracy,
    )


def _measured(weights: Weights) -> list[str]:
    """The sections of a card about pretrained weights."""
    seeds = ""
    if len(weights.accuracies) > 1:
        seeds = (
            f"Over {len(weights.accuracies)} seeds: {weights.accuracy_mean:.2%} ± "
            f"{weights.accuracy_sd:.2%} (mean ± standard deviation; these weights are those of "
            f"seed {weights.seed}). "
        )
    return [
        "## Results",
        f"Correct on MNIST's 10,000 test digits: {weights.correct:,}. {seeds}Negative "
        f"log-likelihood {weights.nll:.4f} nats per digit, expected calibration error "
        f"{weights.calibration_error:.4f} over 15 bins.",
        "## Training",
        f"On MNIST's 60,000 training digits, by the recipe `{weights.recipe}` of mnist_zoo.",
        "## Limits",
        "It knows handwritten digits only. `predict` redraws images of one digit each in MNIST's "
        "form, and refuses those without a digit.",
    ]
