"""A file of weights is opened and hashed once, and what was checked is what is used."""

import hashlib
import json
import os
import sys

import numpy as np
import pytest
import safetensors.torch
import torch
from conversion_cases import same_state
from safetensors import SafetensorError

from mnist_zoo import (
    WeightsError,
    from_torchvision,
    get_weights,
    lenet5,
    load_model,
    preact_resnet20,
    save_model,
)
from mnist_zoo.weights import files
from mnist_zoo.weights.files import read_safetensors
from mnist_zoo.weights.tensors import DTYPES

OPENED = []
sys.addaudithook(lambda event, arguments: event == "open" and OPENED.append(str(arguments[0])))


@pytest.fixture
def source():
    return lenet5(num_classes=7)


@pytest.fixture
def safe(source, tmp_path):
    save_model(source, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


@pytest.fixture
def pickled(source, tmp_path):
    torch.save(source.state_dict(), tmp_path / "model.pth")
    return tmp_path / "model.pth"


def overwrite_after(monkeypatch, name, path):
    """Another process writes to the file as soon as this function of `files` returns."""
    function = getattr(files, name)

    def then_overwrite(*arguments):
        result = function(*arguments)
        path.write_bytes(os.urandom(path.stat().st_size))
        return result

    monkeypatch.setattr(files, name, then_overwrite)


@pytest.mark.parametrize(
    "read",
    [
        load_model,
        lambda path: lenet5(num_classes=7, weights=path),
        lambda path: from_torchvision(lenet5(num_classes=7), path),
    ],
    ids=["load_model", "factory", "from_torchvision"],
)
def test_a_safetensors_file_is_opened_and_hashed_once(read, safe, monkeypatch):
    sums = []
    sha256 = hashlib.sha256
    monkeypatch.setattr(hashlib, "sha256", lambda *data: sums.append(sha256(*data)) or sums[-1])
    OPENED.clear()
    read(safe)
    assert OPENED.count(str(safe)) == 1
    assert len(sums) == 1


@pytest.mark.parametrize("weights", ["mnist", get_weights("lenet5")], ids=["name", "record"])
def test_pretrained_weights_are_opened_once(weights):
    OPENED.clear()
    lenet5(weights=weights)
    assert OPENED.count(str(get_weights("lenet5").path)) == 1


def test_a_pickled_file_is_opened_once(pickled):
    OPENED.clear()
    lenet5(num_classes=7, weights=pickled)
    assert OPENED.count(str(pickled)) == 1


def test_a_safetensors_file_overwritten_after_its_checks_gives_the_tensors_that_were_checked(
    safe, source, monkeypatch
):
    content = safe.read_bytes()
    overwrite_after(monkeypatch, "read_tensors", safe)
    assert same_state(load_model(safe).state_dict(), source.state_dict())
    with pytest.raises(WeightsError, match=r"model\.safetensors"):
        load_model(safe)
    safe.write_bytes(content)
    assert same_state(lenet5(num_classes=7, weights=safe).state_dict(), source.state_dict())


def test_a_safetensors_file_overwritten_behind_its_header_is_refused(safe, monkeypatch):
    overwrite_after(monkeypatch, "_parse_header", safe)
    with pytest.raises(WeightsError, match="must have the SHA-256"):
        load_model(safe)


def test_a_safetensors_file_cut_while_it_is_read_is_refused(safe, monkeypatch):
    parse = files._parse_header

    def cut(*arguments):
        os.truncate(safe, 20_000)
        return parse(*arguments)

    monkeypatch.setattr(files, "_parse_header", cut)
    with pytest.raises(WeightsError, match=r"model\.safetensors' must have the SHA-256"):
        load_model(safe)


def test_a_pickled_file_overwritten_before_its_tensors_are_read_is_refused(pickled, monkeypatch):
    overwrite_after(monkeypatch, "inner_state", pickled)
    with pytest.raises(WeightsError, match=r"model\.pth' .*checksum of a tensor is another"):
        lenet5(num_classes=7, weights=pickled)


def test_a_pickled_file_cut_before_its_tensors_are_read_is_refused(pickled, monkeypatch):
    inner = files.inner_state

    def cut(*arguments):
        os.truncate(pickled, 20_000)
        return inner(*arguments)

    monkeypatch.setattr(files, "inner_state", cut)
    with pytest.raises(WeightsError, match=r"model\.pth' .*ends within its tensors"):
        lenet5(num_classes=7, weights=pickled)


def test_a_pickled_file_overwritten_after_its_tensors_are_read_changes_nothing(
    pickled, source, monkeypatch
):
    overwrite_after(monkeypatch, "info_in", pickled)
    ours = lenet5(num_classes=7, weights=pickled)
    assert same_state(ours.state_dict(), source.state_dict())


def test_loaded_tensors_have_memory_of_their_own(safe):
    places = [tensor.untyped_storage() for tensor in load_model(safe).state_dict().values()]
    assert len({place.data_ptr() for place in places}) == len(places)
    assert all(place.data_ptr() % 64 == 0 for place in places)  # as torch aligns them
    assert all(parameter.requires_grad for parameter in load_model(safe).parameters())


def test_half_precision_and_the_default_dtype(safe, source):
    save_model(source, safe, dtype=torch.float16)
    assert {tensor.dtype for tensor in load_model(safe).parameters()} == {torch.float32}


def test_every_type_of_tensor_is_read_as_the_safetensors_package_reads_it(tmp_path):
    path = tmp_path / "types.safetensors"
    state = {
        f"{name}.{len(shape)}": torch.randint(0, 2, shape).to(dtype)
        for name, dtype in DTYPES.items()
        for shape in [(), (3,), (0, 2), (2, 3, 1, 1, 1, 2)]
    }
    safetensors.torch.save_file(state, path)
    read = read_safetensors(path).state
    assert read.keys() == state.keys()
    for name, value in safetensors.torch.load_file(path).items():
        assert (read[name].dtype, read[name].shape) == (value.dtype, value.shape)
        assert bytes(read[name].reshape(-1).view(torch.uint8)) == bytes(
            value.reshape(-1).view(torch.uint8)
        )


def test_no_header_is_accepted_that_the_safetensors_package_refuses(tmp_path):
    """Digits, brackets and names of a header change places at random."""
    random = np.random.default_rng(0)
    path = tmp_path / "changed.safetensors"
    state = {"a": torch.rand(2, 3), "b": torch.arange(4), "c": torch.rand(()), "d": torch.rand(0)}
    content = safetensors.torch.save(state)
    end = 8 + int.from_bytes(content[:8], "little")
    json.loads(content[8:end])
    accepted = 0
    for _ in range(1000):
        changed = bytearray(content)
        for place in random.integers(8, end, int(random.integers(1, 3))):
            changed[place] = random.choice(list(b'0123456789,[]{}":FI-. abcdt'))
        path.write_bytes(changed)
        try:
            ours = read_safetensors(path).state
        except WeightsError:
            continue
        accepted += 1
        try:
            theirs = safetensors.torch.load(bytes(changed))
        except SafetensorError as error:
            raise AssertionError(bytes(changed[8:end])) from error
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            assert (ours[name].dtype, ours[name].shape) == (value.dtype, value.shape)
            assert torch.equal(ours[name].nan_to_num(), value.nan_to_num())
    assert accepted > 15


def test_tensors_that_a_file_shares_stay_apart_in_the_network(tmp_path):
    """A factory takes the tensors of a file as they are; one storage must not serve two layers."""
    state = preact_resnet20().state_dict()
    same = [f"stages.stage1.0.branch.conv{i}.weight" for i in (1, 2)]
    state[same[1]] = state[same[0]]
    torch.save(state, tmp_path / "shared.pth")
    model = preact_resnet20(weights=tmp_path / "shared.pth")
    one, other = (model.get_parameter(name) for name in same)
    assert torch.equal(one, other)
    assert one.data_ptr() != other.data_ptr()
    places = [p.untyped_storage().data_ptr() for p in model.state_dict().values()]
    assert len(set(places)) == len(places)


def test_a_network_that_exists_is_filled_in_place(pickled):
    model = lenet5(num_classes=7)
    before = {name: p.data_ptr() for name, p in model.named_parameters()}
    from_torchvision(model, pickled)
    assert {name: p.data_ptr() for name, p in model.named_parameters()} == before
