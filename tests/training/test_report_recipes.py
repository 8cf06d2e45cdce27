"""The reports' protocols: every setting that a report states, and those that it leaves open."""

import os
import re
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image
from report_cases import CNN, Google, Le, Modules, Residual
from torchvision import transforms

from mnist_zoo import (
    Preprocessing,
    Recipe,
    fit,
    get_model,
    get_recipe,
    list_recipes,
    load_data,
    load_mnist,
)

FULL = os.environ.get("MNIST_ZOO_DATA")
# what no report has
PLAIN = {"schedule": "constant", "weight_decay": 0.0, "label_smoothing": 0.0, "ema_decay": None}
SGD = {**PLAIN, "optimizer": "sgd", "momentum": 0.0, "nesterov": False}
ADAM = {**PLAIN, "optimizer": "adam", "betas": (0.9, 0.999)}
LENET5 = {**PLAIN, "optimizer": "sgd", "lr": 0.001, "batch_size": 64, "epochs": 10}
MINI = {**SGD, "lr": 0.01, "momentum": 0.5, "batch_size": 64, "epochs": 5}
MINI |= {"preprocessing": Preprocessing(mean=0.1370, std=0.3081)}
RESNET_CNN = {**ADAM, "lr": 0.001, "batch_size": 64, "epochs": 10, "seed": 1}
FIRST = {"sizes": (2000, 200, 200), "sampling": "first", "eval_every": 15, "select": "best"}
FIRST |= {**SGD, "seed": 100, "preprocessing": Preprocessing(mean=1.0, std=1.0, image_size=32)}
# by recipe: what the report states; what it leaves open
REPORTED = {
    "lenet5_report": (LENET5, {"momentum": 0.9}),
    "lenet5_conv_residual_report": (LENET5, {"momentum": 0.9}),
    "lenet5_fc_residual_report": (LENET5, {"momentum": 0.9}),
    "mini_googlenet_report": (MINI, {"channels_last": True}),
    "mini_resnet_report": (MINI, {"channels_last": True}),
    "resnet50_report": (
        {**PLAIN, "epochs": 15},
        {"optimizer": "adam", "lr": 0.001, "batch_size": 64},
    ),
    "resnet_cnn_report": (RESNET_CNN, {}),
    "resnet_cnn_norm_report": (RESNET_CNN, {}),
    "plain18_report": ({**FIRST, "lr": 0.005, "batch_size": 64}, {"epochs": 5}),
    "resnet18_report": ({**FIRST, "lr": 0.01, "batch_size": 128}, {"epochs": 5}),
}
# how a reference names a field that the report leaves open; the memory format changes no result
NAMED = {
    "momentum": "momentum (0.9 here",
    "optimizer": "Adam at 0.001",
    "lr": "Adam at 0.001",
    "batch_size": "batches of 64",
    "epochs": "number of epochs (5 here)",
    "channels_last": "",
}


@pytest.mark.parametrize("name", list_recipes("*_report"))
def test_recipes_have_what_the_reports_state_and_say_what_they_leave_open(name):
    stated, chosen = REPORTED[name]
    recipe = get_recipe(name)
    expected = Recipe(network=name.removesuffix("_report"), **stated, **chosen)
    assert recipe.replace(reference="") == expected
    for field in chosen:
        assert NAMED[field] in recipe.reference
    if "preprocessing" not in stated:
        assert "normalisation" in recipe.reference


def test_the_thirty_epochs_of_the_report_on_the_34_layer_resnet_are_named():
    for name in ("resnet_cnn_report", "resnet_cnn_norm_report"):
        assert "30 epochs" in get_recipe(name).reference


# by recipe: the network of the report's code, which leaves initial weights to PyTorch
CODE = {
    "lenet5_report": Le,
    "lenet5_conv_residual_report": partial(Le, 16),
    "lenet5_fc_residual_report": partial(Le, 120),
    "mini_googlenet_report": Google,
    "mini_resnet_report": Residual,
    "resnet_cnn_report": CNN,
    "resnet_cnn_norm_report": partial(CNN, norms=True),
    "plain18_report": partial(Modules, 1, use_residual=False),
    "resnet18_report": partial(Modules, 1),
}


def deviations(model):
    """The standard deviation of the initial weights of large layers, by shape."""
    found = {}
    for p in model.parameters():
        if p.dim() > 1 and p.numel() > 2000:
            found.setdefault(str([*p.shape]), []).append(p.std().item())
    return {shape: sum(each) / len(each) for shape, each in found.items()}


@pytest.mark.parametrize("name", CODE)
def test_initial_weights_are_drawn_as_in_the_reports_code_or_the_recipe_says_so(name):
    recipe = get_recipe(name)
    ours, theirs = deviations(get_model(recipe.network)), deviations(CODE[name]())
    alike = ours == pytest.approx(theirs, rel=0.05)
    assert alike == ("PyTorch's there" not in recipe.reference)


def test_images_of_32_pixels_are_pillows_to_a_grey_level():
    """The report's own preparation, which resizes bytes."""
    digits = load_mnist(source="sample")[:50]
    normalize = transforms.Normalize(mean=[1], std=[1])
    prepare = transforms.Compose([transforms.Resize(32), transforms.ToTensor(), normalize])
    theirs = torch.stack([prepare(Image.fromarray(image[0].numpy())) for image in digits.images])
    ours = get_recipe("plain18_report").preprocessing(digits.images)
    assert ours.shape == (50, 1, 32, 32)
    assert (ours - theirs).abs().max() <= 1 / 255


def test_the_first_digits_of_each_part():
    recipe = get_recipe("plain18_report", source="sample", sizes=(300, 50, 60))
    train, test = load_mnist("train", source="sample"), load_mnist("test", source="sample")
    start = len(train) - len(test)
    expected = train[:300], train[start : start + 50], test[:60]
    for seed in (100, 101):
        parts = load_data(recipe.replace(seed=seed))
        for part, digits in zip(parts, expected, strict=True):
            assert torch.equal(part.images, digits.images)
            assert torch.equal(part.labels, digits.labels)
    everything = recipe.replace(sizes=(start, len(test), len(test)))
    assert [len(part) for part in load_data(everything)] == [start, len(test), len(test)]
    for place in range(3):
        sizes = [start, len(test), len(test)]
        sizes[place] += 1
        with pytest.raises(ValueError, match=rf"`sizes` \(={sizes[place]}\) must be .*at most"):
            load_data(recipe.replace(sizes=tuple(sizes)))


@pytest.mark.skipif(not FULL, reason="MNIST_ZOO_DATA names no folder with MNIST")
def test_the_parts_of_mnist_are_50000_and_10000():
    train, validation, test = load_data(get_recipe("resnet18_report"), Path(FULL))
    digits = load_mnist("train", Path(FULL))
    assert torch.equal(train.images, digits.images[:2000])
    assert torch.equal(validation.images, digits.images[50_000:50_200])
    assert torch.equal(test.images, load_mnist("test", Path(FULL)).images[:200])


def test_evaluations_come_every_so_many_steps_and_after_the_last():
    digits = load_mnist(source="sample")[:80]
    recipe = Recipe(network="lenet5", lr=0.01, batch_size=4, epochs=2, eval_every=15)
    history = fit(recipe, digits, digits[:8], progress=False)
    assert [point.step for point in history.evaluations] == [15, 20, 30, 40]
    assert len(history.loss) == len(history.accuracy) == 40  # one of each step


def test_the_loss_of_every_batch_is_kept_and_the_time_of_training_printed(capsys):
    """One report prints the loss of every tenth batch, another the seconds that training took."""
    digits = load_mnist(source="sample")[:80]
    recipe = Recipe(network="lenet5", lr=0.01, batch_size=4, epochs=2)
    logged = []
    history = fit(recipe, digits, hook=lambda now: logged.append(now.loss[-1]))
    assert logged == history.loss
    assert len(history.loss[::10]) == 4
    printed = [
        float(seconds) for seconds in re.findall(r"; ([\d.]+) s$", capsys.readouterr().out, re.M)
    ]
    assert len(printed) == 2
    assert 0 <= printed[0] <= printed[1] <= history.seconds + 0.05
