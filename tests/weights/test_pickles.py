"""Hostile pickles and weights with NaN or infinity are refused."""

import os
import pickle
import struct
import zipfile

import pytest
import torch
from safetensors.torch import save_file
from weights_cases import refused

from mnist_zoo import (
    WeightsError,
    lenet5,
    load_model,
)
from mnist_zoo.weights.files import write_safetensors


class Mischief:
    """Its pickle makes a folder when it is loaded."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return (os.mkdir, (str(self.folder),))


def string(value):
    return b"X" + struct.pack("<I", len(value)) + value


def pickled(path, content):
    """A zip archive such as torch.save's, around a pickle."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("a/data.pkl", content)
        archive.writestr("a/version", b"3\n")


def bomb(path, source):
    """The same content, compressed, with one part that unpacks to 300 MB."""
    with (
        zipfile.ZipFile(source) as plain,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for entry in plain.namelist():
            archive.writestr(entry, plain.read(entry))
        with archive.open("plain/data/99", "w") as member:
            for _ in range(300):
                member.write(b"\0" * 1_000_000)


@pytest.mark.slow
def test_hostile_pickles_are_refused(tmp_path):
    mischief = Mischief(tmp_path / "mischief")
    torch.save({"conv1.weight": mischief}, tmp_path / "code.pth")
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(mischief))
    (tmp_path / "named.safetensors").write_bytes((tmp_path / "code.pth").read_bytes())
    torch.save(lenet5().state_dict(), tmp_path / "plain.pth")
    bomb(tmp_path / "bomb.pth", tmp_path / "plain.pth")
    (tmp_path / "trailed.pth").write_bytes((tmp_path / "bomb.pth").read_bytes() + b"PK\5\6")
    torch.save({f"t{i}": torch.zeros(1) for i in range(61_000)}, tmp_path / "many.pth")
    shared = {f"t{i}": torch.zeros(1) for i in range(1)} | dict.fromkeys(
        (f"t{i}" for i in range(3 * 10**5)), torch.zeros(1)
    )
    torch.save(shared, tmp_path / "shared.pth")
    torch.save(shared, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    memory = b"cbuiltins\nbytearray\nq\x01\x8a\x05" + (3 * 10**9).to_bytes(5, "little") + b"\x85R"
    pickled(tmp_path / "memory.pth", b"\x80\x02}" + string(b"a") + memory + b"s.")
    nested = b"K\x01\x85q\x01" + b"h\x01\x86q\x01" * 40
    pickled(tmp_path / "nested.pth", b"\x80\x02}" + nested + b"K\x01s.")
    torch.save({"conv1.weight": torch.zeros(1).expand(40_000, 50_000)}, tmp_path / "wide.pth")
    lying = bytearray((tmp_path / "many.pth").read_bytes())
    lying[-12:-10] = lying[-14:-12] = struct.pack("<H", 16)
    (tmp_path / "lying.pth").write_bytes(lying)
    messages = refused(*sorted(tmp_path.glob("[!p]*.pth")), tmp_path / "named.safetensors")
    reasons = {
        "code.pth": "it calls 'posix mkdir'",
        "bare.pth": "it has the instruction",
        "bomb.pth": "it is compressed",
        "trailed.pth": "something follows it",
        "many.pth": "it has more than 60,000 parts",
        "shared.pth": "it takes more than 750,000 steps",
        "old.pth": "it takes more than 750,000 steps",
        "memory.pth": "a: not a tensor",
        "nested.pth": "conv1.weight: not in the source",
        "wide.pth": "'conv1.weight' has more numbers than the file holds for it",
    }
    for name, reason in reasons.items():
        assert reason in messages[name], name
    assert not mischief.folder.exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_weights_that_are_not_finite_are_refused(tmp_path, value):
    state = {name: tensor.double() for name, tensor in lenet5().state_dict().items()}
    state["fc1.weight"][3, 4] = value
    save_file(state, tmp_path / "bad.safetensors")
    torch.save(state, tmp_path / "bad.pth")
    write_safetensors(tmp_path / "ours.safetensors", state, {"network": "lenet5"})
    for read in (
        lambda: lenet5(weights=tmp_path / "bad.safetensors"),
        lambda: lenet5(weights=tmp_path / "bad.pth"),
        lambda: load_model(tmp_path / "ours.safetensors"),
    ):
        with pytest.raises(WeightsError, match=r"must hold finite numbers; fc1\.weight does not"):
            read()
