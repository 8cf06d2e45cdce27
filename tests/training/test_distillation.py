"""A teacher in `fit`: against a plain loop, resumed to the bit, refused where it does not fit."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn
from torch.nn import functional as F
from training_cases import NormAndDropout, same, weights

from mnist_zoo import (
    CheckpointError,
    Corruption,
    Preprocessing,
    Recipe,
    ensemble,
    fit,
    lenet5,
    mini_convnet,
)
from mnist_zoo.training.distillation import divergence

TAUGHT = Recipe(lr=0.02, batch_size=100, epochs=2, distillation=0.7, temperature=3.0)
NUMBERS = arrays(np.float64, (4, 5), elements=st.floats(-8, 8))


def linear(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))


@given(ours=NUMBERS, theirs=NUMBERS, temperature=st.floats(0.5, 20))
@settings(deadline=None, max_examples=50)
def test_divergence_equals_its_definition(ours, theirs, temperature):
    def softmax(logits):
        powers = np.exp(logits / temperature)
        return powers / powers.sum(1, keepdims=True)

    p, q = softmax(theirs), softmax(ours)
    found = divergence(torch.tensor(ours), torch.tensor(theirs), temperature)
    assert np.allclose(found.numpy(), (p * np.log(p / q)).sum(1), atol=1e-9)


def test_fit_with_a_teacher_matches_a_plain_loop(digits):
    student, teacher = linear(0), linear(1)
    plain = copy.deepcopy(student)
    order = []
    fit(student, digits[0], recipe=TAUGHT, teacher=teacher, progress=False)
    # the same batches, seen by a network that writes them down
    fit(Recorder(order), digits[0], recipe=TAUGHT.replace(distillation=0), progress=False)
    optimizer = torch.optim.SGD(plain.parameters(), 0.02)
    images = digits[0].images.float().div(255).sub(0.1307).div(0.3081)
    for x in order:
        rows = [int((images == image).flatten(1).all(1).nonzero()[0]) for image in x]
        soft = F.softmax(teacher(x) / 3, 1).detach()
        logits = plain(x)
        # Hinton et al. 2015: cross-entropy with soft targets, times the squared temperature
        hinton = -(soft * F.log_softmax(logits / 3, 1)).sum(1).mean() * 9
        loss = 0.3 * F.cross_entropy(logits, digits[0].labels[rows]) + 0.7 * hinton
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert len(order) == 6
    assert torch.allclose(weights(student), weights(plain), atol=1e-5)


class Recorder(nn.Module):
    """Writes down the batches that it sees in a list, which copies share."""

    def __init__(self, seen):
        super().__init__()
        self.fc, self.note = nn.Linear(784, 10), Note(seen)

    def forward(self, x):
        if x.shape[0] > 2:  # not the two images with which `fit` tries a network
            self.note.seen.append(x.clone())
        return self.fc(x.flatten(1))


class Note:
    """Holds a list that survives a copy of its owner."""

    def __init__(self, seen):
        self.seen = seen

    def __deepcopy__(self, _):
        return self


def test_teacher_sees_the_augmented_images_of_the_student(digits):
    ours, theirs = [], []
    corruption = Corruption(share=0.5, noise=0.3)
    recipe = TAUGHT.replace(corruption=corruption)
    fit(Recorder(ours), digits[0], recipe=recipe, teacher=Recorder(theirs), progress=False)
    assert len(ours) == len(theirs) == 6
    assert all(map(torch.equal, ours, theirs))
    assert not torch.equal(ours[0].sort(0).values, ours[3].sort(0).values)


def test_teacher_sees_the_images_also_if_the_student_changes_its_input(digits):
    class Inverts(Recorder):
        def forward(self, x):
            logits = super().forward(x.clone())
            x.neg_()
            return logits

    ours, theirs = [], []
    student, teacher = Inverts(ours), Inverts(theirs)
    fit(student, digits[0], recipe=TAUGHT, teacher=teacher, progress=False)
    assert len(ours) == len(theirs) == 6
    assert all(map(torch.equal, ours, theirs))


def test_network_that_agrees_with_its_teacher_has_no_loss_and_stays(digits):
    teacher = linear(0)
    student = copy.deepcopy(teacher)
    history = fit(
        student, digits[0], recipe=TAUGHT.replace(distillation=1), teacher=teacher, progress=False
    )
    assert max(history.loss) < 1e-6
    assert torch.allclose(weights(student), weights(teacher), atol=1e-6)


def test_teacher_stays_as_it_is(digits):
    teacher = NormAndDropout()
    before, modes = weights(teacher), [m.training for m in teacher.modules()]
    fit(linear(0), digits[0], recipe=TAUGHT, teacher=teacher, progress=False)
    assert torch.equal(weights(teacher), before)
    assert [m.training for m in teacher.modules()] == modes
    assert all(p.requires_grad and p.grad is None for p in teacher.parameters())


def test_ensemble_teaches(digits):
    torch.manual_seed(0)
    members = [lenet5(), lenet5()]
    for member in members:
        member.preprocessing = Preprocessing()
    recipe = TAUGHT.replace(precision="bfloat16", channels_last=True)
    history = fit(linear(0), digits[0], recipe=recipe, teacher=ensemble(members), progress=False)
    assert history.step == 6


def test_resumed_run_with_a_teacher_equals_an_uninterrupted_one(digits, recipe, tmp_path):
    recipe = recipe.replace(distillation=0.5, epochs=2)
    teacher = NormAndDropout()
    options = {"progress": False, "folder": tmp_path, "teacher": teacher}
    whole = fit(recipe, *digits, progress=False, teacher=teacher)
    fit(recipe, *digits, **options, hook=lambda h: h.step == 8)
    for other in (linear(1), linear(2)):
        with pytest.raises(CheckpointError, match="it belongs to another teacher"):
            fit(recipe, *digits, **(options | {"teacher": other}))
    assert same(whole, fit(recipe, *digits, **options))


def other_preprocessing():
    teacher = lenet5()
    teacher.preprocessing = Preprocessing(mean=0.5)
    return teacher


def not_a_number():
    teacher = lenet5()
    nn.init.constant_(teacher.fc3.bias, torch.nan)
    return teacher


@pytest.mark.parametrize(
    ("teacher", "distillation", "rule"),
    [
        (None, 0.5, r"`teacher` \(=None\) must be a network .* `distillation` .* 0.5"),
        (lenet5(), 0, r"`teacher` \(=LeNet5\) must be None .* `distillation` .* 0$"),
        (mini_convnet(num_classes=3), 0.5, r"`teacher` \(MiniConvNet\) must have .* 10 classes"),
        (other_preprocessing(), 0.5, r"`teacher` \(LeNet5\) must take the images of the recipe"),
        (nn.Identity(), 0.5, r"`teacher` \(Identity\) must give logits"),
        (nn.Sequential(lenet5(), nn.Softmax(1)), 0.5, r"`teacher` .* it gives probabilities"),
        (lenet5().to("meta"), 0.5, r"`teacher` \(LeNet5\) must hold data"),
        (nn.LazyLinear(10), 0.5, r"`teacher` \(LazyLinear\) must be initialised"),
        (not_a_number(), 0.5, r"`teacher` \(LeNet5\) must give finite"),
        (lenet5(in_channels=3), 0.5, r"`teacher` \(LeNet5\) cannot take images \(2, 1, 28, 28\)"),
    ],
)
def test_teachers_that_do_not_fit_are_refused(digits, teacher, distillation, rule):
    student = linear(0)
    before = weights(student)
    recipe = TAUGHT.replace(distillation=distillation)
    with pytest.raises(ValueError, match=rule):
        fit(student, digits[0], recipe=recipe, teacher=teacher, progress=False)
    assert torch.equal(weights(student), before)


def test_teacher_of_other_floats_teaches(digits):
    taught = [linear(0), linear(0)]
    for student, teacher in zip(taught, (linear(1), linear(1).double()), strict=True):
        fit(student, digits[0], recipe=TAUGHT, teacher=teacher, progress=False)
    assert torch.allclose(*map(weights, taught), atol=1e-5)
