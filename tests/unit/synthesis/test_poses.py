from itertools import pairwise

import numpy as np
import pytest

from payerseg.domain.vertebra import Vertebra
from payerseg.synthesis.phantom import phantom_library
from payerseg.synthesis.poses import Fracture, JointTurns, Pick, chain, rotation


@pytest.fixture
def lumbar():
    shapes = phantom_library().spines[0].shapes
    return [Pick(v, shapes[v]) for v in (Vertebra.L1, Vertebra.L2, Vertebra.L3, Vertebra.L4)]


def still(count):
    return JointTurns(np.zeros((count, 3)))


def test_without_turns_a_person_stands_as_scanned(lumbar):
    posed = chain(lumbar, still(3))
    for (a, b), (p, q) in zip(pairwise(posed), pairwise(lumbar), strict=True):
        wanted = q.shape.body.center_mm - p.shape.body.center_mm
        np.testing.assert_allclose(b.center_mm - a.center_mm, wanted, atol=1e-9)


def test_scale_stretches_the_whole_chain(lumbar):
    big = [Pick(p.vertebra, p.shape, 1.2) for p in lumbar]
    a, b = chain(lumbar, still(3)), chain(big, still(3))
    length = lambda posed: np.linalg.norm(posed[-1].center_mm - posed[0].center_mm)
    assert length(b) == pytest.approx(1.2 * length(a))


def test_turns_bend_but_keep_neighbours_close(lumbar):
    posed = chain(lumbar, JointTurns(np.deg2rad([[5.0, 0, 0]] * 3)))
    straight = chain(lumbar, still(3))
    for (a, b), (p, q) in zip(pairwise(posed), pairwise(straight), strict=True):
        bent = np.linalg.norm(b.center_mm - a.center_mm)
        assert abs(bent - np.linalg.norm(q.center_mm - p.center_mm)) < 1.5
    cosine = posed[0].axes[2] @ posed[-1].axes[2]
    assert np.rad2deg(np.arccos(cosine)) == pytest.approx(15.0, abs=0.01)


def test_frames_are_reached_within_the_most_a_joint_gives(lumbar):
    frames = [rotation(np.deg2rad([4.0 * k, 0, 0])).T for k in range(4)]
    posed = chain(lumbar, still(3), frames)
    for one, frame in zip(posed, frames, strict=True):
        np.testing.assert_allclose(one.axes, frame, atol=1e-9)


@pytest.mark.parametrize("kind", ["wedge", "biconcave", "crush"])
def test_fractures_take_height_in_front_not_behind(kind):
    fracture, half = Fracture(kind, 0.4), np.array([20.0, 15.0, 12.0])
    share = lambda back: float(fracture.height(np.array([back]), np.array([0.0]), half)[0])
    assert min(share(-15.0), share(0.0)) == pytest.approx(0.6)
    assert share(40.0) == 1.0


def test_a_broken_vertebra_comes_closer_to_the_one_above(lumbar):
    whole = chain(lumbar, still(3))
    lumbar[2] = Pick(Vertebra.L3, lumbar[2].shape, fracture=Fracture("crush", 0.5))
    broken = chain(lumbar, still(3))
    loss = np.linalg.norm(whole[2].center_mm - whole[1].center_mm) - np.linalg.norm(
        broken[2].center_mm - broken[1].center_mm
    )
    assert loss == pytest.approx(lumbar[2].shape.body.half_size_mm[2], rel=0.05)
    assert (broken[2].landmark_mm - broken[2].center_mm) @ broken[2].axes[2] < -3
