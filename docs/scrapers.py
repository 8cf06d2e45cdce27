"""Shows in the gallery what an example wrote as PNG."""

import shutil
from pathlib import Path
from typing import Any

from sphinx_gallery.scrapers import figure_rst

ALTERNATIVES = {  # what the pictures show, for those who cannot see them
    "composed": "A diagram of the network, with its residual blocks on the right",
    "composed_curves": "Training loss and error over three epochs",
    "latency": "Bars: milliseconds per forward pass of the network, fused, optimised, in ONNX "
    "Runtime and in int8, for one image and for 64",
    "inside_network": "A diagram of mini_resnet, with its residual block on the right",
    "inside_filters": "The 16 kernels of the first convolution: strokes and edges",
    "inside_conv1": "The 16 feature maps of the first convolution for one digit",
    "inside_rblock2": "The 32 small feature maps of the second residual block for one digit",
    "inside_mistakes": "Digits that the network takes for another, with both",
    "inside_confusion": "Counts of true digits in rows and predicted digits in columns",
    "drawn": "Four drawn digits in different colours: 7, 3, 5 and 2",
    "drawn_seen": "The same digits as the network gets them: light on black, centred",
    "sheet": "A ruled sheet in uneven light with three rows of handwritten numbers",
    "sheet_read": "The sheet with a box and a digit around all that was read",
    "report_curves": "Training loss and error of the report's recipe and of ours",
    "report_classes": "Accuracy of each digit with the report's recipe and with ours",
    "report_confusion": "Counts of true digits in rows and predicted digits in columns",
    "report_mistakes": "The most confident mistakes, each with the true and the predicted digit",
    "transfer": "Training loss and error with transferred weights and from scratch",
}
shown: set[tuple[str, int]] = set()


def written_pictures(
    block: tuple[Any, ...], block_vars: dict[str, Any], gallery_conf: dict[str, Any]
) -> str:
    """Copies the pictures that came with a cell, oldest first; returns the text that shows them."""
    folder = Path(block_vars["src_file"]).parent
    texts = []
    for picture in sorted(folder.glob("*.png"), key=lambda path: path.stat().st_mtime_ns):
        version = (str(picture), picture.stat().st_mtime_ns)
        if version not in shown:
            shown.add(version)
            copy = next(block_vars["image_path_iterator"])
            shutil.copy(picture, copy)
            title = ALTERNATIVES.get(picture.stem, picture.stem.replace("_", " "))
            texts.append(figure_rst([copy], gallery_conf["src_dir"], title))
    return "\n".join(texts)
