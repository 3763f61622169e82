"""Own targets: in millimetres, on any grid."""

import numpy as np
import pytest

from payerseg.domain.grid import Grid
from payerseg.domain.landmarks import Landmark, Landmarks
from payerseg.domain.vertebra import Vertebra
from payerseg.training.targets import (
    gaussian,
    label_heatmaps,
    reference_point_heatmap,
    reference_spine_heatmap,
    spine_heatmap,
    vertebra_mask,
)


def rotated(angle: float) -> tuple[float, ...]:
    c, s = np.cos(angle), np.sin(angle)
    return (c, -s, 0, s, c, 0, 0, 0, 1)


GRIDS = {
    "plain": Grid((12, 14, 16), (2, 2, 2)),
    "thick": Grid((8, 14, 16), (1, 1.5, 5), (-7, 3, 100)),
    "mirrored": Grid((12, 14, 16), (2, 2, 2), (30, 26, 0), (-1, 0, 0, 0, -1, 0, 0, 0, 1)),
    "turned": Grid((12, 14, 16), (2, 2, 3), (5, 5, 5), rotated(0.4)),
    "sheared": Grid((12, 14, 16), (2, 2, 3), (5, 5, 5), (1, 0, 0, 0, 1, 0.3, 0, 0, 0.954)),
}


@pytest.mark.parametrize("name", GRIDS)
def test_gaussian_is_a_function_of_the_distance_in_mm(name: str) -> None:
    grid = GRIDS[name]
    index = np.argwhere(np.ones(grid.shape, bool))
    world = grid.map_indices_to_world(index)
    point = grid.map_indices_to_world([(4.3, 6.6, 7.2)])[0]
    expected = np.exp(-np.sum((world - point) ** 2, axis=1) / (2 * 4.0**2)).reshape(grid.shape)
    drawn = gaussian(grid, point, 4.0)
    np.testing.assert_allclose(drawn, np.where(expected < 1e-4, 0, expected), atol=2e-6)


def test_gaussian_far_away_is_empty() -> None:
    assert not gaussian(GRIDS["plain"], (500, 0, 0), 4.0).any()


def test_each_vertebra_has_its_channel_and_sigma() -> None:
    grid = GRIDS["plain"]
    marks = Landmarks([Landmark(Vertebra.C2, (10, 10, 10)), Landmark(Vertebra.T13, (16, 16, 16))])
    sigmas = np.full(26, 6.0)
    sigmas[:7] = 3.0
    maps = label_heatmaps(marks, grid, sigmas)
    assert maps.shape == (*grid.shape, 26)
    assert np.flatnonzero(maps.any(axis=(0, 1, 2))).tolist() == [1, 25]
    assert maps[5, 5, 5, 1] == 1
    assert maps[..., 1].sum() < maps[..., 25].sum() / 4
    assert label_heatmaps(marks, grid, 6.0, n_channels=25)[..., 24].sum() == 0


def test_spine_heatmap_height_does_not_depend_on_crowding() -> None:
    grid = GRIDS["plain"]
    close = Landmarks([Landmark(Vertebra.C2, (10, 10, 10)), Landmark(Vertebra.C3, (10, 10, 12))])
    assert spine_heatmap(close, grid, 6.0).max() == pytest.approx(1)
    assert spine_heatmap(Landmarks(), grid, 6.0).max() == 0


def test_vertebra_mask_smooths_one_label_only() -> None:
    labels = np.zeros((12, 12, 12), np.uint8)
    labels[3:9, 3:9, 3:9] = 20
    labels[3:9, 3:9, 9:] = 21
    labels[10, 10, 2] = 20  # a speck
    mask = vertebra_mask(labels, 20)
    assert mask.dtype == np.uint8
    assert mask[5, 5, 5] == 1
    assert mask[10, 10, 2] == 0
    assert mask[5, 5, 9] == 0
    np.testing.assert_array_equal(vertebra_mask(labels, 20, 0.0), labels == 20)


def test_reference_targets_of_nothing_are_zero_not_nan() -> None:
    assert not reference_spine_heatmap(np.zeros((0, 3)), (5, 6, 7)).any()
    assert not reference_point_heatmap((50, 50, 50), (5, 6, 7), 1.0).any()
