"""Draws the pictures of the documentation, and writes the page on which digits are drawn.

Sphinx calls it before each build.
"""

import sys
from pathlib import Path

import torch
from torch import nn

from mnist_zoo import (
    BasicBlock,
    Bottleneck,
    DenseBlock,
    InceptionA,
    ResidualBlock,
    get_model,
    list_models,
    plots,
)
from mnist_zoo.export import export

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent / "examples"))
import benchmarks  # noqa: E402
import catalogue  # noqa: E402
import report_pages  # noqa: E402
import residual_variants  # noqa: E402

# what `concepts.md` shows: a block, and the shape of its input
BLOCKS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "residual_block": (ResidualBlock(16), (16, 12, 12)),
    "basic_block": (BasicBlock(64, 128, stride=2), (64, 14, 14)),
    "bottleneck": (Bottleneck(256, 64), (256, 14, 14)),
    "inception": (InceptionA(10), (10, 12, 12)),
    "dense_block": (DenseBlock(16, 3, 8, bottleneck=False), (16, 14, 14)),
}


def up_to_date(folder: Path) -> bool:
    """Whether the pictures are newer than all that they are drawn from."""
    root = DOCS.parent
    sources = [*root.glob("mnist_zoo/**/*.py"), *root.glob("examples/*.py"), *DOCS.glob("*.py")]
    sources += [*DOCS.glob("**/*.json"), *root.glob("mnist_zoo/**/*.json")]
    drawn = [path.stat().st_mtime for path in folder.glob("*.svg")]
    return bool(drawn) and min(drawn) > max(path.stat().st_mtime for path in sources)


def write(folder: Path) -> None:
    """Diagrams of every network and of some blocks, accuracy against cost, and curves, as SVG."""
    if up_to_date(folder):
        return
    folder.mkdir(exist_ok=True)
    figures = {name: plots.draw(block, size) for name, (block, size) in BLOCKS.items()}
    with torch.device("meta"):
        figures |= {name: plots.draw(get_model(name)) for name in list_models()}
    figures |= report_pages.figures() | residual_variants.figures()
    figures |= benchmarks.figures()
    figures |= {"accuracy": catalogue.against_counted()}
    figures |= {"accuracy_measured": catalogue.against_measured()}
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.svg")


def write_page(folder: Path) -> None:
    """The page that reads digits, with the pretrained `mini_resnet`."""
    export(get_model("mini_resnet", weights="mnist"), folder / "digits.html", "page")


if __name__ == "__main__":
    write(DOCS / "_pictures")
