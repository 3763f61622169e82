"""The networks' inputs: right place, right brightness, the same for every storage order."""

import numpy as np
import pytest

from payerseg.config.model_card import SamplingSpec, WindowSpec
from payerseg.domain.grid import Grid
from payerseg.domain.spine_box import SpineBox
from payerseg.domain.vertebra import Vertebra
from payerseg.domain.volume import Volume
from payerseg.imaging.orient import Orientation, to_canonical
from payerseg.preprocess.channels import normalized, point_heatmap
from payerseg.preprocess.inputs import (
    network_input,
    smooth_in_steps,
    spine_input,
    vertebra_input,
    vertebrae_input,
)

WINDOW = WindowSpec(scale=1 / 600, low=-1.7, high=2.5)
COARSE = SamplingSpec(8.0, multiple=8, window=WINDOW)
FINE = SamplingSpec(2.0, multiple=8, window=WINDOW, margin_mm=(10.0, 10.0, 10.0))
CROP = SamplingSpec(
    1.0, size_xyz=(48, 40, 32), window=WINDOW, offset_mm=(0.0, 5.0, 0.0), sigma_mm=4.0
)


def test_every_storage_order_gives_the_same_input(synthetic_spine, any_grid):
    ct = synthetic_spine(any_grid).ct
    wanted = spine_input(ct, COARSE)
    for order in (Orientation((2, 1, 0)), Orientation((1, 2, 0), (True, False, True))):
        again, _ = to_canonical(order.apply(ct))
        got = spine_input(again, COARSE)
        np.testing.assert_allclose(got.array, wanted.array, atol=1e-4)
        assert got.grid.same_space_as(wanted.grid, 1e-6)


def test_a_vertebra_is_where_its_landmark_is(synthetic_spine, any_grid):
    spine = synthetic_spine(any_grid)
    middle = spine.landmarks[Vertebra.T12].position_mm
    crop = vertebra_input(spine.ct, middle, CROP)
    assert crop.array.shape == (32, 40, 48, 2)
    here = np.rint(crop.grid.map_world_to_indices([middle])[0]).astype(int)
    assert crop.array[(*here, 0)] * 600 == pytest.approx(350, abs=60)
    assert np.unravel_index(crop.array[..., 1].argmax(), crop.array.shape[:3]) == pytest.approx(
        here, abs=1
    )


def test_the_box_input_covers_the_box(synthetic_spine):
    spine = synthetic_spine()
    positions = spine.landmarks.positions_mm
    box = SpineBox(tuple(positions.min(axis=0)), tuple(positions.max(axis=0)))
    got = vertebrae_input(spine.ct, box, FINE)
    assert got.grid.contains(positions).all()
    assert got.array.dtype == np.float32
    assert (got.array > 0.4).any()


def test_outside_the_scan_is_air(synthetic_spine):
    got = network_input(synthetic_spine().ct, Grid((4, 4, 4), (8, 8, 8), (900.0, 0, 0)), COARSE)
    np.testing.assert_allclose(got.array, WINDOW.low, atol=1e-6)


def test_no_aliasing():
    """A fine checkerboard of air and bone looks like their mean from afar, not like one of them."""
    z, y, x = np.indices((64, 64, 64))
    board = np.where((z + y + x) % 2, 1000, -1000).astype(np.int16)
    got = spine_input(Volume(board, Grid(board.shape, (1, 1, 1))), COARSE)
    assert np.abs(got.array).max() < 0.05


def test_smoothing_only_where_seen_equals_smoothing_all(synthetic_spine):
    ct = synthetic_spine(noise_hu=60.0).ct
    sampling = SamplingSpec(
        1.0,
        antialias="none",
        smoothing_mm=(0.75, 0.75),
        window=WindowSpec(scale=1.0, low=-3e3, high=9e3),
    )
    frame = Grid((12, 12, 12), (1, 1, 1), (-6.0, -6.0, -6.0))
    got = network_input(ct, frame, sampling)
    plain = SamplingSpec(1.0, antialias="none", window=sampling.window)
    wanted = network_input(smooth_in_steps(ct, (0.75, 0.75)), frame, plain)
    np.testing.assert_allclose(got.array, wanted.array, atol=0.01)


def test_normalisation():
    hu = np.array([[[-1024, 0, 600, 5000]]], np.int16)
    got = normalized(hu, WindowSpec(scale=1 / 600, shift=0.1, low=-1.5, high=2.0))
    np.testing.assert_allclose(got.ravel(), [-1.5, 0.1, 1.1, 2.0], atol=1e-6)
    assert got.dtype == np.float32


def test_a_point_heatmap_is_not_rounded_to_voxels():
    grid = Grid((21, 21, 21), (2.0, 2.0, 2.0), (-20.0, -20.0, -20.0))
    heat = point_heatmap(grid, (1.0, 0.0, 0.0), sigma_mm=6.0)
    assert heat[10, 10, 10] == pytest.approx(np.exp(-0.5 / 36))
    assert heat[10, 10, 10] == pytest.approx(heat[10, 10, 11])
    assert heat[10, 10, 13] == pytest.approx(np.exp(-0.5 * 25 / 36))


def test_a_point_heatmap_may_end():
    grid = Grid((41, 41, 41), (1, 1, 1))
    heat = point_heatmap(grid, (20.0, 20.0, 20.0), sigma_mm=4.0, reach_sigmas=2.5)
    assert np.flatnonzero(heat[20, 20])[[0, -1]].tolist() == [10, 29]


def test_a_point_outside_leaves_the_tail():
    heat = point_heatmap(Grid((10, 10, 10), (1, 1, 1)), (-3.0, 5.0, 5.0), sigma_mm=3.0)
    assert heat.max() == pytest.approx(np.exp(-0.5), abs=1e-6)
