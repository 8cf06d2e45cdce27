"""Parity with torchvision, the reports' layouts, and sources that do not fit."""

import copy
import itertools

import pytest
import torch
import torch.nn.functional as F
import torchvision
from conftest import randomize_norms, slow_if
from conversion_cases import (
    DENSENETS,
    FAMILY,
    RESNETS,
    SMALLEST,
    same_state,
    stem_of,
    torchvision_model,
    twins,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from report_cases import Modules
from torch import nn

from mnist_zoo import (
    ConversionError,
    from_torchvision,
    get_model,
    lenet5,
    mini_resnet,
    resnet18,
    to_torchvision,
)


def assert_same(ours, theirs, x):
    """Outputs, gradients and BatchNorm statistics are equal to the bit, in both modes."""
    assert torch.equal(ours.eval()(x), theirs.eval()(x))
    for model in (ours, theirs):
        model.train().zero_grad()
    a, b = ours(x), theirs(x)
    assert torch.equal(a, b)
    target = torch.arange(len(x))
    F.cross_entropy(a, target).backward()
    F.cross_entropy(b, target).backward()
    gradients = zip(ours.parameters(), theirs.parameters(), strict=True)
    assert all(torch.equal(p.grad, q.grad) for p, q in gradients)
    assert same_state(ours.state_dict(), theirs.state_dict())


@pytest.mark.parametrize("name", [slow_if(name not in SMALLEST, name) for name in FAMILY])
def test_names_shapes_and_order_are_torchvisions(name):
    with torch.device("meta"):
        ours = get_model(name, in_channels=3, num_classes=1000)
        theirs = torchvision.models.get_model(name)
    assert name in DENSENETS or repr(ours) == repr(theirs)
    shapes = [(key, value.shape, value.dtype) for key, value in ours.state_dict().items()]
    assert shapes == [(key, v.shape, v.dtype) for key, v in theirs.state_dict().items()]
    weights = torchvision.models.get_model_weights(name).DEFAULT
    assert sum(p.numel() for p in ours.parameters()) == weights.meta["num_params"]


@pytest.fixture(scope="module")
def pair(request):
    """Our network of that name and torchvision's, made once for images of all sizes."""
    return twins(request.param)


@pytest.mark.parametrize(
    ("pair", "size", "batch"),
    [
        slow_if(
            name not in SMALLEST
            or size == 33  # uneven, as 29 is
            or (size == 224 and (name, batch) != ("resnet18", 1)),
            name,
            size,
            batch,
        )
        for name, size, batch in itertools.product(FAMILY, [29, 33, 64, 224], [1, 3])
    ],
    indirect=["pair"],
)
def test_parity_to_the_bit(pair, size, batch):
    ours, theirs = pair
    x = torch.randn(batch, 3, size, size)
    if batch == 1 and size < (33 if isinstance(theirs, torchvision.models.ResNet) else 64):
        # one value per channel: BatchNorm cannot train
        assert torch.equal(ours.eval()(x), theirs.eval()(x))
        for model in (ours, theirs):
            with pytest.raises(ValueError, match="more than 1 value per channel"):
                model.train()(x)
    else:
        assert_same(ours, theirs, x)


@pytest.mark.parametrize(
    "name", [slow_if(name not in ("resnet18", "densenet121"), name) for name in FAMILY]
)
def test_parity_with_one_channel_and_ten_classes(name):
    ours, theirs = twins(name, in_channels=1, num_classes=10)
    size = 28 if name in RESNETS else 32
    assert_same(ours, theirs, torch.randn(3, 1, size, size))


@pytest.mark.parametrize(
    "name", [slow_if(name not in ("resnet18", "densenet121"), name) for name in FAMILY]
)
def test_round_trips_are_the_identity(name):
    ours, theirs = twins(name)
    again = torchvision.models.get_model(name)
    again.load_state_dict(to_torchvision(ours), strict=True)
    assert same_state(again.state_dict(), theirs.state_dict())

    grey = randomize_norms(get_model(name))
    theirs = torchvision.models.get_model(name, num_classes=10)
    theirs.load_state_dict(to_torchvision(grey), strict=True)
    back = get_model(name)
    assert from_torchvision(back, theirs).adapted == (f"{stem_of(name)}.weight",)
    assert same_state(back.state_dict(), grey.state_dict())


def test_to_torchvision_keeps_one_channel_if_asked():
    ours, theirs = twins("resnet18", in_channels=1, num_classes=10)
    assert same_state(to_torchvision(ours, in_channels=1), theirs.state_dict())


@pytest.mark.parametrize("name", ["resnet18", "densenet121"])
@pytest.mark.parametrize("colour_to_grey", [True, False])
def test_grey_images_give_the_logits_of_three_equal_channels(colour_to_grey, name):
    grey = torch.randn(2, 1, 32, 32)
    theirs = torchvision_model(name, 3 if colour_to_grey else 1, 10).eval()
    ours = get_model(name, in_channels=1 if colour_to_grey else 3).eval()
    report = from_torchvision(ours, theirs)
    assert report.adapted == (f"{stem_of(name)}.weight",)
    x, y = (
        (grey, grey.expand(-1, 3, -1, -1)) if colour_to_grey else (grey.expand(-1, 3, -1, -1), grey)
    )
    assert torch.allclose(ours(x), theirs(y), rtol=1e-4, atol=1e-5)


def test_small_stems_take_the_centre_and_large_ones_get_zeros_around():
    small = resnet18(stem="3x3")
    large = torchvision_model("resnet18", 1, 10)
    from_torchvision(small, large)
    assert torch.equal(small.conv1.weight, large.conv1.weight[:, :, 2:5, 2:5])
    x = torch.randn(1, 1, 28, 28)
    wide = resnet18()
    from_torchvision(wide, small)
    assert torch.allclose(
        F.conv2d(x, wide.conv1.weight, padding=3),
        F.conv2d(x, small.conv1.weight, padding=1),
        atol=1e-5,
    )
    from_torchvision(small, wide)
    assert torch.equal(small.conv1.weight, large.conv1.weight[:, :, 2:5, 2:5])


@pytest.mark.parametrize("head", ["reset", "keep"])
def test_head_of_another_size(head):
    theirs = torchvision_model("resnet18")
    ours = resnet18()
    before = copy.deepcopy(ours.fc.state_dict())
    report = from_torchvision(ours, theirs, head=head)
    assert report.skipped == ("fc.weight", "fc.bias")
    assert same_state(ours.fc.state_dict(), before) == (head == "keep")
    assert torch.equal(ours.layer4[1].conv2.weight, theirs.layer4[1].conv2.weight)


@pytest.mark.filterwarnings("ignore:`weights` were adapted")
def test_head_is_reinitialised_when_the_network_is_built_from_weights():
    state = torchvision_model("resnet18").state_dict()
    weight = resnet18(weights=state).fc.weight
    assert weight.abs().max() <= 1 / 512**0.5
    assert weight.std().item() == pytest.approx(1 / (3 * 512) ** 0.5, rel=0.1)


@pytest.mark.parametrize("use_residual", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_net_layout_gives_the_same_outputs(bias, use_residual):
    report = randomize_norms(Modules(bias=bias, use_residual=use_residual)).eval()
    assert "net.2.0.shortcut.weight" in report.state_dict()
    name = "resnet18" if use_residual else "plain18"
    ours = get_model(name, in_channels=3, conv_bias=bias).eval()
    result = from_torchvision(ours, report.state_dict())
    assert len(result.copied) == len(result.tensors) == len(report.state_dict())
    x = torch.randn(3, 3, 32, 32)
    assert (ours(x) - report(x)).abs().max() == 0


def in_net_layout(name):
    """The report's name of torchvision's tensor."""
    for theirs, net in [("conv1.", "net.0.0."), ("bn1.", "net.0.1."), ("fc.", "net.7.")]:
        if name.startswith(theirs):
            return net + name.removeprefix(theirs)
    name = name.removeprefix("layer").replace("downsample.0", "shortcut")
    return "net." + name.replace("downsample.1", "bn3")


def test_torchvision_through_the_net_layout_gives_the_same_outputs():
    """The report's comparison: torchvision's weights by name onto its network, and ours."""
    theirs = torchvision_model("resnet18", num_classes=10).eval()
    report, ours = Modules().eval(), resnet18(in_channels=3).eval()
    report.load_state_dict({in_net_layout(k): v for k, v in theirs.state_dict().items()})
    from_torchvision(ours, report)
    x = torch.randn(3, 3, 32, 32)
    assert (ours(x) - theirs(x)).abs().max() == 0
    assert (report(x) - theirs(x)).abs().max() == 0


def test_a_network_in_the_net_layout_takes_a_checkpoint_in_that_layout():
    assert len(from_torchvision(Modules(), Modules()).copied) == len(Modules().state_dict())


@given(
    prefixes=st.lists(st.sampled_from(["module.", "_orig_mod.", "model."]), max_size=4),
    thop=st.booleans(),
    wrapper=st.sampled_from([None, "state_dict", "model", "model_state_dict"]),
)
def test_prefixes_counters_and_wrappers_are_dropped(prefixes, thop, wrapper):
    source = lenet5()
    state = {"".join(prefixes) + name: value for name, value in source.state_dict().items()}
    if thop:
        state["".join(prefixes) + "conv1.total_ops"] = torch.zeros(1)
    ours = lenet5()
    report = from_torchvision(ours, {"epoch": 3, wrapper: state} if wrapper else state)
    assert same_state(ours.state_dict(), source.state_dict())
    assert len(report.copied) == 10
    assert len(report.skipped) == thop


@pytest.mark.filterwarnings("ignore:distutils:DeprecationWarning")
def test_counters_that_thop_left_in_the_network_itself_are_ignored():
    from thop import profile as thop_profile

    ours = resnet18()
    thop_profile(ours, (torch.randn(1, 1, 28, 28),), verbose=False)
    assert any("total_ops" in name for name in ours.state_dict())
    assert from_torchvision(ours, resnet18()).missing == ()
    assert not any("total_ops" in name for name in to_torchvision(ours))


def test_two_tensors_for_one_place_are_refused():
    state = lenet5().state_dict()
    state["module.fc1.bias"] = state["fc1.bias"]
    with pytest.raises(
        ConversionError, match=r"two tensors for fc1\.bias, one of them 'module\.fc1"
    ):
        from_torchvision(lenet5(), state)


def test_parameters_with_the_names_of_thops_counters_are_copied():
    ours, source = nn.Linear(2, 2), nn.Linear(2, 2)
    ours.total_ops, source.total_ops = (nn.Parameter(torch.rand(4)) for _ in range(2))
    assert "total_ops" in from_torchvision(ours, source).copied
    assert torch.equal(ours.total_ops, source.total_ops)


def test_old_checkpoints_without_batch_counters_fit():
    state = resnet18().state_dict()
    old = {k: v for k, v in state.items() if "num_batches_tracked" not in k}
    report = from_torchvision(resnet18(), old)
    assert len(report.missing) == 20
    assert all("num_batches_tracked" in name for name in report.missing)


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile])
def test_wrapped_networks_are_filled_inside(wrap):
    source, ours = randomize_norms(resnet18()), resnet18()
    from_torchvision(wrap(ours), wrap(source))
    assert same_state(ours.state_dict(), source.state_dict())
    assert same_state(to_torchvision(wrap(ours)), to_torchvision(source))


NAMES = sorted(mini_resnet().state_dict())


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    dropped=st.sets(st.sampled_from(NAMES), max_size=3),
    resized=st.sets(st.sampled_from(NAMES), max_size=3),
    added=st.sets(st.sampled_from(["extra.weight", "conv3.bias"])),
)
def test_all_or_nothing(dropped, resized, added):
    source = mini_resnet().state_dict()
    state = {name: value for name, value in source.items() if name not in dropped}
    state.update({n: torch.zeros(2, *state[n].shape) for n in resized - dropped})
    state.update({n: torch.zeros(1) for n in added})
    ours = mini_resnet()
    before = copy.deepcopy(ours.state_dict())
    fatal = dropped | added | resized
    if fatal:
        with pytest.raises(ConversionError, match="`source` must fit MiniResNet") as error:
            from_torchvision(ours, state)
        assert same_state(ours.state_dict(), before)
        assert {t.name for t in error.value.report.tensors if t.fatal} == fatal
    report = from_torchvision(ours, state, strict=False, head="keep")
    assert set(report.missing) == dropped
    for name, value in ours.state_dict().items():
        assert torch.equal(value, (source if name in report.copied else before)[name])


def test_report_reads_as_a_table():
    theirs = torchvision_model("resnet18")
    ours = resnet18()
    report = from_torchvision(ours, {**theirs.state_dict(), "fc.total_ops": torch.zeros(1)})
    assert repr(report).splitlines() == [
        "119 copied, 1 adapted, 3 skipped, 0 missing",
        "  skipped  fc.total_ops  a counter left by thop",
        "  adapted  conv1.weight  (64, 3, 7, 7) → (64, 1, 7, 7); summed over 3 channels",
        "  skipped  fc.weight     (1000, 512) → (10, 512); re-initialised",
        "  skipped  fc.bias       (1000,) → (10,); re-initialised",
    ]


def test_long_errors_are_cut_and_the_report_is_complete():
    with pytest.raises(
        ConversionError, match=r"and 12 more, all in this error's `report`"
    ) as error:
        from_torchvision(resnet18(conv_bias=True), resnet18())
    assert len(error.value.report.missing) == 20


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (torch.empty(10, device="meta"), "holds no data"),
        (torch.zeros(10).to_sparse(), "quantized, sparse or nested"),
        (None, "quantized, sparse or nested"),
        (torch.zeros(10, dtype=torch.int8), "torch.int8 → torch.float32 would lose"),
        (torch.zeros(10, dtype=torch.complex64), "torch.complex64 → torch.float32 would lose"),
    ],
)
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_values_that_cannot_be_copied_are_refused_before_any_is_copied(value, why):
    if value is None:
        value = torch.quantize_per_tensor(torch.zeros(10), 0.1, 0, torch.qint8)
    ours = lenet5()
    before = copy.deepcopy(ours.state_dict())
    with pytest.raises(ConversionError, match=rf"fc3\.bias: .*{why}"):
        from_torchvision(ours, {**lenet5().state_dict(), "fc3.bias": value})
    assert same_state(ours.state_dict(), before)


@pytest.mark.filterwarnings("ignore:`weights` were adapted")
def test_other_precisions_are_reported_and_summed_in_float32():
    theirs = torchvision_model("resnet18", num_classes=10)
    exact = resnet18(weights=theirs.half().state_dict()).conv1.weight
    assert torch.equal(exact, theirs.conv1.weight.float().sum(1, keepdim=True))
    report = from_torchvision(lenet5(), lenet5().half())
    assert report.tensors[0].note == "torch.float16 → torch.float32"


def test_a_network_without_data_is_refused():
    with pytest.raises(ConversionError, match="`model` must hold data"):
        from_torchvision(lenet5().to("meta"), lenet5())


def test_a_head_that_sees_other_features_does_not_fit():
    with pytest.raises(ConversionError, match=r"fc\.weight: \(10, 512\) → \(10, 800\)"):
        mini_resnet(weights=mini_resnet().state_dict(), image_size=32)


@pytest.mark.parametrize(("name", "theirs"), [("resnet_cnn", "resnet34"), ("plain18", "resnet18")])
def test_small_stems_survive_the_way_through_torchvision(name, theirs):
    ours, again = get_model(name, in_channels=3), get_model(name, in_channels=3)
    model = torchvision.models.get_model(theirs, num_classes=10)
    model.load_state_dict(to_torchvision(ours), strict=True)
    from_torchvision(again, model)
    assert same_state(again.state_dict(), ours.state_dict())


@pytest.mark.parametrize("channels", [2, 4])
def test_stems_without_a_rule_are_refused(channels):
    with pytest.raises(ConversionError, match=r"conv1\.weight: \(64, 3, 7, 7\)"):
        from_torchvision(resnet18(in_channels=channels), torchvision_model("resnet18"))
    with pytest.raises(ConversionError, match=rf"`in_channels` \(={channels}\) must be 1, 3 or"):
        to_torchvision(resnet18(), in_channels=channels)
    with pytest.raises(ValueError, match=rf"`in_channels` \(=-{channels}\) must be a whole number"):
        to_torchvision(resnet18(), in_channels=-channels)


@pytest.mark.parametrize(
    ("model", "tensor"),
    [
        (resnet18(conv_bias=True), "conv1.bias"),
        (get_model("resnet_cnn_norm"), "layer1.2.weight"),
        (mini_resnet(), "conv1.bias"),
        (get_model("resnet50_separable"), "depthwise layer1.0.conv2.weight"),
        (resnet18(norm_layer=lambda channels: nn.GroupNorm(4, channels)), "no bn1.running_mean"),
    ],
)
def test_to_torchvision_refuses_tensors_that_torchvision_lacks(model, tensor):
    with pytest.raises(ConversionError, match=f"torchvision ResNet; it has {tensor}"):
        to_torchvision(model)


def test_wrong_arguments_are_named():
    with pytest.raises(TypeError, match=r"`source` \(=42\) must be a network"):
        from_torchvision(lenet5(), 42)
    with pytest.raises(ValueError, match=r"`head` \(='drop'\) must be 'reset' or 'keep'"):
        from_torchvision(lenet5(), lenet5(), head="drop")
    with pytest.raises(ConversionError, match=r"epoch: not a tensor"):
        from_torchvision(lenet5(), {"epoch": 3})
    with pytest.raises(ConversionError, match=r"0: no such tensor"):
        from_torchvision(lenet5(), {**lenet5().state_dict(), 0: torch.zeros(1)})


def test_numbers_that_the_networks_type_cannot_hold_are_refused():
    source, model = lenet5(), lenet5().half()
    source.fc3.bias.data[0] = 1e6
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(
        ConversionError, match=r"finite numbers; fc3\.bias does not as torch.float16"
    ):
        from_torchvision(model, source)
    assert same_state(model.state_dict(), before)
    source.fc3.bias.data[0] = torch.inf  # the source's own, which a network may have
    from_torchvision(model, source)
    assert model.fc3.bias[0] == torch.inf
