"""Truths and results of a drawn spine, as files."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # importlib mode: no packages among tests
from result_folders import seal

from payerseg.domain.grid import Grid
from payerseg.domain.landmarks import Landmark, Landmarks
from payerseg.domain.vertebra import Vertebra
from payerseg.domain.volume import Volume
from payerseg.imaging.files import write_volume
from payerseg.imaging.orient import closest_orientation
from payerseg.imaging.scan_record import ScanRecord, SourceHeader
from payerseg.results.artifacts import LANDMARKS_CSV, LANDMARKS_JSON, SCAN, SEGMENTATION
from payerseg.results.case_folder import CaseFolder
from payerseg.results.formats import format_landmarks


def renamed(landmarks, levels):
    """Shift every name by so many levels."""
    order = [v for v in Vertebra if v is not Vertebra.T13]
    return Landmarks(
        Landmark(order[order.index(v) + levels], mark.position_mm) for v, mark in landmarks.items()
    )


def write_lps_json(path, landmarks, partial=()):
    path.parent.mkdir(parents=True, exist_ok=True)
    points = {v.name: mark.position_mm for v, mark in landmarks.items()}
    path.write_text(json.dumps({"space": "LPS", "landmarks": points, "partial": list(partial)}))


def put_case_folder(root, case_id, landmarks, labels=None, status="ok"):
    """A case folder as `payerseg run` leaves it, as far as scores look."""
    folder = CaseFolder(root / case_id, case_id)
    for artifact in (SCAN, LANDMARKS_CSV, SEGMENTATION):
        folder.path(artifact).parent.mkdir(parents=True, exist_ok=True)
    if landmarks is not None:
        folder.path(LANDMARKS_CSV).write_text(format_landmarks(landmarks))
        folder.path(LANDMARKS_JSON).write_text(json.dumps({"needs_review": False}))
    if labels is not None:
        write_volume(labels, folder.path(SEGMENTATION))
        header = SourceHeader("nifti1", labels.grid)
        orientation = closest_orientation(labels.grid)
        grid = orientation.apply_to_grid(labels.grid)
        record = ScanRecord(f"{case_id}.nii.gz", header, orientation, grid)
        folder.path(SCAN).write_text(record.to_json())
    return seal(folder, status=status)


def body_labels(names=("L1", "L2", "L3"), spacing=1.5):
    """Label map of boxes with an arch behind a canal: enough for a body centre."""
    grid = Grid((80, 60, 50), (spacing,) * 3, (-37.0, -30.0, 0.0))
    z, y, x = np.moveaxis(
        grid.map_indices_to_world(np.indices(grid.shape).reshape(3, -1).T)[:, ::-1], 1, 0
    )
    labels = np.zeros(len(z), np.uint8)
    centers = {}
    for k, name in enumerate(names):
        middle = 100.0 - 36 * k
        height = np.abs(z - middle) <= 13
        body = (np.abs(x) <= 20) & (np.abs(y) <= 15) & height
        ring = np.hypot(x / 13, (y - 23) / 10)
        arch = (ring > 0.7) & (ring < 1.3) & (y > 13) & (np.abs(z - middle) < 9)
        spinous = (np.abs(x) < 4) & (y > 33) & (y < 48) & (np.abs(z - middle) < 7)
        labels[body | arch | spinous] = Vertebra[name].verse_label
        centers[Vertebra[name]] = (0.0, 0.0, middle)
    marks = Landmarks(Landmark(v, c) for v, c in centers.items())
    return Volume(labels.reshape(grid.shape), grid), marks


@pytest.fixture(scope="session")
def bodies():
    """Labels of L1 to L3 with arches, and the true body centres."""
    return body_labels()


@pytest.fixture
def tools():
    """The writers above."""

    class Tools:
        renamed = staticmethod(renamed)
        write_lps_json = staticmethod(write_lps_json)
        put_case_folder = staticmethod(put_case_folder)

    return Tools
