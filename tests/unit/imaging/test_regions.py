"""Components, blocks and smoothing."""

import numpy as np
import pytest
from scipy import ndimage

from payerseg.domain.grid import Grid
from payerseg.domain.volume import Volume
from payerseg.imaging.regions import bounding_block, largest_component, smooth_mm


def two_blobs():
    mask = np.zeros((12, 12, 12), np.uint8)
    mask[1:3, 1:3, 1:3] = 1
    mask[6:10, 6:10, 6:10] = 5
    return mask


def test_keeps_the_larger():
    kept = largest_component(two_blobs())
    assert kept.sum() == 64
    assert kept[7, 7, 7]


def test_empty_stays_empty():
    empty = np.zeros((4, 5, 6), np.uint8)
    assert not largest_component(empty).any()
    assert largest_component(empty).shape == (4, 5, 6)
    assert bounding_block(empty) is None


@pytest.mark.parametrize(("offset", "joined"), [((1, 0, 0), 6), ((1, 1, 0), 18), ((1, 1, 1), 26)])
def test_what_touches(offset, joined):
    mask = np.zeros((4, 4, 4), bool)
    mask[1, 1, 1] = mask[tuple(np.add(1, offset))] = True
    sizes = {c: largest_component(mask, c).sum() for c in (6, 18, 26)}
    assert sizes == {c: 2 if c >= joined else 1 for c in (6, 18, 26)}


def test_bounding_block():
    assert bounding_block(two_blobs() == 5) == ((6, 6, 6), (10, 10, 10))
    assert bounding_block(two_blobs() == 5, margin_voxels=4) == ((2, 2, 2), (12, 12, 12))
    block = bounding_block(two_blobs() == 5)
    inside = tuple(slice(a, b) for a, b in zip(*block, strict=True))
    assert (two_blobs()[inside] == 5).all()


def test_smoothing_is_in_millimetres():
    impulse = np.zeros((41, 41, 41), np.int16)
    impulse[20, 20, 20] = 10000
    grid = Grid(impulse.shape, (0.5, 1.0, 2.0))
    got = smooth_mm(Volume(impulse, grid), 2.0).array
    wanted = ndimage.gaussian_filter(impulse.astype(float), (1.0, 2.0, 4.0))
    assert got.dtype == np.float32
    assert abs(got.sum() - 10000) < 50
    np.testing.assert_allclose(got, wanted, atol=0.02 * wanted.max())


def test_no_smoothing_changes_nothing():
    volume = Volume(np.arange(64, dtype=np.int16).reshape(4, 4, 4), Grid((4, 4, 4), (1, 1, 1)))
    np.testing.assert_array_equal(smooth_mm(volume, 0).array, volume.array)


def test_three_slices_can_be_smoothed():
    array = np.full((3, 8, 8), 7, np.int16)
    got = smooth_mm(Volume(array, Grid(array.shape, (1, 1, 12.0))), 0.75)
    np.testing.assert_allclose(got.array, 7, atol=1e-4)
