"""Shares networks on the Hugging Face Hub; needs the package huggingface_hub."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

from huggingface_hub import ModelHubMixin, hf_hub_download
from torch import Tensor, nn
from typing_extensions import Self, override

from ._files import written_whole
from ._networks import class_names, stated_classes
from .models.base import Classifier
from .models.saving import load_model, save_model

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

    A local folder works in the same way, as in the example.

    Attributes:
        model: The network.

    Shape:
        The network's.

    Example:
        >>> from mnist_zoo import mini_resnet
        >>> from mnist_zoo.hub import HubModel
        >>> _ = HubModel(mini_resnet(weights="mnist")).save_pretrained("digits")
        >>> HubModel.from_pretrained("digits").model.input_size
        (1, 28, 28)
    """

    wrapped_as: ClassVar[str] = "model"  # where `unwrapped` finds the network

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.model = model
        self.train(model.training)

    @override
    def __getattr__(self, name: str) -> Any:
        """The network's attribute, such as `input_size`, where this module has none."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("model"), name)

    @override
    def __setattr__(self, name: str, value: Any) -> None:
        """Sets the preprocessing and the names of the classes of the network inside."""
        if name in ("preprocessing", "classes"):
            setattr(self.model, name, value)
        else:
            super().__setattr__(name, value)

    def forward(self, x: Tensor) -> Tensor:
        """The network's output."""
        return self.model(x)

    @override
    def _save_pretrained(self, save_directory: Path) -> None:
        save_model(self.model, save_directory / FILE)
        options = {**self.model.options, "num_classes": int(self.model.num_classes)}
        config: dict[str, Any] = {"network": self.model.factory, "options": options}
        if self.model.preprocessing is not None:
            config["preprocessing"] = asdict(self.model.preprocessing)
        if names := stated_classes(self.model):
            config["classes"] = class_names(names, self.model.num_classes)
        with written_whole(save_directory / "config.json") as file:
            file.write(json.dumps(config).encode())

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
