"""The page that export writes, as a file; test_page_in_browser.py runs it."""

import json
import re
import runpy
import sys
import webbrowser
from pathlib import Path

import pytest
import torch
from conftest import randomize_norms, slow_if
from export_cases import SMALL, STRANGERS
from torch import nn

from mnist_zoo import Preprocessing, get_model, lenet5, list_models, mini_resnet, preact_resnet110
from mnist_zoo.export import ExportError, export
from mnist_zoo.export.page import network_of, run

ROOT = Path(__file__).parents[2]
SHAPE = (1, 28, 28)


def stated(path):
    return network_of(path.read_bytes())


@pytest.mark.parametrize("name", [slow_if(name != "mini_convnet", name) for name in SMALL])
def test_a_page_of_each_small_network_agrees(name, tmp_path):
    model = randomize_norms(get_model(name))
    report = export(model, tmp_path / "a.html", "page")
    assert (report.format, report.opset, report.size) == (
        "page",
        None,
        (tmp_path / "a.html").stat().st_size,
    )
    images = torch.randint(256, (3, *SHAPE))
    with torch.no_grad():
        wanted = model.eval()(Preprocessing()(images.byte()))
    found = run(stated(tmp_path / "a.html"), images)
    assert (found - wanted).abs().max() <= 1e-4 * wanted.abs().max().clamp(min=1)


PRETRAINED = list_models(pretrained=True, max_params=400_000)


@pytest.mark.parametrize("name", [slow_if(name != "mini_resnet", name) for name in PRETRAINED])
def test_pages_of_pretrained_networks_are_small(name, tmp_path):
    network = get_model(name, weights="mnist")
    parameters = sum(values.numel() for values in network.parameters())
    size = export(network, tmp_path / "a.html", "page").size
    record = network.familiarity
    told = record.prototypes.numel() + (record.centres.numel() + record.factors.numel()) * 8 / 3
    # base64 and the scripts; weights are in single precision where half is not exact enough
    assert size <= 4 * parameters * 4 / 3 + told + 40_000
    assert size <= 150_000 or name != "mini_resnet"


@pytest.mark.slow
def test_weights_in_channels_last_order_give_the_same_page(tmp_path):
    model = randomize_norms(STRANGERS["strided"]())
    export(model, tmp_path / "a.html", "page", input_size=SHAPE)
    model.to(memory_format=torch.channels_last)
    export(model, tmp_path / "b.html", "page", input_size=SHAPE)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert not model[0].weight.is_contiguous() or not model[3].weight.is_contiguous()


@pytest.mark.parametrize("name", [slow_if(name != "separable", name) for name in STRANGERS])
def test_strangers_networks_agree(name, tmp_path):
    model = randomize_norms(STRANGERS[name]())
    export(model, tmp_path / "a.html", "page", input_size=SHAPE, classes=list("abcdefghij"))
    network = stated(tmp_path / "a.html")
    assert network["classes"] == list("abcdefghij")
    images = torch.randint(256, (3, *SHAPE))
    with torch.no_grad():
        wanted = model.eval()(Preprocessing()(images.byte()))
    assert (run(network, images) - wanted).abs().max() <= 1e-4


def test_weights_are_of_half_precision_where_that_is_within_the_tolerance(tmp_path):
    model = lenet5()  # random weights have more digits than half precision holds
    exact = export(model, tmp_path / "a.html", "page", tolerance=1e-5)
    coarse = export(model, tmp_path / "b.html", "page", tolerance=1e-2)
    assert not stated(tmp_path / "a.html")["half"]
    assert stated(tmp_path / "b.html")["half"]
    assert exact.size > coarse.size + 80_000
    assert exact.largest_difference <= 1e-5 < coarse.largest_difference <= 1e-2


def test_the_page_is_one_file_and_names_nothing_outside(html):
    page = html.read_text("utf-8")
    assert [*html.parent.iterdir()] == [html]
    assert not re.search(r"https?:|\b(src|href)=|\b(import|fetch)\b", page)


def test_names_of_classes_are_text_in_the_page(tmp_path):
    names = [
        "</script><script>alert(1)</script>",
        "<b>",
        "&amp;",
        '"',
        "é",
        "\\",
        "6",
        "7",
        "8",
        "9",
    ]
    export(lenet5(), tmp_path / "a.html", "page", classes=names)
    assert stated(tmp_path / "a.html")["classes"] == names
    assert (tmp_path / "a.html").read_text("utf-8").count("</script>") == 2


def test_a_network_of_dark_digits_states_it(tmp_path):
    model = lenet5()
    model.preprocessing = Preprocessing(mean=0.87, dark_on_light=True)
    export(model, tmp_path / "a.html", "page")
    assert stated(tmp_path / "a.html")["inverted"] is True
    images = torch.randint(256, (3, *SHAPE))
    with torch.no_grad():
        wanted = model.eval()(model.preprocessing(images.byte()))
    assert (run(stated(tmp_path / "a.html"), images) - wanted).abs().max() <= 1e-4


class Sorted(nn.Module):
    def forward(self, x):
        return x.flatten(1).sort(1).values[:, :10]


class Turned(nn.Module):
    def __init__(self, axes):
        super().__init__()
        self.axes = axes

    def forward(self, x):
        return x.mean(self.axes)[:, 0, :10] if isinstance(self.axes, int) else x.mean(self.axes)


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (Sorted(), {}, r"`model` \(Sorted\) cannot be exported as page: a page has no operator"),
        (Turned(3), {}, r"a page has no operator ReduceMean of this kind"),
        (lenet5(image_size=32), {}, r"draws images of shape \(1, 28, 28\); it takes \(1, 32, 32\)"),
        (lenet5(in_channels=3), {}, r"draws images of shape \(1, 28, 28\); it takes \(3, 28, 28\)"),
        (lenet5(), {"softmax": True}, "`softmax` must be False"),
        (preact_resnet110(), {}, r"at most 1,000,000 parameters; it has 1,730,234"),
    ],
)
def test_other_networks_are_refused_and_nothing_is_written(model, options, message, tmp_path):
    with pytest.raises(ExportError, match=message):
        export(
            model,
            tmp_path / "a.html",
            "page",
            input_size=options.pop("size", None) or getattr(model, "input_size", SHAPE),
            **options,
        )
    assert list(tmp_path.iterdir()) == []


def test_a_network_of_images_as_they_are_is_refused(tmp_path):
    model = mini_resnet()
    model.preprocessing = Preprocessing(redraw=False)
    with pytest.raises(ExportError, match="it takes images as they are"):
        export(model, tmp_path / "a.html", "page")
    assert list(tmp_path.iterdir()) == []


def test_the_network_in_a_page_is_json_that_any_program_can_read(html):
    page = html.read_text("utf-8")
    network = json.loads(re.search(r'application/json">(.*?)</script>', page)[1])
    assert network["name"] == "mini_resnet"
    assert network["half"]
    assert [step["op"] for step in network["steps"]].count("Conv") == 6


def test_the_example_writes_the_page_and_opens_it(tmp_path, monkeypatch, capsys):
    opened = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    monkeypatch.setattr(sys, "argv", ["draw_digit.py"])
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(ROOT / "examples" / "draw_digit.py"), run_name="__main__")
    assert opened == [(tmp_path / "digits.html").as_uri()]
    assert stated(tmp_path / "digits.html")["name"] == "mini_resnet"
    assert "digits.html (page, " in capsys.readouterr().out
