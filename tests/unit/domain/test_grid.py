"""Where voxels lie."""

from dataclasses import replace

import pytest

from payerseg.domain.grid import Grid


@pytest.mark.parametrize("spacing", [0.02, 1.0, 7.5])
def test_one_space_is_judged_in_voxels(spacing):
    grid = Grid((4, 5, 6), (spacing, spacing, 2 * spacing), (10.0, -20.0, 30.0))
    for part, same in ((0.015, True), (0.025, False)):
        moved = replace(grid, origin_mm=(10.0, -20.0 + part * spacing, 30.0))
        assert grid.voxels_apart(moved) == pytest.approx(part)
        assert grid.same_space_as(moved) is same
    assert grid.voxels_apart(replace(grid, shape=(4, 5, 7))) == float("inf")
    wider = replace(grid, spacing_mm=(1.01 * spacing, spacing, 2 * spacing))
    assert grid.voxels_apart(wider) == pytest.approx(0.05), "at the far corner, not the origin"
