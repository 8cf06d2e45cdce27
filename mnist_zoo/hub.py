"""Shares networks on the Hugging Face Hub; needs the package huggingface_hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

from huggingface_hub import ModelHubMixin, hf_hub_download
from torch import Tensor, nn
from typing_extensions import Self, override

from .models.base import Classifier
from .models.saving import load_model, save_model
from .pictures.preprocessing import Preprocessing

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

    @property
    def preprocessing(self) -> Preprocessing | None:
        """The network's preprocessing."""
        return self.model.preprocessing

    def forward(self, x: Tensor) -> Tensor:
        """The network's output."""
        return self.model(x)

    @override
    def _save_pretrained(self, save_directory: Path) -> None:
        save_model(self.model, save_directory / FILE)
        options = {**self.model.options, "num_classes": int(self.model.num_classes)}
        config = {"network": self.model.factory, "options": options}
        (save_directory / "config.json").write_text(json.dumps(config), encoding="utf-8")

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
