import numpy as np
import pytest

from payerseg.domain.grid import Grid
from payerseg.domain.vertebra import Vertebra
from payerseg.synthesis.extras import Extras
from payerseg.synthesis.phantom import phantom_library
from payerseg.synthesis.poses import JointTurns, Pick, chain
from payerseg.synthesis.ribs import NO_BONE_MM, RibPlan, Ribs, joint_mm, reach_mm, rib_code

T11, T12, T13, L1, C7 = (Vertebra[n] for n in ("T11", "T12", "T13", "L1", "C7"))
USUAL = tuple(v for v in Vertebra if v.name not in ("T13", "L6"))
PLAN = RibPlan({T12: (100.0, 25.0), L1: (15.0, 0.0)})


def trunk(*levels, half_width_mm=160.0, above_mm=60.0):
    shapes = phantom_library().spines[0].shapes
    picks = [Pick(v, shapes[L1 if v is T13 else v]) for v in levels]
    posed = chain(picks, JointTurns(np.zeros((len(levels) - 1, 3))))
    points = np.array([p.center_mm for p in posed])
    low = points.min(axis=0) - (half_width_mm, 110, 70)
    high = np.add(points.max(axis=0), (half_width_mm, 90, above_mm))
    shape = np.round((high - low) / 3.0).astype(int)[::-1]
    grid = Grid(tuple(shape.tolist()), (3.0,) * 3, tuple(low))
    bone = np.full(grid.shape, NO_BONE_MM, np.float32)
    return posed, Ribs(grid, bone, np.zeros(grid.shape, np.uint8))


def words(posed, ribs, extras=None):
    return ribs.words(posed, (extras or Extras()).field_of_view(ribs.grid))


def far_bone(ribs, one, side, low_mm, high_mm):
    """Count bone to one side of a vertebra at a distance from its joint, whatever the codes say."""
    at = ribs.grid.map_indices_to_world(np.argwhere(ribs.bone_mm > 0)) - joint_mm(one, side)
    far = np.linalg.norm(at, axis=1)
    return np.count_nonzero((far > low_mm) & (far < high_mm) & (side * at[:, 0] > 0))


def test_what_is_said_is_what_is_drawn():
    posed, ribs = trunk(T12, L1)
    ribs.make(posed, PLAN)
    assert words(posed, ribs) == {T12: ("rib", "stump"), L1: ("stump", "none")}
    assert far_bone(ribs, posed[0], 1.0, 80, 95) > 0
    assert far_bone(ribs, posed[0], -1.0, 35, 120) == 0


def test_a_rib_of_length_zero_is_not_drawn_on_any_vertebra():
    posed, ribs = trunk(T13, L1)
    ribs.make(posed, RibPlan({T13: (0.0, 30.0)}))
    assert words(posed, ribs)[T13] == ("none", "stump")
    assert far_bone(ribs, posed[0], 1.0, 0, 100) == 0


@pytest.mark.parametrize(("length", "word"), [(10.0, "stump"), (30.0, "stump"), (60.0, "rib")])
def test_the_shortest_ribs_count(length, word):
    posed, ribs = trunk(T13, L1)
    ribs.make(posed, RibPlan({T13: (length, length)}))
    assert words(posed, ribs)[T13] == (word, word)


def test_a_rib_that_the_view_ends_may_be_any():
    posed, ribs = trunk(T12, L1, half_width_mm=32)
    ribs.make(posed, RibPlan({T12: (120.0, 120.0)}))
    assert words(posed, ribs)[T12] == ("not in view", "not in view")
    posed, ribs = trunk(T12, L1, half_width_mm=80)
    ribs.make(posed, RibPlan({T12: (120.0, 120.0)}))
    assert words(posed, ribs)[T12] == ("rib", "rib"), "more than a stump is seen of it"


def test_a_round_view_hides_ribs():
    posed, ribs = trunk(T12, L1)
    ribs.make(posed, PLAN)
    assert words(posed, ribs, Extras(round_view=0.12))[T12] == ("not in view", "not in view")


def torso_rib(ribs, one, code, length_mm=140.0):
    """Put a straight rib to the left into the volume, as a torso's map would."""
    index = np.argwhere(ribs.codes == 0)
    at = ribs.grid.map_indices_to_world(index) - joint_mm(one, 1.0)
    inside = (at[:, 0] > 12) & (at[:, 0] < length_mm) & (np.hypot(at[:, 1], at[:, 2]) < 5)
    ribs.bone_mm[tuple(index[inside].T)] = 3.0
    ribs.codes[tuple(index[inside].T)] = code


def test_a_torsos_rib_is_joined_and_cut_to_its_length():
    posed, ribs = trunk(T12, L1)
    torso_rib(ribs, posed[0], rib_code(T12, 1.0))
    ribs.make(posed, RibPlan({T12: (70.0, 0.0)}))
    assert words(posed, ribs)[T12] == ("rib", "none")
    assert far_bone(ribs, posed[0], 1.0, 0, 12) > 0, "its head"
    assert far_bone(ribs, posed[0], 1.0, 55, 68) > 0
    assert far_bone(ribs, posed[0], 1.0, 76, 200) == 0


def test_the_last_ribs_of_a_torso_go_with_a_missing_t12():
    posed, ribs = trunk(T11, L1)
    torso_rib(ribs, posed[1], rib_code(T12, 1.0))
    before = ribs.bone_mm.copy()
    ribs.make(posed, RibPlan({T12: (0.0, 0.0)}))
    assert words(posed, ribs) == {T11: ("rib", "rib"), L1: ("none", "none")}
    assert not np.any(ribs.codes == rib_code(T12, 1.0))
    assert np.mean(ribs.bone_mm[before == 3.0] > 0) < 0.1, "but for ribs of T11 that cross"


def test_a_torso_without_a_vertebras_rib_gets_one():
    posed, ribs = trunk(T11, T12, L1)
    ribs.make(posed, RibPlan())
    assert set(words(posed, ribs)[T11]) == {"rib"}


def test_a_rib_with_a_gap_ends_there():
    line = np.array([[x, 0.0, 0.0] for x in (5, 10, 15, 20, 60, 65)])
    assert reach_mm(line, np.zeros(3))[0] == 20
    assert reach_mm(line + 40, np.zeros(3))[0] == 0
    assert reach_mm(np.empty((0, 3)), np.zeros(3))[0] == 0


def test_plans_hold_what_real_bodies_do():
    rng = np.random.default_rng(0)
    plans = [RibPlan.draw(list(USUAL), rng) for _ in range(1500)]
    twelve = np.array([p.lengths_mm[T12] for p in plans])
    assert twelve.min() < 20
    assert twelve.max() > 140
    assert 0.03 < np.mean(twelve.min(axis=1) < 0.5 * twelve.max(axis=1)) < 0.2, "one-sided"
    lumbar = [p.lengths_mm[L1] for p in plans if L1 in p.lengths_mm]
    assert 0.03 < len(lumbar) / len(plans) < 0.07
    assert np.max(lumbar) < 40
    assert 0.015 < np.mean([C7 in p.lengths_mm for p in plans]) < 0.05


def test_thirteenth_ribs_are_of_every_length_and_sometimes_on_one_side():
    rng = np.random.default_rng(1)
    plans = [RibPlan.draw([*USUAL[:19], T13, *USUAL[19:]], rng) for _ in range(400)]
    thirteen = np.array([p.lengths_mm[T13] for p in plans])
    assert 0.15 < np.mean(thirteen.min(axis=1) == 0) < 0.35
    assert thirteen.max(axis=1).min() < 15
    assert thirteen.max() > 110
    assert all(L1 not in p.lengths_mm for p in plans)
