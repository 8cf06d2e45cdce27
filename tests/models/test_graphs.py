"""Every registered network as a graph: traced, scripted, exported and compiled."""

from inspect import signature

import pytest
import torch
from conftest import DEEPER_VARIANTS, each_network, made, randomize_norms
from models_cases import close, expected_and_got
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from mnist_zoo import BasicBlock, Bottleneck, ResidualUnit, get_model, list_models

BLOCKS = (BasicBlock, Bottleneck, ResidualUnit)

# Their graphs repeat those of others of their family.
ALIKE = ("plain18", "resnet50_separable", "preact_resnet50", "densenet40_12")
ALIKE += ("lenet5_conv_residual", "digitnet_20k")


@pytest.fixture(params=each_network(ALIKE))
def network(request):
    """Every network, with two blocks per stage: the later ones repeat the second.

    Capturing a graph takes long. The deeper variants, whose tests are slow, stay whole.
    """
    network = made(request.param)
    if request.param not in DEEPER_VARIANTS:
        for stage in [m for m in network.modules() if isinstance(m, nn.Sequential)]:
            if any(isinstance(part, BLOCKS) for part in stage):
                has_norms = isinstance(stage[-1], nn.BatchNorm2d)
                del stage[3 if has_norms else 2 :]
    return network


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_jit_trace(network, pictures):
    traced = torch.jit.trace(network, pictures[:2])
    assert close(traced(pictures), network(pictures))
    with pytest.raises(torch.jit.Error, match=expected_and_got(network, 5)):
        traced(torch.randn(1, 5, *network.input_size[1:]))
    with pytest.raises(torch.jit.Error, match=r"expected an input of shape \(N, 1.*got \(1, "):
        traced(pictures[0])


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_jit_script(network, pictures):
    assert close(torch.jit.script(network)(pictures), network(pictures))


def test_fx_trace(network, pictures):
    traced = torch.fx.symbolic_trace(network)
    assert torch.equal(traced(pictures), network(pictures))
    with pytest.raises(ValueError, match=expected_and_got(network, 5)):
        traced(torch.randn(1, 5, *network.input_size[1:]))


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore:The TorchScript type system:UserWarning")
def test_the_graphs_of_fx_can_be_scripted(network, pictures):
    scripted = torch.jit.script(torch.fx.symbolic_trace(network))
    assert close(scripted(pictures), network(pictures))
    with pytest.raises(torch.jit.Error, match=expected_and_got(network, 5)):
        scripted(torch.randn(1, 5, *network.input_size[1:]))


def test_export_with_dynamic_batch(network, pictures):
    batch = {0: torch.export.Dim("batch")}
    program = torch.export.export(network, (pictures[:2],), dynamic_shapes=(batch,))
    exported = program.module()
    for n in (1, 2, 7):
        x = torch.randn(n, *network.input_size)
        assert close(exported(x), network(x))
    # the newer guards of PyTorch name only the expected value; its checks also name the actual one
    unguarded = (
        {"check_guards": False} if "check_guards" in signature(program.module).parameters else {}
    )
    exported_by_name = program.module(**unguarded)
    size = network.image_size
    for wrong, guard, message in [
        (torch.randn(1, 5, size, size), "1", "equal to 1, but got 5"),
        (torch.randn(1, 1, size, 29), f"{size}", f"equal to {size}, but got 29"),
        (torch.randn(1, size, size), "1", r"dimensions .*expected .* got torch.Size\(\[1, "),
    ]:
        expected = rf"Guard failed: .* == {guard}$|equal to {guard},|number of dimensions"
        with pytest.raises((AssertionError, RuntimeError), match=expected):
            exported(wrong)
        with pytest.raises(RuntimeError, match=message):
            exported_by_name(wrong)


@pytest.mark.slow
def test_compile_captures_one_graph(network, pictures):
    torch.compiler.reset()
    compiled = torch.compile(network, fullgraph=True, backend="eager")
    assert close(compiled(pictures), network(pictures))


# the graphs of all networks are captured above; compiling the deeper ones takes minutes
@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in list_models() if name not in DEEPER_VARIANTS])
def test_compile(name):
    torch.compiler.reset()
    network = randomize_norms(get_model(name)).eval()
    x = torch.randn(3, *network.input_size)
    with torch.no_grad():
        assert close(torch.compile(network, fullgraph=True)(x), network(x), atol=1e-4)


def test_feature_extractor_of_torchvision(network, pictures):
    nodes = get_graph_node_names(network)[1]
    middle = next(node for node in reversed(nodes) if "flatten" in node)
    features = create_feature_extractor(network, [middle, nodes[-1]])(pictures)
    assert torch.equal(features[nodes[-1]], network(pictures))
    assert features[middle].dim() == 2
