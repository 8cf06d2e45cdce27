"""A page on which to draw digits, with mouse, finger or pen, and a network that reads them.

Run it with ``pip install ".[onnx]" && python examples/draw_digit.py``: it writes ``digits.html``,
which needs nothing but a browser, and opens it. No data leaves the machine.
"""

import argparse
import webbrowser
from pathlib import Path

from mnist_zoo import mini_resnet
from mnist_zoo.export import export

if __name__ == "__main__":
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    page = Path("digits.html").resolve()
    print(export(mini_resnet(weights="mnist"), page, "page"))
    webbrowser.open(page.as_uri())
