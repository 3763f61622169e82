"""scan.json: everything needed to put labels back, and nothing about the patient."""

import json

import numpy as np
import pytest

from payerseg.config.schema import PreparationConfig
from payerseg.domain.grid import Grid
from payerseg.errors import ArtifactError, GridMismatch
from payerseg.imaging.files import write_volume
from payerseg.imaging.orient import Orientation
from payerseg.imaging.scan_record import LabelMap, ScanRecord
from payerseg.preprocess.preparation import prepare_scan


@pytest.fixture
def prepared(tmp_path, synthetic_spine, any_grid):
    stored = Orientation((2, 0, 1), (False, True, True)).apply(synthetic_spine(any_grid).ct)
    folder = tmp_path / "a secret folder"
    folder.mkdir()
    write_volume(stored.with_array(np.ascontiguousarray(stored.array)), folder / "scan.nii.gz")
    return prepare_scan(folder / "scan.nii.gz", PreparationConfig())


def test_json_round_trip(prepared):
    text = prepared.record.to_json()
    assert ScanRecord.from_json(text) == prepared.record
    assert ScanRecord.from_json(text).to_json() == text
    assert "secret" not in text
    assert json.loads(text)["file_name"] == "scan.nii.gz"


def test_restored_labels_lie_in_stored_order(prepared):
    marked = np.zeros(prepared.ct.grid.shape, np.uint8)
    marked[5, 6, 7] = 20
    labels = prepared.record.restore(prepared.ct.with_array(marked))
    place = prepared.ct.grid.map_indices_to_world([[5, 6, 7]])
    index = np.rint(prepared.record.source.grid.map_world_to_indices(place)).astype(int)[0]
    assert labels.volume.array[tuple(index)] == 20
    assert labels.volume.array.sum() == 20
    assert labels.volume.grid == prepared.record.source.grid


def test_labels_of_another_grid_are_refused(prepared):
    other = prepared.ct.grid.window((1, 0, 0), prepared.ct.grid.shape)
    with pytest.raises(GridMismatch):
        prepared.record.restore(type(prepared.ct)(prepared.ct.array, other))
    with pytest.raises(GridMismatch):
        LabelMap(type(prepared.ct)(prepared.ct.array, other), prepared.record.source)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"format": 1}',
        '{"format": 99}',
        '{"format": 1, "file_name": 3, "source": {}}',
    ],
)
def test_something_else_is_refused(text):
    with pytest.raises(ArtifactError, match="preparation"):
        ScanRecord.from_json(text)


def test_grid_survives_to_the_last_bit(prepared):
    again = ScanRecord.from_json(prepared.record.to_json())
    assert isinstance(again.ct_grid, Grid)
    assert again.ct_grid.matrix.tobytes() == prepared.record.ct_grid.matrix.tobytes()
