"""Networks on the Hugging Face Hub; needs the package huggingface_hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub import ModelHubMixin, hf_hub_download
from torch import Tensor, nn
from typing_extensions import Self, override

from .models import Classifier
from .registry import load, save_weights

__all__ = ["HubModel"]

FILE = "model.safetensors"


class HubModel(
    nn.Module,
    ModelHubMixin,
    library_name="mnist_zoo",
    tags=["mnist", "image-classification"],
    license="mit",
):
    """A network of the zoo that can be pushed to the Hub and fetched from it.

    ``HubModel(mini_resnet(weights="mnist")).push_to_hub("me/digits")``
    ``model = HubModel.from_pretrained("me/digits").model``

    Attributes:
        model: The network.
    """

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """As the network's."""
        return self.model(x)

    @override
    def _save_pretrained(self, save_directory: Path) -> None:
        save_weights(self.model, save_directory / FILE)

    @classmethod
    @override
    def _from_pretrained(cls, *, model_id: str, **options: Any) -> Self:
        folder = Path(model_id)
        if folder.is_dir():
            return cls(load(folder / FILE))
        known = ("revision", "cache_dir", "force_download", "local_files_only", "token")
        asked = {name: options[name] for name in known if name in options}
        return cls(load(hf_hub_download(model_id, FILE, **asked)))
