"""A results folder with cases on several grids, made without running the pipeline."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # importlib mode: no packages among tests
from result_folders import seal

from payerseg.exports.case_result import find_results
from payerseg.imaging.files import write_volume
from payerseg.results.artifacts import LANDMARKS_CSV, SEGMENTATION
from payerseg.results.case_folder import CaseFolder
from payerseg.results.formats import format_landmarks


def put_case(root, case_id, labels, landmarks, image=None):
    folder = CaseFolder(root / case_id, case_id)
    for artifact in (SEGMENTATION, LANDMARKS_CSV):
        folder.path(artifact).parent.mkdir(parents=True, exist_ok=True)
    if labels is not None:
        write_volume(labels, folder.path(SEGMENTATION))
    folder.path(LANDMARKS_CSV).write_text(format_landmarks(landmarks))
    return seal(folder, image)


@pytest.fixture
def put():
    return put_case


@pytest.fixture
def results(tmp_path, synthetic_spine, any_grid):
    """One case "sub-01_ct" on any grid, with the spine that was drawn."""
    spine = synthetic_spine(any_grid)
    put_case(tmp_path / "results", "sub-01_ct", spine.labels, spine.landmarks)
    return tmp_path / "results", spine


@pytest.fixture
def cases(results):
    return find_results(results[0]).cases
