"""The zoo in half a minute, offline: a table, recognised digits, parity, a trained network.

Run it with ``pip install ".[examples]" && python examples/quickstart.py``; it writes
``mistakes.png`` into the current directory.
"""

import time

import torch
import torchvision

from mnist_zoo import (
    Recipe,
    evaluate,
    fit,
    load_mnist,
    mini_resnet,
    plots,
    predict,
    profile,
    read_digits,
    resnet18,
    sample_pictures,
    summary,
    to_torchvision,
)

start = time.perf_counter()
torch.manual_seed(0)

print("A network: its layers, and what one image costs.")
model = mini_resnet()
summary(model)
macs, params = profile(model)
print(f"{params:,} parameters, {macs:,} multiply-accumulates per image\n")

print("Pretrained weights, and two images that ship in the package.")
model = mini_resnet(weights="mnist")
photo, sheet = sample_pictures()
print(f"{photo.name}: {predict(model, photo)}")
print(f"{sheet.name}:\n{read_digits(model, sheet)}\n")

print("torchvision's ResNet-18 with random weights: to ours and back.")
images = torch.randn(2, 3, 64, 64)
theirs = torchvision.models.resnet18().eval()
ours = resnet18(weights=theirs, in_channels=3, num_classes=1000).eval()
with torch.inference_mode():
    there = (ours(images) - theirs(images)).abs().max()
    theirs.load_state_dict(to_torchvision(ours))
    back = (ours(images) - theirs(images)).abs().max()
print(f"the outputs differ by {there + back:g}\n")

print("Training on 4,000 digits of MNIST, and a test on 1,000 others.")
train, test = (load_mnist(split, source="sample") for split in ("train", "test"))
recipe = Recipe(
    network="mini_resnet", optimizer="adamw", lr=0.01, schedule="onecycle", batch_size=50, epochs=6
)
metrics = evaluate(fit(recipe, train).model, test)
print(f"\naccuracy on the 1,000 digits: {metrics.accuracy:.1%}")
plots.mistakes(test, metrics).savefig("mistakes.png", dpi=110)

print(f"{time.perf_counter() - start:.0f} s in all; now open mistakes.png: what it got wrong")
