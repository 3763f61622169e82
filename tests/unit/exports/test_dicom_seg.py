"""Segmentation objects, read by bare pydicom and checked by dciodvfy where it is installed."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from payerseg.domain.grid import Grid
from payerseg.domain.vertebra import Vertebra
from payerseg.domain.volume import Volume
from payerseg.errors import GridMismatch, InputError, UsageError

sys.path.insert(0, str(Path(__file__).parents[2]))  # importlib mode: no packages among tests
from result_folders import seal

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("highdicom")

from pydicom.dataset import Dataset, FileDataset, FileMetaDataset  # noqa: E402
from pydicom.uid import ExplicitVRLittleEndian, generate_uid  # noqa: E402

from payerseg.exports.case_result import find_results  # noqa: E402
from payerseg.exports.dicom_seg import (  # noqa: E402
    LEVEL_CODES,
    export_dicom_seg,
    type_code,
)
from payerseg.results.artifacts import LANDMARKS_CSV, MASK_REPORT  # noqa: E402
from payerseg.results.fingerprint import HashMemo, digest_of  # noqa: E402
from payerseg.results.manifest import StageManifest  # noqa: E402
from payerseg.stagekit.catalog import VERTEBRAE_SEGMENTATION  # noqa: E402

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
    ds, series = pydicom.dcmread(path), [pydicom.dcmread(file) for file in source.iterdir()]
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
    with pytest.raises(UsageError, match="no CT volume"):
        export_dicom_seg(cases, tmp_path / "out", tmp_path / "empty")
    blank = spine.labels.with_array(np.zeros_like(spine.labels.array))
    put(tmp_path / "blank", "case", blank, spine.landmarks)
    write_series(spine.ct, tmp_path / "dicom")
    with pytest.raises(InputError, match="no labelled voxel"):
        export_dicom_seg(
            find_results(tmp_path / "blank").cases, tmp_path / "out", tmp_path / "dicom"
        )


@pytest.fixture
def case(tmp_path, put, synthetic_spine):
    """A case on a small grid, and its spine."""
    grid = Grid((24, 40, 50), (2.4, 2.4, 5.0), (-60.0, -50.0, -60.0))
    spine = synthetic_spine(grid, first="T12", last="L2")
    put(tmp_path / "results", "case", spine.labels, spine.landmarks)
    return find_results(tmp_path / "results").cases, spine


def export_one(results, tmp_path):
    (path,) = export_dicom_seg(find_results(results).cases, tmp_path / "out", tmp_path / "dicom")
    return pydicom.dcmread(path)


def test_what_a_person_corrected_is_told(tmp_path, put, spine):
    write_series(spine.ct, tmp_path / "dicom")
    folder = put(tmp_path / "results", "case", spine.labels, spine.landmarks)
    folder.path(MASK_REPORT).write_text('{"L1": {"by_hand": true}, "L2": {}}')
    path = seal(folder).manifest_path(VERTEBRAE_SEGMENTATION.folder)
    replace(StageManifest.read(path), by_hand=("segmentation",)).write(path)
    found = export_one(tmp_path / "results", tmp_path)
    assert found.ContentDescription == "Vertebrae by payerseg and a person"
    types = {one.SegmentLabel: one.SegmentAlgorithmType for one in found.SegmentSequence}
    assert types.pop("L1") == "SEMIAUTOMATIC"
    assert set(types.values()) == {"AUTOMATIC"}


def test_masks_from_points_that_a_person_set_are_not_automatic(tmp_path, put, spine):
    write_series(spine.ct, tmp_path / "dicom")
    folder = put(tmp_path / "results", "case", spine.labels, spine.landmarks)
    table = folder.path(LANDMARKS_CSV)
    path = folder.manifest_path(VERTEBRAE_SEGMENTATION.folder)
    table.write_text(table.read_text().replace("\n", "\r\n"))
    manifest = StageManifest.read(path)  # as after a run that read the edited table
    digest = digest_of(table, HashMemo())
    replace(manifest, inputs={**manifest.inputs, LANDMARKS_CSV.name: digest}).write(path)
    found = export_one(tmp_path / "results", tmp_path)
    assert {one.SegmentAlgorithmType for one in found.SegmentSequence} == {"SEMIAUTOMATIC"}


def n_voxels(path):
    bits = np.unpackbits(np.frombuffer(pydicom.dcmread(path).PixelData, np.uint8))
    return int(np.count_nonzero(bits))


def again(files, **changes):
    """The same slices as other instances."""
    copies = [pydicom.dcmread(to_bytes(data), force=True) for data in files]
    for data in copies:
        data.SOPInstanceUID = generate_uid()
        for name, value in changes.items():
            setattr(data, name, value)
    return copies


def to_bytes(data):
    from io import BytesIO

    buffer = BytesIO()
    data.save_as(buffer, enforce_file_format=True)
    buffer.seek(0)
    return buffer


def coronal(files):
    scout = again(files[:1], ImageOrientationPatient=[1, 0, 0, 0, 0, -1], ImageType="LOCALIZER")
    return [*scout, *files]


def phases(files):
    second = again(files, AcquisitionNumber=2)
    for data in second:
        data.PixelData = np.roll(np.frombuffer(data.PixelData, "<u2"), 3).tobytes()
    return [*files, *second]


def overlapping(files):
    for data in files:
        data.AcquisitionNumber = 1
    return [*files[:15], *again(files[12:], AcquisitionNumber=2)]


def without(*names):
    def strip(files):
        for data in files:
            for name in names:
                del data[name]
        return files

    return strip


SOURCES = {
    "copies": lambda files: [*files, *again(files)],
    "scout": coronal,
    "overlapping acquisitions": overlapping,
    "no thickness": without("SliceThickness"),
    "bare": without("StudyID", "PatientName", "PatientID", "StudyDate", "AccessionNumber"),
}


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_sources_that_are_not_just_slices(case, dicom, tmp_path, name):
    cases, spine = case
    dicom.save(SOURCES[name](dicom.slices(spine.ct)), tmp_path / "dicom")
    (path,) = export_dicom_seg(cases, tmp_path / "out", tmp_path / "dicom")
    assert n_voxels(path) == np.count_nonzero(spine.labels.array)


def test_an_enhanced_file_is_referred_to_frame_by_frame(case, dicom, tmp_path):
    cases, spine = case
    order = list(np.random.default_rng(0).permutation(24))
    dicom.save([dicom.enhanced(spine.ct, order)], tmp_path / "dicom")
    (path,) = export_dicom_seg(cases, tmp_path / "out", tmp_path / "dicom")
    assert n_voxels(path) == np.count_nonzero(spine.labels.array)
    group = pydicom.dcmread(path).PerFrameFunctionalGroupsSequence[0]
    frame = group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber
    place = float(group.PlanePositionSequence[0].ImagePositionPatient[2])
    assert order[frame - 1] == round((place + 60) / 5)


def for_each(files, name, value_of):
    for k, data in enumerate(files):
        setattr(data, name, value_of(k))
    return files


REFUSED = {
    "no frame of reference": (without("FrameOfReferenceUID"), "has no FrameOfReferenceUID"),
    "no instance UID": (without("SOPInstanceUID"), "has no SOPInstanceUID"),
    "cut instance UIDs": (
        lambda files: for_each(files, "SOPInstanceUID", lambda k: f"1.2.{k // 5}"),
        "have 5 values of SOPInstanceUID; expected 24",
    ),
    "many frames of reference": (
        lambda files: for_each(files, "FrameOfReferenceUID", lambda k: f"1.2.{k // 12 + 1}"),
        "have 2 values of FrameOfReferenceUID; expected 1",
    ),
    "phases": (phases, "2 of 2 CT series fit"),
    "two patients": (
        lambda files: [*files, *for_each(again(files), "PatientID", lambda _: "other")],
        "2 of 2 CT series fit",
    ),
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_cannot_be_referred_to_is_named(case, dicom, tmp_path, name):
    damage, said = REFUSED[name]
    dicom.save(damage(dicom.slices(case[1].ct)), tmp_path / "dicom")
    if name == "no instance UID":
        for path in (tmp_path / "dicom").iterdir():
            data = pydicom.dcmread(path)
            data.save_as(path)
    with pytest.raises((InputError, GridMismatch), match=said):
        export_dicom_seg(case[0], tmp_path / "out", tmp_path / "dicom")


def test_a_series_uid_of_two_patients_is_no_source(case, dicom, tmp_path):
    files = dicom.slices(case[1].ct)
    above = again(files, PatientID="other")
    for data in above:
        x, y, z = data.ImagePositionPatient
        data.ImagePositionPatient = [x, y, float(z) + 24 * 5]
    dicom.save([*files, *above], tmp_path / "dicom")
    with pytest.raises(InputError, match="slices of another patient"):
        export_dicom_seg(case[0], tmp_path / "out", tmp_path / "dicom")


def test_cases_that_cannot_be_written_do_not_stop_the_others(case, dicom, tmp_path, put):
    _, spine = case
    moved = Volume(
        spine.labels.array, Grid(spine.labels.grid.shape, spine.labels.grid.spacing_mm, (900, 0, 0))
    )
    for name, labels in (("a", moved), ("b", spine.labels), ("c", moved), ("d", spine.labels)):
        put(tmp_path / "many", name, labels, spine.landmarks)
    dicom.save(dicom.slices(spine.ct), tmp_path / "dicom")
    failed = {}
    written = export_dicom_seg(
        find_results(tmp_path / "many").cases,
        tmp_path / "out",
        tmp_path / "dicom",
        failed.__setitem__,
    )
    assert [path.name for path in written] == ["b_seg.dcm", "d_seg.dcm"]
    assert sorted(failed) == ["a", "c"]
    assert "0 of 1 CT series fit a" in str(failed["a"])


def test_the_command_ends_with_3_and_names_them(case, dicom, tmp_path, put):
    from click.testing import CliRunner

    from payerseg.cli.export import export

    moved = Grid(case[1].labels.grid.shape, case[1].labels.grid.spacing_mm, (900, 0, 0))
    put(tmp_path / "results", "a", Volume(case[1].labels.array, moved), case[1].landmarks)
    dicom.save(dicom.slices(case[1].ct), tmp_path / "dicom")
    arguments = [tmp_path / "results", "--to", "dicom-seg", "--source", tmp_path / "dicom"]
    result = CliRunner().invoke(export, [*map(str, arguments)], standalone_mode=False)
    assert result.return_value == 3
    assert "failed a (dicom-seg): 0 of 1 CT series fit a" in result.output
    assert "dicom-seg: 1 cases, 1 files" in result.output
