"""Shows in the gallery what an example wrote as PNG."""

import shutil
from pathlib import Path
from typing import Any

from sphinx_gallery.scrapers import figure_rst

shown: set[tuple[str, int]] = set()


def written_pictures(
    block: tuple[Any, ...], block_vars: dict[str, Any], gallery_conf: dict[str, Any]
) -> str:
    """Copies the pictures that came with a cell, oldest first; returns the text that shows them."""
    folder = Path(block_vars["src_file"]).parent
    copies = []
    for picture in sorted(folder.glob("*.png"), key=lambda path: path.stat().st_mtime_ns):
        version = (str(picture), picture.stat().st_mtime_ns)
        if version not in shown:
            shown.add(version)
            copies.append(next(block_vars["image_path_iterator"]))
            shutil.copy(picture, copies[-1])
    return figure_rst(copies, gallery_conf["src_dir"])
