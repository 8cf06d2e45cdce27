"""The reader of torch.save's files agrees with torch.load, and bad files stay harmless."""

import io
import os
import signal
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save as safetensors_save
from torch import nn
from weights_cases import hostile_pickles, refused, zipped

from mnist_zoo import Digits, Recipe, WeightsError, fit, lenet5, load_model, mini_resnet, save_model
from mnist_zoo.weights.files import read_saved

DTYPES = [
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32),
    *(torch.int16, torch.int8, torch.uint8, torch.bool, torch.complex64, torch.uint16),
]


def saved(value, new=True):
    file = io.BytesIO()
    torch.save(value, file, _use_new_zipfile_serialization=new)
    return file.getvalue()


def read(content):
    return read_saved(io.BytesIO(content), len(content), Path("x.pth")).state


@st.composite
def states(draw):
    """State dicts of all types, with views, transposed, shared and empty tensors."""
    state = nn.Module().state_dict()  # with the metadata of torch's
    for number in range(draw(st.integers(1, 5))):
        shape = draw(st.lists(st.integers(0, 4), max_size=4))
        value = torch.randint(0, 2, shape).to(draw(st.sampled_from(DTYPES)))
        change = draw(st.sampled_from(["plain", "turned", "part", "parameter", "shared"]))
        if change == "turned":
            value = value.permute(list(reversed(range(value.dim()))))
        elif change == "part" and value.dim():
            value = value[1:]
        elif change == "parameter":
            value = nn.Parameter(value, requires_grad=False)
        elif change == "shared":
            state[f"again {number}"] = value
        state[f"ü.{number}"] = value
    return state


@settings(deadline=None, max_examples=100)
@given(states(), st.booleans())
def test_every_state_dict_is_read_as_torch_reads_it(state, new):
    new = new or any(value.dtype == torch.uint16 for value in state.values())  # torch's old format
    content = saved(state, new)
    ours, theirs = read(content), torch.load(io.BytesIO(content), weights_only=True)
    assert list(ours) == list(theirs)
    for name, value in theirs.items():
        assert (ours[name].dtype, ours[name].shape) == (value.dtype, value.shape)
        assert ours[name].stride() == value.stride()
        assert torch.equal(ours[name], value)


def test_tensors_that_share_memory_share_it_again():
    weight = torch.rand(6)
    ours = read(saved({"a": weight, "b": weight[2:], "c": weight.clone()}))
    places = [ours[name].untyped_storage().data_ptr() for name in "abc"]
    assert places[0] == places[1] != places[2]


def test_files_without_checksums_are_read():
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        content = saved({"a": torch.arange(3)})
    finally:
        torch.serialization.set_crc32_options(before)
    assert read(content)["a"].tolist() == [0, 1, 2]


def test_only_the_weights_of_a_checkpoint_are_read():
    asked = []

    class Watched(io.BytesIO):
        def readinto(self, memory):
            asked.append(len(memory))
            return super().readinto(memory)

    state = lenet5().state_dict()
    content = saved({"model": state, "optimizer": {"momentum": torch.zeros(1_000_000)}})
    read_saved(Watched(content), len(content), Path("x.pth"))
    assert sum(asked) == sum(value.nbytes for value in state.values())


def test_a_changed_number_is_found_by_its_checksum(tmp_path):
    content = bytearray(saved(lenet5().state_dict()))
    numbers = lenet5().state_dict()["fc1.weight"].numel() * 4
    with zipfile.ZipFile(io.BytesIO(bytes(content))) as archive:
        entry = next(e for e in archive.infolist() if e.file_size == numbers)
    content[entry.header_offset + 1000] ^= 1
    (tmp_path / "flipped.pth").write_bytes(content)
    with pytest.raises(WeightsError, match="checksum of a tensor is another"):
        lenet5(weights=tmp_path / "flipped.pth")


def test_files_that_claim_more_than_they_hold_are_refused_in_little_memory(tmp_path):
    state = lenet5().state_dict()
    for name, stem in {
        "half": torch.zeros(1, dtype=torch.half).expand(6, 10**10, 5, 5),
        "float": torch.zeros(1).expand(6, 10**9, 5, 5),
        "small": torch.zeros(1).expand(6, 1, 5, 5),
    }.items():
        for new in (True, False):
            path = tmp_path / f"{name}-{new}.pth"
            torch.save({**state, "conv1.weight": stem}, path, _use_new_zipfile_serialization=new)
    (tmp_path / "opcode.pth").write_bytes(b"\x80\x02c")
    (tmp_path / "text.pth").write_bytes(b"\x80\x02X" + struct.pack("<I", 2**31 - 1))
    for name in ("opcode", "text"):
        os.truncate(tmp_path / f"{name}.pth", 1 << 30)
    header = b'{"a":{"dtype":"F32","shape":[350000000],"data_offsets":[0,1400000000]}}'
    sparse = tmp_path / "sparse.safetensors"
    sparse.write_bytes(struct.pack("<Q", len(header)) + header)
    os.truncate(sparse, 8 + len(header) + 1_400_000_000)
    messages = refused(*sorted(tmp_path.iterdir()))
    assert "for this network; it holds 1,4" in messages["sparse.safetensors"]
    assert "'conv1.weight' has more numbers" in messages["half-True.pth"]


@pytest.mark.slow
def test_pickles_that_ask_for_memory_and_time_are_refused(tmp_path):
    for name, pickle in hostile_pickles(60_000_000).items():
        zipped(tmp_path / f"{name}.pth", b"\x80\x02" + pickle)
    messages = refused(*tmp_path.iterdir())
    assert "its values contain each other too often" in messages["doubled.pth"]


@pytest.fixture(scope="module")
def real_files(tmp_path_factory):
    """The contents of real files of mini_resnet's weights, by name."""
    folder = tmp_path_factory.mktemp("real")
    model = mini_resnet(weights="mnist")
    save_model(model, folder / "ours.safetensors")
    images = torch.zeros(40, 1, 28, 28, dtype=torch.uint8)
    recipe = Recipe(network="mini_resnet", lr=0.01, epochs=1, batch_size=20, ema_decay=0.9)
    fit(recipe, Digits(images, torch.arange(40) % 10), folder=folder, progress=False)
    return {
        "new.pth": saved(model.state_dict()),
        "old.pth": saved(model.state_dict(), new=False),
        "theirs.safetensors": safetensors_save(model.state_dict()),
        "ours.safetensors": (folder / "ours.safetensors").read_bytes(),
        "run.pt": max(folder.glob("*.pt")).read_bytes(),
    }


@st.composite
def mutations(draw):
    """Changes of a content: each a kind, a place from 0 to 1, and bytes."""
    kinds = st.sampled_from(["flip", "cut", "insert", "overwrite", "copy"])
    # the beginning and the end hold what describes the rest
    places = st.one_of(st.floats(0, 1), st.floats(0, 0.03), st.floats(0.95, 1))
    return draw(
        st.lists(
            st.tuples(kinds, places, st.binary(min_size=1, max_size=9)), min_size=1, max_size=4
        )
    )


def mutated(content, changes):
    content = bytearray(content)
    for kind, where, new in changes:
        place = int(where * (len(content) - 1))
        if kind == "flip" and content:
            content[place] ^= new[0]
        elif kind == "cut":
            del content[place:]
        elif kind == "insert":
            content[place:place] = new
        elif kind == "overwrite":
            content[place : place + len(new)] = new
        else:
            content[place : place + 100] = content[:100]
    return bytes(content)


@pytest.mark.parametrize(
    "name", ["new.pth", "old.pth", "theirs.safetensors", "ours.safetensors", "run.pt"]
)
@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(changes=mutations())
def test_a_mutated_file_is_refused_or_gives_finite_weights(name, changes, real_files, tmp_path):
    path = tmp_path / name
    path.write_bytes(mutated(real_files[name], changes))
    readers = [lambda path: mini_resnet(weights=path)]
    if name == "ours.safetensors":
        readers.append(load_model)
    messages = []
    signal.alarm(20)
    try:
        for read in readers:
            try:
                model = read(path)
            except WeightsError as error:
                messages.append(str(error))
            else:
                assert all(value.isfinite().all() for value in model.state_dict().values())
    finally:
        signal.alarm(0)
    for message in messages:
        assert name in message
        assert len(message) < 4000
        assert "\x1b" not in message
