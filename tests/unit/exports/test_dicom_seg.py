"""Segmentation objects, read by bare pydicom and checked by dciodvfy where it is installed."""

import shutil
import subprocess

import numpy as np
import pytest

from payerseg.domain.grid import Grid
from payerseg.domain.vertebra import Vertebra
from payerseg.domain.volume import Volume
from payerseg.errors import GridMismatch, InputError, UsageError

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("highdicom")

from pydicom.dataset import Dataset, FileDataset, FileMetaDataset  # noqa: E402
from pydicom.uid import ExplicitVRLittleEndian, generate_uid  # noqa: E402

from payerseg.exports.case_result import find_results  # noqa: E402
from payerseg.exports.dicom_seg import (  # noqa: E402
    LEVEL_CODES,
    export_dicom_seg,
    find_ct_series,
    type_code,
)

CT = "1.2.840.10008.5.1.4.1.1.2"


def write_series(ct, folder, name="A", reverse=False):
    """Write a CT volume as slices in shuffled file order."""
    folder.mkdir(parents=True, exist_ok=True)
    grid, series, study, frame = ct.grid, generate_uid(), generate_uid(), generate_uid()
    direction = np.asarray(grid.direction).reshape(3, 3)
    order = range(grid.shape[0] - 1, -1, -1) if reverse else range(grid.shape[0])
    for number, k in enumerate(order, start=1):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CT, generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds = FileDataset(None, Dataset(), file_meta=meta, preamble=b"\0" * 128)
        ds.SOPClassUID, ds.SOPInstanceUID = CT, meta.MediaStorageSOPInstanceUID
        ds.SeriesInstanceUID, ds.StudyInstanceUID, ds.FrameOfReferenceUID = series, study, frame
        ds.PatientName, ds.PatientID, ds.PatientSex, ds.PatientBirthDate = "Doe^J", name, "O", ""
        ds.Modality, ds.StudyID, ds.SeriesNumber, ds.InstanceNumber = "CT", "1", 1, number
        ds.StudyDate, ds.StudyTime, ds.AccessionNumber = "20260101", "120000", ""
        ds.ReferringPhysicianName, ds.PositionReferenceIndicator = "", ""
        ds.Rows, ds.Columns = grid.shape[1:]
        ds.ImagePositionPatient = [f"{v:.6f}"[:16] for v in grid.map_indices_to_world((k, 0, 0))[0]]
        ds.ImageOrientationPatient = [f"{v:.9f}" for v in (*direction[:, 0], *direction[:, 1])]
        ds.PixelSpacing = [grid.spacing_mm[1], grid.spacing_mm[0]]
        ds.SliceThickness = 0.9 * grid.spacing_mm[2]  # thickness is not the distance of slices
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
        ds.RescaleSlope, ds.RescaleIntercept = 1, 0
        ds.PixelData = ct.array[k].astype("<i2").tobytes()
        ds.save_as(folder / f"{(number * 37) % 1009:04d}.dcm", enforce_file_format=True)


@pytest.fixture(params=["plain", "oblique", "anisotropic", "other_order"])
def exported(request, tmp_path, put, synthetic_spine):
    """A case, its source series, and the written object."""
    grid = Grid((40, 50, 60), (2.0, 2.0, 3.0), (-60.0, -50.0, -60.0))
    if request.param == "oblique":
        turn = np.eye(4)
        turn[:2, :2] = [[0.96, -0.28], [0.28, 0.96]]
        grid = Grid.from_matrix(grid.shape, turn @ grid.matrix)
    if request.param == "anisotropic":
        grid = Grid((24, 60, 50), (2.4, 1.7, 5.0), (-60.0, -50.0, -60.0))
    spine = synthetic_spine(grid, first="T12", last="L2")
    labels = spine.labels
    write_series(spine.ct, tmp_path / "dicom", reverse=request.param == "other_order")
    if request.param == "other_order":  # the NIfTI has its axes the other way round
        stored = np.ascontiguousarray(labels.array[:, ::-1, ::-1])
        matrix = grid.matrix @ np.diag([-1.0, -1.0, 1.0, 1.0])
        matrix[:3, 3] = grid.map_indices_to_world((0, grid.shape[1] - 1, grid.shape[2] - 1))[0]
        labels = Volume(stored, Grid.from_matrix(grid.shape, matrix))
    put(tmp_path / "results", "case", labels, spine.landmarks)
    cases = find_results(tmp_path / "results").cases
    (path,) = export_dicom_seg(cases, tmp_path / "out", tmp_path / "dicom")
    return spine, tmp_path / "dicom", path


def test_bare_pydicom_sees_the_same_voxels(exported):
    """Frame by frame, placed by position and segment number alone."""
    spine, _, path = exported
    ds = pydicom.dcmread(path)
    assert ds.SOPClassUID == "1.2.840.10008.5.1.4.1.1.66.4"
    assert (ds.Modality, ds.SegmentationType) == ("SEG", "BINARY")
    names = {int(s.SegmentNumber): s.SegmentLabel for s in ds.SegmentSequence}
    assert sorted(names.values()) == sorted(v.name for v in spine.landmarks)
    bits = np.unpackbits(np.frombuffer(ds.PixelData, np.uint8), bitorder="little")
    size = ds.Rows * ds.Columns
    found = np.zeros(spine.labels.grid.shape, np.uint8)
    for k, group in enumerate(ds.PerFrameFunctionalGroupsSequence):
        position = [float(v) for v in group.PlanePositionSequence[0].ImagePositionPatient]
        index = spine.labels.grid.map_world_to_indices(position)[0]
        assert index[1:] == pytest.approx([0, 0], abs=1e-3)
        number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        frame = bits[k * size : (k + 1) * size].reshape(ds.Rows, ds.Columns).astype(bool)
        found[round(index[0])][frame] = Vertebra[names[number]].verse_label
    assert np.array_equal(found, spine.labels.array)


def test_segments_are_coded(exported):
    ds = pydicom.dcmread(exported[2])
    for segment in ds.SegmentSequence:
        category = segment.SegmentedPropertyCategoryCodeSequence[0]
        kind = segment.SegmentedPropertyTypeCodeSequence[0]
        assert (category.CodeValue, category.CodingSchemeDesignator) == ("91723000", "SCT")
        assert kind.CodeValue == LEVEL_CODES[segment.SegmentLabel]
        assert segment.SegmentAlgorithmType == "AUTOMATIC"
        assert len(segment.RecommendedDisplayCIELabValue) == 3


def test_refers_to_the_source(exported):
    _, source, path = exported
    ds, (series,) = pydicom.dcmread(path), find_ct_series(source)
    assert ds.PatientID == series[0].PatientID
    assert ds.StudyInstanceUID == series[0].StudyInstanceUID
    assert ds.SeriesInstanceUID != series[0].SeriesInstanceUID
    assert ds.FrameOfReferenceUID == series[0].FrameOfReferenceUID
    known = {one.SOPInstanceUID for one in series}
    for group in ds.PerFrameFunctionalGroupsSequence:
        item = group.DerivationImageSequence[0].SourceImageSequence[0]
        assert item.ReferencedSOPInstanceUID in known


def test_dciodvfy(exported):
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("dciodvfy is not installed (dicom3tools)")
    done = subprocess.run([program, str(exported[2])], capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).splitlines()
    assert [line for line in lines if line.startswith("Error")] == []


def test_codes_are_one_per_level():
    assert len(set(LEVEL_CODES.values())) == len(LEVEL_CODES) == 25
    assert type_code(Vertebra.T13).value == "51282000"
    assert type_code(Vertebra.L6).value == "1156198008"
    assert type_code(Vertebra.C1).meaning == "First cervical vertebra"


def test_wrong_series_is_refused(tmp_path, put, spine):
    moved = Grid(
        spine.ct.grid.shape, spine.ct.grid.spacing_mm, tuple(np.add(spine.ct.grid.origin_mm, 30))
    )
    write_series(Volume(spine.ct.array, moved), tmp_path / "dicom")
    put(tmp_path / "results", "case", spine.labels, spine.landmarks)
    with pytest.raises(GridMismatch, match="0 of 1 CT series fit case"):
        export_dicom_seg(
            find_results(tmp_path / "results").cases, tmp_path / "out", tmp_path / "dicom"
        )


def test_right_series_is_chosen_among_two(tmp_path, put, spine):
    moved = Grid(
        spine.ct.grid.shape, spine.ct.grid.spacing_mm, tuple(np.add(spine.ct.grid.origin_mm, 30))
    )
    write_series(Volume(spine.ct.array, moved), tmp_path / "dicom" / "b", "B")
    write_series(spine.ct, tmp_path / "dicom" / "a", "A")
    (tmp_path / "dicom" / "notes.txt").write_text("no DICOM")
    put(tmp_path / "results", "case", spine.labels, spine.landmarks)
    (path,) = export_dicom_seg(
        find_results(tmp_path / "results").cases, tmp_path / "out", tmp_path / "dicom"
    )
    assert pydicom.dcmread(path).PatientID == "A"


def test_no_series_and_no_label(tmp_path, put, spine):
    put(tmp_path / "results", "case", spine.labels, spine.landmarks)
    cases = find_results(tmp_path / "results").cases
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no CT slice"):
        export_dicom_seg(cases, tmp_path / "out", tmp_path / "empty")
    blank = spine.labels.with_array(np.zeros_like(spine.labels.array))
    put(tmp_path / "blank", "case", blank, spine.landmarks)
    write_series(spine.ct, tmp_path / "dicom")
    with pytest.raises(InputError, match="no labelled voxel"):
        export_dicom_seg(
            find_results(tmp_path / "blank").cases, tmp_path / "out", tmp_path / "dicom"
        )
