"""The guide's table of formats, against what was measured and against the files of today."""

import json
from pathlib import Path

import pytest
import torch
from example_scripts import load_example
from export_cases import SUFFIX

from mnist_zoo import get_model, get_weights, list_models, load_mnist
from mnist_zoo.export import export, load_session

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def formats():
    return load_example("formats")


@pytest.fixture(scope="module")
def rows(formats):
    return json.loads(formats.RESULTS.read_text("utf-8"))


def test_the_table_shows_what_was_measured(formats, rows):
    text = formats.GUIDE.read_text("utf-8")
    assert formats.guide(text, rows) == text
    assert all(row["same"] == 10_000 for row in rows)
    for row in rows:  # pages hold half precision, and fc_residual's logits exceed 10
        assert row["difference"] < (3e-4 if row["format"] == "page" else 1e-4)
    every = {(name, format) for name in list_models(pretrained=True) for format in formats.SUFFIX}
    too_large = {("resnet18", "c"), ("resnet18", "page")}
    assert {(row["network"], row["format"]) for row in rows} == every - too_large


def test_what_was_measured_is_of_the_weights_of_today(rows):
    assert all(row["weights"] == get_weights(row["network"]).sha256 for row in rows)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_sizes_are_those_of_the_files(formats, rows, tmp_path):
    for row in rows:
        if row["network"] in formats.TIMED and row["format"] in (*SUFFIX, "page"):
            model = get_model(row["network"], weights="mnist")
            report = export(model, tmp_path / "a", row["format"])
            share = 0.1 if row["format"] == "torchscript" else 0.05  # its files hold paths
            assert report.size == pytest.approx(row["size"], rel=share)


@pytest.mark.slow
@pytest.mark.parametrize("name", list_models(pretrained=True))
def test_all_test_digits_are_the_same_in_onnx_runtime(name, tmp_path):
    model = get_model(name, weights="mnist").eval()
    export(model, tmp_path / "a.onnx")
    session = load_session(tmp_path / "a.onnx")
    for images in load_mnist("test").images.split(1000):
        x = model.preprocessing(images)
        with torch.inference_mode():
            assert torch.equal(session(x).argmax(1), model(x).argmax(1))
