"""The command on a small results folder."""

import pytest
from click.testing import CliRunner

from payerseg.cli.export import FORMATS, export
from payerseg.domain.landmarks import Landmarks
from payerseg.errors import UsageError
from payerseg.imaging.files import write_volume
from payerseg.results.artifacts import LANDMARKS_CSV, SEGMENTATION
from payerseg.results.case_folder import CaseFolder
from payerseg.results.landmarks_table import format_landmarks


@pytest.fixture
def results(tmp_path, spine):
    for case_id, landmarks in (("a", spine.landmarks), ("b", spine.landmarks), ("c", Landmarks())):
        folder = CaseFolder(tmp_path / "results" / case_id, case_id)
        for artifact in (SEGMENTATION, LANDMARKS_CSV):
            folder.path(artifact).parent.mkdir(parents=True)
        write_volume(spine.labels, folder.path(SEGMENTATION))
        folder.path(LANDMARKS_CSV).write_text(format_landmarks(landmarks))
    return tmp_path / "results"


def run(*arguments):
    done = CliRunner().invoke(export, [str(a) for a in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("name", sorted(set(FORMATS) - {"dicom-seg", "mesh"}))
def test_each_format(results, name):
    text = run(results, "--to", name)
    assert f"{name}: 2 cases" in text
    assert "left out c: no vertebra found" in text
    written = results.with_name("results_export") / name
    assert any(written.rglob("*.nii.gz"))
    assert not any(results.glob(f"{name}*"))


def test_mesh_of_one_case(results, tmp_path):
    pytest.importorskip("trimesh")
    text = run(results, "--to", "mesh", "-o", tmp_path / "out", "--only-case", "a")
    assert "mesh: 1 cases, 11 files" in text
    assert (tmp_path / "out" / "mesh" / "a" / "a.glb").is_file()


def test_dicom_seg_of_another_scan_needs_the_source(results):
    pytest.importorskip("highdicom")
    with pytest.raises(UsageError, match="did not come from DICOM; give --source"):
        run(results, "--to", "dicom-seg")


def test_unknown_case(results):
    with pytest.raises(UsageError, match="no case z"):
        run(results, "--to", "flat", "--only-case", "z")


def test_all_formats_leave_dicom_seg_out_where_no_case_came_from_dicom(results):
    pytest.importorskip("trimesh")
    text = run(results, "--to", "all", "--only-case", "a")
    assert "dicom-seg leaves out a: it did not come from DICOM" in text
    written = {path.name for path in results.with_name("results_export").iterdir()}
    assert written == set(FORMATS) - {"dicom-seg"}
