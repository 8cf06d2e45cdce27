"""Digits: indexing, checks, and splits that are stratified or keep groups together."""

import csv
import gzip
import io

import numpy as np
import pytest
import torch
from data_cases import needs_mnist
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, Subset, TensorDataset, random_split

from mnist_zoo import Digits, Recipe, evaluate, fit, lenet5, load_mnist


def make_digits(labels):
    labels = torch.as_tensor(labels)
    images = torch.arange(len(labels)).view(-1, 1, 1, 1).expand(-1, 1, 2, 2).to(torch.uint8)
    return Digits(images.contiguous(), labels)


def test_digits_can_be_indexed_by_slice_list_tensor_and_mask():
    digits = make_digits([0, 1, 2, 0, 1])
    for index in (slice(1, 3), [1, 2], torch.tensor([1, 2]), digits.images[:, 0, 0, 0] % 3 > 0):
        assert digits[index].labels[:2].tolist() == [1, 2]
    assert "5 of (1, 2, 2), 3 classes" in repr(digits)


@settings(deadline=None, max_examples=60)
@given(
    count=st.integers(1, 12),
    chosen=st.lists(st.integers(0, 11), max_size=5),
    kind=st.sampled_from([list, np.array, np.uint8, torch.LongTensor, torch.IntTensor]),
)
def test_positions_and_masks_of_any_type_are_the_same(count, chosen, kind):
    digits = make_digits(list(range(count)))
    chosen = [place % count for place in chosen]
    index = np.array(chosen, np.uint8) if kind is np.uint8 else kind(chosen)
    assert digits[index].labels.tolist() == chosen
    mask = [place in chosen for place in range(count)]
    for same in (mask, np.array(mask), torch.tensor(mask)):
        assert digits[same].labels.tolist() == sorted(set(chosen))
    assert digits[::-1].labels.tolist() == list(range(count))[::-1]


@pytest.mark.parametrize(
    "index",
    [
        *(0, np.int64(1), torch.tensor(1), [0.5], np.array([1.0]), (1, 2), "01", None, [[0, 1]]),
        *(torch.tensor([1, 0, 1, 0, 1]).byte(), ["0"], (slice(None), 0)),
    ],
    ids=repr,
)
def test_what_is_no_position_is_refused(index):
    with pytest.raises(TypeError, match=r"(?s)`index` \(=.*\) must be a slice, a list or a tensor"):
        make_digits([0, 1, 2, 0, 1])[index]


@pytest.mark.parametrize("seed", [None, "1", 1.5, True, 2**70])
def test_impossible_seeds_are_refused(seed):
    with pytest.raises(ValueError, match="`seed` "):
        make_digits([0, 1] * 5).split(2, seed=seed)


def test_seeds_and_groups_of_numpy_are_taken():
    digits, groups = make_digits([0, 1] * 5), [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    (wanted,) = digits.split(4, seed=7, groups=torch.tensor(groups))
    for seed, same in ((7, groups), (np.int64(7), np.array(groups)), (torch.tensor(7), groups)):
        assert torch.equal(digits.split(4, seed=seed, groups=same)[0].images, wanted.images)


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
            r"`labels` must be whole numbers \(3,\)",
        ),
        (torch.zeros(3, 1, 28, 28).byte(), torch.zeros(3), "`labels` must be whole numbers"),
        (torch.zeros(3, 1, 28, 28).byte(), [0, -1, 2], "from 0; the smallest is -1"),
        (np.zeros((3, 1, 28, 28), np.uint8), [0, 1, 2], "Digits.from_arrays converts other forms"),
        (torch.zeros(3, 1, 0, 28).byte(), [0, 1, 2], r"must have pixels; their shape is \(3, 1, 0"),
        (torch.zeros(3, 1, 2, 2, device="meta").byte(), [0, 1, 2], "it is on device meta"),
        (torch.zeros(3, 1, 2, 2).byte().to_sparse(), [0, 1, 2], "nested, quantized or sparse"),
        (torch.zeros(3, 1, 2, 2).byte(), np.ma.array([0, 1, 2], mask=[0, 1, 0]), "it is masked"),
        (torch.zeros(3, 1, 2, 2).byte(), torch.zeros(3, device="meta").long(), "on device meta"),
    ],
)
def test_tensors_of_another_dtype_or_shape_are_refused(images, labels, rule):
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
            # each end of the part may cut through one image of the class
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
def test_no_group_is_in_two_parts(groups, sizes, seed):
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
        ((0.8, 0.3), "must be shares that add up to at most 1"),
        ((float("nan"),), "must be shares that add up to at most 1"),
        ((5, 0.5), "must be shares that add up to at most 1"),
        ((0.01, 0.5), "must be at least 1 each"),
        (([8, 2],), r"must be numbers, as in split\(800, 200\)"),
        ((None,), "must be numbers"),
        (("8",), "must be numbers"),
        ((True,), "must be numbers"),
    ],
)
def test_impossible_sizes_are_refused(sizes, rule):
    with pytest.raises(ValueError, match=rule):
        make_digits([0] * 10).split(*sizes)


@settings(deadline=None, max_examples=60)
@given(
    groups=st.lists(st.integers(-3, 8), min_size=20, max_size=200),
    share=st.floats(0.1, 0.9),
    seed=st.integers(0, 99),
)
def test_shares_of_groups_use_all_images(groups, share, seed):
    largest = max(map(groups.count, groups))
    assume(min(share, 1 - share) * len(groups) > largest)  # no part is empty
    digits = make_digits([0] * len(groups))
    first, second = digits.split(share, 1 - share, seed=seed, groups=groups)
    places = [part.images[:, 0, 0, 0].tolist() for part in (first, second)]
    assert sorted(places[0] + places[1]) == list(range(len(groups)))
    assert not {groups[i] for i in places[0]} & {groups[i] for i in places[1]}
    assert -1 <= len(first) - share * len(groups) <= largest


def test_large_groups_are_parts_of_their_own():
    groups = torch.arange(300) // 60
    for shares in ((0.1, 0.1, 0.8), (0.1, 0.1)):
        parts = make_digits([0] * 300).split(*shares, groups=groups)
        assert [len(part) for part in parts] == [60, 60, 180][: len(shares)]


def test_too_few_groups_are_refused():
    digits = make_digits([0] * 10)
    with pytest.raises(ValueError, match="groups are too few or too large"):
        digits.split(1, 1, 1, groups=torch.tensor([0] * 5 + [1] * 5))
    with pytest.raises(ValueError, match=r"`groups` must be whole numbers \(10,\)"):
        digits.split(3, groups=torch.zeros(9))


@needs_mnist
def test_the_split_2000_200_200_of_mnist_is_stratified():
    train, dev, test = load_mnist().split(2000, 200, 200, seed=100)
    share = load_mnist().labels.bincount() / 60_000
    for part, size in ((train, 2000), (dev, 200), (test, 200)):
        assert (part.labels.bincount(minlength=10) - share * size).abs().max() <= 2


# --- Made of what users have -----------------------------------------------------------------

KINDS = ["uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]


@pytest.mark.parametrize("kind", KINDS)
def test_labels_are_of_any_integer_type(kind):
    images = torch.zeros(3, 1, 2, 2, dtype=torch.uint8)
    numbers = np.array([0, 5, 2], kind)
    forms = [numbers, torch.tensor([0, 5, 2], dtype=getattr(torch, kind)), list(numbers)]
    for labels in (
        *forms,
        [0, 5, 2],
        tuple(numbers.tolist()),
        [torch.tensor(i) for i in (0, 5, 2)],
    ):
        digits = Digits(images, labels, writers=labels)
        assert digits.labels.dtype == digits.writers.dtype == torch.int64
        assert digits.labels.tolist() == digits.writers.tolist() == [0, 5, 2]


@pytest.mark.parametrize(
    "labels",
    [
        [0.0, 1.0],
        ["0", "1"],
        [True, False],
        torch.tensor([True, False]),
        [[0], [1]],
        [None, 1],
        None,
        3,
        "01",
        [0],
        [1, 2**63],
        np.eye(2),
    ],
)
def test_labels_that_are_no_whole_numbers_are_refused(labels):
    with pytest.raises(ValueError, match=r"`labels` must be"):
        Digits(torch.zeros(2, 1, 2, 2, dtype=torch.uint8), labels)


def test_classes_name_every_label():
    digits = make_digits([0, 2, 1])
    named = Digits(digits.images, digits.labels, classes=["a", "b", "c"])
    assert named.classes == named[:1].classes == named.to("cpu").split(1)[0].classes
    assert named.classes == ("a", "b", "c")
    with pytest.raises(ValueError, match="`classes` must name class 2, too"):
        Digits(digits.images, digits.labels, classes=("a", "b"))


PIXELS = np.random.default_rng(0).integers(0, 256, (5, 3, 6, 6), dtype=np.uint8)
LABELS = [0, 1, 2, 1, 0]


@pytest.mark.parametrize(
    "form",
    [
        lambda x: x,
        lambda x: x.tolist(),
        lambda x: torch.from_numpy(x),
        lambda x: x.astype(np.int64),
        lambda x: x.astype(np.uint16),
        lambda x: x.astype(">i4"),
        lambda x: x.astype(np.float64),
        lambda x: x.astype(np.float32) / 255,
        lambda x: (x / 255).astype(np.float16),
        lambda x: torch.from_numpy(x).double() / 255,
        lambda x: x[::-1][::-1],
    ],
)
def test_arrays_of_any_type_and_shape_become_the_same_bytes(form):
    grey = torch.from_numpy(PIXELS[:, :1])
    for array in (
        PIXELS[:, 0],
        PIXELS[:, 0].reshape(5, 36),
        PIXELS[:, :1],
        PIXELS[:, :1, ..., None][:, 0],
    ):
        assert Digits.from_arrays(form(array), LABELS).images.equal(grey)
    for array in (PIXELS, PIXELS.transpose(0, 2, 3, 1)):
        digits = Digits.from_arrays(form(array), LABELS, classes=["a", "b", "c"])
        assert digits.images.equal(torch.from_numpy(PIXELS))
        assert digits.labels.tolist() == LABELS
        assert digits.classes == ("a", "b", "c")


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.float32, bool])
def test_images_of_zeros_and_ones_become_black_and_white(kind):
    ones = np.eye(6)[None].astype(kind)
    assert Digits.from_arrays(ones, [0]).images.unique().tolist() == [0, 255]


@pytest.mark.parametrize(
    ("images", "rule"),
    [
        (
            PIXELS / 255 - 0.5,
            r"must hold values in 0…1, or whole numbers in 0…255; they reach from -",
        ),
        (PIXELS / 100, "must hold values in 0…1, or whole"),
        (PIXELS.astype(int) + 100, r"they reach from 1\d\d to 3\d\d"),
        (np.full((5, 6, 6), np.nan), "they reach from nan"),
        (np.full((5, 6, 6), np.inf), "they reach from inf"),
        (torch.zeros(5, 6, 6, dtype=torch.complex64), "must be real numbers"),
        (PIXELS.reshape(5, -1), r"rows of the pixels of squares; they have shape \(5, 108\)"),
        (PIXELS[0, 0, 0], r"they have shape \(6,\)"),
        (np.zeros((5, 2, 6, 6)), r"they have shape \(5, 2, 6, 6\)"),
        (["a", "b"], "must be numbers"),
        (None, "must be numbers"),
        ([[[1]], [[1, 2]]], "`images` must be of one size"),
        (np.ma.array(PIXELS, mask=PIXELS > 9), "`images` must be plain .* it is masked"),
        (torch.zeros(5, 6, 6).to_sparse(), "`images` must be plain .* nested, quantized or sparse"),
        (torch.zeros(5, 6, 6, device="meta"), "`images` must be plain .* it is on device meta"),
        (np.zeros((5, 0, 6)), "`images` must have pixels"),
        (np.zeros((5, 6, 6)) + 1.001, r"they reach from 1\.001 to 1\.001"),
    ],
)
def test_arrays_that_are_no_images_are_refused(images, rule):
    with pytest.raises(ValueError, match=rule):
        Digits.from_arrays(images, LABELS)


def test_data_frames_are_taken():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(PIXELS[:, 0].reshape(5, 36)).assign(label=LABELS)
    digits = Digits.from_arrays(frame.drop(columns="label"), frame["label"])
    assert digits.images.equal(torch.from_numpy(PIXELS[:, :1]))
    assert digits.labels.tolist() == LABELS


@pytest.mark.parametrize(
    "convert",
    [
        lambda x: Image.fromarray(x.transpose(1, 2, 0)),
        lambda x: torch.from_numpy(x),
        lambda x: torch.from_numpy(x).float() / 255,
        lambda x: x.transpose(1, 2, 0),
    ],
)
def test_data_sets_of_pairs_are_read(convert):
    for to_label in (int, np.int64, torch.tensor):
        pairs = [(convert(x), to_label(y)) for x, y in zip(PIXELS, LABELS, strict=True)]
        digits = Digits.from_dataset(pairs)
        assert digits.images.equal(torch.from_numpy(PIXELS))
        assert digits.labels.tolist() == LABELS


def test_data_sets_that_are_no_pairs_are_refused():
    pairs = TensorDataset(torch.from_numpy(PIXELS), torch.tensor(LABELS))
    assert len(Digits.from_dataset(pairs)) == 5
    for dataset, rule in (
        (DataLoader(pairs), "use loader.dataset"),
        (TensorDataset(torch.from_numpy(PIXELS)), "item 0 of `dataset` must be an image and its"),
        (iter([]), "must have a length and items"),
        ([], "there must be at least one image"),
        ([(PIXELS[0] / 255 - 1, 0)], "must hold values in 0…1"),
        ([(PIXELS[0], 0), (PIXELS[0, :, :3, :3], 1)], "must have one size"),
    ):
        with pytest.raises(ValueError, match=rule):
            Digits.from_dataset(dataset)


class Named(TensorDataset):
    def __init__(self, classes=("1", "2", "3"), target_transform=None):
        super().__init__(torch.from_numpy(PIXELS), torch.tensor(LABELS))
        self.classes, self.target_transform = classes, target_transform


def test_parts_of_data_sets_keep_the_names_of_the_classes():
    whole, other = Named(), Named(("1", "3", "4"))
    nameless = TensorDataset(*whole.tensors)
    part = random_split(whole, [2, 3])[0]
    for dataset in (Subset(part, [1]), ConcatDataset([whole, part]), whole + nameless):
        assert Digits.from_dataset(dataset).classes == ("1", "2", "3")
    with pytest.raises(ValueError, match=r"parts of the same classes, not .*'2', .* and .*'4'"):
        Digits.from_dataset(whole + other)
    changed = Named(target_transform=lambda label: label + 1)
    assert Digits.from_dataset(Subset(changed, [0])).classes is None


def write_folder(folder, pixels, names="cba"):
    for place, (image, label) in enumerate(zip(pixels, LABELS, strict=True)):
        (folder / names[label]).mkdir(exist_ok=True)
        Image.fromarray(image).save(folder / names[label] / f"{place}.png")


def test_folders_of_images_are_read_by_class(tmp_path):
    write_folder(tmp_path, PIXELS[:, 0])
    (tmp_path / "a" / ".DS_Store").touch()
    (tmp_path / "readme.txt").touch()
    digits = Digits.from_folder(tmp_path)
    assert digits.classes == ("a", "b", "c")
    assert digits.labels.tolist() == [0, 1, 1, 2, 2]
    assert digits.images.equal(torch.from_numpy(PIXELS[[2, 1, 3, 0, 4], :1]))


def test_grey_images_among_coloured_ones_become_coloured(tmp_path):
    write_folder(tmp_path, PIXELS[:, 0])
    Image.fromarray(PIXELS[2].transpose(1, 2, 0)).save(tmp_path / "a" / "2.png")
    images = Digits.from_folder(str(tmp_path)).images
    assert images.shape == (5, 3, 6, 6)
    assert images[0].equal(torch.from_numpy(PIXELS[2]))
    assert images[1].equal(torch.from_numpy(PIXELS[1, :1]).expand(3, 6, 6))


def test_items_of_several_dtypes_are_read_each_as_it_is():
    whole = torch.tensor([[0, 51, 255]], dtype=torch.uint8)
    items = [(whole, 0), (whole / 255, 1), (whole.to(torch.uint16), 2), (whole.double() / 255, 3)]
    images = Digits.from_dataset(items).images
    assert torch.equal(images, whole.expand(4, 1, 1, 3))


def test_folders_without_images_of_one_size_are_refused(tmp_path):
    with pytest.raises(ValueError, match="must be a folder"):
        Digits.from_folder(tmp_path / "none")
    with pytest.raises(ValueError, match="must hold folders of images, one for each class"):
        Digits.from_folder(tmp_path)
    write_folder(tmp_path, PIXELS[:, 0])
    Image.new("L", (7, 6)).save(tmp_path / "b" / "9.png")
    with pytest.raises(ValueError, match=r"one size .*: image 3 '.*9.png' is .*; image 0"):
        Digits.from_folder(tmp_path)
    (tmp_path / "b" / "9.png").write_text("no image")
    with pytest.raises(ValueError, match=r"image 3 '.*9.png': must be an image file"):
        Digits.from_folder(tmp_path)


def table(first, rows):
    text = io.StringIO()
    csv.writer(text).writerows([*first, *rows])
    return text.getvalue().encode()


@pytest.mark.parametrize("form", ["kaggle", "plain", "last", "packed", "quoted"])
def test_tables_of_pixels_are_read(form, tmp_path):
    pixels = [f"pixel{i}" for i in range(36)]
    rows = PIXELS[:, 0].reshape(5, 36).tolist()
    head = [["label", *pixels]]
    lines = [[label, *row] for label, row in zip(LABELS, rows, strict=True)]
    if form == "last":
        head = [[*pixels, "label"]]
        lines = [[*row, label] for label, row in zip(LABELS, rows, strict=True)]
    content = table([] if form == "plain" else head, lines)
    if form == "quoted":
        content = content.replace(b"label", b'"label"')
    path = tmp_path / ("digits.csv.gz" if form == "packed" else "digits.csv")
    path.write_bytes(gzip.compress(content) if form == "packed" else content)
    digits = Digits.from_csv(path)
    assert digits.images.equal(torch.from_numpy(PIXELS[:, :1]))
    assert digits.labels.tolist() == LABELS


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"", "must have"),
        (b"pixel0,pixel1,pixel2,pixel3\n1,2,3,4\n", "must have a column named label"),
        (b"1,2,3,4\n", "pixels of a square image in each line; it has 4 columns"),
        (b"label,a,b,c,d\n1,2,3,4,x\n", "digits.csv: cannot be read"),
        (b"label,a,b,c,d\n1,2,3,4\n", "has 4 columns after the first line, which has 5"),
        (b"label,a,b,c,d\n1.5,2,3,4,5\n", "must have whole numbers below 16,777,216 as labels"),
        (b"label,a,b,c,d\nnan,2,3,4,5\n", "must have whole numbers below 16,777,216 as labels"),
        (b"label,a,b,c,d\n1,2,3,4,500\n", "they reach from 2 to 500"),
        (b"\xff\xfe\0", "cannot be read"),
        (b"16777217,2,3,4,5\n", "whole numbers below 16,777,216 as labels"),
        (b"0,1,2,3,4\n1,2,3,4,5\n", "must have a column named label; it has 0, 1, 2"),  # of pandas
        (b"0,2,3,4,5\n0,2,3,4,6\n", "the first column is 0 in each line"),  # labels in the last one
        (b"a\x1b[31m,b,c,d,e\n", r"it has a\\x1b\[31m, b, c"),
        (b"1,2,3,4,5\n1,\x1b,3,4,5\n", r"could not convert string '\\x1b'"),
    ],
)
def test_tables_of_something_else_are_refused(content, rule, tmp_path):
    path = tmp_path / "digits.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rule):
        Digits.from_csv(path)


def test_the_mark_of_a_spreadsheet_is_no_part_of_a_name(tmp_path):
    for content in (b"label,a,b,c,d\n3,0,9,0,0\n", b"3,0,9,0,0\n"):
        (tmp_path / "digits.csv").write_bytes(b"\xef\xbb\xbf" + content)
        digits = Digits.from_csv(tmp_path / "digits.csv")
        assert (digits.labels.tolist(), digits.images.flatten().tolist()) == ([3], [0, 9, 0, 0])


def test_fit_and_evaluate_say_how_to_make_digits_of_other_types(tmp_path):
    pairs = TensorDataset(torch.from_numpy(PIXELS), torch.tensor(LABELS))
    recipe = Recipe(lr=0.1, epochs=1)
    for thing, hint in (
        (DataLoader(pairs), r"it is a DataLoader: .*Digits\.from_dataset\(loader\.dataset\)"),
        (pairs, r"it is a TensorDataset: .*Digits\.from_dataset\(dataset\)"),
        ((PIXELS, LABELS), r"it is a tuple: .*Digits\.from_arrays\(images, labels\)"),
        (PIXELS, r"it is a ndarray: .*Digits\.from_arrays"),
        (torch.from_numpy(PIXELS), r"it is a Tensor: .*Digits\.from_arrays"),
        (str(tmp_path), r"it is a str: .*Digits\.from_folder\(path\)"),
    ):
        with pytest.raises(TypeError, match=f"`digits` must be Digits; {hint}"):
            evaluate(lenet5(), thing)
        with pytest.raises(TypeError, match=f"`train` must be Digits; {hint}"):
            fit(lenet5(), thing, recipe=recipe)
        with pytest.raises(TypeError, match=f"`validation` must be Digits; {hint}"):
            fit(lenet5(), make_digits([0, 1]), thing, recipe=recipe)
    with pytest.raises(TypeError, match=r"`digits` must be Digits; it is a NoneType"):
        evaluate(lenet5(), None)


def test_one_image_is_no_part():
    for index in (0, np.int64(0)):
        with pytest.raises(TypeError, match=r"`index` \(=0\) must be a slice, a list or a tensor"):
            make_digits([0, 1])[index]


@settings(deadline=None, max_examples=60)
@given(
    count=st.integers(10, 300),
    shares=st.lists(st.floats(0.1, 1), min_size=1, max_size=4),
    whole=st.booleans(),
)
def test_parts_are_given_as_shares(count, shares, whole):
    total = sum(shares) if whole or sum(shares) > 1 else 1
    shares = [share / total for share in shares]
    digits = make_digits([0, 1] * count)
    if min(shares) * 2 * count < 1.01:
        return
    parts = digits.split(*shares)
    assert all(
        abs(len(part) - share * 2 * count) < 1 for part, share in zip(parts, shares, strict=True)
    )
    assert not whole or sum(map(len, parts)) == 2 * count
    again = digits.split(*(np.float64(share) for share in shares))
    assert [part.images.tolist() for part in parts] == [part.images.tolist() for part in again]


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_the_default_dtype_and_device_change_nothing(device):
    digits = make_digits([0, 1, 2] * 10)
    writers = torch.tensor([0, 1, 2, 3, 4] * 6)
    expected = [part.images for part in digits.split(10, 10) + digits.split(6, 6, groups=writers)]
    torch.set_default_device(device)
    torch.set_default_dtype(torch.float64)
    try:
        parts = digits.split(10, 10) + digits.split(6, 6, groups=writers)
        made = Digits.from_arrays(PIXELS, LABELS)
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)
    assert all(part.images.equal(one) for part, one in zip(parts, expected, strict=True))
    assert made.images.equal(torch.from_numpy(PIXELS))
    assert made.labels.tolist() == LABELS
