"""Each network of the five reports against an implementation written from the report alone."""

import copy
import re
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from conftest import randomize_norms, slow_if
from report_cases import CNN, Basic, Bottleneck, Deep, Google, Le, Modules, Residual

from mnist_zoo import from_torchvision, get_model

SEPARABLE = partial(Bottleneck, depthwise=True)
# by our name: the report's network
REPORTED = {
    "resnet18": partial(Deep, Basic, (2, 2, 2, 2), 1),
    "resnet34": partial(Deep, Basic, (3, 4, 6, 3), 1),
    "resnet50": partial(Deep, Bottleneck, (3, 4, 6, 3), 4),
    "resnet50_separable": partial(Deep, SEPARABLE, (3, 4, 6, 3), 4),
    "resnet101": partial(Deep, Bottleneck, (3, 4, 23, 3), 4),
    "resnet152": partial(Deep, Bottleneck, (3, 8, 36, 3), 4),
    "lenet5": Le,
    "lenet5_conv_residual": partial(Le, 16),
    "lenet5_fc_residual": partial(Le, 120),
    "mini_googlenet": Google,
    "mini_resnet": Residual,
    "resnet_cnn": CNN,
    "resnet_cnn_norm": partial(CNN, norms=True),
}
EACH = [slow_if(name.startswith("resnet") and name != "resnet_cnn_norm", name) for name in REPORTED]
# in our trees but not in the reports', and the reverse
OURS = {"avgpool": "AdaptiveAvgPool2d(output_size=(1, 1))"}
THEIRS = {
    "avgpool": "AvgPool2d(kernel_size=7, stride=1, padding=0)",
    "global_avgpool": "AdaptiveAvgPool2d(output_size=(1, 1))",
    "resnet_block.shortcut": "Sequential()",
}


def as_ours(name):
    """Our name of a tensor of the report on ResNet-18 with and without residual connections."""
    name = re.sub(r"^net\.0\.0\.", "conv1.", name)
    name = re.sub(r"^net\.0\.1\.", "bn1.", name)
    name = re.sub(r"^net\.7\.", "fc.", name)
    name = re.sub(r"^net\.(\d)", r"layer\1", name)
    return name.replace("shortcut", "downsample.0").replace("bn3", "downsample.1")


def close(ours, theirs, share=1e-9):
    """Whether no value is further off than this share of the largest one."""
    return (ours - theirs).abs().max() <= share * theirs.abs().max()


def assert_agree(ours, theirs, x, renamed=str):
    """Logits in both modes, gradients and running averages agree."""
    assert close(ours.eval()(x), theirs.eval()(x), 1e-6)
    ours, theirs, x = ours.double(), theirs.double(), x.double()
    for training in (False, True):
        logits, slopes = [], []
        for model in (ours, theirs):
            model.train(training).zero_grad()
            torch.manual_seed(5)  # of dropout
            images = x.clone().requires_grad_()
            logits.append(model(images))
            F.cross_entropy(logits[-1], torch.arange(len(x))).backward()
            slopes.append(images.grad)
        assert close(*logits)
        assert close(*slopes)
        gradients = dict(ours.named_parameters())
        for name, p in theirs.named_parameters():
            if p.grad is not None:
                assert close(gradients[renamed(name)].grad, p.grad), name
    buffers = dict(ours.named_buffers())
    assert all(close(buffers[renamed(name)], b) for name, b in theirs.named_buffers())


@pytest.mark.parametrize("name", EACH)
def test_a_checkpoint_of_the_report_loads_unchanged_and_all_agrees(name):
    make, size = REPORTED[name], 28
    if getattr(make, "func", None) is Deep:  # the last pool is as large as its input
        make, size = (make, 224) if name == "resnet18" else (partial(make, pool=2), 64)
    theirs, ours = randomize_norms(make()), get_model(name)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    assert_agree(ours, theirs, torch.randn(3, 1, size, size))


@pytest.mark.parametrize("name", REPORTED)
def test_layers_are_the_reports(name):
    with torch.device("meta"):
        pair = get_model(name), REPORTED[name]()
    ours, theirs = (
        {name: repr(m) for name, m in model.named_modules() if not any(m.children())}
        for model in pair
    )
    assert {k: v for k, v in ours.items() if theirs.get(k) != v}.items() <= OURS.items()
    assert {k: v for k, v in theirs.items() if ours.get(k) != v}.items() <= THEIRS.items()


@pytest.mark.parametrize(
    ("biases", "parameters"),
    [({}, 11_175_370), ({"stem_bias": True}, 11_175_434), ({"bias": True}, 11_180_170)],
)
@pytest.mark.parametrize(("name", "use_residual"), [("resnet18", True), ("plain18", False)])
def test_checkpoints_with_and_without_biases_give_the_same_network(
    name, use_residual, biases, parameters
):
    theirs = randomize_norms(Modules(in_channels=1, use_residual=use_residual, **biases))
    assert sum(p.numel() for p in theirs.parameters()) == parameters
    ours = get_model(name)
    report = from_torchvision(ours, theirs)
    lacking = {as_ours(key) for key in theirs.state_dict()} - set(ours.state_dict())
    assert set(report.skipped) == lacking
    means = {n.replace("conv", "bn").replace("downsample.0", "downsample.1") for n in lacking}
    assert set(report.adapted) == {n.replace(".bias", ".running_mean") for n in means}
    x = torch.randn(3, 1, 32, 32)
    if not biases:
        assert_agree(ours, theirs, x, as_ours)
        return
    ours, theirs, x = ours.double(), theirs.double(), x.double()
    for training in (False, True):  # a folded bias has been rounded in single precision
        assert close(ours.train(training)(x), theirs.train(training)(x), 1e-6)


def test_a_folded_bias_changes_only_its_running_mean_and_stays_folded_in_training():
    torch.manual_seed(2)
    theirs = randomize_norms(Modules(in_channels=1, stem_bias=True)).double()
    ours = get_model("resnet18").double()
    report = from_torchvision(ours, theirs)
    assert "bn1.running_mean  conv1.bias subtracted" in str(report)
    assert "conv1.bias        folded into bn1.running_mean" in str(report)
    optimizers = [torch.optim.SGD(m.parameters(), 0.05, 0.9) for m in (ours, theirs)]
    for step in range(2):
        x = torch.randn(3, 1, 32, 32, dtype=torch.double)
        for model, optimizer in zip((ours, theirs), optimizers, strict=True):
            optimizer.zero_grad()
            F.cross_entropy(model.train()(x), torch.arange(3)).backward()
            optimizer.step()
        a, b = ours.eval()(x), theirs.eval()(x)
        assert torch.allclose(a, b, rtol=0, atol=1e-9 * b.abs().max().item()), step
    state = {as_ours(key): value for key, value in theirs.state_dict().items()}
    state["bn1.running_mean"] -= state.pop("conv1.bias")
    for key, value in ours.state_dict().items():
        assert torch.allclose(value, state[key], rtol=1e-9, atol=1e-9), key


def test_a_bias_that_no_norm_takes_up_is_refused():
    source = Modules(in_channels=1, stem_bias=True).state_dict()
    for name, changed in [
        ("resnet18", {"net.0.0.bias": torch.zeros(63)}),
        ("resnet18", {"net.1.0.conv3.bias": torch.zeros(64)}),
        ("resnet_cnn_norm", {}),
    ]:
        ours = get_model(name)
        before = copy.deepcopy(ours.state_dict())
        with pytest.raises(ValueError, match="must fit ResNet"):
            from_torchvision(ours, {**source, **changed})
        assert all(torch.equal(before[key], value) for key, value in ours.state_dict().items())
    without_mean = {k: v for k, v in source.items() if k != "net.0.1.running_mean"}
    with pytest.raises(ValueError, match=r"conv1\.bias: no such tensor in the network"):
        from_torchvision(get_model("resnet18"), without_mean)
