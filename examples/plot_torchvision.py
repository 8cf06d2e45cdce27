"""
Torchvision's weights, and transfer
===================================

Our ResNets and DenseNets are torchvision's, name for name. Weights go there and back, and a stem
or a head of another shape adapts.
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
# The same weights, the same pictures: how far apart are the outputs? Random weights stand for
# torchvision's, which would be downloaded by ``resnet18(weights="imagenet")``.

pictures = torch.randn(2, 3, 64, 64)
theirs = torchvision.models.resnet18().eval()
ours = resnet18(weights=theirs, in_channels=3, num_classes=1000).eval()
with torch.inference_mode():
    print("there:", (ours(pictures) - theirs(pictures)).abs().max().item())
    theirs.load_state_dict(to_torchvision(ours))
    print("and back:", (ours(pictures) - theirs(pictures)).abs().max().item())

# %%
# Onto one channel and ten classes. The report tells what became of every tensor.

print(from_torchvision(resnet18(), theirs))

# %%
# Transfer to other pictures
# --------------------------
# The task: is a digit even? The pictures: in colour, and only 200 of them to learn from.


def in_colour(digits: Digits) -> Digits:
    """Digits of random colours; class 1 is the odd ones."""
    colours = torch.rand(len(digits), 3, 1, 1, generator=torch.Generator().manual_seed(0))
    return Digits((digits.images * (0.3 + 0.7 * colours)).byte(), digits.labels % 2)


(few,) = load_mnist("train", source="sample").split(200)
train, test = in_colour(few), in_colour(load_mnist("test", source="sample"))

# %%
# The weights that ship saw grey digits of ten classes. The stem is spread over the colours, the
# head is drawn anew.

model = mini_resnet(in_channels=3, num_classes=2)
print(from_torchvision(model, get_weights("mini_resnet")))

# %%
# Both learn by the same recipe: the network with those weights, and one that starts at random.
# (The sample's digits belong to MNIST's training set, which the weights have seen, in grey and
# with other classes; the gap is so a little larger than it would be on new digits.)

recipe = Recipe(
    network="mini_resnet",
    optimizer="adamw",
    lr=0.003,
    schedule="onecycle",
    batch_size=20,
    epochs=10,
)
histories = {
    "transferred": fit(model, train, test, recipe=recipe, progress=False),
    "from the start": fit(
        mini_resnet(in_channels=3, num_classes=2), train, test, recipe=recipe, progress=False
    ),
}
for name, history in histories.items():
    assert history.model is not None
    print(f"{name}: {evaluate(history.model, test).accuracy:.1%}")
plots.curves(histories).savefig("transfer.png", dpi=110)
