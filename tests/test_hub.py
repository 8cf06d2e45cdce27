"""Networks on the Hugging Face Hub, through a local folder instead of a download."""

import importlib
import json
import re
import sys

import pytest
import torch
from torch.optim.swa_utils import AveragedModel

from mnist_zoo import Preprocessing, get_weights, mini_resnet, resnet18

pytest.importorskip("huggingface_hub", reason="the hub extra is not installed")


def test_a_missing_huggingface_hub_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.delitem(sys.modules, "mnist_zoo.hub", raising=False)
    with pytest.raises(ImportError, match=r'pip install "mnist-zoo\[hub\]"'):
        importlib.import_module("mnist_zoo.hub")


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


@pytest.mark.parametrize("thing", ["mini_resnet", mini_resnet, None])
def test_other_things_than_networks_are_refused(thing):
    from mnist_zoo.hub import HubModel

    with pytest.raises(TypeError, match=r"`model` \(=.*\) must be a network, such as"):
        HubModel(thing)


@pytest.mark.parametrize("wrap", [torch.nn.DataParallel, AveragedModel, torch.compile])
def test_a_wrapped_network_is_shared_like_the_one_inside(wrap, tmp_path):
    from mnist_zoo.hub import HubModel

    model = mini_resnet(weights="mnist")
    shared = HubModel(wrap(model))
    shared.classes = tuple("abcdefghij")
    shared.save_pretrained(tmp_path)
    back = HubModel.from_pretrained(tmp_path).model
    assert back.classes == tuple("abcdefghij")
    x = torch.rand(2, 1, 28, 28)
    assert torch.equal(back(x), model.eval()(x))


def test_the_training_modes_inside_stay():
    from mnist_zoo.hub import HubModel

    model = resnet18().train()
    model.bn1.eval()  # its statistics are frozen
    modes = [module.training for module in model.modules()]
    assert HubModel(model).training
    assert [module.training for module in model.modules()] == modes


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


def saved_card(model, folder):
    from huggingface_hub import ModelCard

    from mnist_zoo.hub import HubModel

    HubModel(model).save_pretrained(folder)
    return ModelCard.load(folder / "README.md")


def test_the_card_of_pretrained_weights_states_their_results(tmp_path):
    card, weights = saved_card(mini_resnet(weights="mnist"), tmp_path), get_weights("mini_resnet")
    data = card.data
    assert (data.library_name, data.license) == ("mnist_zoo", "mit")
    assert data.pipeline_tag == "image-classification"
    assert data.datasets == ["ylecun/mnist"]
    (result,) = data.eval_results
    assert (result.dataset_split, result.metric_type) == ("test", "accuracy")
    assert result.metric_value == weights.correct / 10_000
    assert f"test digits: {weights.correct:,}. " in card.text
    over = f"Over {len(weights.accuracies)} seeds: {weights.accuracy_mean:.2%} ± "
    assert (over in card.text) == (len(weights.accuracies) > 1)
    assert f"`{weights.recipe}`" in card.text
    (code,) = re.findall(r"```python\n(.*?)```", card.text, re.S)
    compile(code, "card", "exec")


@pytest.mark.parametrize("change", ["other weights", "trained further", "other images"])
def test_the_card_of_what_was_not_measured_states_no_results(tmp_path, change):
    model = mini_resnet(weights=None if change == "other weights" else "mnist")
    if change == "other images":
        model.preprocessing = Preprocessing(mean=0.2)
    else:
        model.fc.bias.data[3] += 1
    card = saved_card(model, tmp_path)
    assert card.data.eval_results is None
    assert card.data.datasets is None
    assert "41,514 parameters, images of 1×28×28, 10 classes" in card.text
    assert "Results" not in card.text
