"""Files for ExecuTorch, run by its own runtime."""

from importlib.util import find_spec

import pytest
import torch
from conftest import randomize_norms, slow_if
from export_cases import SMALL, STRANGERS

if not find_spec("executorch"):
    pytest.skip("the executorch extra is not installed", allow_module_level=True)

from mnist_zoo import ensemble, evaluate, get_model, lenet5, list_models, load_mnist, predict
from mnist_zoo.export import ExportError, Session, export, load_session, quantize

pytestmark = pytest.mark.filterwarnings("ignore")  # those of its many packages
SHAPE = (1, 28, 28)


def agree(model, path, **options):
    report = export(model, path, "executorch", **options)
    session = load_session(path)
    x = torch.randn(5, *session.input_size)
    with torch.no_grad():
        wanted = model.eval()(x)
    assert (session(x) - wanted).abs().max() <= 1e-4 * wanted.abs().max().clamp(min=1)
    return report


@pytest.mark.parametrize(
    "name", [slow_if(name not in ("mini_resnet", "digitnet_1k"), name) for name in SMALL]
)
def test_a_file_computes_what_the_network_does(name, tmp_path):
    model = randomize_norms(get_model(name))
    report = agree(model, tmp_path / "a.pte")
    parameters = sum(values.numel() for values in model.parameters())
    assert report.size <= 4 * parameters + 120_000
    assert (report.format, report.opset) == ("executorch", None)


@pytest.mark.slow
@pytest.mark.parametrize("name", STRANGERS)
def test_strangers_networks_agree(name, tmp_path):
    agree(randomize_norms(STRANGERS[name]()), tmp_path / "a.pte", input_size=SHAPE)


def test_a_session_is_like_the_network(model, tmp_path, digits):
    classes = [f"digit {at}" for at in range(10)]
    for pixels in ("float32", "uint8"):
        export(model, tmp_path / "a.pte", "executorch", classes=classes, pixels=pixels)
        session = load_session(tmp_path / "a.pte")
        assert isinstance(session, Session)
        assert (session.input_size, session.classes) == (SHAPE, tuple(classes))
        few = digits[slice(0, 30)]
        assert evaluate(session, few).correct == evaluate(model, few).correct
        found, wanted = predict(session, few.images[0]), predict(model, few.images[0])
        assert found.probabilities == pytest.approx(wanted.probabilities, abs=1e-5)
    first = session(torch.zeros(1, *SHAPE))
    copy = first.clone()
    session(torch.ones(1, *SHAPE))
    assert torch.equal(first, copy)  # the runtime's memory is not handed out
    ensemble([session, session])


def test_the_number_of_threads_is_that_of_the_process(model, tmp_path):
    from executorch.extension.pybindings import portable_lib

    export(model, tmp_path / "a.pte", "executorch")
    x = torch.randn(1, *SHAPE)
    usual, sessions, outputs = portable_lib._threadpool_get_thread_count(), [], []
    for threads in (1, 2, None, usual):
        sessions.append(load_session(tmp_path / "a.pte", threads=threads))
        outputs += [session(x) for session in sessions]  # the earlier ones stay right
        assert portable_lib._threadpool_get_thread_count() == threads or threads is None
    assert all(torch.allclose(output, outputs[0], atol=1e-5) for output in outputs)
    (tmp_path / "b.pte").write_bytes(b"nonsense" * 100)
    with pytest.raises(ExportError):
        load_session(tmp_path / "b.pte", threads=usual + 1)
    assert portable_lib._threadpool_get_thread_count() == usual


def test_foreign_files_are_refused(tmp_path):
    cases = {"empty": b"", "text": b"nonsense" * 100, "other": b"0000ET12" + bytes(1000)}
    export(lenet5(), tmp_path / "a.pte", "executorch")
    cases["cut"] = (tmp_path / "a.pte").read_bytes()[:3000]
    for name, content in cases.items():
        (tmp_path / f"{name}.pte").write_bytes(content)
        with pytest.raises(ExportError, match=rf"{name}\.pte' cannot be read by ExecuTorch"):
            load_session(tmp_path / f"{name}.pte")


def test_a_file_that_export_did_not_write_is_refused(tmp_path):
    from executorch.exir import to_edge_transform_and_lower

    exported = torch.export.export(torch.nn.Flatten(), (torch.zeros(1, 1, 28, 28),))
    program = to_edge_transform_and_lower(exported).to_executorch()
    (tmp_path / "a.pte").write_bytes(program.buffer)
    with pytest.raises(ExportError, match=r"a\.pte' must be a file that mnist_zoo\.export wrote"):
        load_session(tmp_path / "a.pte")


def test_what_takes_onnx_files_refuses_it_by_name(tmp_path):
    export(lenet5(), tmp_path / "a.pte", "executorch")
    digits = load_mnist("test", source="sample")[:10]
    with pytest.raises(ExportError, match=r"a\.pte' cannot be read as ONNX"):
        quantize(tmp_path / "a.pte", tmp_path / "b.onnx", digits)
    assert [file.name for file in tmp_path.iterdir()] == ["a.pte"]


class Sorted(torch.nn.Module):
    def forward(self, x):
        return torch.linalg.eigvalsh(x[:, 0] @ x[:, 0].mT)[:, :10]


def test_an_operator_that_it_lacks_is_refused(tmp_path):
    with pytest.raises(ExportError, match=r"`model` \(Sorted\) cannot be exported as executorch"):
        export(Sorted(), tmp_path / "a.pte", "executorch", input_size=SHAPE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", list_models(pretrained=True))
def test_all_test_digits_are_the_same(name, tmp_path):
    test = load_mnist("test")
    model = get_model(name, weights="mnist").eval()
    export(model, tmp_path / "a.pte", "executorch")
    session = load_session(tmp_path / "a.pte")
    for images in test.images.split(1000):
        x = model.preprocessing(images)
        with torch.inference_mode():
            assert torch.equal(session(x).argmax(1), model(x).argmax(1))
