"""Names of classes: from the data to the network, its files, results and plots."""

import copy
import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import TensorDataset

from mnist_zoo import (
    Digits,
    Metrics,
    Prediction,
    Preprocessing,
    Recipe,
    WeightsError,
    ensemble,
    evaluate,
    fit,
    fit_familiarity,
    lenet5,
    load_model,
    mini_convnet,
    plots,
    predict,
    save_model,
)
from mnist_zoo.data import sources
from mnist_zoo.weights.files import write_safetensors

NAMES = ("Trouser", "Bag", "Coat")
IMAGES = torch.randint(0, 256, (12, 1, 28, 28), dtype=torch.uint8)
DATA = Digits(IMAGES, torch.arange(12) % 3, classes=NAMES)
RECIPE = Recipe(lr=0.01, epochs=1, batch_size=6)
RECORD = Preprocessing(mean=(0.2,), std=0.5, redraw=False)


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = mini_convnet(num_classes=3).eval()
    model.classes, model.preprocessing = NAMES, RECORD
    return model


@pytest.mark.parametrize(
    "select", [lambda d: d[:6], lambda d: d.to("cpu"), lambda d: d.split(6)[0]]
)
def test_parts_of_the_data_keep_the_names(select):
    assert select(DATA).classes == NAMES


@pytest.mark.parametrize(
    ("classes", "rule"),
    [
        (("a", "b"), "must name class 2, too"),
        ("abc", "must be the names of the classes"),
        (("a", "b", 3), "must be the names of the classes"),
        (("a", "b", ""), "must be the names of the classes"),
        (3, "must be the names of the classes"),
        ({"a", "b", "c"}, "must be the names of the classes"),
        (("a", "b", "a"), "must differ from each other"),
    ],
)
def test_impossible_names_are_refused(classes, rule):
    with pytest.raises(ValueError, match=rf"`classes` .*{rule}"):
        Digits(IMAGES, DATA.labels, classes=classes)


@pytest.mark.parametrize("form", [list, np.array, iter])
def test_names_in_any_form_with_an_order_are_taken(form):
    classes = Digits(IMAGES, DATA.labels, classes=form(NAMES)).classes
    assert classes == NAMES
    assert {type(name) for name in classes} == {str}


@pytest.mark.parametrize("form", [list, np.array, lambda x: np.array(x, object)])
def test_names_as_labels_are_told_to_be_text(form):
    with pytest.raises(ValueError, match="`labels` must be whole numbers; they are text"):
        Digits(IMAGES, form([NAMES[label] for label in DATA.labels]))


@pytest.mark.parametrize(
    ("source", "count", "first", "last"),
    [
        ("fashion_mnist", 10, "T-shirt/top", "Ankle boot"),
        ("kmnist", 10, "o", "wo"),
        ("emnist_letters", 26, "a", "z"),
        ("emnist_digits", None, None, None),
    ],
)
def test_data_sets_name_what_is_no_digit(source, count, first, last):
    names = sources.PUBLISHED[source].classes
    assert (names and (len(names), names[0], names[-1])) == (count and (count, first, last))


@settings(deadline=None, max_examples=25)
@given(st.integers(3, 6), st.sampled_from([None, NAMES, list(NAMES), (*NAMES, "Hat", "Shoe")]))
def test_results_name_the_classes_and_number_those_without_a_name(outputs, names):
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, outputs))
    network.classes, network.preprocessing = names, Preprocessing(redraw=False)
    expected = [*(names or ())][:outputs]
    expected += [str(number) for number in range(len(expected), outputs)]
    for prediction in predict(network, IMAGES):
        assert prediction.label == expected[prediction.digit]
        assert str(prediction).startswith(prediction.label)
    assert predict(network, IMAGES[0], reject_below=1.0).label is None
    unnamed = Digits(IMAGES, DATA.labels)
    metrics = evaluate(network, unnamed)
    assert metrics.classes == tuple(expected)
    assert f"{expected[0]}: " in str(metrics)


@pytest.mark.parametrize("wrap", [lambda m: m, nn.DataParallel, nn.Sequential])
def test_fit_gives_the_network_the_names_of_its_data(wrap):
    history = fit(wrap(lenet5(num_classes=3)), DATA, recipe=RECIPE, progress=False)
    assert predict(history.model, IMAGES[0]).label in NAMES
    assert evaluate(history.model, DATA).classes == NAMES
    unnamed = Digits(IMAGES, DATA.labels)
    fit(history.model, unnamed, recipe=RECIPE, progress=False)
    assert predict(history.model, IMAGES[0]).label in {"0", "1", "2"}


def test_data_of_other_classes_are_refused(model):
    other = Digits(IMAGES, DATA.labels, classes=("Bag", "Trouser", "Coat"))
    with pytest.raises(ValueError, match=r"`digits` must have the classes of `model`, .*Bag"):
        evaluate(model, other)
    model.classes = None
    assert evaluate(model, other).classes == other.classes


@pytest.mark.parametrize(
    ("outputs", "classes", "is_right"),
    [
        (10, ("0", "1", "2"), True),
        (10, ("1", "2", "3"), False),  # folders of some digits
        (10, ("3", "5", "7"), False),
        (3, ("3", "5", "7"), True),  # a network for just these, trained elsewhere
        (3, ("1", "2", "7"), True),
        (3, ("2", "0", "1"), False),
        (10, NAMES, True),
        (10, None, True),
    ],
)
def test_numbers_as_names_must_be_in_their_places(outputs, classes, is_right):
    network = lenet5(num_classes=outputs)
    digits = Digits(IMAGES, DATA.labels, classes=classes)
    if is_right:
        assert evaluate(network, digits).classes[:3] == (classes or ("0", "1", "2"))
        return
    with pytest.raises(ValueError, match=r"`digits` must have the classes of `model`, \('0', "):
        evaluate(network, digits)
    plain = Digits(IMAGES, DATA.labels)
    with pytest.raises(ValueError, match=r"`validation` must have the classes of `train`, \('0', "):
        fit(network, plain, digits, recipe=RECIPE, progress=False)
    taught, student = RECIPE.replace(distillation=0.5), lenet5(num_classes=outputs)
    with pytest.raises(ValueError, match=r"`train` must have the classes of `teacher`, \('0', "):
        fit(student, digits, recipe=taught, teacher=network, progress=False)


def test_the_same_names_in_another_order_are_refused(model):
    other = Digits(IMAGES, DATA.labels, classes=NAMES[::-1])
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=r"`validation` must have the classes of `train`"):
        fit(model, DATA, other, recipe=RECIPE, progress=False)
    taught = RECIPE.replace(distillation=0.5, preprocessing=RECORD)
    with pytest.raises(ValueError, match=r"`train` must have the classes of `teacher`"):
        fit(lenet5(num_classes=3), other, recipe=taught, teacher=model, progress=False)
    many = Digits(IMAGES.repeat(10, 1, 1, 1), DATA.labels.repeat(10), classes=NAMES[::-1])
    with pytest.raises(ValueError, match=r"`digits` must have the classes of `model`"):
        fit_familiarity(model, many)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_no_two_classes_have_one_name():
    network = lenet5()
    network.classes = ("3", "7")
    names = evaluate(network, Digits(IMAGES, DATA.labels)).classes
    assert names[:4] == ("3", "7", "2", "class 3")
    assert len(set(names)) == 10


def test_torchvisions_mnist_has_digits_as_classes():
    pairs = TensorDataset(IMAGES, DATA.labels)
    pairs.classes = ["0 - zero", "1 - one", "2 - two"]
    assert Digits.from_dataset(pairs).classes is None
    pairs.classes = ["0 - zero", "one", "2 - two"]
    assert Digits.from_dataset(pairs).classes == ("0 - zero", "one", "2 - two")


def test_a_new_classifier_has_no_names(model):
    model.reset_classifier(5)
    assert model.classes is None


def test_names_must_be_as_many_as_the_logits():
    with pytest.raises(ValueError, match=r"`classes` \(=\('a',\)\) must be the names of 2 classes"):
        Metrics.from_logits(torch.zeros(1, 2), torch.tensor([0]), ("a",))
    assert Prediction(1, 0.5, (0.5, 0.5), ((1, 0.5),)).label == "1"


def test_ensembles_have_the_names_of_their_networks(model):
    both = ensemble([model, copy.deepcopy(model)])
    assert predict(both, IMAGES[0]).label in NAMES
    other = copy.deepcopy(model)
    other.classes = ("Bag", "Trouser", "Coat")
    with pytest.raises(ValueError, match="`models` must have the same classes"):
        ensemble([model, other])
    other.classes, other.preprocessing = NAMES, Preprocessing(mean=(0.2,), std=0.5)
    with pytest.raises(ValueError, match="`models` must have the same preprocessing"):
        ensemble([model, other])


def test_an_ensemble_needs_one_type_of_parameters():
    with pytest.raises(ValueError, match="`models` must have parameters of the same type; they"):
        ensemble([lenet5(), lenet5().double()])


def test_an_ensemble_of_colour_networks_takes_grey_images():
    models = [lenet5(in_channels=3), lenet5(in_channels=3)]
    digits = Digits(IMAGES, DATA.labels)
    assert evaluate(ensemble(models), digits).total == 12


# --- Files -----------------------------------------------------------------------------------


def test_save_model_keeps_the_record(model, tmp_path):
    save_model(model, tmp_path / "clothes.safetensors")
    back = load_model(tmp_path / "clothes.safetensors")
    assert (back.classes, back.preprocessing) == (NAMES, RECORD)
    assert predict(back, IMAGES) == predict(model, IMAGES)
    for weights in (tmp_path / "clothes.safetensors", model, nn.DataParallel(model)):
        again = mini_convnet(num_classes=3, weights=weights)
        assert (again.classes, again.preprocessing) == (NAMES, RECORD)
    with pytest.warns(UserWarning, match="adapted"):
        adapted = mini_convnet(num_classes=4, weights=model)
    assert adapted.classes is None


def test_files_without_the_new_keys_load_with_the_defaults(model, tmp_path):
    old = {"mean": 0.1307, "std": 0.3081, "image_size": 28, "resize": "bilinear"}
    metadata = {
        "network": "mini_convnet",
        "options": json.dumps({**model.options}),
        "preprocessing": json.dumps(old),
    }
    write_safetensors(tmp_path / "old.safetensors", model.state_dict(), metadata)
    back = load_model(tmp_path / "old.safetensors")
    assert (back.classes, back.preprocessing) == (None, Preprocessing())
    assert back.preprocessing.redraw
    assert not back.preprocessing.dark_on_light


@pytest.mark.parametrize("classes", [["a"], "abc", {"a": 1}, [1, 2, 3], ["a", "b", "c", "d"]])
def test_files_that_name_other_classes_are_refused(model, tmp_path, classes):
    metadata = {
        "network": "mini_convnet",
        "options": json.dumps({**model.options}),
        "classes": json.dumps(classes),
    }
    write_safetensors(tmp_path / "odd.safetensors", model.state_dict(), metadata)
    with pytest.raises(WeightsError, match=r"'.*odd\.safetensors' must"):
        load_model(tmp_path / "odd.safetensors")


@pytest.mark.parametrize("changes", [{"redraw": 1}, {"mean": [0.1, "x"]}, {"std": 1e-320}])
def test_files_with_an_absurd_record_are_refused(model, tmp_path, changes):
    record = {**asdict(RECORD), **changes}
    metadata = {
        "network": "mini_convnet",
        "options": json.dumps({**model.options}),
        "preprocessing": json.dumps(record),
    }
    write_safetensors(tmp_path / "odd.safetensors", model.state_dict(), metadata)
    with pytest.raises(WeightsError, match="must describe its network"):
        load_model(tmp_path / "odd.safetensors")


def test_exported_files_keep_the_record(model, tmp_path):
    for package in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(package, reason="the onnx extra is not installed")
    from mnist_zoo.export import export, load_session

    export(model, tmp_path / "clothes.onnx")
    session = load_session(tmp_path / "clothes.onnx")
    assert (session.classes, session.preprocessing) == (NAMES, RECORD)
    ours, theirs = predict(model, IMAGES), predict(session, IMAGES)
    assert [p.label for p in ours] == [p.label for p in theirs]
    assert evaluate(session, DATA).confusion == evaluate(model, DATA).confusion
    assert predict(ensemble([model, session]), IMAGES[0]).label in NAMES
    export(model, tmp_path / "others.onnx", classes=("a", "b", "c"))
    assert load_session(tmp_path / "others.onnx").classes == ("a", "b", "c")


def test_hub_networks_keep_the_record_and_show_the_network(model, tmp_path):
    pytest.importorskip("huggingface_hub", reason="the hub extra is not installed")
    from mnist_zoo import summary
    from mnist_zoo.hub import HubModel

    HubModel(model).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["options"]["num_classes"] == 3
    assert Preprocessing(**config["preprocessing"]) == RECORD
    assert config["classes"] == list(NAMES)
    back = HubModel.from_pretrained(str(tmp_path))
    assert (back.classes, back.preprocessing) == (NAMES, RECORD)
    assert predict(back, IMAGES) == predict(model, IMAGES)
    back.preprocessing, back.classes = Preprocessing(), None
    assert (back.model.preprocessing, back.model.classes) == (Preprocessing(), None)
    larger = HubModel(lenet5(image_size=32, in_channels=3))
    assert larger.input_size == (3, 32, 32)
    assert (
        summary(larger, quiet=True).total_params == summary(larger.model, quiet=True).total_params
    )
    assert evaluate(larger, Digits(IMAGES, DATA.labels)).total == 12
    larger.model.reset_classifier(26)
    larger.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["options"]["num_classes"] == 26
    with pytest.raises(AttributeError):
        _ = larger.colour
    assert copy.deepcopy(larger).num_classes == 26


# --- Plots -----------------------------------------------------------------------------------


@pytest.fixture
def metrics():
    pytest.importorskip("matplotlib", reason="the examples' extra is not installed")
    return Metrics.from_logits(torch.randn(12, 3), DATA.labels, NAMES)


def texts(figure):
    figure.draw_without_rendering()
    (axes,) = figure.axes
    return [text.get_text() for text in (*axes.texts, *axes.get_xticklabels())]


def test_plots_show_the_names(metrics):
    assert set(NAMES) <= set(texts(plots.class_accuracy(metrics)))
    figure = plots.confusion_matrix(metrics)
    assert set(NAMES) <= set(texts(figure))
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == list(NAMES)
    worst = metrics.mistakes[0]
    caption = f"{NAMES[worst.label]} →\n{NAMES[worst.predicted]}\n{worst.probability:.1%}"
    assert caption in texts(plots.mistakes(DATA, metrics))


def test_results_of_other_classes_are_not_drawn_together(metrics):
    other = Metrics.from_logits(torch.randn(12, 3), DATA.labels)
    with pytest.raises(ValueError, match="`metrics` must have the same classes"):
        plots.class_accuracy({"a": metrics, "b": other})
