import numpy as np
import pytest

from payerseg.domain.landmarks import Landmark, Landmarks
from payerseg.domain.vertebra import Vertebra
from payerseg.synthesis.spine_axis import LEVEL_SPACING_MM, SpineAxis, levels_of


def column(names, spacing=25.0):
    return Landmarks(
        Landmark(Vertebra[n], (0.0, 5.0 * k, -spacing * k)) for k, n in enumerate(names)
    )


def test_levels_count_from_the_head():
    levels = levels_of(column(["C1", "C7", "T1", "T12", "L1", "L5"]))
    assert list(levels.values()) == [0.0, 6.0, 7.0, 18.0, 19.0, 23.0]


def test_six_lumbar_vertebrae_end_where_five_do():
    levels = levels_of(column(["T12", "L1", "L2", "L3", "L4", "L5", "L6"]))
    assert levels[Vertebra.L1] == 19.0
    assert levels[Vertebra.L6] == pytest.approx(23.0)


def test_a_thirteenth_rib_bearer_lies_between_t12_and_l1():
    levels = levels_of(column(["T12", "T13", "L1"]))
    assert list(levels.values()) == [18.0, 18.5, 19.0]


def test_level_and_height_are_inverse_also_beyond_the_ends():
    axis = SpineAxis.of(column([f"T{k}" for k in range(1, 13)]))
    level = np.array([3.0, 7.0, 9.4, 18.0, 21.0])
    np.testing.assert_allclose(axis.level_at(axis.z_at(level)), level, atol=1e-9)


def whole(*without, plus=()):
    names = [v.name for v in Vertebra if v.name in plus or v.name not in ("T13", "L6")]
    return column([n for n in names if n not in without])


@pytest.mark.parametrize("marks", [whole(), whole(plus=["L6"]), whole(plus=["T13"]), whole("T12")])
def test_organs_lie_between_neck_and_pelvis_however_many_vertebrae_there_are(marks):
    """Halfway down the trunk is halfway down the trunk."""
    usual, here = SpineAxis.of(whole()), SpineAxis.of(marks)
    share = np.linspace(0, 1, 9)
    place = lambda axis: axis.z_at(7.0) + share * (axis.z_at(23.0) - axis.z_at(7.0))
    organs = [a.of_organs(np.zeros(2)).level_at(place(a)) for a in (usual, here)]
    np.testing.assert_allclose(*organs, atol=0.05)


def test_organs_are_shifted_in_the_trunk_but_not_in_the_neck_nor_the_pelvis():
    axis = SpineAxis.of(whole())
    level = np.array([4.0, 14.0, 24.5])
    z = axis.z_at(level)
    moved = axis.of_organs(np.full(5, 0.7)).level_at(z) - axis.of_organs(np.zeros(5)).level_at(z)
    np.testing.assert_allclose(moved[:2], [0.0, 0.7], atol=1e-6)
    assert 0 < moved[2] < 0.3


def test_organ_levels_still_rise_with_a_wild_shift():
    organs = SpineAxis.of(whole()).of_organs(np.array([1.8, -1.8, 1.8, -1.8, 1.8]))
    assert np.all(np.diff(organs.level) > 0)


def test_a_raised_sacrum_stands_nearer_to_the_last_vertebra():
    axis = SpineAxis.of(whole())
    raised = axis.raised_below(5.0)
    assert raised.z_at(np.array([24.0]))[0] - axis.z_at(np.array([24.0]))[0] == pytest.approx(5.0)
    np.testing.assert_array_equal(raised.z_at(axis.level), axis.z_mm)


def test_size_is_relative_to_the_usual_spacing():
    names = ["L1", "L2", "L3"]
    usual = LEVEL_SPACING_MM[19] + LEVEL_SPACING_MM[20]
    heights = (0, -usual * 0.6, -usual * 1.2)
    marks = Landmarks(
        Landmark(Vertebra[n], (0.0, 0.0, z)) for n, z in zip(names, heights, strict=True)
    )
    assert SpineAxis.of(marks).scale == pytest.approx(1.2)
