"""A case that came from DICOM knows its series: DICOM-SEG needs no `--source`."""

import shutil

import numpy as np
import pytest

from payerseg.config.schema import PreparationConfig
from payerseg.domain.grid import Grid
from payerseg.domain.series_reference import SeriesReference
from payerseg.domain.volume import Volume
from payerseg.errors import UsageError
from payerseg.exports.case_result import find_results
from payerseg.imaging.resample import resample
from payerseg.results.artifacts import SCAN
from payerseg.results.case_folder import CaseFolder
from payerseg.results.formats import read_artifact
from payerseg.stagekit.case_run import StageSetup
from payerseg.stagekit.catalog import PREPARATION
from payerseg.stagekit.in_process import InProcessStage

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("highdicom")


def sheared(grid):
    matrix = grid.matrix
    matrix[1, 2] += 0.2 * grid.spacing_mm[2]
    return Grid.from_matrix(grid.shape, matrix)


@pytest.fixture(params=["plain", "tilted", "zip"])
def case(request, dicom, put, synthetic_spine, tmp_path):
    """A case prepared from a DICOM series, with the drawn labels as its result."""
    from payerseg.dicom.inventory import take_inventory

    grid = Grid((30, 40, 50), (2.4, 2.4, 4.0), (-60.0, -50.0, -60.0))
    grid = sheared(grid) if request.param == "tilted" else grid
    spine = synthetic_spine(grid, first="T12", last="L2")
    twin = Volume(spine.ct.array, grid)  # a second series at the very same place
    root = tmp_path / "dicom"
    dicom.save(dicom.slices(spine.ct, StudyInstanceUID="1.2", SeriesNumber=2), root / "a")
    dicom.save(dicom.slices(twin, StudyInstanceUID="1.2", SeriesNumber=5), root / "b")
    source = dicom.zipped(root) if request.param == "zip" else root
    inventory = take_inventory(source)
    decision = next(d for d in inventory.decide("5") if d.choice == "chosen")
    image = tmp_path / "case.dicomseries"
    image.write_text(inventory.reference(decision).to_json())
    folder = CaseFolder(tmp_path / "results" / "case", "case")
    InProcessStage(PREPARATION, StageSetup(PreparationConfig()))("case", folder.root, image)
    stored = read_artifact(SCAN, folder.path(SCAN)).source.grid
    assert stored.is_orthonormal
    labels = resample(spine.labels, onto=stored, interpolation="nearest", outside=0)
    put(tmp_path / "results", "case", labels, spine.landmarks, image)
    return folder, source, spine


def exported_from(case, tmp_path, source=None):
    from payerseg.exports.dicom_seg import export_dicom_seg

    (path,) = export_dicom_seg(find_results(case[0].root.parent).cases, tmp_path / "out", source)
    return pydicom.dcmread(path)


def voxels(ds):
    bits = np.unpackbits(np.frombuffer(ds.PixelData, np.uint8), bitorder="little")
    return int(np.count_nonzero(bits[: ds.Rows * ds.Columns * int(ds.NumberOfFrames)]))


def test_the_own_series_is_taken(case, tmp_path, dicom):
    ds = exported_from(case, tmp_path)
    assert ds.PatientID == dicom.patient["PatientID"]  # as in every DICOM object: it was asked for
    assert voxels(ds) == pytest.approx(np.count_nonzero(case[2].labels.array), rel=0.01)
    referred = ds.ReferencedSeriesSequence[0].SeriesInstanceUID
    assert case[0].path(SCAN).read_text().count(str(referred)) == 0
    from payerseg.dicom.series import series_digest

    assert series_digest(referred) in case[0].path(SCAN).read_text()


def test_of_two_series_in_one_place_the_segmented_one_is_found(case, tmp_path):
    own = exported_from(case, tmp_path).ReferencedSeriesSequence[0].SeriesInstanceUID
    given = exported_from(case, tmp_path, case[1])
    assert given.ReferencedSeriesSequence[0].SeriesInstanceUID == own


def test_without_its_files_it_asks_for_them(case, tmp_path):
    source = case[1]
    reference = SeriesReference.read(tmp_path / "case.dicomseries")
    assert reference.source == source
    shutil.rmtree(source) if source.is_dir() else source.unlink()
    with pytest.raises(UsageError, match="has lost its DICOM files; give --source"):
        exported_from(case, tmp_path)
