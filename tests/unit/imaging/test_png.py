"""Pictures."""

import numpy as np
import pytest

from payerseg.errors import ArtifactError
from payerseg.imaging.png import read_png, write_png


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (1, 1)])
def test_round_trip(tmp_path, shape):
    picture = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
    write_png(picture, tmp_path / "a.png")
    np.testing.assert_array_equal(read_png(tmp_path / "a.png"), picture)
    write_png(picture, tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize(
    "picture", [np.zeros((4, 4)), np.zeros((4, 4, 2), np.uint8), np.zeros(4, np.uint8)]
)
def test_only_8_bit_grey_or_colour(tmp_path, picture):
    with pytest.raises(ArtifactError, match="expected uint8"):
        write_png(picture, tmp_path / "a.png")


def test_not_a_picture(tmp_path):
    (tmp_path / "a.png").write_text("text")
    with pytest.raises(ArtifactError, match="PNG"):
        read_png(tmp_path / "a.png")
