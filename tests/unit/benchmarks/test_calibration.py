"""Fitting the decoder: cases come from a run's folder, and the stated set holds the truth as asked."""

import importlib

import numpy as np
import pytest
from result_folders import seal

from payerseg.config.graph import DecoderSpec
from payerseg.domain.grid import Grid
from payerseg.domain.landmarks import Landmark, Landmarks
from payerseg.domain.levels import N_OUTPUTS
from payerseg.domain.vertebra import Vertebra
from payerseg.domain.volume import Volume
from payerseg.evaluation.truth import Truth
from payerseg.imaging.orient import closest_orientation
from payerseg.imaging.scan_record import ScanRecord, SourceHeader
from payerseg.postprocess.decision import SpineDecision
from payerseg.postprocess.naming import Found, found_record
from payerseg.postprocess.peaks import Candidate
from payerseg.postprocess.spine_decoder import places_in
from payerseg.results.artifacts import CANDIDATES, CT, SCAN
from payerseg.results.case_folder import CaseFolder
from payerseg.results.formats import write_artifact
from payerseg.synthesis.dataset import DatasetFolder

STEP_MM = 36.0
POINTS = ((60.0, 60.0, 75.0), (60.0, 62.0, 75.0 - STEP_MM))
FIELD = Grid((34, 40, 40), (3.0, 3.0, 3.0))


@pytest.fixture
def calibrate(repository, monkeypatch):
    """Import benchmarks/calibrate.py."""
    monkeypatch.syspath_prepend(repository / "benchmarks")
    return importlib.import_module("calibrate")


def marks(names):
    return Landmarks(Landmark(Vertebra[n], p) for n, p in zip(names, POINTS, strict=True))


def lumbar_places():
    """L2 and L3 seen plainly, one lumbar step apart."""
    values = np.zeros((2, 26))
    candidates = []
    for row, vertebra, point in zip(values, (Vertebra.L2, Vertebra.L3), POINTS, strict=True):
        row[vertebra.channel] = 0.9
        candidates.append(Candidate(vertebra.channel, point, 0.9, tuple(row.tolist())))
    return Found(candidates, places_in(candidates, DecoderSpec(), FIELD))


def lumbar_case(calibrate, scan="someone", truth=("L2", "L3")):
    true = Truth(scan, marks(truth), unmarked=frozenset({Vertebra.L4}))
    return calibrate.NamingCase(scan, "slab", lumbar_places(), true, FIELD)


def test_cases_are_what_the_run_found_and_the_fold_said(calibrate, tmp_path):
    name, ct = "someone--slab", Volume(np.zeros(FIELD.shape, np.int16), FIELD)
    facts = {"partial": ["L4"]}
    DatasetFolder(tmp_path / "cases").write(name, ct, marks(("L2", "L3")), facts)
    (tmp_path / "cases" / "groups.csv").write_text(f"case,group\n{name},slab\n")
    folder = CaseFolder(tmp_path / "out" / name, name)
    scan = ScanRecord("a.nii.gz", SourceHeader("nifti1", FIELD), closest_orientation(FIELD), FIELD)
    kept = {CT: ct, SCAN: scan, CANDIDATES: found_record(lumbar_places())}
    for artifact, value in kept.items():
        folder.path(artifact).parent.mkdir(parents=True, exist_ok=True)
        write_artifact(artifact, value, folder.path(artifact), folder)
    seal(folder)
    asked = []

    def asks(scan):
        asked.append(scan)
        return lambda volume, points: np.full((len(points), N_OUTPUTS), 0.25, np.float32)

    for _ in range(2):  # the second time from the cache
        (case,) = calibrate.read_cases(tmp_path / "out", tmp_path / "cases", asks, tmp_path / "c")
        assert (case.scan, case.group) == ("someone", "slab")
        assert list(case.truth.landmarks) == [Vertebra.L2, Vertebra.L3]
        assert case.truth.unmarked == {Vertebra.L4}
        assert case.found.answers.shape == (2, N_OUTPUTS)
        np.testing.assert_allclose(case.found.places.positions_mm, POINTS)
    assert asked == ["someone"]


def test_a_right_and_a_shifted_result_are_told_apart(calibrate):
    right = calibrate.decode(lumbar_case(calibrate), DecoderSpec())
    shifted = calibrate.decode(lumbar_case(calibrate, truth=("L3", "L4")), DecoderSpec())
    assert right.scores.landmarks.all_right
    assert not shifted.scores.landmarks.all_right
    assert shifted.loss > 1 > right.loss
    told = calibrate.report("these", [right, shifted])
    assert "| scans (vertebrae) | 2 (4) |" in told
    assert "- someone: L3-L4 named -1 levels" in told


def test_the_mass_grows_until_the_sets_hold_the_truth(calibrate):
    """A hundred patients: four are misnamed, their truth listed after 0.6 or 0.9 of the probability."""

    def result(k, share):
        case = lumbar_case(calibrate, f"p{k}")
        named = ("L2", "L3") if share == 0 else ("L1", "L2")
        sets = {"L1-L2": share, "L2-L3": 1 - share}
        said = calibrate.Prediction(
            f"p{k}", marks(named), level_set=(("L1", "L2"), ("L2", "L3")), scan_grid=FIELD
        )
        decision = SpineDecision(marks(named), level_probability=share, level_set=sets)
        scores = calibrate.score_case(said, case.truth, calibrate.RULES)
        return calibrate.Result(case, said, scores, decision)

    right = [result(k, 0) for k in range(96)]
    some = [result(100 + k, 0.6) for k in range(4)]
    assert calibrate.fitted_mass(right + some) == pytest.approx(0.5)
    more = [result(200 + k, 0.9) for k in range(4)]
    assert 0.6 <= calibrate.fitted_mass(right + some + more) < 0.63
    assert calibrate.fitted_mass(right[:5]) > 0.99  # too few patients to promise anything
