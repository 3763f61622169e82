"""Fitting the decoder: cases survive their file, and the review threshold catches what it must."""

import importlib

import numpy as np
import pytest

from payerseg.config.graph import GraphConfig
from payerseg.domain.grid import Grid
from payerseg.domain.landmarks import Landmark, Landmarks
from payerseg.domain.vertebra import Vertebra
from payerseg.postprocess.calibration import DecodedExample
from payerseg.postprocess.peaks import Candidate

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
    example = DecodedExample(candidates, marks, Grid((34, 40, 40), (3.0, 3.0, 3.0)))
    cases = module("calibration_cases")
    return cases.Case(name, example, frozenset({Vertebra.L4}), boxed=True)


def test_a_case_survives_its_file(module, tmp_path):
    case = lumbar_case(module)
    case.write(tmp_path / "case.npz")
    assert module("calibration_cases").Case.read(tmp_path / "case.npz") == case


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("someone", "whole"),
        ("someone/60mm/30/0", "60mm ±30 mm"),
        ("someone/60mm/30/0/child", "60mm ±30 mm, altered"),
    ],
)
def test_cases_are_counted_by_kind(module, name, kind):
    case = lumbar_case(module, name)
    assert (case.scan, case.kind) == ("someone", kind)


def test_a_right_and_a_shifted_result_are_told_apart(module):
    fit = module("calibration_fit")
    right = fit.decode(lumbar_case(module), GraphConfig())
    shifted = fit.decode(lumbar_case(module, truth=("L3", "L4")), GraphConfig())
    assert right.all_right
    assert (right.n_right, right.n_wrong) == (2, 0)
    assert not shifted.all_right
    assert shifted.n_wrong >= 2
    assert shifted.loss > 1 > right.loss


def test_the_review_threshold_catches_nearly_all_wrong_results(module):
    fit = module("calibration_fit")
    case = lumbar_case(module)

    def result(probability, *, right, named=True):
        return fit.Result(case, 0, 0, right, probability, other_reasons=False, named=named)

    wrong = [result(p, right=False) for p in np.linspace(0.3, 0.7, 24)]
    slips = result(0.95, right=False)
    silent = result(0.5, right=False, named=False)
    threshold = fit.review_threshold([*wrong, slips, silent, result(0.99, right=True)])
    assert 0.7 < threshold <= 0.72
    assert wrong[-1].flagged(threshold)
    assert not slips.flagged(threshold)
    assert not silent.flagged(threshold)
