"""Of a folder that holds one study one series is taken; anything else is told, never guessed."""

import pytest

from payerseg.dicom.inventory import the_series
from payerseg.errors import InputError, UnreadableScan


def test_the_series_that_a_run_would_take(dicom, tmp_path):
    thick = dicom.slices(dicom.phantom(dicom.grid(6, 8.0)), SeriesNumber=1)
    study = thick[0].StudyInstanceUID
    thin = dicom.slices(dicom.phantom(dicom.grid()), SeriesNumber=2, StudyInstanceUID=study)
    dicom.save(thick, tmp_path / "s" / "a")
    dicom.save(thin, tmp_path / "s" / "b")
    assert len(the_series(tmp_path / "s").members) == 12
    assert len(the_series(tmp_path / "s", "1").members) == 6
    with pytest.raises(InputError, match=r"holds 2 scans \(series 1, 2\).*driver.dicom_series"):
        the_series(tmp_path / "s", "all")


def test_a_folder_without_dicom_is_no_scan(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(UnreadableScan, match="no CT series"):
        the_series(tmp_path)


def test_a_wanted_series_that_is_not_there_is_named(dicom, tmp_path):
    folder = dicom.save(dicom.slices(dicom.phantom(dicom.grid())), tmp_path / "s")
    with pytest.raises(UnreadableScan, match="series 3: --series 9 is another one"):
        the_series(folder, "9")
