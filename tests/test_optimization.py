"""Fused and optimized networks compute the same function; steps that save time are kept."""

import copy
import threading

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from mnist_zoo import (
    fuse,
    get_model,
    lenet5,
    load_model,
    mini_resnet,
    optimize,
    resnet18,
    save_model,
)
from mnist_zoo.optimization import GAIN


def norms(model):
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


def test_fuse_keeps_the_function_of_every_network(network, pictures):
    state = copy.deepcopy(network.state_dict())
    fused = fuse(network.train())
    assert network.training
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    expected = network.eval()(pictures)
    scale = expected.abs().max().clamp(min=1)
    assert (fused(pictures) - expected).abs().max() <= 1e-5 * scale
    assert (fused.input_size, type(fused)) == (network.input_size, type(network))


class ReadsAWeight(nn.Module):
    """Its forward pass also reads a tensor of a layer that it calls."""

    def __init__(self, name):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4)
        self.bn.running_var.fill_(4.0)
        self.name = name

    def forward(self, x):
        return self.bn(self.conv(x)).mean((2, 3)) + getattr(self, self.name).weight.sum()


class AsksForTheType(ReadsAWeight):
    """It reads nothing of a tensor but its type."""

    def forward(self, x):
        return self.bn(self.conv(x.to(self.conv.weight.dtype)))


def test_the_type_of_a_tensor_may_be_read():
    model, x = AsksForTheType("conv").eval(), torch.randn(2, 1, 28, 28)
    fused = fuse(model)
    assert isinstance(fused.bn, nn.Identity)
    torch.testing.assert_close(fused(x), model(x))


@pytest.mark.parametrize("name", ["conv", "bn"])
def test_layers_whose_tensors_are_read_elsewhere_stay(name):
    model, x = ReadsAWeight(name).eval(), torch.randn(2, 1, 28, 28)
    fused = fuse(model)
    assert isinstance(fused.bn, nn.BatchNorm2d)
    torch.testing.assert_close(fused(x), model(x))


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("resnet18", 0),
        ("resnet50", 0),
        ("plain18", 3),  # of shortcuts that are never used
        ("resnet_cnn_norm", 12),  # after the later blocks of each stage
        ("mini_convnet", 2),  # after pooling
        ("preact_resnet18", 8),  # after the sums
        ("mini_densenet", 15),  # after concatenations
    ],
)
def test_number_of_norms_that_stay(name, left):
    assert norms(fuse(get_model(name))) == left


class Unusual(nn.Module):
    """Norms that cannot be folded: the convolution is used twice, runs twice, or is missing."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3, padding=1)
        self.norm, self.twice, self.bare = (nn.BatchNorm2d(4) for _ in range(3))
        self.free = nn.BatchNorm2d(4, track_running_stats=False)

    def forward(self, x):
        x = self.first(x)
        x = self.norm(x) + x
        x = self.twice(self.second(x)) + self.twice(self.second(x.relu()))
        return self.free(self.bare(x.relu())).mean((2, 3))


def test_norms_that_cannot_be_folded_stay():
    model = Unusual().eval()
    nn.init.uniform_(model.norm.running_var, 0.5, 1.5)
    x = torch.randn(2, 1, 9, 9)
    fused = fuse(model)
    assert norms(fused) == 4
    assert torch.equal(fused(x), model(x))


def test_norms_without_running_statistics_stay():
    norm = nn.BatchNorm2d(4, track_running_stats=False)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), norm).eval()
    x = torch.randn(2, 1, 9, 9)
    fused = fuse(model)
    assert norms(fused) == 1
    assert torch.equal(fused(x), model(x))


class TwoNames(nn.Module):
    """A convolution and its norm, each with two names."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)
        self.body = nn.Sequential(self.conv, self.norm)

    def forward(self, x):
        return self.body(x)


def test_modules_with_two_names_are_replaced_under_both():
    model = TwoNames().eval()
    nn.init.uniform_(model.norm.running_var, 0.5, 1.5)
    x = torch.randn(2, 1, 9, 9)
    fused = fuse(model)
    assert norms(fused) == 0
    assert torch.allclose(fused(x), model(x), atol=1e-6)
    assert fused.conv is fused.body[0]


def test_parametrized_and_hooked_layers_stay():
    x = torch.randn(2, 1, 28, 28)
    seen = resnet18().eval()
    seen.bn1.register_forward_hook(lambda module, inputs, output: output + 1)
    normed = resnet18().eval()
    parametrizations.weight_norm(normed.conv1)
    changed = resnet18().eval()
    changed.bn1.forward = lambda x: 2 * nn.BatchNorm2d.forward(changed.bn1, x)
    for model in (seen, normed, changed):
        fused = fuse(model)
        assert norms(fused) == 1
        assert torch.allclose(fused(x), model(x), atol=1e-5)


def test_untraceable_networks_are_refused():
    class Branching(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(ValueError, match=r"`model` \(Branching\) must be traceable by torch.fx"):
        fuse(Branching())


def pruned(model):
    prune.l1_unstructured(model.conv1, "weight", 0.5)
    return model


def normed(model):
    """A network whose hook computes a weight, which is no leaf."""
    torch.nn.utils.weight_norm(model.conv1)
    return model


def holding(model):
    """A network that keeps its last output, with its history."""
    model.seen = [model(torch.randn(2, *model.input_size))]
    return model


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("change", [pruned, normed, holding])
@pytest.mark.parametrize("make", [lenet5, resnet18])
def test_networks_whose_weights_are_computed_are_fused_and_optimized(monkeypatch, change, make):
    monkeypatch.setattr("mnist_zoo.optimization.latency", lambda runs, x: [1.0, 0.5])
    model = change(make()).eval()
    x = torch.randn(2, *model.input_size)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert torch.allclose(fuse(model)(x), model(x), atol=1e-5)
    found = optimize(model)
    assert [step.kept for step in found.steps] == [True, True]
    assert torch.allclose(found.model(x), model(x), atol=1e-5)
    assert {m.training for m in model.modules()} == {False}
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


def test_networks_that_cannot_be_copied_are_refused():
    model = lenet5()
    model.lock = threading.Lock()
    for use in (fuse, optimize):
        with pytest.raises(ValueError, match=r"`model` \(LeNet5\) cannot be copied: .*lock"):
            use(model)


def test_a_fused_network_cannot_be_saved(tmp_path):
    save_model(mini_resnet(), tmp_path / "a.safetensors")
    assert load_model(tmp_path / "a.safetensors").factory == "mini_resnet"
    with pytest.raises(ValueError, match="made by a factory"):
        save_model(fuse(mini_resnet()), tmp_path / "b.safetensors")


def test_optimize_keeps_the_steps_that_save_time():
    model = resnet18()
    x = torch.randn(2, 1, 28, 28)
    found = optimize(model, batch_size=2)
    assert [step.name for step in found.steps] == ["fuse", "channels_last"]
    assert model.training
    assert norms(model) == 20
    for step in found.steps:
        assert step.largest_difference < 1e-5
        assert step.kept == (step.milliseconds < GAIN * step.milliseconds_before)
        assert f"{step.milliseconds:.3f}" in repr(found)
    assert found.steps[0].kept == (norms(found.model) == 0)
    assert torch.allclose(found.model(x), model.eval()(x), atol=1e-5)
    found.model(x).sum().backward()  # its weights can still be trained


@pytest.mark.parametrize(("after", "kept"), [(0.9, True), (0.99, False), (1.1, False)])
def test_a_step_is_kept_only_if_it_saves_time(monkeypatch, after, kept):
    monkeypatch.setattr("mnist_zoo.optimization.latency", lambda runs, x: [1.0, after])
    found = optimize(resnet18())
    assert [step.kept for step in found.steps] == [kept, kept]
    assert (norms(found.model) == 0) == kept
    assert ("not kept" in repr(found)) == (not kept)


@pytest.mark.parametrize("wrong", [1.0, float("nan")])
def test_a_step_that_changes_the_outputs_is_not_kept(monkeypatch, wrong):
    class Off(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, x):
            return self.model(x) + wrong

    monkeypatch.setattr("mnist_zoo.optimization.latency", lambda runs, x: [1.0, 0.5])
    monkeypatch.setattr("mnist_zoo.optimization.fuse", Off)
    assert [step.kept for step in optimize(mini_resnet()).steps] == [False, True]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_optimize_in_other_precisions(dtype):
    found = optimize(resnet18().to(dtype))
    assert {p.dtype for p in found.model.parameters()} == {dtype}
    assert len(found.steps) == 2


def test_impossible_arguments():
    with pytest.raises(ValueError, match=r"`batch_size` \(=0\)"):
        optimize(mini_resnet(), batch_size=0)
    with pytest.raises(ValueError, match="`input_size` must be given: Conv2d has none"):
        optimize(nn.Conv2d(1, 2, 3))
    with pytest.raises(ValueError, match=r"`input_size` \(=\(28, 28\)\) must be a shape"):
        optimize(mini_resnet(), (28, 28))


@pytest.mark.slow
def test_a_compiled_network_agrees():
    model = resnet18()
    found = optimize(model, compile=True)
    assert found.steps[-1].name == "compile"
    assert found.steps[-1].largest_difference < 1e-4


WRAPPERS = [
    nn.DataParallel,
    torch.optim.swa_utils.AveragedModel,
    lambda model: torch.compile(model, backend="eager"),
]


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_wrapped_networks_are_fused_and_optimized(wrap):
    model = resnet18(num_classes=4).eval()
    x = torch.randn(2, 1, 28, 28)
    for faster in (fuse(wrap(model)), optimize(wrap(model)).model):
        assert type(faster) is type(model)
        torch.testing.assert_close(faster(x), model(x), atol=1e-4, rtol=0)
    assert isinstance(fuse(wrap(model)).bn1, nn.Identity)


class NormOfTheBatch(nn.Module):
    """Its norm always takes the statistics of the batch."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4)

    def train(self, mode=True):
        super().train(mode)
        self.norm.train()
        return self

    def forward(self, x):
        return self.norm(self.conv(x))


def test_norms_that_stay_in_training_mode_stay():
    model = NormOfTheBatch().eval()
    x = torch.randn(2, 1, 8, 8)
    fused = fuse(model)
    assert type(fused.norm) is nn.BatchNorm2d
    torch.testing.assert_close(fused(x), model(x))


class Named(nn.Module):
    def forward(self, x):
        return {"features": x}


@pytest.mark.parametrize(
    ("model", "rule"),
    [
        (nn.Conv2d(3, 4, 3), r"\(Conv2d\) must accept images of shape \(1, 1, 8, 8\): .*channels"),
        (Named(), r"\(Named\) must give one tensor of floating-point numbers, got dict"),
        (nn.Conv2d(1, 4, 3, device="meta"), r"\(Conv2d\) must hold data; it is on device meta"),
    ],
)
def test_optimize_says_what_a_network_must_do(model, rule):
    with pytest.raises(ValueError, match=rule):
        optimize(model, (1, 8, 8))
