"""Landmarks, boxes and volumes: what they refuse, and what they answer."""

import numpy as np
import pytest

from payerseg.domain.grid import Grid
from payerseg.domain.landmarks import Landmark, Landmarks
from payerseg.domain.spine_box import SpineBox
from payerseg.domain.vertebra import Region, Vertebra
from payerseg.domain.volume import Volume
from payerseg.errors import BadGeometry, GridMismatch

GRID = Grid((4, 5, 6), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))


def test_landmarks_stand_head_to_foot_and_move_together():
    marks = Landmarks(
        [Landmark(Vertebra.L1, (1, 2, 3), score=1), Landmark(Vertebra.T13, (4, 5, 6))]
    )
    assert repr(marks) == "Landmarks(T13, L1)"
    assert marks[Vertebra.T13].position_mm == (4.0, 5.0, 6.0)
    moved = marks.moved(lambda points: points + 1)
    np.testing.assert_array_equal(moved.positions_mm, [[5, 6, 7], [2, 3, 4]])
    assert Landmarks().moved(lambda _: pytest.fail("nothing to move")) == Landmarks()
    assert Landmarks().positions_mm.shape == (0, 3)
    assert Vertebra.T13.region is Region.THORACIC


@pytest.mark.parametrize("position", [(1, 2), (1, 2, float("nan")), (1, 2, 3, 4)])
def test_a_point_is_three_finite_numbers(position):
    with pytest.raises(ValueError, match="L1: position"):
        Landmark(Vertebra.L1, position)


def test_a_vertebra_is_given_once():
    with pytest.raises(ValueError, match="twice"):
        Landmarks([Landmark(Vertebra.L1, (0, 0, 0)), Landmark(Vertebra.L1, (1, 1, 1))])


def test_a_box_grows_is_clipped_and_holds_points():
    box = SpineBox((0, 2, 4), (10, 6, 8))
    assert (box.size_mm, box.center_mm) == ((10, 4, 4), (5, 4, 6))
    assert box.expanded(1) == SpineBox((-1, 1, 3), (11, 7, 9))
    assert box.expanded((0, 1, 2)) == SpineBox((0, 1, 2), (10, 7, 10))
    assert box.clipped_to(GRID) == SpineBox((0, 2, 4), (10, 6, 7))
    assert SpineBox((20, 0, 0), (30, 1, 1)).clipped_to(GRID).low_mm[0] == 11
    assert list(box.contains([[0, 2, 4], [5, 4, 8.1]])) == [True, False]


@pytest.mark.parametrize("high", [(1, 1, -1), (1, 1, float("inf"))])
def test_an_empty_or_endless_box_is_refused(high):
    with pytest.raises(ValueError, match="empty or not finite"):
        SpineBox((0, 0, 0), high)


def test_a_volume_has_its_grids_shape():
    volume = Volume(np.zeros((4, 5, 6)), GRID)
    assert volume.cropped((1, 0, 2), (3, 5, 6)).grid.origin_mm == (4.0, 0.0, 2.0)
    with pytest.raises(GridMismatch, match=r"\(5, 5, 6\) does not fit a grid of \(4, 5, 6\)"):
        volume.with_array(np.zeros((5, 5, 6)))
    with pytest.raises(GridMismatch):
        Volume(np.zeros((4, 5)), GRID)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"shape": (4, 0, 6)}, "three sizes"),
        ({"spacing_mm": (1, 0, 1)}, "finite positive"),
        ({"origin_mm": (0, float("nan"), 0)}, "not usable"),
        ({"direction": (1, 0, 0, 0, 1, 0)}, "not usable"),
        ({"direction": (1, 0, 0, 1, 0, 0, 0, 0, 1)}, "singular"),
    ],
)
def test_a_grid_that_spans_no_space_is_refused(values, said):
    with pytest.raises(BadGeometry, match=said):
        Grid(**{"shape": (4, 5, 6), "spacing_mm": (1, 1, 1)} | values)


def test_a_matrix_without_length_is_refused():
    with pytest.raises(BadGeometry, match="column lengths"):
        Grid.from_matrix((1, 1, 1), np.diag([1.0, 0.0, 1.0, 1.0]))
