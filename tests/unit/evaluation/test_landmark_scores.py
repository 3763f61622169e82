"""Identification by VerSe's rule, and what counts as a shift."""

import numpy as np
import pytest

from payerseg.domain.grid import Grid
from payerseg.domain.landmarks import Landmark, Landmarks
from payerseg.domain.vertebra import Vertebra
from payerseg.evaluation.landmark_scores import (
    NO_SHIFT,
    score_landmarks,
)

NAMES = ["T10", "T11", "T12", "L1", "L2", "L3"]


def column(names, start_mm=0.0, step_mm=30.0, off=(0.0, 0.0, 0.0)):
    return Landmarks(
        Landmark(Vertebra[n], tuple(np.array([0, 0, start_mm - k * step_mm]) + off))
        for k, n in enumerate(names)
    )


def outcomes(scores):
    return {one.vertebra.name: one.outcome for one in scores.outcomes}


def test_perfect():
    scores = score_landmarks(column(NAMES, off=(3, 4, 0)), column(NAMES))
    assert scores.all_right
    assert scores.count("identified") == scores.n_true == 6
    assert scores.distances_mm == pytest.approx([5.0] * 6)
    assert scores.shift == NO_SHIFT


@pytest.mark.parametrize(("distance", "outcome"), [(20.0, "identified"), (20.1, "far")])
def test_radius_is_20_mm_inclusive(distance, outcome):
    scores = score_landmarks(column(["L1"], off=(distance, 0, 0)), column(["L1"]))
    assert outcomes(scores) == {"L1": outcome}


def test_nearer_neighbour_means_mixed_up():
    truth = column(["L1", "L2"], step_mm=20)
    predicted = Landmarks([Landmark(Vertebra.L1, (0, 0, -12)), Landmark(Vertebra.L2, (0, 0, -20))])
    assert outcomes(score_landmarks(predicted, truth)) == {"L1": "mixed_up", "L2": "identified"}


def test_verse_rule_looks_only_at_common_names():
    truth = column(["L1", "L2"], step_mm=20)
    predicted = Landmarks([Landmark(Vertebra.L1, (0, 0, -12))])
    assert outcomes(score_landmarks(predicted, truth)) == {"L1": "identified", "L2": "missed"}


def test_the_challenge_text_looks_at_all_true_centres():
    truth = column(["L1", "L2"], step_mm=20)
    predicted = Landmarks([Landmark(Vertebra.L1, (0, 0, -12))])
    assert score_landmarks(predicted, truth).n_strictly_identified == 0
    assert score_landmarks(truth, truth).n_strictly_identified == 2


def test_strictly_all_right_forgives_nothing_beside_the_truth():
    scores = score_landmarks(
        column([*NAMES, "L4"]), column(NAMES), unmarked=frozenset({Vertebra.L4})
    )
    assert scores.all_right
    assert not scores.strictly_all_right
    assert score_landmarks(column(NAMES), column(NAMES)).strictly_all_right


def test_missed_and_extra_are_not_all_right():
    missed = score_landmarks(column(NAMES[:-1]), column(NAMES))
    assert missed.count("missed") == 1
    assert not missed.all_right
    extra = score_landmarks(column([*NAMES, "L4"]), column(NAMES))
    assert extra.count("extra") == 1
    assert extra.n_true == 6
    assert not extra.all_right


def test_extra_that_the_truth_left_unmarked_is_tolerated():
    scores = score_landmarks(column([*NAMES, "L4"]), column(NAMES), unmarked={Vertebra.L4})
    assert scores.all_right
    assert outcomes(scores)["L4"] == "tolerated_extra"


@pytest.mark.parametrize(("foot_mm", "tolerated"), [(-185, True), (-260, False)])
def test_extra_at_the_face_of_the_scan_is_tolerated(foot_mm, tolerated):
    grid = Grid((100 - foot_mm, 200, 200), (1, 1, 1), (-100, -100, foot_mm))
    scores = score_landmarks(column([*NAMES, "L4"]), column(NAMES), scan_grid=grid)
    assert scores.all_right == tolerated


def test_extra_inside_the_row_is_never_tolerated():
    truth = column(["T12", "L2"], step_mm=60)
    predicted = column(["T12", "L1", "L2"])
    grid = Grid((10, 10, 10), (1, 1, 1), (-5, -5, -30))
    assert not score_landmarks(predicted, truth, scan_grid=grid).all_right


@pytest.mark.parametrize("levels", [1, -1, 2])
def test_whole_scan_shifted(levels):
    order = [v.name for v in Vertebra if v is not Vertebra.T13]
    named = [order[order.index(n) + levels] for n in NAMES]
    scores = score_landmarks(column(named), column(NAMES))
    assert scores.shift.levels == levels
    assert scores.shift.n_vertebrae == 6
    assert (scores.shift.first, scores.shift.last) == (Vertebra.T10, Vertebra.L3)
    assert scores.count("identified") == 0


def test_part_of_a_scan_shifted():
    predicted = column(["T10", "T11", "T12", "L2", "L3", "L4"])
    shift = score_landmarks(predicted, column(NAMES)).shift
    assert (shift.levels, shift.n_vertebrae, shift.first) == (1, 3, Vertebra.L1)


def test_one_mix_up_is_no_shift():
    predicted = Landmarks([*column(NAMES[:5]).values(), Landmark(Vertebra.L4, (0, 0, -150))])
    assert score_landmarks(predicted, column(NAMES)).shift == NO_SHIFT


def test_t13_called_l1_shifts_the_lumbar_levels_only():
    truth = column(["T11", "T12", "T13", "L1", "L2", "L3"])
    predicted = column(["T11", "T12", "L1", "L2", "L3", "L4"])
    shift = score_landmarks(predicted, truth).shift
    assert (shift.levels, shift.first, shift.n_vertebrae) == (1, Vertebra.L1, 3)


def test_empty_on_either_side():
    nothing = Landmarks()
    assert score_landmarks(nothing, nothing).all_right
    assert score_landmarks(nothing, column(NAMES)).count("missed") == 6
    invented = score_landmarks(column(NAMES), nothing)
    assert invented.count("extra") == 6
    assert not invented.all_right
