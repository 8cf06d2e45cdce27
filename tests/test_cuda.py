"""The package on a GPU: training, resuming, reading, counting and exporting.

Skipped without one. ``MNIST_ZOO_TEST_DEVICE=cpu pytest tests/test_cuda.py`` runs what does not
depend on it, to test the tests. They need torch and torchvision only; each that needs another
package skips without it.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from training_cases import same

from mnist_zoo import (
    Augmentation,
    Digits,
    Preprocessing,
    Recipe,
    evaluate,
    fit,
    from_torchvision,
    fuse,
    get_model,
    predict,
    profile,
    summary,
)
from mnist_zoo.export import export
from mnist_zoo.training.processes import process_group

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # torch reads it once, at its first use
DEVICE = torch.device(os.environ.get("MNIST_ZOO_TEST_DEVICE", "cuda"))
ON_GPU = DEVICE.type == "cuda"

pytestmark = pytest.mark.skipif(
    ON_GPU and not torch.cuda.is_available(), reason="torch sees no GPU"
)
only_on_gpu = pytest.mark.skipif(not ON_GPU, reason="the device is no GPU")


def needs(package):
    missing = importlib.util.find_spec(package) is None
    return pytest.mark.skipif(missing, reason=f"{package} is not installed")


RECIPE = Recipe(
    network="mini_resnet",
    optimizer="adamw",
    lr=0.01,
    schedule="onecycle",
    batch_size=50,
    epochs=4,
    augmentation=Augmentation(rotation=5, shift=1, elastic=8),
    ema_decay=0.9,
)


def bars(count, seed=0):
    """Digits that a network learns in seconds: class k has a bar in row 2k + 4."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(10, (count,), generator=generator)
    images = torch.randint(40, (count, 1, 28, 28), dtype=torch.uint8, generator=generator)
    images[torch.arange(count), 0, 2 * labels + 4, 6:22] = 255
    return Digits(images, labels)


@pytest.fixture
def deterministic():
    """Asks torch for the same result in every run.

    Max pooling adds gradients in any order; but here the places that it pools do not overlap.
    """
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="module")
def trained():
    """A network that tells the bars apart, on the device."""
    recipe = RECIPE.replace(epochs=6, augmentation=Augmentation())
    return fit(recipe, bars(1000), device=DEVICE, progress=False).model


# --- Training -------------------------------------------------------------------------------


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("network", ["mini_convnet", "lenet5"])
def test_fit_learns_on_the_device(network, precision, channels_last):
    recipe = RECIPE.replace(
        network=network, precision=precision, channels_last=channels_last, epochs=6
    )
    history = fit(recipe, bars(1000), bars(200, seed=1), device=DEVICE, progress=False)
    assert {tensor.device.type for tensor in history.model.state_dict().values()} == {DEVICE.type}
    assert history.evaluations[-1].accuracy > 0.9
    assert evaluate(history.model, bars(200, seed=2)).accuracy > 0.9


def test_a_network_that_is_on_the_device_trains_there():
    model = get_model("lenet5").to(DEVICE)
    before = torch.random.get_rng_state()
    history = fit(model, bars(200), recipe=RECIPE.replace(epochs=1), progress=False)
    assert history.model is model
    assert next(model.parameters()).device.type == DEVICE.type
    assert torch.equal(torch.random.get_rng_state(), before)


@only_on_gpu
def test_fit_takes_the_gpu_by_itself_and_keeps_its_random_state():
    torch.cuda.manual_seed(3)
    before = torch.cuda.get_rng_state()
    model = fit(RECIPE.replace(epochs=1), bars(200), progress=False).model
    assert next(model.parameters()).is_cuda
    assert torch.equal(torch.cuda.get_rng_state(), before)


@only_on_gpu
def test_the_gpu_trains_as_the_processor_does(monkeypatch):
    """In float32 without TF32: the losses of the first steps agree, before rounding adds up."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    recipe = RECIPE.replace(epochs=1, augmentation=Augmentation(), ema_decay=None, lr=0.001)
    losses = [
        fit(recipe, bars(300), device=device, progress=False).loss for device in ("cpu", "cuda")
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


@pytest.mark.filterwarnings("ignore:.*does not have a deterministic implementation:UserWarning")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_run_resumes_to_the_bit_where_algorithms_are_deterministic(
    deterministic, tmp_path, precision
):
    recipe = RECIPE.replace(precision=precision, epochs=2)
    digits, held = bars(400), bars(100, seed=1)
    options = {"device": DEVICE, "progress": False}
    whole = fit(recipe, digits, held, **options)
    stop = lambda history: history.step == 11  # noqa: E731
    fit(recipe, digits, held, folder=tmp_path, hook=stop, checkpoint_every=3, **options)
    resumed = fit(recipe, digits, held, folder=tmp_path, **options)
    assert same(resumed, whole)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of torch's compiler
def test_a_compiled_network_trains():
    model = torch.compile(get_model("mini_resnet").to(DEVICE))
    history = fit(model, bars(1000), recipe=RECIPE.replace(epochs=6), progress=False)
    assert evaluate(history.model, bars(200, seed=1)).accuracy > 0.9


# --- Several processes ----------------------------------------------------------------------

PROCESS = """
import sys
import torch
sys.path.insert(0, {tests!r})
from test_cuda import RECIPE, bars
from mnist_zoo import fit
model = fit(RECIPE.replace(epochs=1), bars(200), device={device!r}, progress=False).model
print("trained on", next(model.parameters()).device)
"""


def test_two_processes_train_or_say_that_each_needs_a_gpu(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(PROCESS.format(tests=str(Path(__file__).parent), device=DEVICE.type))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*command, str(script)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    if not ON_GPU or torch.cuda.device_count() > 1:
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("trained on") == 2
    else:
        assert done.returncode != 0
        assert "one GPU per process" in done.stderr


def test_more_processes_than_gpus_are_refused(monkeypatch):
    for name, value in {"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "3"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    message = r"`device` \(='cuda'\) needs one GPU per process: this is process 3, of GPUs 0 to 1"
    with pytest.raises(ValueError, match=message), process_group(torch.device("cuda")):
        pass


# --- Reading, counting, exporting -----------------------------------------------------------


def test_predict_and_evaluate_agree_with_the_processor(trained):
    digits = bars(300, seed=3)
    metrics = evaluate(trained, digits)
    found = [result.digit for result in predict(trained, list(digits.images[:, 0].numpy()))]
    raw = Preprocessing()(digits.images.to(DEVICE))
    with torch.inference_mode():
        expected = trained(raw).argmax(1).tolist()
    assert metrics.correct == sum(a == b for a, b in zip(expected, digits.labels, strict=True))
    assert len(found) == 300
    here = get_model("mini_resnet").eval()
    here.load_state_dict({name: tensor.cpu() for name, tensor in trained.state_dict().items()})
    assert evaluate(here, digits, Preprocessing()).loss == pytest.approx(metrics.loss, abs=2e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_predict_runs_networks_of_other_precision(trained, dtype):
    model = get_model("mini_resnet")
    model.load_state_dict(trained.state_dict())
    digits = bars(50, seed=4)
    assert evaluate(model.to(DEVICE, dtype), digits, Preprocessing()).accuracy > 0.9


def test_fused_networks_give_the_same():
    model = get_model("resnet18").to(DEVICE).eval()
    x = torch.rand(4, 1, 28, 28, device=DEVICE)
    with torch.inference_mode():
        assert (fuse(model)(x) - model(x)).abs().max() < 1e-2


@needs("torchsummary")
def test_summary_prints_a_network_on_the_device(capsys):
    model = get_model("resnet18").to(DEVICE)
    assert str(summary(model)) == str(summary(get_model("resnet18")))
    assert next(model.parameters()).device.type == DEVICE.type
    assert capsys.readouterr().out


def test_summary_counts_a_network_on_the_device():
    table, expected = (
        summary(get_model("resnet18").to(device), quiet=True) for device in (DEVICE, "cpu")
    )
    assert table.rows == expected.rows
    assert table.total_bytes == expected.total_bytes


@needs("thop")
@pytest.mark.filterwarnings("ignore:distutils:DeprecationWarning")
def test_profile_counts_a_network_on_the_device():
    model = get_model("resnet18").to(DEVICE)
    assert tuple(profile(model)) == (33_184_000, 11_175_370)
    assert all(parameter.device.type == DEVICE.type for parameter in model.parameters())


@pytest.mark.parametrize(
    "format",
    [pytest.param("onnx", marks=[needs("onnxscript"), needs("onnxruntime")]), "torch_export"],
)
def test_a_network_on_the_device_is_exported(trained, tmp_path, format):
    report = export(trained, tmp_path / "file", format)
    assert report.largest_difference < 1e-2
    assert next(trained.parameters()).device.type == DEVICE.type


def test_weights_come_from_torchvision_across_devices():
    torchvision = pytest.importorskip("torchvision")
    theirs = torchvision.models.resnet18(num_classes=10).to(DEVICE)
    model = get_model("resnet18", in_channels=3)
    from_torchvision(model, theirs)
    moved = get_model("resnet18", in_channels=3).to(DEVICE)
    from_torchvision(moved, {name: tensor.cpu() for name, tensor in theirs.state_dict().items()})
    x = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        expected = theirs.eval()(x.to(DEVICE)).cpu()
        tolerance = 0.02 * expected.abs().max()  # a GPU may round to TF32
        for network in (model, moved):
            device = next(network.parameters()).device
            output = network.eval()(x.to(device)).cpu()
            assert (output - expected).abs().max() < tolerance
    assert next(moved.parameters()).device.type == DEVICE.type
