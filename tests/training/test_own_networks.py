"""Networks of the user's own, of kinds that other libraries make: what `fit` does with them."""

import threading

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import spectral_norm, weight_norm
from torch.torch_version import TorchVersion
from torch.utils.checkpoint import checkpoint

from mnist_zoo import (
    Digits,
    Preprocessing,
    Recipe,
    TrainingError,
    evaluate,
    fit,
    from_torchvision,
)

RECIPE = Recipe(lr=0.05, batch_size=30, epochs=2, eval_every=3)


class LowRank(nn.Linear):
    """A frozen layer with a learnt change of low rank (Hu et al. 2021, LoRA)."""

    def __init__(self):
        super().__init__(784, 10)
        self.weight.requires_grad = False
        self.down = nn.Parameter(torch.randn(4, 784) / 28)
        self.up = nn.Parameter(torch.zeros(10, 4))

    def forward(self, x):
        return F.linear(x.flatten(1), self.weight + self.up @ self.down, self.bias)


class Merging(LowRank):
    """The same, whose eval mode adds the change to the weights, as loralib's layers do."""

    merged = False

    def train(self, mode=True):
        if mode == self.merged:
            with torch.no_grad():
                self.weight += (-1 if mode else 1) * self.up @ self.down
            self.merged = not mode
        return super().train(mode)

    def forward(self, x):
        if self.merged:
            return F.linear(x.flatten(1), self.weight, self.bias)
        return super().forward(x)


class Masked(nn.Linear):
    """A network with a mask, as attention has, and with state that is no tensor."""

    def __init__(self):
        super().__init__(784, 10)
        self.register_buffer("mask", torch.full((3, 3), -torch.inf).triu(1))
        self.calls = 0

    def get_extra_state(self):
        return {"calls": self.calls}

    def set_extra_state(self, state):
        self.calls = state["calls"]

    def forward(self, x):
        self.calls += self.training
        return super().forward(x.flatten(1)) + self.mask.softmax(1).sum() - 3


def made(kind, *, inside=False):
    torch.manual_seed(0)
    return nn.Sequential(nn.Identity(), kind()) if inside else kind()


@pytest.mark.parametrize("inside", [False, True])
def test_networks_that_merge_weights_in_eval_mode_train_as_others(digits, inside):
    plain, merging = (
        fit(made(kind, inside=inside), *digits, recipe=RECIPE, progress=False)
        for kind in (LowRank, Merging)
    )
    assert merging.loss == pytest.approx(plain.loss, abs=1e-4)


@pytest.mark.parametrize("inside", [False, True])
def test_evaluate_gives_networks_that_merge_weights_back_as_they_were(digits, inside):
    model = made(Merging, inside=inside)
    layer = model[1] if inside else model
    nn.init.normal_(layer.up)
    before = layer.weight.clone()
    found = evaluate(model, digits[1])
    x = Preprocessing()(digits[1].images)
    expected = F.cross_entropy(LowRank.forward(layer, x), digits[1].labels).item()
    assert found.loss == pytest.approx(expected, rel=1e-4)
    assert layer.training
    assert not layer.merged
    assert torch.allclose(layer.weight, before, atol=1e-5)


def test_network_that_gives_probabilities_in_eval_mode_is_refused(digits):
    class Switches(nn.Linear):
        def forward(self, x):
            logits = super().forward(x.flatten(1))
            return logits if self.training else logits.softmax(1)

    with pytest.raises(ValueError, match=r"`target` \(Switches\) .* it gives probabilities"):
        fit(Switches(784, 10), *digits, recipe=RECIPE, progress=False)


def test_masks_and_state_that_is_no_tensor_train_and_resume(digits, tmp_path):
    recipe = RECIPE.replace(select="best", ema_decay=0.5)
    whole = fit(made(Masked), *digits, recipe=recipe, progress=False)
    options = {"recipe": recipe, "progress": False, "folder": tmp_path, "checkpoint_every": 5}
    fit(made(Masked), *digits, **options, hook=lambda h: h.step == 11)
    resumed = fit(made(Masked), *digits, **options)
    assert resumed.loss == whole.loss
    assert torch.equal(resumed.model.weight, whole.model.weight)
    assert resumed.model.mask.isinf().any()


class Counting(nn.Linear):
    """A network with a state of its own that grows: the mean of each batch that it trained on."""

    def __init__(self):
        super().__init__(784, 10)
        self.means = []

    def get_extra_state(self):
        return torch.tensor(self.means)

    def set_extra_state(self, state):
        self.means = state.tolist()

    def forward(self, x):
        if self.training:
            self.means.append(x.mean().item())
        return super().forward(x.flatten(1))


class Reading(nn.Module):
    """A layer that subtracts a buffer which another one fills."""

    def __init__(self, centre):
        super().__init__()
        self.register_buffer("centre", centre, persistent=False)

    def forward(self, x):
        return x - self.centre


class Filling(Reading):
    def forward(self, x):
        if self.training:
            self.centre.mul_(0.9).add_(0.1 * x.detach().mean(0))
        return x


def shared():
    """A network of two layers that share a buffer which the state dict leaves out."""
    centre = torch.zeros(10)
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10), Filling(centre), Reading(centre))


@pytest.mark.parametrize("changes", [{}, {"ema_decay": 0.9}, {"select": "best"}])
def test_layers_share_a_buffer_that_the_state_dict_leaves_out(digits, tmp_path, changes):
    options = {"progress": False}
    whole = fit(made(shared), *digits, recipe=RECIPE, **options)
    options["recipe"] = RECIPE.replace(**changes)
    fit(made(shared), *digits, **options, folder=tmp_path, hook=lambda h: h.step == 4)
    resumed = fit(made(shared), *digits, **options, folder=tmp_path)
    assert resumed.loss == whole.loss
    layers = resumed.model
    assert layers[2].centre is layers[3].centre
    assert layers[3].centre.abs().sum() > 0


def test_a_checkpoint_with_a_buffer_that_is_not_finite_is_passed_over(digits, tmp_path):
    def spoil(history):
        if history.step == 5:
            history.model[2].centre.fill_(torch.nan)
        return history.step == 5

    options = {"recipe": RECIPE, "progress": False, "folder": tmp_path}
    whole = fit(made(shared), *digits, recipe=RECIPE, progress=False)
    fit(made(shared), *digits, **options, hook=spoil, checkpoint_every=1)
    with pytest.warns(UserWarning, match="not finite; training resumes"):
        assert fit(made(shared), *digits, **options).loss == whole.loss


class Locked(nn.Linear):
    """A network whose own state cannot be copied."""

    def __init__(self):
        super().__init__(784, 10)
        self.lock = threading.Lock()

    def get_extra_state(self):
        return self.lock

    def set_extra_state(self, state):
        self.lock = state

    def forward(self, x):
        return super().forward(x.flatten(1))


def test_a_state_that_cannot_be_copied_is_left_alone(digits):
    network = made(Locked)
    lock = network.lock
    assert len(fit(network, *digits, recipe=RECIPE, progress=False).loss) > 1
    assert network.lock is lock


@pytest.mark.parametrize("changes", [{}, {"ema_decay": 0.9}, {"ema_decay": 0.9, "select": "best"}])
def test_state_of_a_network_is_that_of_its_steps(digits, tmp_path, changes):
    options = {"recipe": RECIPE.replace(**changes), "progress": False}
    whole = fit(made(Counting), *digits, **options)
    chosen = whole.best.step if "select" in changes else whole.step
    assert len(whole.model.means) == chosen
    fit(made(Counting), *digits, **options, folder=tmp_path, hook=lambda h: h.step == 4)
    resumed = fit(made(Counting), *digits, **options, folder=tmp_path)
    assert resumed.model.means == whole.model.means


class Caching(nn.Linear):
    """A network with a buffer that training makes, and that the state dict leaves out."""

    def __init__(self):
        super().__init__(784, 10)
        self.register_buffer("last", None, persistent=False)

    def forward(self, x):
        logits = super().forward(x.flatten(1))
        if self.training:
            logits = logits if self.last is None else logits + self.last.mean()
            self.last = logits.detach()
        return logits


def test_buffers_that_training_makes_are_kept_in_checkpoints(digits, tmp_path):
    options = {"recipe": RECIPE, "progress": False}
    whole = fit(made(Caching), *digits, **options)
    fit(made(Caching), *digits, **options, folder=tmp_path, hook=lambda h: h.step == 4)
    assert fit(made(Caching), *digits, **options, folder=tmp_path).loss == whole.loss


class Centred(nn.Linear):
    """A network that subtracts the mean of its logits, which the state dict leaves out."""

    def __init__(self):
        super().__init__(784, 10)
        self.register_buffer("centre", torch.zeros(10), persistent=False)

    def forward(self, x):
        logits = super().forward(x.flatten(1))
        if self.training:
            self.centre = 0.9 * self.centre + 0.1 * logits.mean(0)
            self.centre = self.centre.detach()
        return logits - self.centre


@pytest.mark.parametrize("changes", [{}, {"ema_decay": 0.9}, {"ema_decay": 0.9, "select": "best"}])
def test_buffers_that_the_state_dict_leaves_out_are_kept(digits, tmp_path, changes):
    options = {"recipe": RECIPE.replace(**changes), "progress": False}
    whole = fit(made(Centred), *digits, **options)
    shown = whole.best if "select" in changes else whole.evaluations[-1]
    assert evaluate(whole.model, digits[1]).loss == pytest.approx(shown.loss, rel=1e-6)
    fit(made(Centred), *digits, **options, folder=tmp_path, hook=lambda h: h.step == 4)
    resumed = fit(made(Centred), *digits, **options, folder=tmp_path)
    assert resumed.loss == whole.loss
    assert torch.equal(resumed.model.centre, whole.model.centre)


@pytest.mark.parametrize("persistent", [False, True])
def test_indices_counts_and_masks_are_not_averaged(digits, persistent):
    class Indexed(nn.Linear):
        def __init__(self):
            super().__init__(784, 10)
            self.register_buffer("order", torch.arange(784), persistent)
            self.register_buffer("mask", torch.full((3, 3), -torch.inf).triu(1), persistent)
            self.register_buffer("seen", torch.tensor(0), persistent)

        def forward(self, x):
            self.seen += len(x) if self.training else 0
            return super().forward(x.flatten(1)[:, self.order]) + self.mask.softmax(1).sum() - 3

    recipe = RECIPE.replace(ema_decay=0.9)
    model = fit(made(Indexed), *digits, recipe=recipe, progress=False).model
    assert torch.equal(model.order, torch.arange(784))
    assert torch.equal(model.mask, torch.full((3, 3), -torch.inf).triu(1))
    if persistent:  # the trained network gets the state dict of the average
        assert model.seen == recipe.epochs * len(digits[0])


class Adapter(nn.Linear):
    """A network whose state dict holds only what trains, as those of adapters do."""

    def __init__(self):
        super().__init__(784, 10)
        self.base = nn.Linear(784, 10).requires_grad_(False)

    def state_dict(self, *args, **options):
        state = super().state_dict(*args, **options)
        return {name: value for name, value in state.items() if "base" not in name}

    def forward(self, x):
        return super().forward(x.flatten(1)) + self.base(x.flatten(1))


class Noted(Adapter):
    """A network that notes an object of its own, and whose state dict is whole."""

    state_dict = nn.Linear.state_dict
    note = frozenset({1, 2})

    def get_extra_state(self):
        return self.note

    def set_extra_state(self, state):
        self.note = state


NEEDED = {"folder": {}, "`select` or `ema_decay`": {"ema_decay": 0.5}}


@pytest.mark.parametrize("reason", NEEDED)
def test_state_that_cannot_be_put_back_is_told_before_the_first_step(digits, tmp_path, reason):
    options = {"recipe": RECIPE.replace(**NEEDED[reason]), "progress": False}
    options |= {"folder": tmp_path} if reason == "folder" else {}
    with pytest.raises(ValueError, match=f"(?s)must take its own state dict, which .*{reason}"):
        fit(made(Adapter), *digits, **options, hook=lambda _: pytest.fail("a step was made"))
    assert fit(made(Adapter), *digits, recipe=RECIPE, progress=False).step


def test_state_that_no_checkpoint_can_hold_is_told_before_the_first_step(digits, tmp_path):
    fit(made(Noted), *digits, recipe=RECIPE.replace(select="best"), progress=False)
    rule = r"`target` \(Noted\) must have a state dict of tensors, .*: it holds '.*set'"
    with pytest.raises(ValueError, match=rule):
        fit(made(Noted), *digits, recipe=RECIPE, progress=False, folder=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("tensor", "kind"),
    [(torch.eye(3).to_sparse(), "quantized or sparse"), (torch.empty(3, device="meta"), "meta")],
)
def test_tensors_that_are_no_plain_numbers_are_refused_by_name(digits, tensor, kind):
    model = made(Adapter)
    model.register_buffer("graph", tensor)
    with pytest.raises(ValueError, match=f"`target.graph` must be plain numbers .* {kind}"):
        fit(model, *digits, recipe=RECIPE, progress=False)


def test_runs_of_networks_with_options_of_their_own_resume(digits, tmp_path):
    """In another process an object prints another address, and a set another order."""

    class Optional(Adapter):
        state_dict = nn.Linear.state_dict

        def __init__(self):
            super().__init__()
            self.options, self.factory = {(1, 2): object(), "names": {"a", "b"}}, lambda: None

    options = {"recipe": RECIPE, "progress": False, "folder": tmp_path}
    fit(made(Optional), *digits, **options, hook=lambda h: h.step == 2)
    assert fit(made(Optional), *digits, **options).step > 2


@pytest.mark.parametrize("number", [torch.nan, torch.inf])
def test_statistics_that_are_infinite_from_the_start_are_an_error(digits, number):
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(784, 10))
    model[0].running_mean[0] = number
    with pytest.raises(TrainingError, match="weights are not finite after step"):
        fit(model, digits[0], recipe=RECIPE, progress=False)


def test_weights_that_become_infinite_beside_a_mask_are_an_error(digits):
    class Spoils(Masked):
        def __init__(self):
            super().__init__()
            self.spare = nn.Parameter(torch.zeros(2))

        def forward(self, x):
            if self.training and len(x) > 2:
                self.spare.data[0] = torch.inf
            return super().forward(x)

    with pytest.raises(TrainingError, match="weights are not finite after step"):
        fit(Spoils(), digits[0], recipe=RECIPE, progress=False)


def test_weights_go_into_a_network_with_state_that_is_no_tensor():
    model = made(Masked)
    source = {"weight": torch.ones(10, 784), "bias": torch.zeros(10), "mask": torch.zeros(3, 3)}
    from_torchvision(model, source)
    assert torch.equal(model.weight, source["weight"])


@pytest.mark.skipif(TorchVersion(torch.__version__) < (2, 8), reason="needs torch 2.8")
def test_networks_that_compute_small_maps_again_train_as_others(digits):
    class Again(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.stem = nn.Sequential(nn.Conv2d(1, 4, 5), nn.AdaptiveAvgPool2d(2))
            self.block = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), nn.Flatten())
            self.fc = nn.Linear(32, 10)

        def forward(self, x):
            return self.fc(checkpoint(self.block, self.stem(x), use_reentrant=False))

    class Once(Again):
        def forward(self, x):
            return self.fc(self.block(self.stem(x)))

    again, once = (fit(kind(), *digits, recipe=RECIPE, progress=False) for kind in (Again, Once))
    assert again.loss == pytest.approx(once.loss, abs=1e-5)


@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning")
@pytest.mark.parametrize("normed", [weight_norm, spectral_norm])
def test_weights_that_a_hook_computes_are_averaged_and_teach(digits, normed):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), normed(nn.Linear(784, 10)))
    history = fit(model, *digits, recipe=RECIPE.replace(ema_decay=0.5), progress=False)
    assert evaluate(model, digits[1]).loss == pytest.approx(history.evaluations[-1].loss, rel=1e-4)
    model.train()(torch.rand(2, 1, 28, 28))  # the computed weight now has a gradient
    student = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    recipe = RECIPE.replace(distillation=1.0, epochs=8)
    taught = fit(student, *digits, recipe=recipe, teacher=model, progress=False)
    assert taught.loss[-1] < taught.loss[0] / 2


@pytest.mark.parametrize(
    ("images", "rule"),
    [
        (torch.zeros(5, 3, 28, 28), r"`validation` .* cannot take images \(2, 3, 32, 32\)"),
        (torch.zeros(5, 1, 40, 40), r"`validation` .* `image_size` \(=32\) must be at least"),
    ],
)
def test_validation_images_that_do_not_fit_are_told_before_the_first_step(digits, images, rule):
    model = nn.Sequential(nn.Conv2d(1, 4, 5), nn.Flatten(), nn.LazyLinear(10))
    recipe = RECIPE.replace(preprocessing=Preprocessing(image_size=32, resize="pad"))
    steps = []
    validation = Digits(images.byte(), [0] * len(images))
    with pytest.raises(ValueError, match=rule):
        fit(model, digits[0], validation, recipe=recipe, progress=False, hook=steps.append)
    assert not steps


def test_a_network_that_keeps_no_record_of_its_preprocessing_is_told(digits):
    class Prepares(nn.Linear):
        def __init__(self):
            super().__init__(784, 10)
            self.preprocessing = nn.Flatten()

        def forward(self, x):
            return super().forward(self.preprocessing(x))

    model, recipe = Prepares(), RECIPE.replace(preprocessing=Preprocessing(mean=0.9, std=2.0))
    with pytest.warns(UserWarning, match=r"pass preprocessing=Preprocessing\(mean=0.9") as told:
        history = fit(model, *digits, recipe=recipe, progress=False)
    assert told[0].filename == __file__
    found = evaluate(model, digits[1], recipe.preprocessing)
    assert found.loss == pytest.approx(history.evaluations[-1].loss, rel=1e-5)
    assert evaluate(model, digits[1]).loss != pytest.approx(found.loss, rel=1e-2)
