"""Networks whose weights a hook computes at each call, and networks that cannot be copied."""

import threading

import pytest
import torch
from torch.nn.utils import prune

from mnist_zoo import lenet5, mini_resnet
from mnist_zoo.export import ExportError, export


def pruned(model):
    prune.l1_unstructured(model.conv1, "weight", 0.5)
    return model


def normed(model):
    torch.nn.utils.weight_norm(model.conv1)
    return model


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("format", ["onnx", "torch_export", "torchscript"])
@pytest.mark.parametrize("change", [pruned, normed])
def test_computed_weights_are_exported(tmp_path, format, change):
    model = change(mini_resnet())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert export(model, tmp_path / "file", format).largest_difference < 1e-5
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert model.training


def test_networks_that_cannot_be_copied_are_refused(tmp_path):
    model = lenet5()
    model.lock = threading.Lock()
    with pytest.raises(ExportError, match=r"`model` \(LeNet5\) cannot be copied: .*lock"):
        export(model, tmp_path / "file")
    assert not list(tmp_path.iterdir())
