"""What users bring of their own is taken or refused before the first step, and told by name."""

import contextlib
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from conftest import slow_if
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim.swa_utils import AveragedModel
from training_cases import NormAndDropout, same, weights

from mnist_zoo import (
    Digits,
    Metrics,
    Preprocessing,
    Recipe,
    TrainingError,
    evaluate,
    fit,
    get_model,
    lenet5,
    mini_resnet,
    resnet18,
)

GRAY = Preprocessing(mean=0.5, std=0.5)
SHORT = Recipe(lr=0.05, momentum=0.9, batch_size=30, epochs=1, preprocessing=GRAY)


class Linear(nn.Module):
    """The smallest network, which is no Classifier; it notes every step."""

    def __init__(self, classes=10):
        super().__init__()
        self.fc, self.steps = nn.Linear(784, classes), 0

    def forward(self, x):
        self.steps += self.training
        return self.fc(x.flatten(1))


@settings(deadline=None, max_examples=40)
@given(
    classes=st.integers(2, 12),
    label=st.one_of(st.integers(-200, 200), st.sampled_from([-100, 2**40, -(2**63), 2**63 - 1])),
    where=st.sampled_from(["train", "validation"]),
)
def test_labels_are_checked_before_the_first_step(digits, classes, label, where):
    parts = {
        key: Digits(d.images[:40], d.labels[:40] % classes)
        for key, d in zip(("train", "validation"), digits, strict=True)
    }
    parts[where].labels[7] = label
    model = Linear(classes)
    before = weights(model)
    is_class = 0 <= label < classes
    rule = rf"`{where}` has an image of class {label}; .* 0 to {classes - 1}"
    outcome = contextlib.nullcontext() if is_class else pytest.raises(ValueError, match=rule)
    with outcome:
        fit(model, **parts, recipe=SHORT, progress=False)
    assert (model.steps > 0) == is_class
    assert torch.equal(weights(model), before) != is_class


def test_labels_of_a_replaced_head_are_those_of_the_head(digits):
    model = lenet5(num_classes=10)
    model.fc3 = nn.Linear(84, 5)
    with pytest.raises(ValueError, match="the network are 0 to 4"):
        fit(model, *digits, recipe=SHORT, progress=False)


def test_network_that_gives_no_logits_is_refused(digits):
    class Pair(Linear):
        def forward(self, x):
            return super().forward(x), x

    with pytest.raises(ValueError, match="at least 2 logits"):
        fit(Linear(1), *digits, recipe=SHORT, progress=False)
    for model, got in ((Pair(), "tuple"), (nn.Conv2d(1, 10, 28), r"\(2, 10, 1, 1\)")):
        with pytest.raises(ValueError, match=rf"must give logits \(2, classes\) .* got {got}"):
            fit(model, *digits, recipe=SHORT, progress=False)


def test_check_leaves_no_trace_in_the_network(digits):
    class Counts(Linear):
        def __init__(self):
            super().__init__()
            self.register_buffer("seen", torch.zeros(()))
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            self.seen += len(x)
            self.calls = self.calls + 1
            return super().forward(x)

    model = Counts()
    fit(model, digits[0], recipe=SHORT, progress=False)
    assert (model.seen, model.calls) == (300, 10)
    assert not any(
        hasattr(m, "_forward_pre_hooks") and m._forward_pre_hooks for m in model.modules()
    )


@pytest.mark.parametrize("ema_decay", [None, 0.5])
def test_frozen_modules_stay_as_they_are(digits, ema_decay):
    """Also dropout inside them; a BatchNorm that trains beside a frozen one still does."""
    modes = {}
    model = NormAndDropout()
    model.frozen = nn.Sequential(nn.BatchNorm2d(1), nn.Dropout(0.5), nn.Conv2d(1, 1, 1))
    model.frozen.requires_grad_(False)
    model.forward = lambda x: model.head(model.net(model.frozen(x)))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    for name, module in model.named_modules():
        module.register_forward_hook(
            lambda m, args, out, name=name: modes.setdefault(name, set()).add(m.training)
        )
    recipe = SHORT.replace(ema_decay=ema_decay)
    fit(model, *digits, recipe=recipe, progress=False)
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]) == key.startswith("frozen")
    assert modes["frozen.1"] == {False}
    assert modes["head.0"] == modes["net.1"] == {False, True}


def test_frozen_backbone_gives_the_accuracy_of_its_own_statistics(digits):
    model = mini_resnet(weights="mnist").requires_grad_(False)
    model.get_classifier().requires_grad_(True)
    known = evaluate(model, digits[1])
    recipe = SHORT.replace(lr=1e-12, preprocessing=model.preprocessing)
    fit(model, Digits(255 - digits[0].images, digits[0].labels), recipe=recipe, progress=False)
    assert evaluate(model, digits[1]).loss == pytest.approx(known.loss, abs=1e-6)


def test_network_that_is_all_frozen_is_refused(digits):
    with pytest.raises(ValueError, match=r"`target` \(LeNet5\) .* nothing would train"):
        fit(lenet5().requires_grad_(False), *digits, recipe=SHORT, progress=False)


def hub(model):
    pytest.importorskip("huggingface_hub")
    from mnist_zoo.hub import HubModel

    return HubModel(model)


WRAPPERS = {
    "DataParallel": nn.DataParallel,
    "AveragedModel": AveragedModel,
    "HubModel": hub,
    "compiled": lambda model: torch.compile(model, backend="eager"),
    "wrapped twice": lambda model: AveragedModel(nn.DataParallel(model)),
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_wrapped_network_is_trained_recorded_and_checked_like_the_one_inside(
    digits, tmp_path, wrapper
):
    recipe = SHORT.replace(ema_decay=0.5, select="best")
    start = {k: v.clone() for k, v in lenet5().state_dict().items()}
    plain, inside = lenet5(), lenet5()
    plain.load_state_dict(start)
    inside.load_state_dict(start)
    wrapped = WRAPPERS[wrapper](inside)
    inside = wrapped.module.module if wrapper == "wrapped twice" else inside
    if wrapper == "AveragedModel":  # holds a copy
        inside = wrapped.module
    expected = fit(plain, *digits, recipe=recipe, progress=False)
    found = fit(wrapped, *digits, recipe=recipe, progress=False, folder=tmp_path)
    assert found.model is wrapped
    assert found.loss == pytest.approx(expected.loss, abs=1e-3)
    assert inside.preprocessing == GRAY
    assert not any(module.training for module in wrapped.modules())
    assert evaluate(wrapped, digits[1]).loss == pytest.approx(found.best.loss, abs=1e-5)
    again = lenet5()
    again.load_state_dict(start)
    resumed = fit(again, *digits, recipe=recipe, progress=False, folder=tmp_path)
    assert resumed.loss == found.loss
    assert torch.equal(weights(again), weights(inside))
    wrong = Digits(digits[0].images, digits[0].labels + 1)
    with pytest.raises(ValueError, match="class 10"):
        fit(wrapped, wrong, digits[1], recipe=recipe, progress=False)


@pytest.mark.parametrize(("batch_size", "images"), [slow_if(True, 1, 4), (1, 2)])
def test_single_image_under_batchnorm_is_refused_as_readme_says(digits, batch_size, images):
    recipe = SHORT.replace(batch_size=batch_size)
    few = digits[0][:images]
    model = resnet18()
    before = weights(model)
    rule = r"`batch_size` \(=1\) .* BatchNorm \(layer4.0.bn1\) sees maps of one pixel"
    with pytest.raises(ValueError, match=rule):
        fit(model, few, recipe=recipe, progress=False)
    assert torch.equal(weights(model), before)
    for fine in (resnet18(stem="3x3"), lenet5(), resnet18(norm_layer=lambda n: nn.GroupNorm(1, n))):
        assert fit(fine, few, recipe=recipe, progress=False).step == images
    model.requires_grad_(False).fc.requires_grad_(True)
    assert fit(model, few, recipe=recipe, progress=False).step == images


def test_single_images_are_not_copied(digits):
    seen = []
    model = Linear()
    model.register_forward_pre_hook(lambda m, args: seen.append(len(args[0])))
    fit(model, digits[0][:3], recipe=SHORT.replace(batch_size=1), progress=False)
    assert seen == [2, 2, 1, 1, 1]  # the two checks, then the steps


@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_double_precision_trains_in_double_precision(digits, ema_decay):
    recipe = SHORT.replace(ema_decay=ema_decay)
    single, double = lenet5(), lenet5().double()
    double.load_state_dict(single.state_dict())
    one = fit(single, *digits, recipe=recipe, progress=False)
    two = fit(double, *digits, recipe=recipe, progress=False)
    assert one.loss == pytest.approx(two.loss, abs=1e-4)
    assert {v.dtype for v in double.state_dict().values()} == {torch.float64}
    assert any(float(torch.tensor(x, dtype=torch.float32)) != x for x in two.loss)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_refused_by_name(digits, dtype):
    with pytest.raises(ValueError, match=rf"LeNet5.* must be trained in .* is {dtype}"):
        fit(lenet5().to(dtype), *digits, recipe=SHORT, progress=False)
    with pytest.raises(ValueError, match=r"`precision` \(='bfloat16'\) .* is torch.float64"):
        fit(lenet5().double(), *digits, recipe=SHORT.replace(precision="bfloat16"), progress=False)


@pytest.mark.parametrize("default", [torch.float64, torch.device("meta")])
def test_torch_defaults_change_nothing(digits, recipe, whole, tmp_path, default):
    if isinstance(default, torch.dtype):
        torch.set_default_dtype(default)
    else:
        torch.set_default_device(default)
    try:
        found = fit(recipe, *digits, progress=False, folder=tmp_path)
        resumed = fit(recipe, *digits, progress=False, folder=tmp_path)
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    assert same(found, whole)
    assert same(resumed, whole)


@pytest.mark.parametrize("network", ["lenet5", "mini_densenet"])
def test_runs_in_threads_are_what_each_is_alone(digits, network):
    options = {"dropout": 0.3, "memory_efficient": True} if network == "mini_densenet" else {}
    recipe = Recipe(network=network, options=options, lr=0.01, batch_size=16, epochs=1)
    train, state = digits[0][:32], torch.get_rng_state()
    alone = [fit(recipe.replace(seed=i % 2), train, progress=False) for i in range(2)]
    with ThreadPoolExecutor(4) as pool:
        runs = pool.map(lambda i: fit(recipe.replace(seed=i % 2), train, progress=False), range(6))
        assert all(same(run, alone[i % 2]) for i, run in enumerate(runs))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_logits_that_are_not_finite_are_errors(digits, value):
    logits = torch.zeros(3, 10)
    logits[1, 2] = value
    with pytest.raises(ValueError, match="`logits` must be finite"):
        Metrics.from_logits(logits, torch.arange(3))

    class Spoils(Linear):
        def forward(self, x):
            return super().forward(x) + (0 if self.training or len(x) == 2 else value)

    with pytest.raises(TrainingError, match="a logit of `validation` is not finite after step 10"):
        fit(Spoils(), *digits, recipe=SHORT, progress=False)


def test_every_kind_of_network_passes_the_check(digits):
    for name in ("mini_googlenet", "preact_resnet20", "mini_convnet"):
        recipe = SHORT.replace(batch_size=20)
        assert fit(get_model(name), digits[0][:20], recipe=recipe, progress=False).step == 1


class Detached(Linear):
    def forward(self, x):
        return super().forward(x).detach()


class Unnamed(Linear):
    def __init__(self):
        super().__init__()
        self.layers = [nn.Linear(10, 10)]

    def forward(self, x):
        return self.layers[0](super().forward(x))


class PairInTraining(Linear):
    def forward(self, x):
        logits = super().forward(x)
        return (logits, logits) if self.training else logits


class FewerInTraining(Linear):
    def forward(self, x):
        return super().forward(x)[:, : 5 if self.training else 10]


class Complex(Linear):
    def forward(self, x):
        return super().forward(x) + 0j


class Probabilities(Linear):
    def forward(self, x):
        return super().forward(x).softmax(1)


class Locked(Linear):
    classes = property(lambda self: None)


class NeedsMore(Linear):
    def forward(self, x, scale):
        return super().forward(x) * scale


@pytest.mark.parametrize(
    ("kind", "rule"),
    [
        (Detached, "depend on parameters that require gradients; nothing would train"),
        (Unnamed, r"name all its parameters; one of shape \(10, 10\) would not train"),
        (PairInTraining, r"must give logits \(2, classes\) for 2 images, got tuple"),
        (FewerInTraining, "as many logits in training as in eval mode, 10; it gives 5"),
        (Complex, "real numbers, got torch.complex64"),
        (Probabilities, "it gives probabilities: leave its softmax out"),
        (Locked, "must take an attribute 'classes'"),
        (NeedsMore, r"cannot take images \(2, 1, 28, 28\) of torch.float32: .*'scale'"),
        (lambda: torch.jit.script(lenet5()), "must take an attribute 'preprocessing'"),
        (lambda: nn.Conv2d(3, 10, 28), r"cannot take images \(2, 1, 28, 28\)"),
    ],
)
@pytest.mark.filterwarnings("ignore:.torch.jit.script:FutureWarning")
def test_network_that_would_not_train_as_a_whole_is_refused(digits, kind, rule):
    model = kind()
    held = {name: tensor for name, tensor in model.state_dict().items() if not tensor.is_meta}
    before, modes = {k: v.clone() for k, v in held.items()}, [m.training for m in model.modules()]
    with pytest.raises(ValueError, match=rf"`target` \(\w+\).* {rule}"):
        fit(model, *digits, recipe=SHORT, progress=False)
    assert all(torch.equal(held[name], value) for name, value in before.items())
    assert [m.training for m in model.modules()] == modes
    assert getattr(model, "steps", 0) == 0


@pytest.mark.parametrize(
    "view",
    [
        pytest.param(lambda: torch.zeros(1, 784).expand(10, 784), id="overlaps"),
        pytest.param(lambda: torch.zeros(10, 1568)[:, ::2], id="gaps"),
        pytest.param(lambda: torch.zeros(20, 784)[::2], id="gaps between rows"),
    ],
)
def test_parameter_that_does_not_fill_its_memory_is_refused(digits, view):
    """The optimiser's fused kernels would train it wrongly, and write into the gaps."""
    model = Linear()
    model.fc.weight = nn.Parameter(view())
    with pytest.raises(ValueError, match=r"that fill their memory; fc\.weight is a view"):
        fit(model, *digits, recipe=SHORT, progress=False)
    model.fc.weight.requires_grad_(False)
    fit(model, digits[0], recipe=SHORT, progress=False)


def test_transposed_parameter_trains_as_a_plain_one_and_resumes(digits, tmp_path):
    ends = []
    for transposed in (False, True):
        model, folder = Linear(), tmp_path / str(transposed)
        with torch.no_grad():
            model.fc.weight.copy_(torch.linspace(-0.01, 0.01, 7840).view(10, 784))
            model.fc.bias.zero_()
            if transposed:
                model.fc.weight.data = model.fc.weight.data.t().contiguous().t()
        start = {name: value.clone() for name, value in model.state_dict().items()}
        fit(
            model, digits[0], recipe=SHORT, progress=False, folder=folder, hook=lambda h: h.step > 4
        )
        model.load_state_dict(start)  # as in another process
        fit(model, digits[0], recipe=SHORT, progress=False, folder=folder)
        ends.append(weights(model))
    assert torch.allclose(*ends, atol=1e-5)


def test_lazy_layers_get_their_shapes_before_the_first_step(digits):
    model = nn.Sequential(
        nn.LazyConv2d(4, 5), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(10)
    )
    assert fit(model, *digits, recipe=SHORT, progress=False).loss[-1] < 2
