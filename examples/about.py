"""What the page of each network says beyond its figures; `catalogue.py` writes it there.

What the network is for, its papers, how to train it, and why it has no accuracy.
"""

from fnmatch import fnmatchcase

import torch

from mnist_zoo import get_model, get_recipe, list_recipes

# By the pattern of the name; the first that matches counts.
PURPOSES = {
    "lenet5": "The classic network for digits. It is the baseline of the report on LeNet, and a "
    "good first network to train.",
    "lenet5_conv_residual": "It shows what a residual module adds to LeNet-5: the report's "
    "network 1, with the module on the feature maps.",
    "lenet5_fc_residual": "It shows what a residual module adds to LeNet-5: the report's network "
    "2, with the module after the first linear layer.",
    "digitnet_*": "For microcontrollers, web pages and other places where every parameter counts: "
    "the DigitNets aim at the highest accuracy within a budget of parameters.",
    "mini_convnet": "For fast training: its recipe reaches 99 % in one epoch, within seconds.",
    "mini_densenet": "To learn and test dense connections: DenseNet's layers in a network that "
    "trains in minutes.",
    "mini_googlenet": "To learn and test parallel branches: two Inception modules, as in the "
    "report on a simple GoogLeNet and ResNet.",
    "mini_resnet": "The network to start with: small, accurate, without BatchNorm, and fast on "
    "every runtime. It is the simple ResNet of the report.",
    "plain*": "To measure what residual connections do: the layers of the ResNet of the same "
    "depth, without its sums.",
    "resnet50_separable": "To compare two kinds of bottleneck: the report describes this one, with "
    "depthwise-separable convolutions, but prints the usual one.",
    "resnet_cnn*": "The network of the report on ResNet_CNN, for its experiments on stem, dropout "
    "and norms.",
    "resnet*": "torchvision's network for grey 28×28 images, with the same names of parameters, so "
    "that weights load both ways.",
    "preact_resnet20": "The smallest of the paper's networks for small images: to compare orders "
    "and shortcuts of residual units in reasonable time.",
    "preact_resnet1??": "One of the paper's networks for small images: to compare orders and "
    "shortcuts of residual units at its depth.",
    "preact_resnet*": "To compare orders and shortcuts of residual units in a ResNet of "
    "torchvision's size.",
    "densenet40_12": "One of the paper's networks for small images, without bottlenecks.",
    "densenet_bc100_12": "One of the paper's networks for small images, with bottlenecks.",
    "densenet*": "torchvision's network for grey 32×32 images, with the same names of parameters, "
    "so that weights load both ways.",
}
LECUN = (
    "LeCun, Bottou, Bengio, Haffner: [Gradient-based learning applied to document recognition]"
    "(https://doi.org/10.1109/5.726791), 1998"
)
SZEGEDY = "Szegedy et al.: [Going deeper with convolutions](https://arxiv.org/abs/1409.4842), 2015"
HE = (
    "He, Zhang, Ren, Sun: [Deep residual learning for image recognition]"
    "(https://arxiv.org/abs/1512.03385), 2016"
)
IDENTITY = (
    "He, Zhang, Ren, Sun: [Identity mappings in deep residual networks]"
    "(https://arxiv.org/abs/1603.05027), 2016"
)
HUANG = (
    "Huang, Liu, van der Maaten, Weinberger: [Densely connected convolutional networks]"
    "(https://arxiv.org/abs/1608.06993), 2017"
)
HOWARD = "Howard et al.: [MobileNets](https://arxiv.org/abs/1704.04861), 2017"
PAPERS = {
    "lenet5": (LECUN,),
    "lenet5_*": (LECUN, HE),
    "digitnet_*": ("Ours", HE, HOWARD),
    "mini_convnet": ("Ours",),
    "mini_densenet": ("Ours", HUANG),
    "mini_googlenet": (SZEGEDY,),
    "resnet50_separable": (HE, HOWARD),
    "preact_*": (IDENTITY, HE),
    "densenet*": (HUANG,),
    "*": (HE,),
}
REPORTS = {  # the section of `docs/reproduction.md`
    "lenet5*": "lenet-with-one-residual-module-in-two-places",
    "mini_googlenet": "a-simple-googlenet-and-a-simple-resnet",
    "mini_resnet": "a-simple-googlenet-and-a-simple-resnet",
    "plain18": "resnet-18-with-and-without-residual-connections",
    "resnet18": "resnet-18-with-and-without-residual-connections",
    "resnet50*": "resnet-18-and-resnet-50-on-bottleneck",
    "resnet_cnn*": "the-34-layer-resnet-with-dropout",
}
UNMEASURED = {
    "plain18": "The report's experiment uses 2,000 digits; its results are on the page of the "
    "reports. Nobody has trained this network on all of MNIST here.",
    "digitnet_*": "It has not been trained on all of MNIST yet; the recipe below is for that.",
    "mini_densenet": "It is an example of its family, and was not trained on all of MNIST.",
    "preact_resnet20": "It was trained on part of MNIST only, to compare "
    "[orders and shortcuts](../residual_variants.md).",
    "*": "Training it takes hours on a CPU, and this project had no GPU for it. Far smaller "
    "networks already reach 99.5 %, so do not expect much more.",
}
USUAL = "mini_resnet_mnist"  # the recipe for networks without one


def matching(network: str, table: dict[str, str]) -> str:
    """The entry of the first pattern that the name matches, or an empty string."""
    return next((table[key] for key in table if fnmatchcase(network, key)), "")


def sources(network: str) -> str:
    """The papers, and the report if there is one."""
    papers = next(PAPERS[key] for key in PAPERS if fnmatchcase(network, key))
    if section := matching(network, REPORTS):
        papers = (f"[its report](../reproduction.md#{section})", *papers)
    return "; ".join(papers)


def training(network: str) -> str:
    """How to train the network: its recipes, or how to use another network's."""
    recipes = [name for name in list_recipes() if get_recipe(name).network == network]
    if recipes:
        text = "Recipes of this network:"
        commands = [f"python examples/train.py {name}" for name in recipes]
    else:
        text = (
            "No recipe is made for this network. This one is `mini_resnet`'s, not tuned for it; in "
            f"Python, pass `get_recipe({USUAL!r}, network={network!r})` to `fit`:"
        )
        with torch.device("meta"):
            size = get_model(network).input_size[-1]
        sized = "" if size == 28 else f" preprocessing.image_size={size}"
        commands = [f"python examples/train.py {USUAL} network={network}{sized}"]
    return "\n".join([text, "", "```sh", *commands, "```"])
