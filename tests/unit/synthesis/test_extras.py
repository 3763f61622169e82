import numpy as np
import pytest

from payerseg.domain.grid import Grid
from payerseg.domain.vertebra import Vertebra
from payerseg.synthesis.extras import Extras, add_after_scan, add_before_scan
from payerseg.synthesis.phantom import phantom_library
from payerseg.synthesis.poses import JointTurns, Pick, chain


@pytest.fixture
def scene():
    shapes = phantom_library().spines[0].shapes
    picks = [Pick(v, shapes[v]) for v in (Vertebra.L1, Vertebra.L2, Vertebra.L3)]
    posed = chain(picks, JointTurns(np.zeros((2, 3))))
    grid = Grid((60, 70, 60), (2.0, 2.0, 2.0), (-60.0, -50.0, -100.0))
    hu = np.full(grid.shape, -1000.0, np.float32)
    hu[:, :55] = 40
    return hu, grid, posed


def test_nothing_is_added_where_nothing_is_asked_for(scene):
    hu, grid, posed = scene
    before = hu.copy()
    assert add_before_scan(hu, grid, posed, Extras(), np.random.default_rng(0)) is None
    np.testing.assert_array_equal(hu, before)


def test_screws_shine_and_streak(scene):
    hu, grid, posed = scene
    extras = Extras(screws_at=0, screws_over=3)
    metal = add_before_scan(hu, grid, posed, extras, np.random.default_rng(0))
    assert hu.max() > 3000
    assert 20 < np.count_nonzero(metal) < 4000
    image = add_after_scan(np.clip(hu, -1024, 3071), grid, metal, extras, np.random.default_rng(1))
    rows = metal.any(axis=(1, 2))
    assert image[rows][:, :20].std() > 3 * image[~rows][:, :20].std() + 5


def test_a_table_lies_behind_the_back_in_air(scene):
    hu, grid, posed = scene
    inside = hu[:, :55].copy()
    add_before_scan(hu, grid, posed, Extras(table=True), np.random.default_rng(0))
    np.testing.assert_array_equal(hu[:, :55], inside)
    assert np.any(hu[:, 55:] > -400)


def test_cement_and_gas_change_the_spine(scene):
    hu, grid, posed = scene
    add_before_scan(hu, grid, posed, Extras(cement_in=1, gas_discs=(0,)), np.random.default_rng(0))
    assert hu.max() > 1200
    assert hu[:, :55].min() < -200


def test_a_round_view_cuts_the_corners(scene):
    hu, grid, _ = scene
    image = add_after_scan(hu, grid, None, Extras(round_view=1.0), np.random.default_rng(0))
    assert np.all(image[:, 0, 0] == -1024)
    assert np.all(image[:, 30, 30] == 40)


def test_most_scans_have_no_metal():
    drawn = [Extras.draw(10, np.random.default_rng(k)) for k in range(300)]
    assert 5 < sum(e.screws_at is not None for e in drawn) < 40
