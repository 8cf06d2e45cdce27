"""Training checkpoints as weights: of runs of this library, and of other programs."""

import argparse
import collections
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from weights_cases import same_state

from mnist_zoo import (
    ConversionError,
    Digits,
    Preprocessing,
    Recipe,
    WeightsError,
    fit,
    from_torchvision,
    lenet5,
    mini_resnet,
    resnet18,
    to_torchvision,
)
from mnist_zoo.weights.fitting import names_in

WRAPPERS = ["state_dict", "model_state_dict", "model", "net", "network", "module"]
PREFIXES = ["module.", "_orig_mod.", "model.", "backbone.", "net."]


@pytest.fixture(scope="module")
def digits():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (60, 1, 28, 28), generator=generator).byte()
    return Digits(images, torch.arange(60) % 10)


@pytest.mark.parametrize("select", ["last", "best"])
@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_a_checkpoint_of_a_run_gives_what_fit_returns(select, ema_decay, digits, tmp_path):
    recipe = Recipe(
        network="mini_resnet",
        lr=0.05,
        epochs=3,
        batch_size=20,
        ema_decay=ema_decay,
        select=select,
        preprocessing=Preprocessing(mean=0.5, std=0.2),
    )
    returned = fit(recipe, digits, digits[:30], folder=tmp_path, progress=False).model
    file = max(tmp_path.glob("*.pt"))
    in_memory = torch.load(file, weights_only=True)
    raw = in_memory["model"]
    assert same_state(raw, returned.state_dict()) == (select == "last" and ema_decay is None)
    for weights in (file, in_memory):
        loaded = mini_resnet(weights=weights)
        assert same_state(loaded.state_dict(), returned.state_dict())
        assert loaded.preprocessing == returned.preprocessing


def test_a_checkpoint_of_a_run_whose_preprocessing_is_impossible_is_refused(digits, tmp_path):
    fit(Recipe(network="lenet5", lr=0.01, epochs=1), digits, folder=tmp_path, progress=False)
    state = torch.load(max(tmp_path.glob("*.pt")), weights_only=True)
    for wrong in ({"std": 0}, {"image_size": 10**6}, {"image_size": 32}, {"x\x1b": 1}, None):
        torch.save({**state, "preprocessing": wrong}, tmp_path / "wrong")
        with pytest.raises(WeightsError, match="wrong'") as error:
            lenet5(weights=tmp_path / "wrong")
        assert "\x1b" not in str(error.value)


@pytest.mark.parametrize(
    ("factory", "options", "message"),
    [
        ("lenet5", {"image_size": 28}, ""),
        ("None", {"act": "other"}, ""),
        ("mini_resnet", {}, "those of lenet5; .* is of 'mini_resnet'"),
        ("lenet5", {"act": "other"}, r"same options; .* was made with `act` \(='other'"),
    ],
)
def test_a_checkpoint_that_names_another_network_is_refused(
    factory, options, message, digits, tmp_path
):
    fit(Recipe(network="lenet5", lr=0.01, epochs=1), digits, folder=tmp_path, progress=False)
    state = torch.load(max(tmp_path.glob("*.pt")), weights_only=True)
    state["network"] = {"factory": factory, "options": json.dumps(options)}
    torch.save(state, tmp_path / "named.pt")
    for weights in (state, tmp_path / "named.pt"):
        if not message:
            lenet5(weights=weights)
            continue
        with pytest.raises(ConversionError, match=message):
            lenet5(weights=weights)


def test_a_run_of_a_thousand_epochs_is_read(tmp_path):
    steps = [float(i) for i in range(938_000)]
    points = [{"step": i, "epoch": i / 938, "loss": 0.1, "accuracy": 0.9} for i in range(1000)]
    history = {"loss": steps, "accuracy": steps, "lr": steps, "evaluations": points}
    model = lenet5()
    torch.save({"model": model.state_dict(), "history": history}, tmp_path / "long.pt")
    assert same_state(lenet5(weights=tmp_path / "long.pt").state_dict(), model.state_dict())


def test_whatever_stands_beside_the_weights_is_left_out(tmp_path):
    model = lenet5()
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.rand(2, 1, 28, 28)).sum().backward()
    optimizer.step()
    beside = {
        "optimizer": optimizer.state_dict(),
        "scheduler": torch.optim.lr_scheduler.MultiStepLR(optimizer, [3]).state_dict(),
        "set": {1, "a", (2, 3)},
        "frozen": frozenset([1]),
        "default": collections.defaultdict(list, a=[1]),
        "bytes": b"abc",
        "bytearray": bytearray(b"abc"),
        "complex": 1j,
        "random": (np.random.default_rng(0).random(3), torch.get_rng_state()),
        "best": np.float64(0.5),
        "arguments": argparse.Namespace(lr=0.1),
        "sparse": torch.eye(3).to_sparse(),
        "numbers": {i: i / 7 for i in range(500)},
        "long": 2**200,
        "names": ["a"] * 300 + list(range(300)),
        "dtype": torch.float16,
        "device": torch.device("cpu"),
        "ü" * 2000: None,
    }
    for new in (True, False):
        content = {**beside, "model": model.state_dict()}
        torch.save(content, tmp_path / "all.pth", _use_new_zipfile_serialization=new)
        assert same_state(lenet5(weights=tmp_path / "all.pth").state_dict(), model.state_dict())


def averaged(model):
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.99))


def test_an_averaged_network_of_torch_is_read(tmp_path):
    model = resnet18()
    ema = averaged(model)
    torch.save(ema.state_dict(), tmp_path / "ema.pth")
    for source in (ema, ema.state_dict(), tmp_path / "ema.pth", averaged(nn.DataParallel(model))):
        assert same_state(resnet18(weights=source).state_dict(), model.state_dict())
    assert same_state(to_torchvision(ema), to_torchvision(model))
    report = from_torchvision(resnet18(), ema)
    assert report.skipped == ("n_averaged",)


@pytest.mark.parametrize("key", ["state_dict_ema", "model_ema"])
def test_averages_come_before_the_raw_weights(key, tmp_path):
    raw, average = lenet5(), lenet5()
    for name in ("state_dict", "model"):
        state = {name: raw.state_dict(), key: average.state_dict()}
        torch.save(state, tmp_path / "both.pth")
        for source in (state, tmp_path / "both.pth"):
            assert same_state(lenet5(weights=source).state_dict(), average.state_dict())
    assert same_state(
        lenet5(weights={"model": raw.state_dict(), key: None}).state_dict(), raw.state_dict()
    )


@settings(deadline=None, max_examples=30)
@given(st.lists(st.sampled_from(PREFIXES), max_size=4), st.sampled_from(WRAPPERS))
def test_prefixes_and_keys_of_wrappers_are_dropped(prefixes, key):
    model = lenet5()
    prefix = "".join(prefixes)
    state = {prefix + name: value for name, value in model.state_dict().items()}
    assert same_state(lenet5(weights={key: state}).state_dict(), model.state_dict())
    assert names_in(list(state), list(state)) == {name: name for name in state}  # its own names


def test_names_of_a_file_are_shown_by_their_repr(tmp_path):
    strange = "x\x1b[2J\nINFO: weights verified"
    state = {**lenet5().state_dict(), strange: torch.zeros(1)}
    torch.save(state, tmp_path / "strange.pth")
    with pytest.raises(ConversionError, match="no such tensor") as error:
        lenet5(weights=tmp_path / "strange.pth")
    assert repr(strange) in str(error.value)
    report = repr(from_torchvision(lenet5(), state, strict=False))
    assert repr(strange) in report
    for text in (str(error.value), report):
        assert "\x1b" not in text
        assert "\nINFO" not in text


def test_averaged_weights_come_first_under_any_usual_name(tmp_path):
    raw, average = lenet5().state_dict(), lenet5().state_dict()
    prefixed = {f"module.{name}": value for name, value in average.items()}
    for key in ("ema", "model_ema", "ema_state_dict", "params_ema", "swa_model", "net_avg"):
        for inner in (average, {"module": average, "updates": 3}, {"n_averaged": 3, **prefixed}):
            torch.save({"model": raw, key: inner, "epoch": 3}, tmp_path / "both.pth")
            assert same_state(lenet5(weights=tmp_path / "both.pth").state_dict(), average)


def test_the_only_state_dict_is_found_under_any_key(tmp_path):
    model = lenet5()
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.zeros(2, 1, 28, 28)).sum().backward()
    optimizer.step()
    state = model.state_dict()
    rest = {"optimizer": optimizer.state_dict(), "rng": torch.get_rng_state(), "args": {"lr": 1}}
    for inside in ({"weights": state}, {"checkpoint": state}, {"state": {"model": state}}):
        for content in (inside, {**inside, **rest}):
            file = tmp_path / "one.pth"
            torch.save({key: value for key, value in content.items() if key != "rng"}, file)
            assert same_state(lenet5(weights=file).state_dict(), state)
    torch.save({"model": state, **rest}, tmp_path / "usual.pth")
    assert same_state(lenet5(weights=tmp_path / "usual.pth").state_dict(), state)


@pytest.mark.parametrize(
    "keys", [("net", "best_net"), ("state_dict", "model"), ("generator", "discriminator")]
)
def test_a_checkpoint_of_two_networks_is_refused(keys, tmp_path):
    content = {key: lenet5().state_dict() for key in keys}
    torch.save(content, tmp_path / "two.pth")
    for source in (content, tmp_path / "two.pth"):
        with pytest.raises(WeightsError, match=rf"several state dicts: '{keys[0]}', '{keys[1]}'"):
            lenet5(weights=source)
    only = {keys[0]: content[keys[0]], "criterion": {"weight": torch.ones(10)}}
    if keys[0] != "generator":
        assert same_state(lenet5(weights=only).state_dict(), content[keys[0]])
