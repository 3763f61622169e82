import json

import numpy as np
import pytest
from click.testing import CliRunner

from payerseg.cli.dicom import dicom as command
from payerseg.imaging.files import read_volume


def call(*arguments):
    return CliRunner().invoke(command, [str(a) for a in arguments], standalone_mode=False)


@pytest.fixture
def study(dicom, ct, tmp_path):
    dicom.save(
        dicom.slices(ct, StudyInstanceUID="1.2", SeriesDescription="Thin"), tmp_path / "s" / "a"
    )
    scout = dicom.slices(ct, StudyInstanceUID="1.2", SeriesNumber=1)[:1]
    scout[0].ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    dicom.save(scout, tmp_path / "s" / "b")
    return tmp_path / "s"


def test_list_says_what_is_taken_and_why(study, dicom):
    text = call("list", study).output
    assert "*      3  CT  48 x 40 x 12" in text
    assert "Thin" in text
    assert "case s: the only usable CT volume" in text
    assert "it is a localizer (scout)" in text
    assert not any(secret in text for secret in dicom.patient.values())


def test_list_for_machines(study, dicom):
    output = call("list", study, "--json").output
    found = json.loads(output)["series"]
    assert [(item["number"], item["choice"], item["case"]) for item in found] == [
        ("1", "left", None),
        ("3", "chosen", "s"),
    ]
    assert not any(secret in output for secret in dicom.patient.values())


def test_list_and_convert_look_into_the_zips_of_a_folder(study, dicom, ct, tmp_path):
    packed = dicom.save(dicom.slices(ct, StudyInstanceUID="1.5"), tmp_path / "packed")
    dicom.zipped(packed).rename(study / "more.zip")
    text = call("list", study).output
    assert "case s: the only usable CT volume" in text
    assert "case more: the only usable CT volume" in text
    sources = {
        item["source"] for item in json.loads(call("list", study, "--json").output)["series"]
    }
    assert sources == {str(study), str(study / "more.zip")}
    assert call("convert", study, tmp_path / "out").return_value == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["more.nii.gz", "s.nii.gz"]


def test_convert(study, ct, tmp_path):
    result = call("convert", study, tmp_path / "out")
    assert result.return_value == 0
    volume = read_volume(tmp_path / "out" / "s.nii.gz")
    assert volume.array.dtype == np.int16
    assert np.array_equal(volume.array, ct.array)
    assert volume.grid.same_space_as(ct.grid, 1e-3)


def test_convert_goes_on_after_a_bad_series(study, dicom, ct, tmp_path):
    broken = dicom.slices(ct, StudyInstanceUID="1.3", SeriesNumber=8)
    dicom.save([f for k, f in enumerate(broken) if k != 5], study / "c")
    result = call("convert", study, tmp_path / "out")
    assert result.return_value == 3
    assert "failed c.nii.gz: series 8: 1 slice(s) of 12 are missing" in result.output
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a.nii.gz"]
    assert (
        call("convert", study, tmp_path / "out", "--uneven-slices", "interpolate").return_value == 0
    )


def test_nothing_to_convert(tmp_path):
    pytest.importorskip("pydicom")
    (tmp_path / "x.txt").write_text("x")
    error = call("convert", tmp_path, tmp_path / "out").exception
    assert "nothing in it is an image in DICOM" in str(error)


def test_the_files_that_pydicom_ships(tmp_path):
    """Real ones, of every kind: none is a surprise, and the real series among them is found."""
    data = pytest.importorskip("pydicom.data")
    folder = data.get_testdata_file("CT_small.dcm")
    assert folder
    from pathlib import Path

    found = json.loads(call("list", Path(folder).parent, "--json").output)["series"]
    assert len(found) > 20
    chosen = [item for item in found if item["choice"] == "chosen"]
    assert [(item["description"], item["slices"]) for item in chosen] == [
        ("SmartScore - Gated 0.5 sec", 5)
    ]
