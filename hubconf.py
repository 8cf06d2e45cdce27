"""Entry points of torch.hub: ``torch.hub.load(<this repository>, "mini_resnet")``."""

from mnist_zoo.models.registry import MODELS

dependencies = ["torch", "torchvision", "safetensors", "scipy", "thop", "torchsummary", "tqdm"]
globals().update(MODELS)
