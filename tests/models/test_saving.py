"""Networks saved to files and loaded from them."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from conftest import each_network
from safetensors.torch import load_file, save_file
from torch import nn
from weights_cases import same_state

import mnist_zoo
from mnist_zoo import (
    ConversionError,
    Preprocessing,
    ResNet,
    WeightsError,
    get_model,
    lenet5,
    load_model,
    mini_resnet,
    resnet18,
    resnet_cnn,
    save_model,
)
from mnist_zoo.weights.files import write_safetensors


@pytest.mark.parametrize("name", each_network(("resnet50", "resnet50_separable", "plain18")))
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


def test_preprocessing_is_copied_with_a_networks_weights():
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
        (lambda: with_nan(lenet5()), r"must hold finite numbers; fc3\.bias does not"),
        (lambda: lenet5().to("meta"), r"must hold finite numbers; conv1\.weight does not"),
        (lambda: with_another_layer(lenet5()), "must have the tensors that lenet5 gives it"),
        (lambda: changed(fc=nn.Linear(512, 3)), "fc.bias differs .* call reset_classifier before"),
        (lambda: changed(maxpool=nn.Identity()), "must have the layers .*; maxpool differs"),
        (lambda: changed(relu=nn.GELU()), "must have the layers .*; relu differs"),
        (lambda: changed("conv1", stride=(1, 1)), "must have the layers .*; conv1 differs"),
        (lambda: changed("bn1", eps=0.1), "must have the layers .*; bn1 differs"),
        (lambda: changed(__class__=Cooler), "must have the layers .*; the network itself differs"),
    ],
)
def test_a_network_that_could_not_be_loaded_is_not_saved(make, message, tmp_path):
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


class Cooler(ResNet):
    """A network that computes something else with the same tensors."""

    def forward(self, x):
        return super().forward(x) / 2


def changed(layer="", **values):
    model = resnet18()
    for name, value in values.items():
        setattr(model.get_submodule(layer), name, value)
    return model


@pytest.mark.parametrize("factory", [resnet18, resnet_cnn])
def test_changes_that_matter_in_training_only_are_saved(factory, tmp_path):
    model = nn.SyncBatchNorm.convert_sync_batchnorm(factory(dropout=0.5))
    for module in model.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
        if hasattr(module, "momentum"):
            module.momentum = None
    model.dropout = nn.Identity()
    save_model(model, tmp_path / "model.safetensors")
    x = torch.rand(2, 1, 28, 28)
    expected = model.eval()(x)
    torch.testing.assert_close(load_model(tmp_path / "model.safetensors")(x), expected)


def with_nan(model):
    model.fc3.bias.data[2] = float("nan")
    return model


def with_another_layer(model):
    model.fc2 = nn.Linear(120, 83)
    return model


def test_the_checksum_of_a_large_file_decides_before_its_numbers(tmp_path):
    path = tmp_path / "resnet18.safetensors"
    model = resnet18()
    model.fc.bias.data[2] = float("nan")
    metadata = {"network": "resnet18", "options": json.dumps(model.options)}
    write_safetensors(path, model.state_dict(), metadata)
    with pytest.raises(WeightsError, match=r"must hold finite numbers; fc\.bias does not"):
        load_model(path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="must have the SHA-256"):
        load_model(path)


def test_a_failed_write_keeps_the_old_file(tmp_path):
    file = tmp_path / "model.safetensors"
    save_model(lenet5(), file)
    before = file.read_bytes()
    code = (
        "import resource, sys; from mnist_zoo import mini_resnet, save_model\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "save_model(mini_resnet(), sys.argv[1])"
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


def test_the_same_network_gives_the_same_file(tmp_path):
    model = mini_resnet(weights="mnist")
    contents = set()
    for number in range(6):
        path = tmp_path / f"{number}.safetensors"
        save_model(model, path)
        contents.add(path.read_bytes())
    assert len(contents) == 1
    assert load_file(path).keys() == model.state_dict().keys()


def test_tied_parameters_come_back_tied(tmp_path):
    model = resnet18()
    model.layer1[1].conv2.weight = model.layer1[0].conv1.weight
    model.layer1[1].bn1 = model.layer1[0].bn1
    for dtype in (None, torch.float16):
        save_model(model, tmp_path / "tied.safetensors", dtype=dtype)
        back = load_model(tmp_path / "tied.safetensors")
        assert back.layer1[1].conv2.weight is back.layer1[0].conv1.weight
        assert back.layer1[1].bn1.weight is back.layer1[0].bn1.weight
        assert back.layer1[0].conv1.weight is not back.layer1[0].conv2.weight
        expected = model.state_dict() if dtype is None else model.half().float().state_dict()
        assert same_state(back.state_dict(), expected)
        assert same_state(
            resnet18(weights=tmp_path / "tied.safetensors").state_dict(), back.state_dict()
        )


def test_buffers_that_share_memory_are_saved(tmp_path):
    model = resnet18()
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    shared = torch.rand(2 * len(norms[0].running_mean))
    norms[0].running_mean, norms[0].running_var = shared.chunk(2)
    save_model(model, tmp_path / "model.safetensors")
    assert same_state(load_model(tmp_path / "model.safetensors").state_dict(), model.state_dict())


@pytest.mark.parametrize(
    "tied",
    [
        "[]",
        '{"fc1.weight": 3}',
        '{"fc1.weight": "fc1.weight"}',
        '{"fc1.weight": "fc2.weight"}',
        '{"fc1.weight": "no"}',
        '{"no\\u001b": "fc1.weight"}',
        "{",
        "[" * 10000,
    ],
)
def test_ties_that_cannot_be_are_refused(tied, tmp_path):
    write_safetensors(
        tmp_path / "tied.safetensors", lenet5().state_dict(), {"network": "lenet5", "tied": tied}
    )
    with pytest.raises(WeightsError, match=r"tied\.safetensors' must") as error:
        load_model(tmp_path / "tied.safetensors")
    assert "\x1b" not in str(error.value)


@pytest.mark.parametrize("key", ["options", "preprocessing"])
@pytest.mark.parametrize("size", [4097, 10**6, 10**30])
def test_a_size_that_the_tensors_do_not_bear_out_is_refused(key, size, tmp_path):
    metadata = {"network": "mini_resnet", key: json.dumps({"image_size": size})}
    write_safetensors(tmp_path / "large.safetensors", mini_resnet().state_dict(), metadata)
    for read in (load_model, lambda path: mini_resnet(weights=path)):
        with pytest.raises(WeightsError, match=r"4096|16384"):
            read(tmp_path / "large.safetensors")
    model = mini_resnet()
    model.preprocessing = Preprocessing(image_size=4097)
    with pytest.raises(ValueError, match="at most 4096 pixels"):
        save_model(model, tmp_path / "own.safetensors")


def test_a_file_for_images_of_another_size_is_refused_by_factories(tmp_path):
    metadata = {"network": "lenet5", "preprocessing": json.dumps({"image_size": 32})}
    write_safetensors(tmp_path / "other.safetensors", lenet5().state_dict(), metadata)
    with pytest.raises(ConversionError, match="makes images of 32×32"):
        lenet5(weights=tmp_path / "other.safetensors")


@pytest.mark.parametrize(
    "number",
    [np.int64, np.uint8, np.array, torch.tensor],
)
def test_options_of_numpy_and_torch_are_numbers(number, tmp_path):
    model = resnet18(
        num_classes=number(7),
        in_channels=number(3),
        dropout=np.float32(0.25),
        residual=np.bool_(True),
    )
    assert {type(value) for value in model.options.values()} <= {int, float, bool, str}
    save_model(model, tmp_path / "model.safetensors")
    back = load_model(tmp_path / "model.safetensors")
    assert (back.num_classes, back.in_channels, back.options) == (7, 3, model.options)
    model.reset_classifier(np.int64(5))
    save_model(model, tmp_path / "model.safetensors")
    assert load_model(tmp_path / "model.safetensors").num_classes == 5


def test_another_value_as_an_option_stays_an_error():
    for wrong in (np.float64(7.5), torch.tensor([7]), "7", None, np.int64(-1)):
        with pytest.raises(ValueError, match="num_classes"):
            lenet5(num_classes=wrong)
