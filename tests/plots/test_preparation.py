"""plots.preparation: the photo, its ink and the image that a network gets."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from mnist_zoo import PictureError, as_mnist, plots

PAGE = Image.new("L", (300, 200), 220)
ImageDraw.Draw(PAGE).line([(120, 50), (190, 50), (150, 150)], fill=30, width=9)


def test_the_plot_shows_the_photo_its_ink_and_the_digit():
    figure = plots.preparation(PAGE)
    photo, ink, digit = (axes.images[0].get_array() for axes in figure.axes)
    assert (np.asarray(photo) == np.asarray(PAGE)).all()
    assert (np.asarray(digit) == as_mnist(PAGE)[0, 0].numpy()).all()
    assert 0 < np.asarray(ink).mean() < 0.2
    assert "even paper" in figure.get_suptitle()


def test_the_plot_says_why_an_image_is_refused():
    title = plots.preparation(Image.new("L", (60, 60), 200)).get_suptitle()
    assert "refused: must show a digit; it is empty" in title


def test_an_image_whose_rows_have_784_pixels_is_one():
    wide = PAGE.resize((784, 600))
    for picture in (np.asarray(wide), torch.from_numpy(np.array(wide))):
        (photo, *_) = plots.preparation(picture).axes
        assert (np.asarray(photo.images[0].get_array()) == np.asarray(wide)).all()


def test_errors_of_a_single_image_give_it_no_number(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"the image '.*a\.png': no such file"):
        plots.preparation(tmp_path / "a.png")
    with pytest.raises(PictureError, match="the image: holds NaN"):
        plots.preparation(np.full((50, 50), np.nan))
    with pytest.raises(TypeError, match="the image must be a PIL image"):
        plots.preparation(None)


def test_several_images_are_refused():
    with pytest.raises(ValueError, match="`picture` must be one image"):
        plots.preparation([PAGE, PAGE])
    with pytest.raises(ValueError, match="`picture` must be one image"):
        plots.preparation(np.zeros((5, 28, 28)))
