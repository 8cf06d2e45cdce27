"""Tables against those that torchsummary prints and those of the reports."""

import contextlib
import copy
import io
import re
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torchsummary
from inspection_cases import ODD_PARAMETERS, Odd
from report_cases import Modules
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from mnist_zoo import (
    ModelSummary,
    get_model,
    lenet5,
    mini_resnet,
    profile,
    resnet18,
    summary,
)

REPEATING = ("digitnet_1k", "digitnet_2k", "digitnet_6k")


def theirs(model, size):
    """What torchsummary itself prints for real data."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        torchsummary.summary(model, size, device="cpu")
    return printed.getvalue().rstrip("\n")


def test_summary_equals_what_torchsummary_prints(network):
    model = copy.deepcopy(network)
    if any(not p.requires_grad for p in model.parameters()):
        pytest.skip("torchsummary does not see layers that do not run")
    if getattr(model, "factory", "") in REPEATING:
        pytest.skip("torchsummary counts the weights of a layer each time it runs")
    assert str(summary(network, quiet=True)) == theirs(model, network.input_size)


@pytest.mark.parametrize("name", ["mini_googlenet", "mini_resnet", "plain18"])
def test_golden_tables(name, golden):
    golden(f"{name}_summary", str(summary(get_model(name), quiet=True)))


# the trees of the reports, except for class names, the empty `shortcut` and the average pool;
# models/test_reports.py compares them with trees written from the reports
@pytest.mark.parametrize(
    "name",
    [
        "lenet5_conv_residual",
        "lenet5_fc_residual",
        "resnet18",
        "resnet50",
        "resnet_cnn",
        "resnet_cnn_norm",
    ],
)
def test_golden_trees(name, golden):
    golden(f"{name}_structure", repr(get_model(name)).replace(" bias=True, track", " track"))


def test_summary_with_conv_biases_has_the_rows_of_the_report():
    table = summary(resnet18(conv_bias=True), (1, 32, 32), quiet=True)
    layers = ("Conv2d", "BatchNorm2d", "MaxPool2d", "AdaptiveAvgPool2d", "Linear")
    ours = [(r.type, list(r.output_shape), r.params) for r in table.rows if r.type in layers]
    printed = theirs(Modules(in_channels=1, bias=True), (1, 32, 32))
    rows = re.findall(r"(\w+)-\d+ +\[([-\d, ]+)\] +([\d,]+)", printed)
    reported = [
        (kind, [int(n) for n in shape.split(",")], int(params.replace(",", "")))
        for kind, shape, params in rows
        if kind in layers
    ]
    assert ours == reported
    assert len(ours) == 43
    assert table.total_params == table.trainable_params == 11_180_170


def test_summary_prints_unless_quiet(capsys):
    table = summary(mini_resnet())
    assert capsys.readouterr().out == f"{table}\n"
    assert isinstance(summary(mini_resnet(), quiet=True), ModelSummary)
    assert capsys.readouterr().out == ""
    assert repr(table) == "<ModelSummary of MiniResNet: 41,514 parameters>"


def test_summary_has_rows_totals_and_sizes():
    table = summary(mini_resnet(), quiet=True)
    assert [row.name for row in table.rows[:5]] == [
        "conv1", "mp", "rblock1.conv1", "rblock1.conv2", "rblock1",
    ]  # fmt: skip
    assert sum(row.params for row in table.rows) == table.total_params == 41_514
    assert table.input_bytes == 28 * 28 * 4
    assert table.params_bytes == 41_514 * 4
    outputs = 16 * 24 * 24 + 4 * 16 * 12 * 12 + 32 * 8 * 8 + 4 * 32 * 4 * 4 + 10
    assert table.forward_backward_bytes == 2 * outputs * 4
    assert table.total_bytes == table.input_bytes + table.params_bytes + 2 * outputs * 4


def test_html_of_a_summary_has_every_row():
    html = summary(mini_resnet(), quiet=True)._repr_html_()
    assert html.count("<tr>") == 1 + 11 + 1
    assert "<td>rblock1.conv1</td><td>Conv2d</td><td>[-1, 16, 12, 12]</td><td>2,320</td>" in html


def test_parameters_that_are_in_no_row_are_listed():
    table = summary(get_model("plain18"), quiet=True)
    assert table.total_params == 11_175_370
    assert table.non_trainable_params == 173_824
    assert len(table.unlisted) == 9
    assert "In no row: layer2.0.downsample.0.weight, " in str(table)
    assert "In no row" not in str(summary(mini_resnet(), quiet=True))


def test_summary_of_an_odd_network():
    table = summary(Odd(), [(6, 4), (6, 4)], quiet=True)
    assert table.total_params == ODD_PARAMETERS == sum(p.numel() for p in Odd().parameters())
    rows = {(row.name, row.type): row for row in table.rows}
    assert [row.params for row in table.rows if row.name == "shared"] == [20, 0]
    assert rows["tied", "Linear"].params == 0
    assert rows["attention", "MultiheadAttention"].params == 48 + 12
    assert rows["lstm", "LSTM"].output_shape == ((-1, 6, 5), (-1, 2, 5), (-1, 2, 5))
    assert rows["none", "NoTensor"].output_shape == ()
    assert table.input_bytes == 2 * 6 * 4 * 4
    assert table.unlisted[0] == "gain"
    assert str(table).count("\n") == 3 + len(table.rows) + 10


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_sizes_follow_the_precision(dtype):
    table = summary(mini_resnet().to(dtype), quiet=True)
    assert table.params_bytes == 41_514 * torch.empty(0, dtype=dtype).itemsize
    assert table.input_bytes == 28 * 28 * torch.empty(0, dtype=dtype).itemsize
    assert profile(mini_resnet().to(dtype)).macs == 2_013_184


def test_networks_on_another_device():
    assert profile(mini_resnet().to("meta")).macs == 2_013_184
    assert str(summary(mini_resnet().to("meta"), quiet=True)) == str(
        summary(mini_resnet(), quiet=True)
    )


def test_integer_inputs_are_given_as_tensors():
    model = nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 2))
    tokens = torch.zeros(1, 5, dtype=torch.long)
    assert profile(model, tokens).macs == 5 * 4 * 2
    assert summary(model, tokens, quiet=True).rows[-1].output_shape == (-1, 5, 2)
    assert profile(Odd(), (torch.zeros(1, 6, 4), torch.zeros(1, 6, 4))).params == ODD_PARAMETERS


def test_summary_and_profile_of_a_single_layer():
    assert profile(nn.Linear(3, 4), (3,)).by_layer[""].macs == 12
    table = summary(nn.Linear(3, 4), (3,), quiet=True)
    assert [(row.type, row.params) for row in table.rows] == [("Linear", 16)]


def test_summary_and_profile_without_parameters():
    assert summary(nn.Flatten(), (1, 2, 3), quiet=True).total_params == 0
    assert tuple(profile(nn.Flatten(), (1, 2, 3))) == (0, 0)


def test_wrapped_and_weight_normed_networks():
    normed = lenet5()
    weight_norm(normed.conv1)
    for model, params, macs in [
        (torch.compile(lenet5()), 44_426, 281_640),
        (normed, 44_432, 195_240),
    ]:
        cost = profile(model, (1, 28, 28))
        assert (cost.params, cost.macs, cost.flops) == (params, macs, 2 * 281_640)
        assert summary(model, (1, 28, 28), quiet=True).total_params == params
    assert cost.uncounted["convolution"] == 1


def test_summaries_in_several_threads_are_right_and_swallow_no_output(capsys):
    stdout, table = sys.stdout, summary(mini_resnet(), quiet=True)

    def torchsummary_by_itself():
        torchsummary.summary(lenet5(), (1, 28, 28), device="cpu")

    with ThreadPoolExecutor(4) as pool:
        texts = pool.map(str, [table] * 40)
        for _ in range(40):
            pool.submit(print, "a line of another thread")
        printed = [pool.submit(torchsummary_by_itself) for _ in range(5)]
    assert set(texts) == {str(table)}
    assert all(task.exception() is None for task in printed)
    output = capsys.readouterr().out
    assert output.count("a line of another thread") == 40
    assert output.count("Param #") == output.count("Estimated Total Size") == 5
    assert sys.stdout is stdout
    assert not hasattr(torchsummary.torchsummary, "print")


def test_a_summary_is_right_while_another_thread_redirects_standard_output():
    table = summary(mini_resnet(), quiet=True)
    expected = str(table)
    done = threading.Event()

    def redirect():
        while not done.is_set():
            with contextlib.redirect_stdout(io.StringIO()):
                pass

    with ThreadPoolExecutor(1) as pool:
        pool.submit(redirect)
        texts = {str(table) for _ in range(20)}
        done.set()
    assert texts == {expected}
