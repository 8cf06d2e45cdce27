"""
Export and benchmark
====================

One network in five forms: unchanged, with folded BatchNorm, optimized, as ONNX, and as int8 ONNX.
Their predictions agree; their speed depends on the machine.
"""

import tempfile
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import nn

from mnist_zoo import evaluate, fit, fuse, get_recipe, load_mnist, optimize
from mnist_zoo.export import export, load_session, quantize
from mnist_zoo.inspection.latency import latency

train, test = (load_mnist(split, source="sample") for split in ("train", "test"))
model = fit(get_recipe("ninety_nine", epochs=4), train, progress=False).model

# %%
# `export` loads the file in its runtime and compares it with the network before it keeps the file.

folder = Path(tempfile.mkdtemp())
written = export(model, folder / "digits.onnx")
print(f"{written.size:,} bytes; largest difference {written.largest_difference:.0e}")

# %%
# Eight bits for weights and activations. Some training digits give the ranges of the activations.

(calibration,) = train.split(1000)
small = quantize(written.path, folder / "digits.int8.onnx", calibration, test=test)
assert small.metrics is not None
assert small.float_metrics is not None
print(
    f"{small.size:,} bytes; {small.metrics.accuracy:.1%}, before {small.float_metrics.accuracy:.1%}"
)

# %%
# `optimize` keeps the steps that save time on this machine.

found = optimize(model)
print(found)

# %%
# The accuracy of each. A session works wherever a network does.

ways: dict[str, nn.Module] = {
    "unchanged": model,
    "fused": fuse(model),
    "optimized": found.model,
    "ONNX Runtime": load_session(written.path),
    "int8": load_session(small.path),
}
for name, way in ways.items():
    print(f"{name}: {evaluate(way, test).accuracy:.1%}")

# %%
# Milliseconds per forward pass on this machine, measured in turns, for one image and for 64.

figure = Figure(figsize=(8, 3), layout="constrained")
for axes, batch in zip(figure.subplots(1, 2), (1, 64), strict=True):
    with torch.inference_mode():
        times = latency([*ways.values()], torch.randn(batch, 1, 28, 28))
    axes.barh([*ways], [1000 * seconds for seconds in times], color="#0072B2")
    axes.invert_yaxis()
    axes.set(xlabel="milliseconds", title=f"batch {batch}")
figure.savefig("latency.png", dpi=110)
