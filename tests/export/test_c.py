"""C that export writes: compiled by the system's compiler, and for a board."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import randomize_norms, slow_if
from example_scripts import load_example
from export_cases import SMALL, STRANGERS
from kit import images_and_logits

pytest.importorskip("emx_onnx_cgen", reason="the c extra is not installed")

from mnist_zoo import (
    Preprocessing,
    digitnet_1k,
    get_model,
    lenet5,
    list_models,
    load_mnist,
    preact_resnet110,
)
from mnist_zoo.export import ExportError, export, load_session, quantize
from mnist_zoo.export import c as c_module

pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="there is no C compiler")

ROOT = Path(__file__).parents[2]
STRICT = ["-std=c99", "-O2", "-Wall", "-Wextra", "-Werror"]
SHAPE = (1, 28, 28)
SMALL_PRETRAINED = list_models(pretrained=True, max_params=1_000_000)


def program_of(source):
    """The example main in a C file, compiled: a function of images."""
    made = source.with_suffix("")
    name = re.search(r"_names\[(\w+)_CLASSES\]", source.with_suffix(".h").read_text())[1]
    command = ["cc", *STRICT, f"-D{name}_MAIN", str(source), "-lm", "-o", str(made)]
    subprocess.run(command, check=True)

    def run(images):
        sent = images.contiguous().numpy().tobytes()
        done = subprocess.run([str(made)], input=sent, capture_output=True, check=True)
        return torch.tensor([[float(x) for x in line.split()] for line in done.stdout.splitlines()])

    return run


def agree(model, source, images, **options):
    report = export(model, source, "c", **options)
    found = program_of(source)(images)
    with torch.no_grad():
        wanted = model.eval()(images)
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() <= 1e-4 * wanted.abs().max().clamp(min=1)
    return report


@pytest.mark.parametrize("name", [slow_if(name != "lenet5", name) for name in SMALL])
def test_a_compiled_program_computes_what_the_network_does(name, tmp_path):
    model = randomize_norms(get_model(name))
    report = agree(model, tmp_path / "a.c", torch.randn(5, *model.input_size))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a", "a.c", "a.h"]
    assert (report.format, report.opset) == ("c", None)
    assert report.size == (tmp_path / "a.c").stat().st_size


@pytest.mark.parametrize("name", [slow_if(True, name) for name in STRANGERS])
def test_strangers_networks_agree(name, tmp_path):
    model = randomize_norms(STRANGERS[name]())
    agree(model, tmp_path / "a.c", torch.randn(5, *SHAPE), input_size=SHAPE)


def test_images_as_they_come_and_names_of_every_kind(tmp_path):
    model = lenet5(weights="mnist").eval()
    names = ['"', "*/", "\\", "??/", "é", "5\n", "%d", "7", "", "9"]
    export(model, tmp_path / "my-net.c", "c", pixels="uint8", classes=names, softmax=True)
    images, wanted = map(torch.from_numpy, images_and_logits(tmp_path / "kit", "lenet5"))
    found = program_of(tmp_path / "my-net.c")(images)
    assert torch.allclose(found, wanted.softmax(1), atol=1e-5)
    header = (tmp_path / "my-net.h").read_text()
    for line in ("MY_NET_PIXELS", "MY_NET_CLASSES 10", "const uint8_t *image", "probabilities"):
        assert line in header
    shown = tmp_path / "names.c"
    shown.write_text(
        '#include <stdio.h>\n#include "my-net.h"\n'
        "int main(void) { for (int i = 0; i < 10; i++) puts(my_net_names[i]); return 0; }\n"
    )
    files = [str(shown), str(tmp_path / "my-net.c")]
    subprocess.run(["cc", *STRICT, *files, "-lm", "-o", str(tmp_path / "names")], check=True)
    done = subprocess.run([str(tmp_path / "names")], capture_output=True, check=True)
    assert done.stdout.decode() == "".join(f"{name}\n" for name in names)
    if shutil.which("nm"):  # other names are the file's own, so that a program may hold two
        command = ["cc", "-c", str(tmp_path / "my-net.c"), "-o", str(tmp_path / "a.o")]
        subprocess.run(command, check=True)
        listed = subprocess.run(
            ["nm", "-g", "--defined-only", str(tmp_path / "a.o")], capture_output=True, text=True
        ).stdout
        names = [line.split()[2] for line in listed.splitlines()]
        assert sorted(names) == ["my_net_logits", "my_net_names"]
    assert "malloc" not in (tmp_path / "my-net.c").read_text()


@pytest.mark.parametrize(
    ("preprocessing", "looks"),
    [
        (Preprocessing(dark_on_light=True), "dark on light"),
        slow_if(True, Preprocessing(), "light on black as MNIST's"),
        slow_if(True, Preprocessing(redraw=False), "as in its training data"),
    ],
)
def test_the_header_says_how_images_look(preprocessing, looks, tmp_path):
    model = digitnet_1k()
    model.preprocessing = preprocessing
    export(model, tmp_path / "a.c", "c", pixels="uint8")
    assert f" from 0 to 255, {looks}.\n" in (tmp_path / "a.h").read_text()


class Sorted(torch.nn.Module):
    def forward(self, x):
        return torch.linalg.eigvalsh(x[:, 0] @ x[:, 0].mT)[:, :10]


@pytest.mark.parametrize(
    ("model", "path", "options", "message"),
    [
        (lenet5(), "a.txt", {}, r"`path` .* end in \.c"),
        (lenet5(), "a b.c", {}, r"`path` .* must be letters"),
        (lenet5(), "a.c", {"batch": 2}, r"`batch` \(=2\) must be None or 1 for 'c'"),
        (lenet5(), "a.c", {"opset": 20}, r"`opset` \(=20\) is for ONNX"),
        (preact_resnet110(), "a.c", {}, r"at most 1,000,000 parameters; it has 1,730,234"),
        (Sorted(), "a.c", {"input_size": SHAPE}, r"`model` \(Sorted\) cannot be exported as c"),
    ],
)
def test_what_cannot_be_written_is_refused(model, path, options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        export(model, tmp_path / path, "c", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_compiler_and_a_failing_one_are_named(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(c_module.shutil, "which", lambda name: None)
        with pytest.raises(ExportError, match="there must be a C compiler, `cc`"):
            export(digitnet_1k(), tmp_path / "a.c", "c")
    monkeypatch.setattr(c_module, "FLAGS", ("-std=none",))
    with pytest.raises(ExportError, match=r"the C compiler refuses the file: .*none"):
        export(digitnet_1k(), tmp_path / "a.c", "c")
    assert list(tmp_path.iterdir()) == []


def test_an_operator_that_the_generator_lacks_is_named(tmp_path, monkeypatch):
    from emx_onnx_cgen import UnsupportedOpError

    def lacking(compiler, graph):
        raise UnsupportedOpError("Unsupported op NonZero")

    monkeypatch.setattr("emx_onnx_cgen.compiler.Compiler.compile", lacking)
    with pytest.raises(ExportError, match=r"emx-onnx-cgen cannot write it: .*op NonZero"):
        export(digitnet_1k(), tmp_path / "a.c", "c")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "emx_onnx_cgen", None)
    with pytest.raises(ImportError, match=r'emx_onnx_cgen: pip install "mnist-zoo\[c\]"'):
        export(lenet5(), tmp_path / "a.c", "c")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_neither_file(tmp_path, monkeypatch):
    (tmp_path / "a.h").write_text("before")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        export(digitnet_1k(), tmp_path / "a.c", "c")
    assert [file.read_text() for file in tmp_path.iterdir()] == ["before"]


on_boards = pytest.mark.skipif(
    not shutil.which("arm-none-eabi-gcc"), reason="there is no compiler for boards"
)


@pytest.fixture(scope="module")
def board():
    return load_example("board")


@pytest.mark.slow
@on_boards
def test_the_guide_states_flash_and_ram(board, tmp_path):
    text = (ROOT / "docs" / "export.md").read_text("utf-8")
    number = r" ([\d.]+) \|"
    stated = re.findall(rf"^\| (\w+) \|{4 * number}$", text, re.M)
    assert len(stated) >= 4
    for name, *kilobytes in stated:
        found = []
        for int8 in (False, True):
            board.write(get_model(name, weights="mnist"), tmp_path / f"{name}.c", int8)
            found += [size / 1000 for size in board.sizes(tmp_path / f"{name}.c")]
        assert found == pytest.approx([*map(float, kilobytes)], rel=0.05)  # other compilers


@on_boards
def test_a_board_computes_the_same(board, tmp_path, digits):
    model = lenet5(weights="mnist").eval()
    export(model, tmp_path / "a.c", "c", pixels="uint8")
    flash, ram = board.sizes(tmp_path / "a.c")
    assert 44_426 * 4 < flash < 44_426 * 4 + 10_000  # the weights, and little code
    assert (6 * 576 + 16 * 64) * 4 < ram < 100_000  # at least the largest two results
    if not shutil.which("qemu-system-arm"):
        pytest.skip("there is no QEMU")
    images = digits.images[:5]
    found = board.run_on_board(tmp_path / "a.c", images)
    with torch.no_grad():
        assert torch.allclose(found, model(model.preprocessing(images)), atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL_PRETRAINED)
def test_test_digits_are_the_same_in_c(name, tmp_path):
    """On some of them; examples/formats.py counts on all."""
    images = load_mnist("test").images[:1000]
    model = get_model(name, weights="mnist").eval()
    export(model, tmp_path / "a.c", "c", pixels="uint8")
    found = program_of(tmp_path / "a.c")(images)
    with torch.inference_mode():
        wanted = model(model.preprocessing(images))
    assert torch.equal(found.argmax(1), wanted.argmax(1))


@pytest.mark.slow
@pytest.mark.parametrize("pixels", [slow_if(True, "float32"), "uint8"])
def test_int8_files_become_c_with_a_quarter_of_the_bytes(pixels, tmp_path):
    model = lenet5(weights="mnist").eval()
    sample = load_mnist("test", source="sample")
    export(model, tmp_path / "float.onnx", pixels=pixels)
    quantize(tmp_path / "float.onnx", tmp_path / "int8.onnx", sample[:200])
    session = load_session(tmp_path / "int8.onnx", threads=1)
    # int8 kernels round some sums to the next of 256 values, and C to the one before
    export(session, tmp_path / "int8.c", "c", pixels=pixels, tolerance=0.05)
    images = sample.images[200:300]
    wanted = session(images.float() / 255 if pixels == "uint8" else model.preprocessing(images))
    given = images if pixels == "uint8" else model.preprocessing(images)
    found = program_of(tmp_path / "int8.c")(given)
    assert torch.equal(found.argmax(1), wanted.argmax(1))
    assert ((found - wanted).abs().amax(1) < 1e-3).float().mean() > 0.9
    made = tmp_path / "int8.o"
    subprocess.run(["cc", "-O2", "-c", str(tmp_path / "int8.c"), "-o", str(made)], check=True)
    weights = sum(values.numel() for values in model.parameters())
    assert weights < made.stat().st_size < 1.6 * weights  # float numbers take 4 bytes each


@pytest.mark.parametrize(
    ("name", "batch"),
    [
        slow_if((name, batch) != ("lenet5", None), name, batch)
        for name in ("lenet5", "mini_resnet")
        for batch in (None, 1)
    ],
)
def test_files_of_float_numbers_become_c_too(name, batch, tmp_path):
    model = randomize_norms(get_model(name)).eval()
    export(model, tmp_path / "a.onnx", batch=batch)
    export(load_session(tmp_path / "a.onnx"), tmp_path / "a.c", "c")
    x = torch.randn(3, *SHAPE)
    with torch.no_grad():
        wanted = model(x)
    found = program_of(tmp_path / "a.c")(x)
    assert (found - wanted).abs().max() <= 1e-4 * wanted.abs().max().clamp(min=1)


def test_sessions_become_c_only_as_their_file_is(file, softmax_file, tmp_path):
    session = load_session(file)
    with pytest.raises(ValueError, match=r"`format` \(='page'\) must be 'c' for a Session"):
        export(session, tmp_path / "a.html", "page")
    with pytest.raises(ValueError, match=r"`pixels` \(='uint8'\) must be 'float32'"):
        export(session, tmp_path / "a.c", "c", pixels="uint8")
    with pytest.raises(ValueError, match=r"`softmax` \(=True\) must be False"):
        export(session, tmp_path / "a.c", "c", softmax=True)
    with pytest.raises(ValueError, match="it gives probabilities"):
        export(load_session(softmax_file), tmp_path / "b.c", "c")
    assert not [*tmp_path.glob("*.c"), *tmp_path.glob("*.h"), *tmp_path.glob("*.html")]


@pytest.mark.slow
def test_a_sessions_file_that_names_other_files_by_now_is_not_followed(tmp_path):
    onnx = pytest.importorskip("onnx")
    export(lenet5(), tmp_path / "a.onnx")
    session = load_session(tmp_path / "a.onnx")
    onnx.save(
        onnx.load(tmp_path / "a.onnx"),
        tmp_path / "a.onnx",
        save_as_external_data=True,
        location="elsewhere",
        size_threshold=0,
    )
    with pytest.raises(ExportError, match="its numbers are in another file"):
        export(session, tmp_path / "a.c", "c")
    assert not (tmp_path / "a.c").exists()
