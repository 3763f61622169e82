"""DICOM Segmentation objects, one coded segment per vertebra; needs the extra `dicom`.

The object refers to the slices of the source series, so that series must be at hand. Labels are
brought onto its slices one by one (nearest voxel), whatever order or direction either side has;
the share of the label map that lands there proves that both belong together. The written file is
re-opened and compared voxel by voxel.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
from highdicom.seg import Segmentation, SegmentDescription, segread
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian

from payerseg.dicom.checks import CT_CLASSES
from payerseg.dicom.headers import DECODING_ERRORS, quiet
from payerseg.dicom.series import series_digest
from payerseg.dicom.source import DicomSource
from payerseg.domain.colors import color_of
from payerseg.domain.grid import Grid
from payerseg.domain.vertebra import Region, Vertebra
from payerseg.domain.volume import Volume
from payerseg.errors import GridMismatch, InputError, UnreadableScan, UsageError
from payerseg.exports.case_result import CaseResult, DicomOrigin
from payerseg.imaging.resample import resample
from payerseg.version import __version__

CATEGORY = Code("91723000", "SCT", "Anatomical structure")
LEVEL_CODES = {
    "C1": "14806007", "C2": "39976000", "C3": "113205007", "C4": "5329002", "C5": "36978003",
    "C6": "36054005", "C7": "87391001", "T1": "64864005", "T2": "53733008", "T3": "1626008",
    "T4": "73071006", "T5": "56401006", "T6": "45296009", "T7": "62487009", "T8": "11068009",
    "T9": "82687006", "T10": "7610001", "T11": "12989004", "T12": "23215003", "L1": "66794005",
    "L2": "14293000", "L3": "36470004", "L4": "11994002", "L5": "49668003", "L6": "1156198008",
}  # fmt: skip
ANY_VERTEBRA = Code("51282000", "SCT", "Vertebra")
THORACIC_SPINE = Code("122495006", "SCT", "Thoracic spine")
_ORDINALS = "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth"
COVERAGE = 0.98
"""Least share of the label map's volume that must land on the source's slices."""
CT_IMAGE_STORAGE, *MULTI_FRAME_CLASSES = CT_CLASSES
SERIES_NUMBER = 900
REQUIRED_IF_EMPTY = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
    "AccessionNumber", "ReferringPhysicianName", "PositionReferenceIndicator",
)  # fmt: skip
"""Type 2 of the patient, study and frame of reference modules (DICOM PS3.3 C.7)."""


def export_dicom_seg(
    cases: Iterable[CaseResult], folder: Path, source: Path | None = None
) -> list[Path]:
    """Write `<case>_seg.dcm` for each case whose source series is found.

    Args:
        cases: what to write.
        folder: where to.
        source: folder tree or zip with the DICOM series of one or more cases; None for cases that
            came from DICOM: their series is taken from where the run found it.

    Raises:
        UsageError: the tree holds no CT series, or a case's own series is not known.
        GridMismatch: no series of the tree fits a case.
    """
    given = None if source is None else find_ct_series(source)
    written = []
    for case in cases:
        labels = case.read_labels()
        origin = case.dicom_origin()
        series = _own_series(case.case_id, origin) if given is None else _narrowed(given, origin)
        slices, frames = _fitting(labels, series, case.case_id)
        path = folder / f"{case.case_id}_seg.dcm"
        write_dicom_seg(frames, slices, path)
        written.append(path)
    return written


def find_ct_series(source: Path) -> list[list[pydicom.Dataset]]:
    """Read the CT series of a folder or zip, each sorted along its normal; pixels are left unread.

    Raises:
        UsageError: there is none.
    """
    with DicomSource(source) as opened:
        names = [name for name in opened.names() if opened.is_dicom(name)]
        return _group(opened, names)


def _own_series(case_id: str, origin: DicomOrigin | None) -> list[list[pydicom.Dataset]]:
    """Read the series that a case came from.

    Raises:
        UsageError: it did not come from DICOM, or the files are no longer there.
    """
    if origin is None or origin.reference is None:
        found = "did not come from DICOM" if origin is None else "has lost its DICOM files"
        msg = (
            f"{case_id} {found}; give --source, the folder or zip of the series that was segmented"
        )
        raise UsageError(msg)
    with DicomSource(origin.reference.source) as opened:
        return _group(opened, origin.reference.members)


def _narrowed(
    series: list[list[pydicom.Dataset]], origin: DicomOrigin | None
) -> list[list[pydicom.Dataset]]:
    """Return the very series that was segmented, if it is known and there; else all."""
    if origin is None:
        return series
    same = [one for one in series if series_digest(str(one[0].SeriesInstanceUID)) == origin.digest]
    return same or series


def _group(source: DicomSource, names: Iterable[str]) -> list[list[pydicom.Dataset]]:
    """Read CT slices and group them by series, each sorted along its normal."""
    found: dict[str, list[pydicom.Dataset]] = {}
    n_multi_frame = 0
    for name in names:
        try:
            with source.open(name) as file, quiet():
                dataset = pydicom.dcmread(file, stop_before_pixels=True, force=True)
        except (*DECODING_ERRORS, UnreadableScan):
            continue
        n_multi_frame += dataset.get("SOPClassUID") in MULTI_FRAME_CLASSES
        if dataset.get("SOPClassUID") == CT_IMAGE_STORAGE and "ImagePositionPatient" in dataset:
            found.setdefault(str(dataset.SeriesInstanceUID), []).append(_completed(dataset))
    if not found:
        which = (
            "only multi-frame CT, which this export cannot refer to"
            if n_multi_frame
            else "no CT slice"
        )
        msg = (
            f"{source.root} holds {which}; expected the series that was segmented, as single slices"
        )
        raise UsageError(msg)
    return [sorted(group, key=_along_normal) for group in found.values()]


def _completed(dataset: pydicom.Dataset) -> pydicom.Dataset:
    """Give a slice the empty values that its type must have; de-identified files often lack them."""
    for name in REQUIRED_IF_EMPTY:
        if name not in dataset:
            setattr(dataset, name, "")
    return dataset


def slice_grid(dataset: pydicom.Dataset) -> Grid:
    """Return the one-slice grid of a CT slice."""
    rows, columns = (np.asarray(dataset.ImageOrientationPatient[k : k + 3], float) for k in (3, 0))
    row_mm, column_mm = (float(v) for v in dataset.PixelSpacing)
    direction = np.column_stack([columns, rows, np.cross(columns, rows)])
    thickness = float(dataset.get("SliceThickness") or 1.0)
    shape = (1, int(dataset.Rows), int(dataset.Columns))
    origin = tuple(float(v) for v in dataset.ImagePositionPatient)
    return Grid(shape, (column_mm, row_mm, thickness), origin, tuple(direction.ravel()))


def labels_on_slices(labels: Volume, slices: Sequence[pydicom.Dataset]) -> np.ndarray:
    """Bring a label map onto DICOM slices, nearest voxel.

    Returns:
        uint8 (slice, row, column).
    """
    array = labels.array.astype(np.uint8)
    volume = labels.with_array(array)
    planes = [
        resample(volume, onto=slice_grid(one), interpolation="nearest", outside=0).array[0]
        for one in slices
    ]
    return np.stack(planes).astype(np.uint8)


def write_dicom_seg(frames: np.ndarray, slices: Sequence[pydicom.Dataset], path: Path) -> None:
    """Write and verify one Segmentation object.

    Args:
        frames: uint8 (slice, row, column) VerSe labels.
        slices: the source, in the same order.
        path: the file.

    Raises:
        GridMismatch: the written file, re-opened, holds something else.
    """
    present = [v for v in Vertebra if np.any(frames == v.verse_label)]
    numbers = np.zeros(256, np.uint8)
    for number, vertebra in enumerate(present, start=1):
        numbers[vertebra.verse_label] = number
    segments = [_describe(number, vertebra) for number, vertebra in enumerate(present, start=1)]
    segmentation = Segmentation(
        source_images=list(slices),
        pixel_array=numbers[frames],
        segmentation_type="BINARY",
        segment_descriptions=segments,
        series_instance_uid=hd.UID(),
        series_number=SERIES_NUMBER,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="payerseg",
        manufacturer_model_name="payerseg",
        software_versions=__version__,
        device_serial_number="1",
        series_description="Vertebrae (payerseg)",
        content_label="VERTEBRAE",
        content_description="Vertebrae by payerseg",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        omit_empty_frames=True,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    segmentation.save_as(path)
    _verify(path, numbers[frames], slices)


def type_code(vertebra: Vertebra) -> Code:
    """Return the SNOMED CT code of a level; T13 has none and is a vertebra of the thoracic spine."""
    if vertebra.name not in LEVEL_CODES:
        return ANY_VERTEBRA
    number = int(vertebra.name[1:])
    meaning = f"{_ORDINALS.split()[number - 1].capitalize()} {vertebra.region} vertebra"
    return Code(LEVEL_CODES[vertebra.name], "SCT", meaning)


def _describe(number: int, vertebra: Vertebra) -> SegmentDescription:
    unnamed = vertebra.name not in LEVEL_CODES and vertebra.region is Region.THORACIC
    return SegmentDescription(
        segment_number=number,
        segment_label=vertebra.name,
        segmented_property_category=CATEGORY,
        segmented_property_type=type_code(vertebra),
        algorithm_type="AUTOMATIC",
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name="payerseg",
            version=__version__,
            family=Code("123110", "DCM", "Artificial Intelligence"),
        ),
        tracking_uid=hd.UID(),
        tracking_id=vertebra.name,
        anatomic_regions=[THORACIC_SPINE] if unnamed else None,
        display_color=hd.color.CIELabColor.from_rgb(*color_of(vertebra.verse_label)),
    )


def _fitting(
    labels: Volume, series: list[list[pydicom.Dataset]], case_id: str
) -> tuple[list[pydicom.Dataset], np.ndarray]:
    """Return the series on which the labels land, and the labels there.

    Raises:
        GridMismatch: on none of them, or on two.
    """
    whole_ml = np.count_nonzero(labels.array) * _voxel_mm3(labels.grid) / 1000
    if whole_ml == 0:
        msg = f"{case_id} has no labelled voxel; there is nothing to write"
        raise InputError(msg)
    fits, shares = [], []
    for slices in series:
        if len(slices) < 2:
            continue
        frames = labels_on_slices(labels, slices)
        landed_ml = np.count_nonzero(frames) * _slab_mm3(slices) / 1000
        shares.append(landed_ml / whole_ml)
        if COVERAGE <= shares[-1] <= 2 - COVERAGE:
            fits.append((slices, frames))
    if len(fits) != 1:
        percent = ", ".join(f"{100 * share:.0f} %" for share in shares) or "none"
        msg = (
            f"{len(fits)} of {len(series)} CT series fit {case_id} (share of its labels that lands "
            f"on each: {percent}); expected one. Give the folder of the series that was segmented"
        )
        raise GridMismatch(msg)
    return fits[0]


def _voxel_mm3(grid: Grid) -> float:
    return abs(float(np.linalg.det(grid.matrix[:3, :3])))


def _slab_mm3(slices: Sequence[pydicom.Dataset]) -> float:
    """Return the volume of a pixel by the mean distance of the slices, not their thickness."""
    reach = abs(_along_normal(slices[-1]) - _along_normal(slices[0])) / (len(slices) - 1)
    return reach * float(slices[0].PixelSpacing[0]) * float(slices[0].PixelSpacing[1])


def _along_normal(dataset: pydicom.Dataset) -> float:
    orientation = np.asarray(dataset.ImageOrientationPatient, float)
    normal = np.cross(orientation[:3], orientation[3:])
    return float(normal @ np.asarray(dataset.ImagePositionPatient, float))


def _verify(path: Path, numbers: np.ndarray, slices: Sequence[pydicom.Dataset]) -> None:
    read = segread(path)
    back = read.get_pixels_by_source_instance(
        [one.SOPInstanceUID for one in slices],
        combine_segments=True,
        ignore_spatial_locations=False,
        assert_missing_frames_are_empty=True,
    )
    if not np.array_equal(back, numbers):
        msg = f"{path.name}, re-opened, differs from the labels in {np.sum(back != numbers)} voxels"
        raise GridMismatch(msg)
