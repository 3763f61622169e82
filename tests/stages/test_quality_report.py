"""Stage 4 as a stage: artifacts, notes, what changes when a person edits."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # importlib mode: no packages among tests
from report_cases import put, put_case, run_report

from payerseg.domain.landmarks import Landmarks
from payerseg.domain.vertebra import Vertebra
from payerseg.results.artifacts import (
    FINDINGS,
    LANDMARKS_CSV,
    MEASUREMENTS,
    REPORT,
    SEGMENTATION,
    THUMBNAIL,
)
from payerseg.results.formats import read_artifact
from payerseg.results.manifest import StageManifest
from payerseg.stagekit.catalog import QUALITY_REPORT


@pytest.fixture
def case(tmp_path, synthetic_spine, any_grid):
    spine = synthetic_spine(any_grid)
    return put_case(tmp_path, "sub-01", spine.ct, spine.labels, spine.landmarks)


@pytest.fixture
def plain_case(tmp_path, synthetic_spine):
    spine = synthetic_spine()
    return put_case(tmp_path, "sub-01", spine.ct, spine.labels, spine.landmarks)


def test_a_right_case_needs_no_review_on_any_grid(case):
    result = run_report(case)
    assert result.notes["needs_review"] is False
    assert result.notes["review_reasons"] == []
    for artifact in (FINDINGS, REPORT, THUMBNAIL, MEASUREMENTS):
        assert case.path(artifact).stat().st_size > 0, artifact.name
    page = case.path(REPORT).read_text(encoding="utf-8")
    assert "12.2 s" in page or "12.3 s" in page  # time of stage 2, from its manifest
    assert "71aa03c9e5b7" in page
    manifest = StageManifest.read(case.manifest_path(QUALITY_REPORT.folder))
    assert set(manifest.outputs) == {"findings", "report", "thumbnail", "measurements"}


def test_again_gives_the_same_bytes(plain_case):
    written = []
    for _ in range(2):
        run_report(plain_case, viewer=False)
        written.append(
            [plain_case.path(a).read_bytes() for a in (FINDINGS, THUMBNAIL, MEASUREMENTS)]
        )
    assert written[0] == written[1]


def test_an_edit_by_hand_shows(plain_case):
    marks = read_artifact(LANDMARKS_CSV, plain_case.path(LANDMARKS_CSV))
    kept = Landmarks(mark for vertebra, mark in marks.items() if vertebra is not Vertebra.T12)
    put(plain_case, LANDMARKS_CSV, kept)
    result = run_report(plain_case, viewer=False)
    assert result.notes["needs_review"] is True
    record = json.loads(plain_case.path(FINDINGS).read_text())
    assert {"gap", "edited"} <= {finding["code"] for finding in record["findings"]}


def test_no_measurements_if_not_wanted(plain_case):
    run_report(plain_case, viewer=False, measurements=False)
    assert not plain_case.path(MEASUREMENTS).exists()


def test_an_empty_segmentation_is_a_finding_not_a_crash(plain_case):
    labels = read_artifact(SEGMENTATION, plain_case.path(SEGMENTATION))
    put(plain_case, SEGMENTATION, labels.with_array(labels.array * 0))
    result = run_report(plain_case)
    assert len([r for r in result.notes["review_reasons"] if "mask is empty" in r]) == 5
