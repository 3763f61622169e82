import numpy as np
import pytest
from scipy import ndimage

from payerseg.domain.grid import Grid
from payerseg.domain.vertebra import Vertebra
from payerseg.synthesis.bones import Bones, Ripple
from payerseg.synthesis.phantom import phantom_library
from payerseg.synthesis.poses import Fracture, JointTurns, Pick, chain

LEVELS = (Vertebra.T11, Vertebra.T12, Vertebra.L1)


def drawn(spacing=2.0, *, turn_deg=0.0, squeeze=0.0, ripple=None, fracture=None):
    shapes = phantom_library().spines[0].shapes
    picks = [Pick(v, shapes[v], fracture=fracture if v is Vertebra.T12 else None) for v in LEVELS]
    posed = chain(picks, JointTurns(np.deg2rad([[turn_deg, 0, 0]] * 2)))
    posed = [p.moved(p.center_mm * (1, 1, 1 - squeeze)) for p in posed]
    low = np.min([p.center_mm for p in posed], axis=0) - (60, 30, 55)
    high = np.max([p.center_mm for p in posed], axis=0) + np.array([60, 90, 45])
    shape = np.round((high - low) / spacing).astype(int)[::-1]
    bones = Bones.empty(Grid(tuple(shape.tolist()), (spacing,) * 3, tuple(low)))
    for one in posed:
        bones.add(one, ripple)
    return bones, posed


def pieces(labels, vertebra):
    return ndimage.label(labels == vertebra.verse_label, np.ones((3, 3, 3)))[1]


@pytest.mark.parametrize("turn_deg", [0.0, 8.0, -8.0])
@pytest.mark.parametrize("squeeze", [0.0, 0.25])
def test_nothing_tears_and_nothing_overlaps(turn_deg, squeeze):
    bones, posed = drawn(turn_deg=turn_deg, squeeze=squeeze)
    for one in posed:
        assert pieces(bones.labels, one.vertebra) == 1
    np.testing.assert_array_equal(bones.labels > 0, bones.depth_mm > 0)


def test_pushed_together_neighbours_keep_a_gap():
    bones, _ = drawn(1.0, squeeze=0.25)
    one, two = (bones.labels == v.verse_label for v in LEVELS[:2])
    assert not np.any(ndimage.binary_dilation(one) & two & (bones.depth_mm > 0.6))


def test_landmarks_lie_in_their_bodies():
    bones, posed = drawn()
    for one in posed:
        k, j, i = np.round(bones.grid.map_world_to_indices(one.landmark_mm[None])[0]).astype(int)
        assert bones.labels[k, j, i] == one.vertebra.verse_label
        assert bones.posterior[k, j, i] == 0


def test_a_fracture_makes_a_body_smaller_but_not_its_arch():
    whole, _ = drawn(1.5)
    broken, _ = drawn(1.5, fracture=Fracture("crush", 0.45))
    value = Vertebra.T12.verse_label
    front = lambda b: np.count_nonzero((b.labels == value) & (b.posterior == 0))
    arch = lambda b: np.count_nonzero((b.labels == value) & (b.posterior >= 1))
    assert front(broken) < 0.72 * front(whole)
    assert arch(broken) > 0.85 * arch(whole)
    assert pieces(broken.labels, Vertebra.T12) == 1


def test_a_ripple_moves_points_and_bone_alike():
    ripple = Ripple.draw(np.random.default_rng(5), amplitude_mm=4.0)
    (plain, posed), (warped, _) = drawn(1.5), drawn(1.5, ripple=ripple)
    away = []
    for one in posed:
        before, after = (points_of(b, one.vertebra) for b in (plain, warped))
        moved = ripple.moved(before).mean(axis=0)
        assert np.linalg.norm(after.mean(axis=0) - moved) < 0.7
        away.append(np.linalg.norm(moved - before.mean(axis=0)))
    assert max(away) > 1.5


def points_of(bones, vertebra):
    return bones.grid.map_indices_to_world(np.argwhere(bones.labels == vertebra.verse_label))


def test_ripple_inverse_is_exact():
    ripple = Ripple.draw(np.random.default_rng(6))
    points = np.random.default_rng(7).uniform(-200, 200, (50, 3))
    seen = ripple.moved(points)
    np.testing.assert_allclose(seen + np.stack(ripple.shift_mm(*seen.T), 1), points, atol=1e-3)


def test_a_vertebra_outside_the_grid_is_no_error():
    bones, posed = drawn()
    far = posed[0].moved(posed[0].center_mm + 1000)
    before = bones.labels.copy()
    bones.add(far)
    np.testing.assert_array_equal(bones.labels, before)
