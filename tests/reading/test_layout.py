"""Tests of rules, frames, rows and cuts on ink drawn in code."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from mnist_zoo.reading.cuts import seams
from mnist_zoo.reading.layout import lay_out
from mnist_zoo.reading.page import box_of, see_page


def drawn(width, height, *strokes, paper=255):
    """A page (H, W) with black strokes: lines through points, 5 pixels wide."""
    picture = Image.new("L", (width, height), paper)
    for stroke in strokes:
        ImageDraw.Draw(picture).line(stroke, fill=0, width=5)
    return np.asarray(picture, np.float32)


def ones(*places, high=40):
    return [((x, y), (x, y + high)) for x, y in places]


def test_ink_is_1_in_strokes_and_0_on_paper():
    grey = drawn(120, 80, *ones((40, 20), (80, 20)))
    ink = see_page(grey).ink
    assert (ink == (grey == 0)).all()
    assert ((see_page(255 - grey).ink > 0.5) == (ink > 0.5)).all()


def test_a_plain_page_has_no_ink():
    assert not see_page(np.full((50, 90), 128, np.float32)).parts


@pytest.mark.parametrize("strength", [0.2, 0.6, 0.9])
def test_rules_go_and_strokes_stay(strength):
    clean = drawn(200, 90, *ones((40, 20), (80, 25), (140, 20)))
    ruled = clean.copy()
    for row in (30, 52):
        ruled[row : row + 2] = np.minimum(ruled[row : row + 2], 255 * (1 - strength))
    assert np.abs(see_page(ruled).ink - (clean == 0)).mean() < 0.002


def test_rules_of_a_long_strip_go():
    clean = drawn(7000, 60, *ones((40, 10), (80, 15), (6940, 10)))
    ruled = clean.copy()
    for x in range(7000):  # they fall by 20 pixels
        for row in (8 + x // 350, 30 + x // 350):
            ruled[row : row + 2, x] = np.minimum(ruled[row : row + 2, x], 100)
    assert len(see_page(ruled).parts) == 3


def test_long_strokes_inside_a_page_are_no_rules():
    grey = drawn(200, 90, ((25, 40), (175, 40)))
    assert (see_page(grey).ink == (grey == 0)).all()


def test_a_photo_of_a_sheet_has_the_ink_on_the_sheet_only():
    sheet = drawn(200, 120, *ones((60, 40), (100, 40), (140, 40)), paper=220)
    photo = np.pad(sheet, 40, constant_values=60)
    page = see_page(photo)
    assert len(page.parts) == 3
    assert [abs(box_of(part)[1] - 80) <= 3 for part in page.parts] == [True] * 3


def test_rows_are_sorted_by_their_level_and_parts_by_column():
    places = [(150, 20), (30, 20), (90, 30), (60, 90), (140, 95)]
    layout = lay_out(drawn(220, 160, *ones(*places)))
    columns = [[round(sum(box_of(part)[::2]) / 2) for part in row] for row in layout.rows]
    assert [
        [abs(a - b) <= 1 for a, b in zip(row, known, strict=True)]
        for row, known in zip(columns, [[30, 90, 150], [60, 140]], strict=True)
    ] == [[True] * 3, [True] * 2]
    assert layout.height == pytest.approx(41, abs=3)


def test_the_number_of_rows_may_be_given():
    grey = drawn(220, 160, *ones((30, 20), (90, 38), (60, 90)))
    assert [len(row) for row in lay_out(grey, 2).rows] == [2, 1]
    assert [len(row) for row in lay_out(grey, 3).rows] == [1, 1, 1]


def test_a_wrong_number_of_rows_is_not_forced():
    grey = drawn(220, 160, *ones((30, 20), (90, 26), (60, 90)))
    for wrong in (1, 3, 4):
        assert [len(row) for row in lay_out(grey, wrong).rows] == [2, 1]


def test_a_frame_around_digits_is_a_mark():
    frame = ((10, 10), (200, 10), (200, 80), (10, 80), (10, 8))
    layout = lay_out(drawn(220, 100, frame, *ones((60, 25), (120, 25))))
    assert [mark.why for mark in layout.marks] == ["box or grid"]
    assert [len(row) for row in layout.rows] == [2]


def test_a_round_zero_is_no_frame():
    picture = Image.new("L", (100, 100), 255)
    ImageDraw.Draw(picture).ellipse((20, 10, 70, 90), outline=0, width=6)
    layout = lay_out(np.asarray(picture, np.float32))
    assert layout.marks == []
    assert [len(row) for row in layout.rows] == [1]


def test_a_seam_parts_two_rings_where_they_touch():
    picture = Image.new("L", (100, 60), 0)
    pen = ImageDraw.Draw(picture)
    pen.ellipse((4, 8, 50, 52), outline=255, width=5)
    pen.ellipse((48, 8, 94, 52), outline=255, width=5)
    paths = seams(np.asarray(picture, np.float32) / 255, 45)
    at_touch = [path for path in paths if np.abs(path - 49).max() <= 4]
    assert at_touch


def test_a_straight_seam_parts_two_uprights_that_touch_for_long():
    ink = np.zeros((42, 30), np.float32)
    ink[1:41, 2:12] = ink[1:41, 14:24] = 1
    ink[24:41, 12:14] = 1  # less ink lies on the way through one of them
    assert [path for path in seams(ink, 40) if np.abs(path - 12.5).max() <= 1.5]


def test_the_bar_of_a_5_beside_its_body_is_no_minus_sign():
    body = ((40, 40), (40, 70), (60, 80), (45, 100))
    bar, minus = ((66, 42), (86, 42)), ((120, 70), (140, 70))
    layout = lay_out(drawn(280, 130, body, bar, minus, *ones((180, 40), (220, 40), high=60)))
    assert [(mark.why, mark.box[0] // 10) for mark in layout.marks] == [("minus sign or dash", 12)]
    assert [len(row) for row in layout.rows] == [4]


def test_digits_in_a_shadow_are_found_with_those_in_the_light():
    page = drawn(400, 120, *ones(*((x, 40) for x in range(30, 390, 50))))
    shade = 1 - 0.5 / (1 + np.exp(-(np.arange(400) - 320) / 8))
    layout = lay_out((page * shade).round().astype(np.float32))
    assert [len(row) for row in layout.rows] == [8]


def test_seams_do_not_cross():
    random = np.random.default_rng(0)
    ink = (random.random((40, 90)) > 0.6).astype(np.float32)
    paths = seams(ink, 40)
    assert (np.diff(paths, axis=0) >= 0).all()
    assert paths.size == 0 or (paths.min() >= 0 and paths.max() < 90)
