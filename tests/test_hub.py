"""Networks on the Hugging Face Hub, through a folder as the Hub would give it."""

import pytest
import torch

from mnist_zoo import Preprocessing, mini_resnet

pytest.importorskip("huggingface_hub", reason="the hub extra is not installed")


def test_a_network_goes_to_a_folder_and_comes_back(tmp_path):
    from mnist_zoo.hub import HubModel

    model = mini_resnet(num_classes=26)
    model.preprocessing = Preprocessing(mean=0.2)
    HubModel(model).save_pretrained(tmp_path)
    assert {"model.safetensors", "README.md"} <= {file.name for file in tmp_path.iterdir()}
    assert "library_name: mnist_zoo" in (tmp_path / "README.md").read_text()
    back = HubModel.from_pretrained(str(tmp_path))
    x = torch.rand(2, 1, 28, 28)
    assert torch.equal(back.eval()(x), model.eval()(x))
    assert back.model.preprocessing == model.preprocessing


def test_what_is_not_there_is_said(tmp_path):
    from mnist_zoo.hub import HubModel

    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        HubModel.from_pretrained(str(tmp_path))
