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


def test_size_is_relative_to_the_usual_spacing():
    names = ["L1", "L2", "L3"]
    usual = LEVEL_SPACING_MM[19] + LEVEL_SPACING_MM[20]
    heights = (0, -usual * 0.6, -usual * 1.2)
    marks = Landmarks(
        Landmark(Vertebra[n], (0.0, 0.0, z)) for n, z in zip(names, heights, strict=True)
    )
    assert SpineAxis.of(marks).scale == pytest.approx(1.2)
