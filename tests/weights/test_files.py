"""Safetensors files: damaged and hostile ones are refused, and metadata is checked."""

import json
import math
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from weights_cases import refused, same_state

from mnist_zoo import (
    WeightsError,
    digitnet_1k,
    from_torchvision,
    get_weights,
    lenet5,
    load_model,
    mini_resnet,
    save_model,
)
from mnist_zoo.pictures.preprocessing import MAX_SIDE
from mnist_zoo.weights.files import (
    MAX_FILE,
    MAX_TENSORS,
    is_finite,
    read_safetensors,
    write_safetensors,
)


def header_file(path, header, body=b"", length=None):
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    size = len(content) if length is None else length
    path.write_bytes(struct.pack("<Q", size) + content + body)
    return path


def test_hostile_safetensors_are_refused(tmp_path):
    many = {
        f"t{i}": {"dtype": "F32", "shape": [1], "data_offsets": [4 * i, 4 * i + 4]}
        for i in range(10**5)
    }
    tensor = {"dtype": "F32", "shape": [10**9, 10**9], "data_offsets": [0, 4]}
    overlapping = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    cases = {
        "bomb": (b"{}", b"", 2**62, "ends within its header"),
        "long": (b" " * 5_000_000, b"", None, "header of at most"),
        "many": (many, b"\0" * (4 * 10**5), None, "header of at most"),
        "huge": ({"a": tensor}, b"\0" * 4, None, "must be a safetensors file"),
        "overlap": ({"a": overlapping, "b": overlapping}, b"\0" * 4, None, "must be a safetensors"),
        "deep": (b"[" * 100_000, b"", None, "its header is no JSON"),
        "list": (b"[1]", b"", None, "its header is no JSON object"),
        "metadata": ({"__metadata__": {"network": 3}}, b"", None, "strings as metadata"),
        "empty": (b"", b"", None, "header is no JSON"),
        "unsigned": ({"__metadata__": {"network": "lenet5"}}, b"", None, "must state its SHA-256"),
        "signed": ({"__metadata__": {"sha256": "\ud800"}}, b"", None, "must state a SHA-256"),
        "sides": (
            {"a": {"dtype": "F32", "shape": [1] * 300_000, "data_offsets": [0, 4]}},
            b"\0" * 4,
            None,
            "",
        ),
        "strides": (
            {"a": {"dtype": "F32", "shape": [0, 2**40, 2**40], "data_offsets": [0, 0]}},
            b"",
            None,
            "",
        ),
    }
    paths = [
        header_file(tmp_path / f"{name}.safetensors", header, body, length)
        for name, (header, body, length, _) in cases.items()
    ]
    short, picture, folder, sparse = (
        tmp_path / f"{name}.safetensors" for name in ("short", "picture", "folder", "sparse")
    )
    short.write_bytes(b"abc")
    picture.write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 1000)
    folder.mkdir()
    with sparse.open("wb") as file:
        file.truncate(50 << 30)
    messages = refused(*paths, short, picture, folder, sparse)
    for name, (*_, message) in cases.items():
        assert message in messages[f"{name}.safetensors"], name
    assert "ends within its header" in messages["short.safetensors"]
    assert "must be a file; it is a directory" in messages["folder.safetensors"]
    assert "must have at most 2,147,483,648 bytes" in messages["sparse.safetensors"]


@pytest.mark.parametrize("record", [False, True], ids=["plain", "with a record"])
def test_the_checksum_covers_every_bit_of_the_metadata(tmp_path, record):
    model = digitnet_1k(weights="mnist")
    model.familiarity = model.familiarity if record else None
    path = tmp_path / "flipped.safetensors"
    save_model(model, path)
    content = path.read_bytes()
    start = content.index(b"__metadata__")
    end = content.index(b"}", start) + 200
    for place in range(start, end, 101 if record else 1):  # a record is long
        for bit in range(8):
            flipped = bytearray(content)
            flipped[place] ^= 1 << bit
            path.write_bytes(flipped)
            with pytest.raises(WeightsError, match=r"flipped\.safetensors"):
                read_safetensors(path)


@pytest.mark.parametrize("kind", ["truncated", "flipped"])
def test_damaged_copies_of_a_real_file_are_refused(tmp_path, kind):
    content = get_weights("mini_resnet").path.read_bytes()
    random = np.random.default_rng(0)
    path = tmp_path / "damaged.safetensors"
    places = [0, 1, 7, 8, 9, len(content) - 1, *random.integers(0, len(content), 150)]
    header = 8 + struct.unpack("<Q", content[:8])[0]
    places += [int(place) for place in random.integers(0, header, 50)]
    model = mini_resnet()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for place in places:
        if kind == "truncated":
            path.write_bytes(content[:place])
        else:
            flipped = bytearray(content)
            flipped[place] ^= 1 << int(random.integers(8))
            path.write_bytes(flipped)
        for read in (load_model, lambda path: from_torchvision(model, path)):
            with pytest.raises(WeightsError, match=r"damaged\.safetensors"):
                read(path)
    assert same_state(model.state_dict(), before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.complex64])
def test_is_finite_detects_nan_and_infinity(dtype):
    values = torch.ones(5, dtype=dtype)
    assert is_finite(values)
    for wrong in (math.nan, math.inf, -math.inf):
        values[3] = wrong
        assert not is_finite(values)
    assert is_finite(torch.empty(0, dtype=dtype))
    assert is_finite(torch.tensor(3))


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"": ""}, "must name a network of the zoo; it names None"),
        ({"network": "os.system"}, "it names 'os.system'"),
        ({"network": "lenet5", "options": "{"}, "must describe its network"),
        ({"network": "lenet5", "options": "[]"}, "must have a dictionary of options"),
        ({"network": "lenet5", "options": '{"weights": "x.pth"}'}, "options do not suit lenet5"),
        ({"network": "lenet5", "options": '{"colour": 1}'}, "options do not suit lenet5"),
        ({"network": "lenet5", "options": '{"num_classes": 1000000000}'}, "must hold the tensors"),
        ({"network": "lenet5", "options": '{"num_classes": 1e99}'}, "options do not suit lenet5"),
        ({"network": "mini_resnet"}, "must hold the tensors"),
        ({"network": "lenet5", "preprocessing": '{"std": 0}'}, "must describe its network"),
        ({"network": "lenet5", "preprocessing": "7"}, "must describe its network"),
        ({"network": "lenet5", "preprocessing": '{"std": 1e999}'}, "`std` .* a finite number"),
        (
            {"network": "lenet5", "preprocessing": '{"image_size": 99}'},
            "network's size; it makes 99",
        ),
        ({"network": "x" * 10**6}, "it names 'xxx"),
    ],
)
def test_metadata_is_checked(tmp_path, metadata, message):
    path = tmp_path / "metadata.safetensors"
    write_safetensors(path, lenet5().state_dict(), metadata)
    with pytest.raises(WeightsError, match=rf"metadata\.safetensors' .*({message})"):
        load_model(path)


@pytest.mark.skipif(os.name != "posix", reason="a file with a hole takes no room there")
@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_the_sizes_that_security_names_are_kept(name, tmp_path):
    text = (Path(__file__).parents[2] / "SECURITY.md").read_text(encoding="utf-8")
    assert f"at most {MAX_FILE >> 30} GiB, and tensors of at most {MAX_TENSORS >> 20} MiB" in text
    assert f"up to {MAX_SIDE:,}×{MAX_SIDE:,} pixels" in text
    file = tmp_path / name
    file.touch()
    os.truncate(file, MAX_FILE + 1)
    with pytest.raises(WeightsError, match="must have at most 2,147,483,648 bytes"):
        lenet5(weights=file)
    most = MAX_TENSORS + 32 * sum(tensor.numel() for tensor in lenet5().state_dict().values())
    entry = {"dtype": "U8", "shape": [most + 1], "data_offsets": [0, most + 1]}
    file = header_file(tmp_path / "many.safetensors", {"x": entry})
    os.truncate(file, file.stat().st_size + most + 1)
    with pytest.raises(WeightsError, match=f"must hold at most {most:,} bytes of tensors"):
        lenet5(weights=file)
