"""Stage 0 as a stage: artifacts, notes, refusals."""

import json

import numpy as np
import pytest

from payerseg.config.schema import PreparationConfig
from payerseg.errors import NotHounsfield, UnreadableScan
from payerseg.imaging.files import write_volume
from payerseg.results.artifacts import CT, SCAN
from payerseg.results.case_folder import CaseFolder
from payerseg.results.formats import read_artifact
from payerseg.stagekit.case_run import StageSetup
from payerseg.stagekit.catalog import PREPARATION
from payerseg.stagekit.in_process import InProcessStage


@pytest.fixture
def stage():
    return InProcessStage(PREPARATION, StageSetup(PreparationConfig()))


def test_writes_the_ct_and_the_record(tmp_path, stage, spine):
    values = spine.ct.array.clip(-1024).astype(np.float32)
    values[0, 0, 0] = np.nan
    write_volume(spine.ct.with_array(values), tmp_path / "scan.nii.gz")
    stage("scan", tmp_path / "out", tmp_path / "scan.nii.gz")
    folder = CaseFolder(tmp_path / "out", "scan")
    ct = read_artifact(CT, folder.path(CT))
    np.testing.assert_array_equal(ct.array[1:], spine.ct.array[1:].clip(-1024))
    assert read_artifact(SCAN, folder.path(SCAN)).ct_grid.same_space_as(ct.grid, 1e-3)
    manifest = json.loads(folder.manifest_path(CT.step).read_text())
    assert "1 voxels" in json.dumps(manifest["notes"])


def test_again_gives_the_same_bytes(tmp_path, stage, spine):
    write_volume(spine.ct, tmp_path / "scan.nii.gz")
    written = []
    for name in ("a", "b"):
        stage("scan", tmp_path / name, tmp_path / "scan.nii.gz")
        folder = CaseFolder(tmp_path / name, "scan")
        written.append([folder.path(item).read_bytes() for item in (CT, SCAN)])
    assert written[0] == written[1]


def test_a_refusal_leaves_no_result(tmp_path, stage, spine):
    write_volume(
        spine.ct.with_array(np.zeros(spine.ct.grid.shape, np.int16)), tmp_path / "flat.nii.gz"
    )
    (tmp_path / "zero.nii.gz").touch()
    for name, kind in (("flat", NotHounsfield), ("zero", UnreadableScan)):
        with pytest.raises(kind):
            stage(name, tmp_path / name, tmp_path / f"{name}.nii.gz")
        folder = CaseFolder(tmp_path / name, name)
        assert not folder.path(CT).exists()
        assert not folder.manifest_path(CT.step).exists()
