"""A kit with which a port of a network, in any language, checks itself.

``pip install ".[examples]" && python examples/conformance.py kit`` writes into the folder ``kit``:

- ``digits.u8``: 100 images of 28×28 pixels, one byte per pixel, row by row, without a header;
- ``NETWORK.f32`` for each network with pretrained weights: its logits of these images, as 32-bit
  floats, little-endian, 10 per image;
- ``index.json``: the shapes, how pixels become the network's input, and the tolerance.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch

from mnist_zoo import get_model, list_models, load_mnist

COUNT = 100
TOLERANCE = 1e-3  # largest difference of a logit; float32 in another order gives less than 1e-4


def write(folder: Path, networks: Sequence[str]) -> None:
    """Writes the kit for these networks."""
    folder.mkdir(parents=True, exist_ok=True)
    images = load_mnist("test", source="sample").split(COUNT)[0].images  # as many of each digit
    (folder / "digits.u8").write_bytes(images.contiguous().numpy().tobytes())
    index: dict[str, object] = {
        "images": {"file": "digits.u8", "shape": list(images.shape), "type": "uint8"},
        "tolerance": TOLERANCE,
    }
    stated = {}
    for name in networks:
        model = get_model(name, weights="mnist").eval()
        assert model.preprocessing is not None
        with torch.inference_mode():
            logits = model(model.preprocessing(images))
        (folder / f"{name}.f32").write_bytes(logits.numpy().astype("<f4").tobytes())
        stated[name] = {
            "file": f"{name}.f32",
            "shape": list(logits.shape),
            "type": "float32, little-endian",
            "input": "(pixel / 255 - mean) / std",
            "mean": model.preprocessing.mean,
            "std": model.preprocessing.std,
        }
    (folder / "index.json").write_text(json.dumps(index | {"networks": stated}, indent=1) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("networks", nargs="*", default=list_models(pretrained=True))
    options = parser.parse_args()
    write(options.folder, options.networks)
    size = sum(file.stat().st_size for file in options.folder.iterdir())
    print(f"{options.folder}: {size / 1000:.0f} kB")
