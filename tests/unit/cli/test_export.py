"""The command on a small results folder."""

from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from payerseg.cli.app import run_guarded
from payerseg.cli.export import FORMATS, export
from payerseg.errors import UsageError
from payerseg.imaging.files import write_volume
from payerseg.results.artifacts import LANDMARKS_CSV, SEGMENTATION
from payerseg.results.case_folder import CaseFolder
from payerseg.results.formats import format_landmarks
from payerseg.results.manifest import StageManifest
from payerseg.results.status import CaseSummary, StageOutcome, StageState


@pytest.fixture
def results(tmp_path, spine, seal):
    for case_id in "abc":
        folder = CaseFolder(tmp_path / "results" / case_id, case_id)
        for artifact in (SEGMENTATION, LANDMARKS_CSV):
            folder.path(artifact).parent.mkdir(parents=True)
        write_volume(spine.labels, folder.path(SEGMENTATION))
        folder.path(LANDMARKS_CSV).write_text(format_landmarks(spine.landmarks))
        seal(folder)
    path = folder.manifest_path(LANDMARKS_CSV.step)
    replace(StageManifest.read(path), status="no_spine", message="nothing there").write(path)
    return tmp_path / "results"


def run(*arguments):
    done = CliRunner().invoke(export, [str(a) for a in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("name", sorted(set(FORMATS) - {"dicom-seg", "mesh"}))
def test_each_format(results, name):
    text = run(results, "--to", name)
    assert f"{name}: 2 cases" in text
    assert "left out c: no spine: nothing there" in text
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


# --- stale, failed, damaged ----------------------------------------------------------------------


def export_all(capsys, *arguments):
    capsys.readouterr()
    code = run_guarded(export, [str(a) for a in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def rename_a_level(folder, _):
    table = folder.path(LANDMARKS_CSV)
    table.write_text(table.read_text().replace("L2", "L3"))


def erase_the_map(folder, spine):
    write_volume(spine.labels.with_array(np.zeros_like(spine.labels.array)), map_of(folder))


def strange_label(folder, spine):
    array = np.where(spine.labels.array == 20, 99, spine.labels.array).astype(np.uint8)
    write_volume(spine.labels.with_array(array), map_of(folder))


def fractions(folder, spine):
    write_volume(spine.labels.with_array(spine.labels.array + np.float32(0.25)), map_of(folder))


def map_of(folder):
    return folder.path(SEGMENTATION)


CHANGES = {
    "renamed": rename_a_level,
    "gone": lambda folder, _: map_of(folder).unlink(),
    "erased": erase_the_map,
    "label 99": strange_label,
    "fractions": fractions,
    "truncated": lambda folder, _: map_of(folder).write_bytes(map_of(folder).read_bytes()[:500]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_stale_is_refused_and_the_others_are_written(results, spine, capsys, change):
    CHANGES[change](CaseFolder(results / "a", "a"), spine)
    code, out, err = export_all(capsys, results, "--to", "flat")
    assert (code, "flat: 1 cases" in out) == (3, True)
    assert "refused a: stale: " in err
    written = results.with_name("results_export") / "flat"
    assert {path.name[0] for path in written.iterdir()} == {"b"}
    code, out, err = export_all(capsys, results, "--to", "flat", "--stale", "ok")
    if change == "renamed":
        assert (code, "flat: 2 cases" in out) == (0, True)
        assert "exported though a: stale: " in err
    else:
        assert (code, "flat: 1 cases" in out) == (3, True)
        assert "refused a: " in err


def test_a_failure_of_the_last_run_is_no_result_though_the_old_one_lies_there(
    results, seal, capsys
):
    stages = {"preparation": StageOutcome(StageState.FAILED, "unreadable", "the file is truncated")}
    folder = CaseFolder(results / "a", "a")
    CaseSummary("a", "failed_preparation_unreadable", "x", None, stages).write(folder)
    code, out, err = export_all(capsys, results, "--to", "verse")
    assert (code, "verse: 1 cases" in out) == (3, True)
    assert "refused a: failed_preparation_unreadable: preparation: the file is truncated" in err


def test_another_scan_in_the_place_of_the_old_one(results, seal, tmp_path, capsys):
    scan = tmp_path / "a.nii.gz"
    scan.write_text("one scan")
    seal(CaseFolder(results / "a", "a"), scan)
    assert export_all(capsys, results, "--to", "itksnap")[0] == 0
    scan.write_text("another scan")
    code, _, err = export_all(capsys, results, "--to", "itksnap")
    assert (code, "refused a: stale: preparation: scan_file changed" in err) == (3, True)
    scan.unlink()
    assert export_all(capsys, results, "--to", "itksnap")[0] == 0, "moved away: trusted"


@pytest.mark.parametrize("name", sorted(set(FORMATS) - {"dicom-seg", "mesh"}))
def test_one_case_that_cannot_be_written_hinders_no_other(results, capsys, name, tmp_path):
    out = tmp_path / "out" / name
    for place in (out / "a", *[out / f"a{end}" for end in BLOCKED_BY], out / "sub-a"):
        place.parent.mkdir(parents=True, exist_ok=True)
        # a folder where a file has to go, a file where a folder has to go
        place.write_text("x") if place.suffix == "" else place.mkdir()
    code, text, err = export_all(capsys, results, "--to", name, "-o", tmp_path / "out")
    assert (code, f"{name}: 1 cases" in text) == (3, True), err
    assert f"failed a ({name}): " in err
    assert "Traceback" not in err


BLOCKED_BY = ("_segmentation.nii.gz", ".seg.nii.gz", "_seg.nii.gz")
