"""The sources of weights: files, torchvision's cache and downloads."""

import copy
import hashlib
import os
import pickle

import pytest
import torch
import torchvision
from conversion_cases import FAMILY, same_state, torchvision_model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torchvision.models._api import Weights, WeightsEnum

from mnist_zoo import (
    ConversionError,
    WeightsError,
    from_torchvision,
    get_model,
    lenet5,
    resnet18,
)


def test_files(tmp_path):
    source = lenet5()
    torch.save(source.state_dict(), tmp_path / "zip.pth")
    torch.save(source.state_dict(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    torch.save({"epoch": 1, "state_dict": source.state_dict()}, tmp_path / "wrapped.pt")
    save_file(source.state_dict(), tmp_path / "safe.safetensors")
    for path in tmp_path.iterdir():
        ours = lenet5()
        assert len(from_torchvision(ours, path).copied) == 10
        assert same_state(ours.state_dict(), source.state_dict())
        assert len(from_torchvision(ours, str(path)).copied) == 10


class Mischief:
    """Its pickle makes a folder when it is loaded."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return (os.mkdir, (str(self.folder),))


OWN_MESSAGE = ("list.pth", "folder.pth", "text.safetensors")


@pytest.mark.filterwarnings("ignore:.*torch.jit", "ignore:Detected pickle protocol")
def test_files_with_any_other_content_are_refused(tmp_path):
    mischief = Mischief(tmp_path / "mischief")
    contents = {
        "code.pth": lambda path: torch.save({"conv1.weight": mischief}, path),
        "pickle.pth": lambda path: path.write_bytes(pickle.dumps(mischief)),
        "whole.pth": lambda path: torch.save(lenet5(), path),
        "script.pt": lambda path: torch.jit.save(torch.jit.script(lenet5()), str(path)),
        "empty.pth": lambda path: path.write_bytes(b""),
        "text.safetensors": lambda path: path.write_text("not weights"),
        "list.pth": lambda path: torch.save([torch.zeros(1)], path),
        "folder.pth": lambda path: path.mkdir(),
    }
    for name, write in contents.items():
        path = tmp_path / name
        write(path)
        ours = lenet5()
        before = copy.deepcopy(ours.state_dict())
        with pytest.raises(WeightsError, match=f"{name}' must ") as error:
            from_torchvision(ours, path)
        assert "torch.jit.load(path)" in str(error.value) or name in OWN_MESSAGE
        assert same_state(ours.state_dict(), before)
    assert not mischief.folder.exists()
    pickle.loads(pickle.dumps(mischief))
    assert mischief.folder.exists()


@settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40
)
@given(length=st.floats(0, 0.999), suffix=st.sampled_from(["pth", "safetensors"]))
def test_truncated_files_are_refused(tmp_path, length, suffix):
    path = tmp_path / f"whole.{suffix}"
    if not path.exists():
        state = lenet5().state_dict()
        save_file(state, path) if suffix == "safetensors" else torch.save(state, path)
    cut = tmp_path / f"cut.{suffix}"
    cut.write_bytes(path.read_bytes()[: int(length * path.stat().st_size)])
    with pytest.raises(WeightsError, match=rf"cut\.{suffix}' must"):
        lenet5(weights=cut)


def weights_member(name, digest):
    """A member of a torchvision weights enum whose file has that SHA-256, at no address."""
    url = f"https://localhost:9/{name}-{digest[:8]}.pth"
    members = {"IMAGENET1K_V1": Weights(url=url, transforms=None, meta={})}
    return WeightsEnum(f"{name}_Weights", members).IMAGENET1K_V1


@pytest.fixture
def hub(tmp_path):
    """An empty torch.hub cache."""
    before = torch.hub.get_dir()
    torch.hub.set_dir(str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    yield tmp_path / "checkpoints"
    torch.hub.set_dir(before)


def test_weights_in_the_cache_are_checked_and_used(hub, monkeypatch):
    theirs = torchvision_model("resnet18")
    torch.save(theirs.state_dict(), hub / "saved")
    digest = hashlib.sha256((hub / "saved").read_bytes()).hexdigest()
    path = (hub / "saved").rename(hub / f"resnet18-{digest[:8]}.pth")
    member = weights_member("resnet18", digest)
    assert same_state(
        resnet18(weights=member, in_channels=3, num_classes=1000).state_dict(), theirs.state_dict()
    )

    monkeypatch.setattr(torchvision.models, "get_model_weights", lambda name: {"DEFAULT": member})
    ours = resnet18(weights="imagenet")
    assert torch.equal(ours.conv1.weight, theirs.conv1.weight.sum(1, keepdim=True))
    assert torch.equal(ours.layer1[0].conv1.weight, theirs.layer1[0].conv1.weight)

    path.write_bytes(path.read_bytes() + b"x")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(ConversionError, match=rf"{digest[:8]}\.pth' must .*{digest[:8]}….*{found}"):
        resnet18(weights=member)


def test_a_download_of_another_hash_is_refused(hub, tmp_path):
    (tmp_path / "resnet18-deadbeef.pth").write_bytes(b"not what it says")
    url = (tmp_path / "resnet18-deadbeef.pth").as_uri()
    members = {"IMAGENET1K_V1": Weights(url=url, transforms=None, meta={})}
    member = WeightsEnum("ResNet18_Weights", members).IMAGENET1K_V1
    with pytest.raises(ConversionError, match=rf"{url} must hold what its name says: .*deadbeef"):
        resnet18(weights=member)


def test_error_without_internet_names_the_address_and_the_place_for_the_file(hub):
    member = weights_member("resnet18", "0123456789")
    with pytest.raises(FileNotFoundError, match=rf"{member.url}.*put it at '{hub}.*01234567\.pth'"):
        resnet18(weights=member)


def test_imagenet_downloads_torchvisions_default_weights(hub, monkeypatch):
    asked = []

    def download(url, dst, hash_prefix=None, progress=True):
        asked.append((url, hash_prefix))
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    for name in FAMILY:
        with pytest.raises(FileNotFoundError, match="no network"):
            get_model(name, weights="imagenet")
    urls = [torchvision.models.get_model_weights(name).DEFAULT.url for name in FAMILY]
    assert asked == [(url, url.rpartition("-")[2].removesuffix(".pth")) for url in urls]
