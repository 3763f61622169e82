import numpy as np
import pytest

from payerseg.domain.grid import Grid
from payerseg.domain.volume import Volume
from payerseg.errors import SpineNotFound
from payerseg.postprocess.spine_box import REFERENCE_BOX, BoxRule, find_spine_box, why_unnamed

GRID = Grid((24, 12, 12), (8.0, 8.0, 8.0), (10.0, -20.0, 30.0))


def heat_with(*blocks, peak=0.9, grid=GRID):
    heat = np.zeros(grid.shape, np.float32)
    for block in blocks:
        heat[block] = peak
    return Volume(heat, grid)


def test_box_reaches_to_the_faces_of_the_voxels():
    box = find_spine_box(heat_with(np.s_[4:20, 5:8, 3:6]))
    assert box.low_mm == (10 + 3 * 8 - 4, -20 + 5 * 8 - 4, 30 + 4 * 8 - 4)
    assert box.high_mm == (10 + 5 * 8 + 4, -20 + 7 * 8 + 4, 30 + 19 * 8 + 4)


def test_reference_box_ends_at_voxel_centres():
    box = find_spine_box(heat_with(np.s_[4:20, 5:8, 3:6]), rule=REFERENCE_BOX)
    assert box.size_mm == (2 * 8, 2 * 8, 15 * 8)


def test_oblique_grid_gives_the_world_bounds_of_the_voxels():
    c, s = np.cos(0.4), np.sin(0.4)
    turned = Grid(GRID.shape, GRID.spacing_mm, GRID.origin_mm, (c, -s, 0, s, c, 0, 0, 0, 1))
    volume = heat_with(np.s_[4:20, 5:8, 3:6], grid=turned)
    box = find_spine_box(volume)
    inside = turned.map_indices_to_world(np.argwhere(volume.array > 0))
    assert box.contains(inside).all()
    assert not find_spine_box(heat_with(np.s_[4:20, 5:8, 3:6])).contains(inside).all()


def test_a_spine_cut_in_two_by_an_implant_stays_whole():
    halves = np.s_[2:9, 5:8, 3:6], np.s_[12:22, 5:8, 3:6]
    assert find_spine_box(heat_with(*halves)).size_mm[2] == 20 * 8
    assert find_spine_box(heat_with(*halves), rule=REFERENCE_BOX).size_mm[2] == 9 * 8


def test_a_small_spot_elsewhere_does_not_widen_the_box():
    alone = find_spine_box(heat_with(np.s_[2:20, 5:8, 3:6]))
    assert find_spine_box(heat_with(np.s_[2:20, 5:8, 3:6], np.s_[22:23, 10:12, 10:12])) == alone


@pytest.mark.parametrize(
    ("heat", "said"),
    [
        (np.zeros(GRID.shape), "peaks at 0,"),
        (np.full(GRID.shape, -0.3), "peaks at -0.3"),
        (np.full(GRID.shape, np.nan), "peaks at nan"),
        (np.random.default_rng(0).uniform(0, 0.15, GRID.shape), "at least 0.2"),
    ],
)
def test_without_confidence_there_is_no_box(heat, said):
    with pytest.raises(SpineNotFound, match=said):
        find_spine_box(Volume(heat.astype(np.float32), GRID))


def test_a_confident_speck_is_no_spine():
    with pytest.raises(SpineNotFound, match=r"marks 0\.5 ml"):
        find_spine_box(heat_with(np.s_[4:5, 5:6, 3:4]))


def test_threshold_and_peak_can_be_chosen():
    volume = heat_with(np.s_[4:20, 5:8, 3:6], peak=0.1)
    assert find_spine_box(volume, min_peak=0.05) == find_spine_box(
        volume, rule=BoxRule(min_peak=0.1)
    )


def test_an_unnamed_spine_is_for_a_person_and_metal_in_it_is_named():
    heat = heat_with(np.s_[4:20, 5:8, 3:6])
    box = find_spine_box(heat)
    ct = Volume(np.full(GRID.shape, 40, np.int16), GRID)
    assert len(why_unnamed(ct, box)) == 1
    ct.array[10, 6, 4:6] = 3071
    assert "1 ml of metal" in why_unnamed(ct, box)[1]
    ct.array[:] = 40
    ct.array[22:, 10:, 10:] = 3071  # outside the box
    assert len(why_unnamed(ct, box)) == 1
