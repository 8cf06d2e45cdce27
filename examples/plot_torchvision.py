"""
Torchvision's weights, and transfer
===================================

Our ResNets and DenseNets equal torchvision's, name for name. Weights convert both ways, and a stem
or a head of another shape is adapted.
"""

import torch
import torchvision

from mnist_zoo import (
    Digits,
    Recipe,
    evaluate,
    fit,
    from_torchvision,
    get_weights,
    load_mnist,
    mini_resnet,
    plots,
    resnet18,
    to_torchvision,
)

# %%
# The same weights and the same images: how far apart are the outputs? Random weights stand for
# torchvision's pretrained ones, which ``resnet18(weights="imagenet")`` downloads.

pictures = torch.randn(2, 3, 64, 64)
theirs = torchvision.models.resnet18().eval()
ours = resnet18(weights=theirs, in_channels=3, num_classes=1000).eval()
with torch.inference_mode():
    print("from torchvision:", (ours(pictures) - theirs(pictures)).abs().max().item())
    theirs.load_state_dict(to_torchvision(ours))
    print("to torchvision:", (ours(pictures) - theirs(pictures)).abs().max().item())

# %%
# To one channel and ten classes. The report lists what happened to every tensor.

print(from_torchvision(resnet18(), theirs))

# %%
# Transfer to other images
# ------------------------
# The task: is a digit even? The images are in colour, and only 200 of them are for training.


def in_colour(digits: Digits) -> Digits:
    """Digits in random colours; class 1 means odd."""
    colours = torch.rand(len(digits), 3, 1, 1, generator=torch.Generator().manual_seed(0))
    return Digits((digits.images * (0.3 + 0.7 * colours)).byte(), digits.labels % 2)


(few,) = load_mnist("train", source="sample").split(200)
train, test = in_colour(few), in_colour(load_mnist("test", source="sample"))

# %%
# The pretrained weights are for grey digits of ten classes. The weights of the stem are spread over
# the colours, the head is re-initialised.

model = mini_resnet(in_channels=3, num_classes=2)
print(from_torchvision(model, get_weights("mini_resnet")))

# %%
# The same recipe trains this network and a randomly initialised one. (The pretrained weights were
# trained on the sample's digits, in grey and with other classes, so the gap is a little larger than
# it would be on new digits.)

recipe = Recipe(optimizer="adamw", lr=0.003, schedule="onecycle", batch_size=20, epochs=10)
histories = {
    "transferred": fit(model, train, test, recipe=recipe, progress=False),
    "from scratch": fit(
        mini_resnet(in_channels=3, num_classes=2), train, test, recipe=recipe, progress=False
    ),
}
for name, history in histories.items():
    print(f"{name}: {evaluate(history.model, test).accuracy:.1%}")
plots.curves(histories).savefig("transfer.png", dpi=110)
