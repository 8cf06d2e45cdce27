"""The conformance kit of examples/conformance.py, for the tests of formats."""

import numpy as np
from example_scripts import load_example

conformance = load_example("conformance")


def images_and_logits(folder, network):
    """The kit's images (100, 1, 28, 28), uint8, and the logits (100, 10) of a network."""
    conformance.write(folder, [network])
    images = np.fromfile(folder / "digits.u8", np.uint8).reshape(-1, 1, 28, 28)
    return images, np.fromfile(folder / f"{network}.f32", "<f4").reshape(-1, 10)
