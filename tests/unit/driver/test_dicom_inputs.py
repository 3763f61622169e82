"""DICOM folders, zips and files through the driver: real processes, real statuses."""

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pydicom", reason="the extra `dicom` is not installed")

from payerseg.config.schema import DriverConfig, RunConfig
from payerseg.driver.dicom_inputs import split_inputs
from payerseg.driver.messages import CaseEnded
from payerseg.driver.run import run_pipeline
from payerseg.driver.settings import RunSettings
from payerseg.errors import UsageError
from payerseg.imaging.files import read_volume, write_volume
from payerseg.stagekit.catalog import PREPARATION


def settings_for(output, *inputs, **driver):
    config = RunConfig(driver=DriverConfig(**driver))
    return RunSettings(output, inputs, config, pipeline=(PREPARATION,))


def statuses(summary):
    return {case.case_id: case.status for case in summary.cases}


def ran(settings):
    """Run and return the summary and which cases were really prepared."""
    told = []
    summary = run_pipeline(settings, told.append)
    return summary, [
        item.case_id
        for item in told
        if isinstance(item, CaseEnded) and item.outcome.state == "done"
    ]


@pytest.fixture
def tree(dicom, ct, tmp_path):
    """Three patients: one good with a scout, one with a gap, one with a thin and a thick series."""
    root = tmp_path / "in"
    study = "1.2.3.1"
    dicom.save(dicom.slices(ct, StudyInstanceUID=study), root / "p1" / "ct")
    scout = dicom.slices(ct, StudyInstanceUID=study, SeriesNumber=1)[:1]
    scout[0].ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    dicom.save(scout, root / "p1" / "scout")
    broken = dicom.slices(ct, StudyInstanceUID="1.2.3.2")
    dicom.save([s for k, s in enumerate(broken) if k != 5], root / "p2")
    thin = dicom.phantom(dicom.grid(24, 2.0))
    dicom.save(dicom.slices(thin, StudyInstanceUID="1.2.3.3", SeriesNumber=9), root / "p3")
    dicom.save(dicom.slices(ct, StudyInstanceUID="1.2.3.3", SeriesNumber=2), root / "p3", "x{:04d}")
    (root / "notes.txt").write_text("not DICOM")
    return root


def test_a_tree_of_patients(tree, tmp_path):
    out = tmp_path / "out"
    summary, done = ran(settings_for(out, tree))
    assert statuses(summary) == {
        "p1_ct": "ok",
        "p2": "failed_preparation_bad_geometry",
        "p3": "ok",
    }
    assert summary.exit_code == 3
    assert "1 slice(s) of 12 are missing" in {c.case_id: c.message for c in summary.cases}["p2"]
    assert read_volume(out / "p3/step0_preparation/ct.nii.gz").grid.shape == (24, 40, 48)
    record = json.loads((out / "p3/step0_preparation/scan.json").read_text())
    assert any("the best of 2 usable CT volumes" in note["message"] for note in record["notes"])
    assert sorted(done) == ["p1_ct", "p3"]
    assert ran(settings_for(out, tree))[1] == []  # all is fresh


def test_nothing_of_the_patient_is_in_the_results(tree, dicom, tmp_path):
    out = tmp_path / "out"
    ran(settings_for(out, tree, dicom_series="all"))
    files = [path for path in out.rglob("*") if path.is_file()]
    assert len(files) > 10
    for path in files:
        content = path.read_bytes()
        if path.name.endswith(".gz"):
            import gzip

            content += gzip.decompress(content)
        for secret in (*dicom.patient.values(), "Sekret", "SEKRET", "4711"):
            assert secret.encode() not in content, (path, secret)
            assert secret not in str(path.relative_to(out))


def test_the_copy_of_a_series_is_fresh_and_a_changed_one_is_not(tree, tmp_path):
    out, moved = tmp_path / "out", tmp_path / "elsewhere" / "in"
    ran(settings_for(out, tree))
    shutil.copytree(tree, moved)
    assert ran(settings_for(out, moved))[1] == []
    one = next((moved / "p1" / "ct").iterdir())
    one.write_bytes(one.read_bytes()[:-2] + b"\x07\x01")
    assert ran(settings_for(out, moved))[1] == ["p1_ct"]


def test_results_stay_true_without_their_dicom(tree, tmp_path):
    out = tmp_path / "out"
    ran(settings_for(out, tree))
    shutil.rmtree(tree)
    again = replace(settings_for(out), inputs=())
    summary, done = ran(again)
    assert done == []
    assert statuses(summary)["p1_ct"] == "ok"


def test_a_dry_run_leaves_nothing(tree, tmp_path):
    out = tmp_path / "out"
    summary, done = ran(replace(settings_for(out, tree), dry_run=True))
    assert {case.case_id for case in summary.cases} == {"p1_ct", "p2", "p3"}
    assert done == []
    assert not out.exists()


@pytest.mark.parametrize(
    ("wanted", "cases"),
    [
        ("all", {"p1_ct", "p2", "p3_series2", "p3_series9"}),
        ("2", {"in"}),
        ("9", {"in"}),
    ],
)
def test_the_user_chooses(tree, tmp_path, wanted, cases):
    summary, _ = ran(settings_for(tmp_path / "out", tree, dicom_series=wanted))
    assert set(statuses(summary)) == cases


def test_zip_and_folder_give_the_same_voxels(dicom, ct, tmp_path):
    folder = dicom.save(dicom.slices(ct), tmp_path / "patient")
    archive = dicom.zipped(folder)
    shutil.move(archive, tmp_path / "packed.zip")
    out = tmp_path / "out"
    summary, _ = ran(settings_for(out, folder, tmp_path / "packed.zip"))
    assert statuses(summary) == {"patient": "ok", "packed": "ok"}
    one, other = (
        read_volume(out / name / "step0_preparation/ct.nii.gz") for name in ("patient", "packed")
    )
    assert np.array_equal(one.array, other.array)
    assert np.array_equal(one.array, ct.array)


def test_dicom_beside_scans(dicom, ct, tmp_path):
    write_volume(ct, tmp_path / "scan.nii.gz")
    dicom.save(dicom.slices(ct), tmp_path / "d")
    out = tmp_path / "out"
    summary, _ = ran(settings_for(out, tmp_path / "scan.nii.gz", tmp_path / "d"))
    assert statuses(summary) == {"scan": "ok", "d": "ok"}


def test_inputs_of_one_name_are_told_apart(dicom, ct, tmp_path):
    places = [tmp_path / name / "DICOM" for name in ("anna", "bert")]
    for place in places:
        dicom.save(dicom.slices(ct), place)
    summary, _ = ran(settings_for(tmp_path / "out", *places))
    assert set(statuses(summary)) == {"anna_DICOM", "bert_DICOM"}


def test_an_input_without_a_ct_is_a_failed_case(dicom, ct, tmp_path):
    dicom.save(dicom.slices(ct), tmp_path / "good")
    mr = dicom.slices(ct, Modality="MR", SOPClassUID="1.2.840.10008.5.1.4.1.1.4")
    dicom.save(mr, tmp_path / "mr")
    (tmp_path / "bad.zip").write_bytes(b"PK\x03\x04 no zip")
    inputs = [tmp_path / name for name in ("good", "mr", "bad.zip")]
    summary, _ = ran(settings_for(tmp_path / "out", *inputs))
    messages = {case.case_id: case.message for case in summary.cases}
    assert statuses(summary) == {
        "good": "ok",
        "mr": "failed_preparation_not_3d",
        "bad": "failed_preparation_unreadable",
    }
    assert "modality is MR; expected CT" in messages["mr"]
    assert "no readable zip" in messages["bad"]


def test_a_gap_can_be_accepted_and_asks_for_a_review(tree, tmp_path):
    settings = settings_for(tmp_path / "out", tree / "p2")
    preparation = replace(settings.config.preparation, uneven_slices="interpolate")
    settings = replace(settings, config=replace(settings.config, preparation=preparation))
    summary, _ = ran(settings)
    assert statuses(summary) == {"p2": "ok_needs_review"}
    assert "interpolated" in summary.cases[0].message


def test_without_pydicom_it_says_what_to_install(tree, tmp_path, monkeypatch):
    from payerseg.dicom import source

    monkeypatch.setattr(source, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'payerseg\[dicom\]'"):
        run_pipeline(settings_for(tmp_path / "out", tree))


def test_a_process_that_dies_costs_one_input(dicom, ct, tmp_path, monkeypatch):
    from payerseg.driver import dicom_inputs
    from payerseg.stagekit.catalog import DICOM_INVENTORY

    module = tmp_path / "dying_inventory.py"
    module.write_text(
        "import os\n"
        "from payerseg.stagekit.catalog import DICOM_INVENTORY\n"
        "from payerseg.stagekit.worker import run_stage\n"
        "from stages.dicom_inventory import DicomInventory\n"
        "class Dying(DicomInventory):\n"
        "    def __call__(self, case):\n"
        "        if 'poison' in self.config.source_of(case.case_id): os.abort()\n"
        "        super().__call__(case)\n"
        "raise SystemExit(run_stage(DICOM_INVENTORY, Dying))\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(
        dicom_inputs, "DICOM_INVENTORY", replace(DICOM_INVENTORY, module="dying_inventory")
    )
    names = ["a", "poison", "z"]
    for name in names:
        dicom.save(dicom.slices(ct), tmp_path / name)
    settings = settings_for(tmp_path / "out", *(tmp_path / name for name in names))
    summary, _ = ran(settings)
    assert statuses(summary) == {"a": "ok", "poison": "failed_preparation_crashed", "z": "ok"}
    assert "SIGABRT" in {case.case_id: case.message for case in summary.cases}["poison"]


def test_what_counts_as_dicom(dicom, ct, tmp_path):
    deep = dicom.save(dicom.slices(ct), tmp_path / "deep" / "a" / "b", "IM{:04d}")
    one = next(deep.iterdir())
    shutil.copy(one, tmp_path / "deep" / "DICOMDIR")
    (tmp_path / "deep" / "more.zip").write_bytes(b"")
    write_volume(ct, tmp_path / "scan.nii.gz")
    (tmp_path / "empty").mkdir()
    found = [
        split_inputs([tmp_path / name])[1]
        for name in ("deep", "deep/DICOMDIR", "scan.nii.gz", "empty", "absent")
    ]
    deep = tmp_path / "deep"
    assert found == [[deep, deep / "more.zip"], [deep], [], [], []]
    assert split_inputs([one])[1] == [one]
    plain, sources, notes = split_inputs([tmp_path])
    assert (plain, sources, notes) == ([tmp_path], [], [])
    shutil.copy(one, tmp_path / "loose")
    assert "left aside; name them as inputs" in split_inputs([tmp_path])[2][0]


def test_two_cases_of_one_id_are_refused_not_overwritten(dicom, ct, tmp_path):
    write_volume(ct, tmp_path / "x.nii.gz")
    dicom.save(dicom.slices(ct), tmp_path / "x")
    summary, done = ran(settings_for(tmp_path / "out", tmp_path / "x.nii.gz", tmp_path / "x"))
    assert statuses(summary) == {"x": "failed_preparation_ambiguous"}
    assert done == []


def test_series_files_are_not_rewritten(tree, tmp_path):
    out = tmp_path / "out"
    ran(settings_for(out, tree))
    series = sorted((out / ".payerseg" / "dicom").iterdir())
    assert [path.name for path in series] == ["p1_ct.dicomseries", "p3.dicomseries"]
    before = [path.stat().st_mtime_ns for path in series]
    time.sleep(0.01)
    ran(settings_for(out, tree))
    assert [path.stat().st_mtime_ns for path in series] == before
    assert Path(json.loads(series[0].read_text())["source"]) == tree
