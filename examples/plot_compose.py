"""
Compose a network
=================

Blocks know their ``out_channels``, keep or halve the size of the maps, and project their shortcut
if the shape changes. So they chain like any layer of PyTorch.
"""

from torch import nn

from mnist_zoo import (
    BasicBlock,
    InceptionA,
    Recipe,
    ResidualBlock,
    ResidualUnit,
    compare,
    evaluate,
    fit,
    load_mnist,
    plots,
    profile,
)

model = nn.Sequential(
    ResidualBlock(1, 16, stride=2),
    InceptionA(16),
    BasicBlock(88, 32, stride=2),
    nn.AdaptiveAvgPool2d(1),
    nn.Flatten(),
    nn.Linear(32, 10),
)

# %%
# Its cost per block. `nn.Sequential` does not know the shape of its input, so we pass it.

print(profile(model, (1, 28, 28)))

# %%
# A diagram: the network on the left, and what is inside its blocks.

plots.draw(model, (1, 28, 28)).savefig("composed.png", dpi=110)

# %%
# It trains like every other network, by a recipe.

train, test = (load_mnist(split, source="sample") for split in ("train", "test"))
recipe = Recipe(optimizer="adamw", lr=0.01, schedule="onecycle", batch_size=50, epochs=3)
history = fit(model, train, test, recipe=recipe, progress=False)
plots.curves(history).savefig("composed_curves.png", dpi=110)
print(evaluate(model, test))

# %%
# A residual unit has an order of its layers and a shortcut. Here are four of He et al. (2016), on
# 16 maps. Only the gate and the 1×1 convolution add to the cost.

units: dict[str, nn.Module | str] = {
    "original": ResidualUnit(16, 16),
    "preactivation": ResidualUnit(16, 16, order="preactivation"),
    "gated shortcut": ResidualUnit(16, 16, shortcut="shortcut_gating"),
    "1×1 shortcut": ResidualUnit(16, 16, shortcut="conv"),
}
print(compare(units, (16, 28, 28)))
