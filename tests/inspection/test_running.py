"""Counting leaves networks unchanged, accepts unusual ones, and names the layer that fails."""

import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mnist_zoo import (
    BasicBlock,
    InceptionA,
    ResidualBlock,
    lenet5,
    mini_resnet,
    profile,
    summary,
)


def test_a_one_by_one_convolution_first_saves_a_factor_of_ten():
    """The report's example: 192 → 32 channels by 5×5 on 28×28, directly or with 1×1 to 16 first."""
    direct = nn.Conv2d(192, 32, 5, padding=2)
    narrow = nn.Sequential(nn.Conv2d(192, 16, 1), nn.Conv2d(16, 32, 5, padding=2))
    size = (192, 28, 28)
    assert profile(direct, size).macs == 120_422_400
    assert profile(narrow, size).macs == 12_443_648


def test_a_network_of_separate_blocks():
    blocks = (ResidualBlock(1, 8, stride=2), InceptionA(8), BasicBlock(88, 16))
    model = nn.Sequential(*blocks, nn.Flatten(), nn.LazyLinear(10))
    with pytest.raises(ValueError, match=r"must be initialised; 4\.weight gets its shape"):
        profile(model, (1, 28, 28))
    model(torch.randn(2, 1, 28, 28))
    assert profile(model, (1, 28, 28)).params == sum(p.numel() for p in model.parameters())


def fingerprint(model):
    """Everything that a count must leave unchanged."""
    hooks = [
        [list(hooks) for key, hooks in sorted(vars(module).items()) if "_hooks" in key]
        for module in model.modules()
    ]
    numpy_state = np.random.get_state()[1].tobytes()
    return {
        "state": {k: v.clone() for k, v in model.state_dict().items()},
        "tensors": [id(t) for t in [*model.parameters(), *model.buffers()]],
        "modes": [module.training for module in model.modules()],
        "trained": [p.requires_grad for p in model.parameters()],
        "gradients": [p.grad for p in model.parameters()],
        "devices": [p.device for p in model.parameters()],
        "hooks": hooks,
        "attributes": [sorted(vars(module)) for module in model.modules()],
        "random": (torch.get_rng_state().tolist(), random.getstate(), numpy_state),
    }


def assert_unchanged(model, before):
    after = fingerprint(model)
    state, state_before = after.pop("state"), before.pop("state")
    assert list(state) == list(state_before)
    assert all(torch.equal(state[k], state_before[k]) for k in state)
    assert after == before


@pytest.mark.parametrize("count", [lambda m: summary(m, quiet=True), profile])
def test_networks_stay_unchanged(network, count):
    network.train()
    network.forward_features(torch.randn(2, *network.input_size))
    next(network.children()).eval()
    next(network.parameters()).requires_grad_(False)
    network.register_forward_hook(lambda *_: pytest.fail("a hook of the network ran"))
    before = fingerprint(network)
    count(network)
    assert_unchanged(network, before)


class Hostile(nn.Module):
    """Uses random numbers, keeps its input and changes itself in its forward; may raise."""

    def __init__(self, raises, tensors, norm, shared, dtype):
        super().__init__()
        self.first = nn.Sequential(nn.Linear(4, 4), norm(4), nn.Dropout(0.5))
        self.second = self.first if shared else nn.Linear(4, 4)
        self.register_buffer("steps", torch.zeros(1))
        self.register_buffer("total_ops", torch.zeros(1))
        self.scale = torch.ones(4, dtype=dtype)  # neither parameter nor buffer
        self.tied = self.first[0].weight
        self.seen = []
        self.raises = raises
        self.tensors = tensors
        self.to(dtype)

    def forward(self, x):
        self.seen.append(x)
        self.steps += 1
        self.training = not self.training
        torch.rand(3, device="cpu"), random.random(), np.random.rand()
        x = self.second(self.first(x * self.scale)) + torch.zeros(4, dtype=x.dtype)
        x = F.dropout(x, 0.5) + torch.randn_like(x)
        if self.raises == "error":
            raise KeyError("hostile")
        if self.raises == "data" and x.sum() > 0:
            return None
        if self.raises == "shape":
            self.second(torch.zeros(2, 3, dtype=x.dtype))
        return {0: x, 1: {"a": x, 2: [x, None]}, 2: (x,)}[self.tensors]


@settings(deadline=None)
@given(
    raises=st.sampled_from([None, "error", "data", "shape"]),
    tensors=st.integers(0, 2),
    norm=st.sampled_from([nn.BatchNorm1d, nn.LayerNorm]),
    shared=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    modes=st.lists(st.booleans(), min_size=6, max_size=6),
    frozen=st.lists(st.booleans(), min_size=6, max_size=6),
    count=st.sampled_from([lambda m, s: summary(m, s, quiet=True), profile]),
)
def test_hostile_networks_stay_unchanged(
    raises, tensors, norm, shared, dtype, modes, frozen, count
):
    model = Hostile(raises, tensors, norm, shared, dtype)
    for module, mode in zip(model.modules(), modes, strict=False):
        module.training = mode
    for p, freeze in zip(model.parameters(), frozen, strict=False):
        p.requires_grad_(not freeze)
    model.first.register_forward_hook(lambda *_: pytest.fail("a hook of the network ran"))
    model.first.register_forward_pre_hook(lambda *_: pytest.fail("a hook of the network ran"))
    before = fingerprint(model)
    if raises is None:
        assert count(model, (4,)) is not None
    else:
        place = r"layer '(first\.0|second)', Linear" if raises == "shape" else "Hostile itself"
        with pytest.raises(RuntimeError, match=f"`model` failed in {place}"):
            count(model, (4,))
    assert model.seen == []
    assert_unchanged(model, before)


def closure_over(layer):
    model = nn.Sequential(layer)
    model.forward = lambda x: layer(x).softmax(1)
    return model


class Teacher(nn.Module):
    """Refuses to be copied, as frozen teachers often do."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(4)

    def __deepcopy__(self, memo):
        torch.rand(3)
        return self

    def forward(self, x):
        return self.norm(x)


@pytest.mark.parametrize("count", [lambda m, s: summary(m, s, quiet=True), profile])
def test_networks_that_cannot_be_copied_stay_unchanged(count):
    for model, error, message in [
        (
            nn.Sequential(Teacher()),
            TypeError,
            "cannot be copied: '0' has a __deepcopy__ that forbids it",
        ),
        (
            closure_over(nn.BatchNorm1d(4)),
            RuntimeError,
            "uses tensors of the original network, not of its copy",
        ),
    ]:
        before = fingerprint(model)
        with pytest.raises(error, match=message):
            count(model, (4,))
        assert_unchanged(model, before)


@pytest.mark.parametrize("count", [lambda m, s: summary(m, s, quiet=True), profile])
def test_changes_through_a_reference_to_the_network_are_undone(count):
    layer = nn.Linear(4, 4)
    model = nn.Sequential(layer)
    model.forward = lambda x: (layer.eval(), layer.requires_grad_(False), x)[-1]
    before = fingerprint(model)
    count(model, (4,))
    assert_unchanged(model, before)


MEAN = torch.full((4,), 0.1)


class Constants(nn.Module):
    """Uses the values of constants from outside the network."""

    def forward(self, x):
        for i in torch.arange(2):
            x = x + int(i) * MEAN
        return x @ torch.from_numpy(np.eye(4, 3, dtype="float32"))


class OwnState(nn.Module):
    """Creates its first hidden state, moves its input, and calls a layer with a keyword."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(28, 8, batch_first=True)
        self.fc = nn.Linear(8, 2)

    def forward(self, x):
        x = x.to("cpu").cpu().squeeze(1)
        h = torch.zeros(1, len(x), 8)
        x, _ = self.lstm(x, (h, h))
        return self.fc(input=x[:, -1])


@pytest.mark.filterwarnings("ignore:distutils:DeprecationWarning")
def test_networks_that_create_their_state_and_move_their_input():
    from thop import profile as thop_profile

    lstm = nn.Sequential(nn.LSTM(28, 8, batch_first=True))
    macs, _ = thop_profile(lstm, (torch.randn(1, 28, 28),), verbose=False)
    assert profile(OwnState(), (1, 28, 28)).macs == macs + 8 * 2
    assert summary(OwnState(), (1, 28, 28), quiet=True).rows[-1].output_shape == (-1, 2)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_constants_and_default_devices(device):
    with torch.device(device):
        assert summary(Constants(), (4,), quiet=True).rows[0].output_shape == (-1, 3)
        assert profile(Constants(), (4,)).flops == 2 * 4 * 3
        assert profile(lenet5()).macs == 281_640
        assert str(summary(lenet5(), quiet=True)).startswith("-----")


def test_compiled_and_parallel_networks_count_as_the_original():
    model = nn.Sequential(torch.compile(lenet5(), backend="eager"))
    assert profile(model, (1, 28, 28)).macs == 281_640
    assert summary(model, (1, 28, 28), quiet=True).total_params == 44_426
    assert profile(nn.DataParallel(lenet5())).macs == 281_640


def test_an_error_names_the_layer_and_the_shape_of_its_input():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Sequential(nn.ReLU(), nn.Linear(7, 2)))
    for count in (summary, profile):
        message = r"`model` failed in layer '1\.1', Linear\(.*\), given \(\d, 4, 26, 26\): "
        with pytest.raises(RuntimeError, match=message):
            count(model, (1, 28, 28))
    with pytest.raises(RuntimeError, match=r"expected an input of shape \(N, 1, 28, 28\), got"):
        summary(mini_resnet(), (3, 28, 28))


@pytest.mark.parametrize("count", [summary, profile])
@pytest.mark.parametrize("size", [28, (0, 3), (1.5,), [], "28", [(1, 28), None], ()])
def test_impossible_shapes(count, size):
    with pytest.raises(ValueError, match=r"` \(=.*\) must be a shape such as \(C, H, W\)"):
        count(lenet5(), size)


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.parametrize("count", [summary, profile])
def test_models_that_cannot_be_counted(count):
    with pytest.raises(ValueError, match="must be given: Linear has no `input_size`"):
        count(nn.Linear(3, 4))
    with pytest.raises(
        TypeError, match=r"`model` \(='resnet18'\) must be a network, such as get_model"
    ):
        count("resnet18", (1, 28, 28))
    with pytest.raises(TypeError, match="not RecursiveScriptModule"):
        count(torch.jit.script(nn.Linear(3, 4)), (3,))
    with pytest.raises(TypeError, match="must be in Python; '0' is a RecursiveScriptModule"):
        count(nn.Sequential(torch.jit.script(nn.Linear(3, 4))), (3,))
    sparse = nn.Linear(3, 4)
    sparse.register_buffer("mask", torch.eye(3).to_sparse())
    with pytest.raises(TypeError, match=r"must have dense tensors; mask is torch\.sparse"):
        count(sparse, (3,))
    model = nn.Linear(3, 4)
    model.file = open(__file__)  # noqa: SIM115
    with model.file, pytest.raises(TypeError, match=r"`model` \(Linear\) cannot be copied"):
        count(model, (3,))


class Frozen(nn.Module):
    """Runs in inference mode, where torch does not split `linear` into its parts."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 4)

    @torch.inference_mode()
    def forward(self, x):
        return torch.matmul(self.fc(x), torch.ones(4, 2))


def test_a_forward_in_inference_mode_has_flops():
    assert profile(Frozen(), (3,)).flops == 2 * (3 * 4 + 4 * 2)


class OwnCopy(nn.Module):
    """Says itself how it is copied."""

    def __init__(self):
        super().__init__()
        self.fc, self.copies = nn.Linear(3, 3), 0

    def __deepcopy__(self, memo):
        self.copies += 1
        return OwnCopy()

    def forward(self, x):
        return self.fc(x)


class InAList(nn.Module):
    """Holds a module that is no child, its parameter under two names, and itself."""

    def __init__(self):
        super().__init__()
        self.hidden, self.me = [nn.Linear(3, 3)], [self]
        self.bias = self.hidden[0].bias

    def forward(self, x):
        return self.me[0].hidden[0](x)


def test_networks_are_copied_as_deepcopy_copies_them():
    model = nn.Sequential(OwnCopy(), InAList())
    assert summary(model, (3,), quiet=True).total_params == 12 + 3
    assert model[0].copies == 1
    assert profile(model, (3,)).flops == 2 * 18
    assert model[1].me == [model[1]]


def test_networks_compiled_in_place_are_followed():
    model = lenet5()
    expected = profile(model).macs, str(summary(model))
    model.compile(backend="eager")
    assert (profile(model).macs, str(summary(model))) == expected
