"""Resampling against a function whose value is known everywhere."""

import numpy as np
import pytest

from payerseg.domain.grid import Grid
from payerseg.domain.volume import Volume
from payerseg.imaging.orient import Orientation, to_canonical
from payerseg.imaging.resample import box_shrink, crop_to_cover, resample, sample_smoothly


def ramp_at(xyz_mm):
    """Linear in space: linear interpolation of it is exact."""
    return np.asarray(xyz_mm) @ [0.7, -1.3, 0.4] + 5.0


def ramp_on(grid):
    points = grid.map_indices_to_world(np.indices(grid.shape).reshape(3, -1).T)
    return Volume(ramp_at(points).reshape(grid.shape).astype(np.float32), grid)


def inner_frame(grid, spacing=3.0, n=8):
    """An upright frame well inside a grid."""
    middle = grid.map_indices_to_world((np.array([grid.shape]) - 1) / 2)[0]
    return Grid((n, n, n), (spacing,) * 3, tuple(middle - (n - 1) * spacing / 2))


@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
def test_a_ramp_stays_a_ramp_on_any_grid(any_grid, interpolation):
    frame = inner_frame(any_grid)
    got = resample(ramp_on(any_grid), frame, interpolation=interpolation)
    np.testing.assert_allclose(got.array, ramp_on(frame).array, atol=2e-2)
    assert got.array.dtype == np.float32
    assert got.grid == frame


def test_a_ramp_survives_averaging(any_grid):
    """Box averages of a ramp are the ramp at the boxes' centres: no half-voxel shift anywhere."""
    frame = inner_frame(any_grid, spacing=9.0, n=5)
    got = sample_smoothly(ramp_on(any_grid), frame, outside=0.0)
    np.testing.assert_allclose(got.array, ramp_on(frame).array, atol=2e-2)


def test_storage_order_does_not_matter(any_grid):
    frame = inner_frame(any_grid)
    scan = ramp_on(any_grid)
    stored = Orientation((2, 0, 1), (True, False, True)).apply(scan)
    back, _ = to_canonical(stored)
    direct = sample_smoothly(scan, frame, outside=0.0).array
    np.testing.assert_allclose(sample_smoothly(back, frame, outside=0.0).array, direct, atol=1e-3)


def test_outside_value():
    scan = ramp_on(Grid((10, 10, 10), (1, 1, 1)))
    far = Grid((4, 4, 4), (1, 1, 1), (500.0, 0.0, 0.0))
    assert (resample(scan, far, outside=-1024).array == -1024).all()
    assert (sample_smoothly(scan, far, outside=-1024).array == -1024).all()
    half = Grid((4, 4, 4), (4, 4, 4), (-8.0, 0.0, 0.0))
    assert (resample(scan, half, outside=-1024).array[:, :, 0] == -1024).all()


def test_nearest_keeps_labels_and_type():
    grid = Grid((6, 6, 6), (1, 1, 1))
    labels = Volume(np.arange(216, dtype=np.uint8).reshape(6, 6, 6), grid)
    got = resample(
        labels, Grid((12, 12, 12), (0.5, 0.5, 0.5), (-0.25,) * 3), interpolation="nearest"
    )
    assert got.array.dtype == np.uint8
    np.testing.assert_array_equal(got.array[::2, ::2, ::2], labels.array)


def test_channels_are_resampled_alike(any_grid):
    frame = inner_frame(any_grid)
    one = ramp_on(any_grid)
    both = Volume(np.stack([one.array, 2 * one.array], axis=-1), any_grid)
    got = resample(both, frame).array
    np.testing.assert_allclose(got[..., 1], 2 * got[..., 0], rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("factors", [(1, 1, 1), (2, 3, 1), (4, 4, 4)])
def test_box_shrink_averages_whole_voxels(factors):
    rng = np.random.default_rng(0)
    scan = Volume(
        rng.normal(0, 100, (8, 9, 12)).astype(np.float32), Grid((8, 9, 12), (1, 2, 3), (5, 6, 7))
    )
    got = box_shrink(scan, factors)
    shape = [-(-n // f) for n, f in zip(scan.grid.shape, factors, strict=True)]
    assert list(got.grid.shape) == shape
    first = tuple(slice(f) for f in factors)
    assert got.array[0, 0, 0] == pytest.approx(scan.array[first].mean(), abs=1e-3)
    corner = scan.grid.map_indices_to_world([(np.asarray(factors) - 1) / 2])[0]
    np.testing.assert_allclose(got.grid.origin_mm, corner)


def test_box_shrink_of_integers_rounds():
    scan = Volume(
        np.array([[[-3, -2], [-3, -2]], [[-3, -2], [-3, -3]]], np.int16), Grid((2, 2, 2), (1, 1, 1))
    )
    got = box_shrink(scan, (2, 2, 2)).array
    assert got.dtype == np.int16
    assert got.item() == -3


def test_crop_is_a_view_of_what_is_needed(any_grid):
    scan = ramp_on(any_grid)
    frame = inner_frame(any_grid)
    block = crop_to_cover(scan, frame, 2)
    assert np.shares_memory(block.array, scan.array)
    assert block.grid.contains(frame.corners_mm()).all()
    assert block.array.size < scan.array.size
    np.testing.assert_allclose(block.array, ramp_on(block.grid).array, atol=1e-3)
    far = Grid((4, 4, 4), (1, 1, 1), (5000.0, 0.0, 0.0))
    assert crop_to_cover(scan, far, 2) is None
