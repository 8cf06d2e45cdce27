"""What several tests of densenet share."""

import torch
import torch.nn.functional as F


def gradients(model):
    return [p.grad for p in model.parameters()]


def learn(model, x):
    """Outputs of a forward pass in training, behind which gradients stand."""
    torch.manual_seed(1)
    logits = model.train()(x)
    F.cross_entropy(logits, torch.arange(len(x))).backward()
    return logits
