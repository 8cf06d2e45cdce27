"""Digits: indexing, checks, and splits that are stratified or keep groups together."""

import pytest
import torch
from data_cases import needs_mnist
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mnist_zoo import Digits, load_mnist


def make_digits(labels):
    labels = torch.as_tensor(labels)
    images = torch.arange(len(labels)).view(-1, 1, 1, 1).expand(-1, 1, 2, 2).to(torch.uint8)
    return Digits(images.contiguous(), labels)


def test_digits_can_be_indexed_by_slice_list_tensor_and_mask():
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
def test_the_split_2000_200_200_of_mnist_is_stratified():
    train, dev, test = load_mnist().split(2000, 200, 200, seed=100)
    share = load_mnist().labels.bincount() / 60_000
    for part, size in ((train, 2000), (dev, 200), (test, 200)):
        assert (part.labels.bincount(minlength=10) - share * size).abs().max() <= 2
