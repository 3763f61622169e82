from dataclasses import replace

import numpy as np
import pytest

from payerseg.domain.grid import Grid
from payerseg.domain.levels import S1_RANK, UNKNOWN, Rib
from payerseg.domain.vertebra import Vertebra
from payerseg.domain.volume import Volume
from payerseg.training.augment import AIR_HU, AppearanceRanges
from payerseg.training.examples import PackedScan
from payerseg.training.level_examples import (
    LEFT,
    RANK,
    RIGHT,
    SACRUM,
    VERTEBRA,
    WHOLE,
    LevelRecipe,
    LevelSampler,
    facts_of,
    level_example,
)

NAMES = ("T11", "T12", "L1", "L2", "L3", "L4", "L5")
PLAIN = LevelRecipe(
    rotation_sd_rad=(0, 0, 0), wide_p=0, adult_sd=0, child_p=0, axis_sd=0, flip_p=(0, 0),
    appearance=AppearanceRanges(
        gain=(1, 1), shift_hu=0, noise_p=0, blur_p=0, slice_p=0, sharpen_p=0, cap_p=0
    ),
    slab_p=0, narrow_p=0, round_p=0, jitter_mm=0, n_false=0, beside_p=0,
)  # fmt: skip


def scan_of(ribs=None, sacrum=True):
    """A block whose voxels are bright at the centres; a bright rod to the left of each."""
    hu = np.full((140, 70, 100), 0, np.int16)
    rows = []
    for k, name in enumerate(NAMES):
        z = 120 - 12 * k
        hu[z, 35, 50] = 1000
        hu[z, 35, 58:64] = 500
        rows.append([Vertebra[name].channel, 50 * 2.5 - 100, 35 * 2.5, z * 2.5])
    marks = np.array(rows, float)
    foot = marks[-1, 1:] - (0, -8, 30) if sacrum else None
    ct = Volume(hu, Grid(hu.shape, (2.5,) * 3, (-100.0, 0.0, 0.0)))
    return PackedScan("s", ct, marks, ribs=ribs, sacrum_mm=foot)


def test_facts_follow_from_the_level_and_from_what_is_told():
    told = np.full((7, 2), np.nan)
    told[1] = (Rib.STUMP, Rib.RIB)
    facts = facts_of(scan_of(told))
    assert facts[:, LEFT].tolist() == [2, 1, 0, 0, 0, 0, 0, 0]
    assert facts[:, RIGHT].tolist() == [2, 2, 0, 0, 0, 0, 0, 0]
    assert facts[-1, RANK] == S1_RANK
    assert facts[:, SACRUM].tolist() == [0, 0, 0, 0, 0, 0, 1, 0]
    assert facts_of(scan_of(sacrum=False))[-1, SACRUM] == UNKNOWN


def test_places_lie_on_what_is_marked():
    scan = scan_of()
    (view, places), rows = level_example(scan, 3, np.random.default_rng(1), PLAIN)
    known = rows[:, RANK] >= 0
    assert known.sum() >= 6
    for place, row in zip(places[known], rows[known], strict=True):
        if row[RANK] == S1_RANK:
            continue
        z, y, x = np.rint(place).astype(int)
        near = view[z - 1 : z + 2, y - 1 : y + 2, x - 1 : x + 2, 0]
        assert near.max() > 1.7 + 200 / 600, row


def test_left_and_right_change_places_with_the_picture():
    told = np.full((7, 2), np.nan)
    told[1] = (Rib.RIB, Rib.NONE)
    scan = scan_of(told)
    for flip, column in ((0.0, LEFT), (1.0, RIGHT)):
        recipe = replace(PLAIN, flip_p=(flip, 0.0))
        (view, places), rows = level_example(scan, 1, np.random.default_rng(0), recipe)
        k = int(np.flatnonzero(rows[:, RANK] == Vertebra.T12.rank)[0])
        assert rows[k, column] == Rib.RIB
        assert rows[k, LEFT + RIGHT - column] == Rib.NONE
        z, y, x = np.rint(places[k]).astype(int)
        side = slice(x + 4, x + 14) if column == LEFT else slice(x - 13, x - 3)
        assert view[z - 1 : z + 2, y - 1 : y + 2, side].max() > 1.7 + 150 / 600


def test_what_a_cut_takes_away_is_no_target_and_exactly_air():
    recipe = replace(PLAIN, slab_p=1.0, slab_mm=(60.0, 61.0))
    for seed in range(12):
        (view, places), rows = level_example(scan_of(), 3, np.random.default_rng(seed), recipe)
        air = np.all(view[..., 0] == 0.0, axis=(1, 2))
        assert 70 <= air.sum() < 96
        known = rows[:, RANK] >= 0
        assert 1 <= known.sum() <= 3
        z = places[known, 0]
        shown = np.flatnonzero(~air)
        depth = 3.0 * np.minimum(z - shown[0] + 0.5, shown[-1] + 0.5 - z)
        assert np.all(depth > 1)
        assert np.all(rows[known][depth > 18, WHOLE] == 1)
        assert np.all(rows[known][depth < 8, WHOLE] == 0)


def test_ribs_that_a_narrow_view_does_not_show_are_not_known():
    recipe = replace(PLAIN, narrow_p=1.0, narrow_mm=(25.0, 26.0))
    _, rows = level_example(scan_of(), 3, np.random.default_rng(0), recipe)
    known = rows[:, RANK] >= 0
    assert known.any()
    assert np.all(rows[known][:, [LEFT, RIGHT]] == UNKNOWN)


def test_false_places_are_told_from_vertebrae():
    recipe = replace(PLAIN, n_false=4)
    found = 0
    for seed in range(20):
        (_, places), rows = level_example(scan_of(), 3, np.random.default_rng(seed), recipe)
        false, true = rows[:, VERTEBRA] == 0, rows[:, VERTEBRA] == 1
        found += false.sum()
        assert np.all(rows[false, RANK] == UNKNOWN)
        for place in places[false]:
            assert np.linalg.norm(places[true] - place, axis=1).min() > 3
    assert found > 15


def test_beyond_the_scan_there_is_air():
    scan = scan_of()
    (view, places), rows = level_example(scan, 0, np.random.default_rng(2), PLAIN)
    top = np.flatnonzero(np.any(view[..., 0] > 0, axis=(1, 2)))[-1]
    t11 = places[rows[:, RANK] == Vertebra.T11.rank][0]
    assert abs((top - t11[0]) * 3.0 - (139 - 120) * 2.5) < 6
    assert AIR_HU / 600 + 1.7 <= 0


def test_draws_share_out_levels_not_scans():
    empty = Volume(np.zeros((4, 4, 4), np.int16), Grid((4, 4, 4), (2.5,) * 3))
    many = PackedScan("m", empty,
                      np.array([[Vertebra.T7.channel, 0, 0, 0]] * 30, float))  # fmt: skip
    few = PackedScan("f", empty,
                     np.array([[Vertebra.L3.channel, 0, 0, 0]] * 6, float))  # fmt: skip
    sampler = LevelSampler([many, few], (("real", 1.0),))
    picks = [sampler.pick(np.random.default_rng(k))[0] for k in range(400)]
    assert 0.4 < np.mean(picks) < 0.6


def test_nothing_to_draw_from_is_refused():
    with pytest.raises(ValueError, match="no marked scan"):
        LevelSampler([], (("real", 1.0),))


@pytest.mark.parametrize("seed", range(4))
def test_a_view_beside_the_spine_shows_bone_and_no_vertebra(seed):
    scan = scan_of()
    scan.hu[:, 20, 10] = scan.hu[:, 20, 90] = 700  # bone 100 mm to the sides
    recipe = replace(PLAIN, beside_p=1, beside_mm=(90, 110))
    (view, places), rows = level_example(scan, 3, np.random.default_rng(seed), recipe)
    used = rows[:, VERTEBRA] == 0
    assert used.sum() == recipe.n_places // 2
    assert (rows[:, RANK] == UNKNOWN).all()
    assert not (rows[:, VERTEBRA] == 1).any()
    z, y, x = places[used].round().astype(int).T
    assert (view[z, y, x, 0] > view.mean()).all()
    # what is left of the view is no nearer to a centre than the cut
    lit = np.flatnonzero((view[..., 0] > 0).any(axis=(0, 1)))
    assert (lit.max() - lit.min() + 1) * recipe.spacing_mm < 120 + 110 - recipe.beside_clear_mm
