"""Pictures."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from payerseg.errors import ArtifactError
from payerseg.imaging.pictures import beside, encode_png, read_png, write_name


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (5, 7, 4), (1, 1)])
def test_round_trip(tmp_path, shape):
    picture = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
    content = encode_png(picture)
    assert encode_png(picture) == content
    (tmp_path / "a.png").write_bytes(content)
    np.testing.assert_array_equal(read_png(tmp_path / "a.png"), picture)


@pytest.mark.parametrize(
    "picture", [np.zeros((4, 4)), np.zeros((4, 4, 2), np.uint8), np.zeros(4, np.uint8)]
)
def test_only_8_bit_grey_or_colour(picture):
    with pytest.raises(ArtifactError, match="expected uint8"):
        encode_png(picture)


@pytest.mark.parametrize("cut", [0, 20, 60, -30])
def test_a_damaged_picture_is_named(tmp_path, cut):
    noise = np.random.default_rng(0).integers(0, 255, (20, 30), np.uint8)
    (tmp_path / "a.png").write_bytes(encode_png(noise)[:cut])
    with pytest.raises(ArtifactError, match=r"a\.png is not a readable PNG"):
        read_png(tmp_path / "a.png")


def test_names_have_a_dark_rim_and_may_leave_the_picture():
    image = Image.new("RGB", (40, 20), (255, 255, 255))
    for at in ((5, 10), (35, 18), (200, 200)):
        write_name(ImageDraw.Draw(image), at, "T13", (250, 200, 0))
    pixels = np.asarray(image)
    assert (pixels.max(axis=2) < 60).any()
    assert ((pixels[..., 0] > 200) & (pixels[..., 2] < 90)).any()
    assert (pixels[:, :3] == 255).all()


def test_side_by_side():
    both = beside([np.full((4, 2, 3), 9, np.uint8), np.full((6, 3, 3), 7, np.uint8)])
    assert both.shape == (6, 9, 3)
    assert both[4:, :2].max() == 0
