"""Fitting the decoder: cases survive their file, and the stated set holds the truth as often as asked."""

import importlib

import numpy as np
import pytest

from payerseg.config.graph import DecoderSpec
from payerseg.domain.grid import Grid
from payerseg.domain.landmarks import Landmark, Landmarks
from payerseg.domain.vertebra import Vertebra
from payerseg.postprocess.decision import SpineDecision
from payerseg.postprocess.naming import Found
from payerseg.postprocess.peaks import Candidate
from payerseg.postprocess.spine_decoder import places_in

STEP_MM = 36.0


@pytest.fixture
def module(repository, monkeypatch):
    """Import a module of benchmarks/."""
    monkeypatch.syspath_prepend(repository / "benchmarks")
    return importlib.import_module


def lumbar_case(module, name="someone/100mm/60/30", truth=("L2", "L3")):
    """L2 and L3 seen plainly, one lumbar step apart."""
    values = np.zeros((2, 26))
    points = [(60.0, 60.0, 75.0), (60.0, 62.0, 75.0 - STEP_MM)]
    candidates = []
    for row, vertebra, point in zip(values, (Vertebra.L2, Vertebra.L3), points, strict=True):
        row[vertebra.channel] = 0.9
        candidates.append(Candidate(vertebra.channel, point, 0.9, tuple(row.tolist())))
    marks = Landmarks(Landmark(Vertebra[n], p) for n, p in zip(truth, points, strict=True))
    field = Grid((34, 40, 40), (3.0, 3.0, 3.0))
    found = Found(candidates, places_in(candidates, DecoderSpec(), field))
    cases = module("naming_cases")
    return cases.NamingCase(name, found, marks, frozenset({Vertebra.L4}), field, boxed=True)


def test_a_case_survives_its_file(module, tmp_path):
    case = lumbar_case(module)
    case.write(tmp_path / "case.json")
    again = module("naming_cases").NamingCase.read(tmp_path / "case.json")
    assert (again.name, again.unmarked, again.boxed) == (case.name, case.unmarked, case.boxed)
    assert list(again.truth) == list(case.truth)
    np.testing.assert_allclose(again.found.places.heat, case.found.places.heat)
    np.testing.assert_allclose(again.field.matrix, case.field.matrix)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("someone", "whole"),
        ("someone/60mm/30/0", "60mm ±30 mm"),
        ("someone/child", "child"),
    ],
)
def test_cases_are_counted_by_kind(module, name, kind):
    case = lumbar_case(module, name)
    assert (case.scan, case.kind) == ("someone", kind)


def test_a_right_and_a_shifted_result_are_told_apart(module):
    calibrate = module("calibrate")
    right = calibrate.decode(lumbar_case(module), DecoderSpec())
    shifted = calibrate.decode(lumbar_case(module, truth=("L3", "L4")), DecoderSpec())
    assert right.all_right
    assert (right.n_right, right.n_wrong) == (2, 0)
    assert not shifted.all_right
    assert shifted.n_wrong >= 2
    assert shifted.loss > 1 > right.loss


def test_the_mass_grows_until_the_sets_hold_the_truth(module):
    """Forty patients: four are misnamed, their truth listed after 0.6 or 0.9 of the probability."""
    calibrate = module("calibrate")

    def result(k, share):
        case = lumbar_case(module, f"p{k}")
        sets = {"L1-L2": share, "L2-L3": 1 - share}
        decision = SpineDecision(Landmarks(), level_probability=share, level_set=sets)
        return calibrate.Result(case, 0, 2, share == 0, decision)

    right = [result(k, 0) for k in range(96)]
    some = [result(100 + k, 0.6) for k in range(4)]
    assert calibrate.fitted_mass(right + some) == pytest.approx(0.5)
    more = [result(200 + k, 0.9) for k in range(4)]
    assert 0.6 <= calibrate.fitted_mass(right + some + more) < 0.63
    assert calibrate.fitted_mass(right[:5]) > 0.99  # too few patients to promise anything
