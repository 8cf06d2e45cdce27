"""Networks on the Hugging Face Hub, through a local folder instead of a download."""

import json

import pytest
import torch

from mnist_zoo import Preprocessing, mini_resnet

pytest.importorskip("huggingface_hub", reason="the hub extra is not installed")


def test_a_network_is_saved_to_a_folder_and_loaded_again(tmp_path):
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


def test_the_config_states_the_classes_of_a_new_head(tmp_path):
    from mnist_zoo.hub import HubModel

    model = mini_resnet()
    model.reset_classifier(26)
    HubModel(model).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["options"]["num_classes"] == 26


def test_a_missing_file_is_named(tmp_path):
    from mnist_zoo.hub import HubModel

    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        HubModel.from_pretrained(str(tmp_path))


def test_downloads_go_through_the_hub(tmp_path, monkeypatch):
    from mnist_zoo import hub

    hub.HubModel(mini_resnet()).save_pretrained(tmp_path)
    asked = {}

    def download(repository, file, **options):
        asked.update(repository=repository, file=file, **options)
        return tmp_path / file

    monkeypatch.setattr(hub, "hf_hub_download", download)
    back = hub.HubModel._from_pretrained(model_id="me/digits", revision="v1", token="secret")
    assert back.model.factory == "mini_resnet"
    assert (asked["repository"], asked["file"]) == ("me/digits", "model.safetensors")
    assert (asked["revision"], asked["token"]) == ("v1", "secret")
    with pytest.raises(TypeError, match="takes no num_classes"):
        hub.HubModel.from_pretrained(str(tmp_path), num_classes=3)
