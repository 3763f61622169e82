"""DICOM Segmentation objects, one coded segment per vertebra; needs the extra `dicom`.

The object refers to the slices of the source series, so that series must be at hand; the DICOM reader
says which slices are a volume. Labels are brought onto them one by one (nearest voxel), whatever order
or direction either side has; the share of the label map that lands there proves that both belong
together. The written file is re-opened and compared voxel by voxel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
from highdicom.seg import Segmentation, SegmentDescription, segread
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian

from payerseg.dicom.geometry import axes_of, normal_of
from payerseg.dicom.headers import DECODING_ERRORS, Frame, quiet
from payerseg.dicom.inventory import take_inventory
from payerseg.dicom.series import find_again, series_digest
from payerseg.dicom.source import DicomSource
from payerseg.dicom.volumes import FoundVolume
from payerseg.domain.colors import color_of
from payerseg.domain.grid import Grid
from payerseg.domain.vertebra import Region, Vertebra
from payerseg.domain.volume import Volume
from payerseg.errors import GridMismatch, InputError, PayersegError, UsageError
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
SERIES_NUMBER = 900
REQUIRED_IF_EMPTY = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
    "AccessionNumber", "ReferringPhysicianName", "PositionReferenceIndicator",
)  # fmt: skip
"""Type 2 of the patient, study and frame of reference modules (DICOM PS3.3 C.7)."""
AUTOMATIC, SEMIAUTOMATIC = "AUTOMATIC", "SEMIAUTOMATIC"
"""Segment Algorithm Type: computed, and computed with a person's help (DICOM PS3.3 C.8.20.2)."""
NEEDED = ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
"""A DICOM object refers to others by these; all but the first are the same for all slices."""


@dataclass(frozen=True, slots=True)
class SourceVolume:
    """A volume of CT slices that can be referred to.

    Attributes:
        root: folder, zip or file that holds it.
        volume: its frames, sorted along the normal.
    """

    root: Path
    volume: FoundVolume

    def slice_grids(self) -> list[Grid]:
        """Return the one-slice grid of every frame."""
        return [_slice_grid(frame, self.volume.distance_mm) for frame in self.volume.frames]


def export_dicom_seg(
    cases: Iterable[CaseResult],
    folder: Path,
    source: Path | None = None,
    tell_failed: Callable[[str, PayersegError], None] | None = None,
) -> list[Path]:
    """Write `<case>_seg.dcm` for each case whose source series is found.

    Args:
        cases: what to write.
        folder: where to.
        source: folder tree or zip with the DICOM series of one or more cases; None for cases that
            came from DICOM: their series is taken from where the run found it.
        tell_failed: gets the id and the reason of a case that cannot be written, and the others go on;
            None: the first such case raises.

    Returns:
        The files written.

    Raises:
        UsageError: the tree holds no CT series, or a case's own series is not known.
        GridMismatch: no series of the tree fits a case.
        InputError: the series lacks what a Segmentation must refer to.
    """
    given = None if source is None else find_ct_volumes(source)
    written = []
    for case in cases:
        path = folder / f"{case.case_id}_seg.dcm"
        try:
            origin = case.dicom_origin()
            found = _own_volume(case.case_id, origin) if given is None else _narrowed(given, origin)
            fitting, labels = _fitting(case.read_labels(), found, case.case_id)
            _require_one_patient(fitting, given or [])
            write_dicom_seg(labels, fitting, path, case.assisted())
        except PayersegError as error:
            if tell_failed is None:
                raise
            tell_failed(case.case_id, error)
        else:
            written.append(path)
    return written


def find_ct_volumes(root: Path) -> list[SourceVolume]:
    """Find the CT volumes of a folder or zip as a run does; most pixels are left unread.

    Raises:
        UsageError: there is none.
    """
    inventory = take_inventory(root.resolve())
    found = [
        SourceVolume(inventory.source, volume)
        for volume in inventory.volumes
        if volume.problem is None or volume.problem.fillable
    ]
    if not found:
        reasons = [
            f"series {v.number}: {v.problem.message}" for v in inventory.volumes if v.problem
        ]
        why = "; ".join([*reasons, *inventory.remarks]) or "nothing in it is DICOM"
        msg = f"{root} holds no CT volume ({why}); expected the series that was segmented"
        raise UsageError(msg)
    return found


def _own_volume(case_id: str, origin: DicomOrigin | None) -> list[SourceVolume]:
    """Find the volume that a case came from.

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
        volume = find_again(opened, origin.reference, fill_gaps=True)
    return [SourceVolume(origin.reference.source, volume)]


def _narrowed(found: list[SourceVolume], origin: DicomOrigin | None) -> list[SourceVolume]:
    """Return the volumes of the very series that was segmented, if it is known and there; else all."""
    if origin is None:
        return found
    same = [one for one in found if series_digest(one.volume.first.series) == origin.digest]
    return same or found


def _fitting(
    labels: Volume, found: list[SourceVolume], case_id: str
) -> tuple[SourceVolume, np.ndarray]:
    """Return the volume on whose slices the labels land, and the labels there.

    Raises:
        GridMismatch: on none of them, or on two.
    """
    whole_ml = np.count_nonzero(labels.array) * labels.grid.voxel_mm3 / 1000
    if whole_ml == 0:
        msg = f"{case_id} has no labelled voxel; there is nothing to write"
        raise InputError(msg)
    fits, shares = [], []
    for source in found:
        grids = source.slice_grids()
        planes = labels_on_slices(labels, grids)
        # by the mean distance of the slices, not their thickness
        landed_ml = np.count_nonzero(planes) * _mean_voxel_mm3(source.volume) / 1000
        shares.append(landed_ml / whole_ml)
        if COVERAGE <= shares[-1] <= 2 - COVERAGE:
            fits.append((source, planes))
    if len(fits) != 1:
        percent = ", ".join(f"{100 * share:.0f} %" for share in shares) or "none"
        msg = (
            f"{len(fits)} of {len(found)} CT series fit {case_id} (share of its labels that lands "
            f"on each: {percent}); expected one. Give the folder of the series that was segmented"
        )
        raise GridMismatch(msg)
    return fits[0]


def _require_one_patient(source: SourceVolume, given: Iterable[SourceVolume]) -> None:
    first = source.volume.first
    others = {one.volume.first.patient for one in given if one.volume.first.series == first.series}
    if others - {first.patient}:
        msg = (
            f"series {source.volume.number} is stored under one SeriesInstanceUID with slices of another "
            "patient, so no reference to it is sure; give --source with the files of one patient"
        )
        raise InputError(msg)


def _slice_grid(frame: Frame, distance_mm: float) -> Grid:
    row_mm, column_mm = frame.spacing_mm or (1.0, 1.0)
    direction = np.column_stack([*axes_of(frame), normal_of(frame)])
    return Grid(
        (1, frame.rows, frame.columns),
        (column_mm, row_mm, distance_mm),
        frame.position_mm or (0.0, 0.0, 0.0),
        tuple(direction.ravel()),
    )


def labels_on_slices(labels: Volume, slices: Iterable[Grid]) -> np.ndarray:
    """Bring a label map onto slices, nearest voxel.

    Returns:
        uint8 (slice, row, column).
    """
    volume = labels.with_array(labels.array.astype(np.uint8))
    planes = [
        resample(volume, onto=grid, interpolation="nearest", outside=0).array[0] for grid in slices
    ]
    return np.stack(planes).astype(np.uint8)


def _mean_voxel_mm3(volume: FoundVolume) -> float:
    ends = [np.asarray(frame.position_mm) for frame in (volume.frames[0], volume.frames[-1])]
    reach = abs(float((ends[1] - ends[0]) @ normal_of(volume.first)))
    row_mm, column_mm = volume.first.spacing_mm or (1.0, 1.0)
    return reach / (len(volume.frames) - 1) * row_mm * column_mm


def write_dicom_seg(
    labels: np.ndarray, source: SourceVolume, path: Path, assisted: frozenset[str] = frozenset()
) -> None:
    """Write and verify one Segmentation object.

    Args:
        labels: uint8 (slice, row, column) VerSe labels, a slice for each frame of the source.
        source: what was segmented.
        path: the file.
        assisted: names of the vertebrae at whose masks a person had a hand.

    Raises:
        InputError: the source lacks what must be referred to.
        GridMismatch: the written file, re-opened, holds something else.
    """
    images = _source_images(source)
    present = [v for v in Vertebra if np.any(labels == v.verse_label)]
    numbers = np.zeros(256, np.uint8)
    for number, vertebra in enumerate(present, start=1):
        numbers[vertebra.verse_label] = number
    segments = [
        _describe(number, vertebra, how=SEMIAUTOMATIC if vertebra.name in assisted else AUTOMATIC)
        for number, vertebra in enumerate(present, start=1)
    ]
    author = "payerseg and a person" if assisted else "payerseg"
    positions = [
        hd.PlanePositionSequence("PATIENT", frame.position_mm) for frame in source.volume.frames
    ]
    try:
        with quiet():
            segmentation = Segmentation(
                source_images=images,
                pixel_array=numbers[labels],
                plane_positions=positions,
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
                content_description=f"Vertebrae by {author}",
                transfer_syntax_uid=ExplicitVRLittleEndian,
                omit_empty_frames=True,
            )
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        msg = f"series {source.volume.number} cannot be referred to: {error}"
        raise InputError(msg) from error
    path.parent.mkdir(parents=True, exist_ok=True)
    segmentation.save_as(path)
    _verify(path, numbers[labels], images, source.volume.frames)


def _source_images(source: SourceVolume) -> list[Dataset]:
    """Read the headers of the source: one for each slice, or the one file that holds all.

    Raises:
        InputError: a tag is missing or not the same in all, or the frames lie in several files.
    """
    frames = source.volume.frames
    members = list(dict.fromkeys(frame.member for frame in frames))
    if frames[0].index is not None and len(members) > 1:
        msg = (
            f"series {source.volume.number} lies in {len(members)} multi-frame files; a DICOM "
            "Segmentation can refer to one only"
        )
        raise InputError(msg)
    images = []
    with DicomSource(source.root) as opened:
        for member in members:
            with opened.open(member) as file, quiet():
                try:
                    images.append(pydicom.dcmread(file, stop_before_pixels=True, force=True))
                except DECODING_ERRORS as error:
                    msg = f"{member} cannot be read again ({type(error).__name__}); did it change?"
                    raise InputError(msg) from None
    for name in NEEDED:
        found = [str(image.get(name) or "") for image in images]
        if not all(found):
            msg = f"{members[found.index('')]} has no {name}; a DICOM Segmentation must refer to it"
            raise InputError(msg)
        n_expected = len(images) if name == NEEDED[0] else 1
        if len(set(found)) != n_expected:
            msg = (
                f"the {len(images)} files of series {source.volume.number} have {len(set(found))} "
                f"values of {name}; expected {n_expected}: a DICOM Segmentation could not refer to them"
            )
            raise InputError(msg)
    return [_completed(image, source.volume) for image in images]


def _completed(image: Dataset, volume: FoundVolume) -> Dataset:
    """Give a header what de-identified files often lack: empty values of type 2, and one geometry.

    Of a multi-frame file the geometry is brought into the shared group: the reader has made sure that
    its frames agree.
    """
    for name in REQUIRED_IF_EMPTY:
        if name not in image:
            setattr(image, name, "")
    first = volume.first
    measures, plane = Dataset(), Dataset()
    measures.PixelSpacing = list(first.spacing_mm or ())
    measures.SliceThickness = first.thickness_mm or volume.distance_mm
    plane.ImageOrientationPatient = list(first.orientation or ())
    if first.index is None:
        image.update(measures)
        image.update(plane)
        return image
    groups = image.get("SharedFunctionalGroupsSequence") or [Dataset()]
    groups[0].PixelMeasuresSequence = [measures]
    groups[0].PlaneOrientationSequence = [plane]
    image.SharedFunctionalGroupsSequence = groups
    return image


def type_code(vertebra: Vertebra) -> Code:
    """Return the SNOMED CT code of a level; T13 has none and is a vertebra of the thoracic spine."""
    if vertebra.name not in LEVEL_CODES:
        return ANY_VERTEBRA
    number = int(vertebra.name[1:])
    meaning = f"{_ORDINALS.split()[number - 1].capitalize()} {vertebra.region} vertebra"
    return Code(LEVEL_CODES[vertebra.name], "SCT", meaning)


def _describe(number: int, vertebra: Vertebra, *, how: str) -> SegmentDescription:
    unnamed = vertebra.name not in LEVEL_CODES and vertebra.region is Region.THORACIC
    return SegmentDescription(
        segment_number=number,
        segment_label=vertebra.name,
        segmented_property_category=CATEGORY,
        segmented_property_type=type_code(vertebra),
        algorithm_type=how,
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


def _verify(
    path: Path, numbers: np.ndarray, images: list[Dataset], frames: Iterable[Frame]
) -> None:
    options: dict[str, bool] = {
        "combine_segments": True,
        "ignore_spatial_locations": False,
        "assert_missing_frames_are_empty": True,
    }
    read = segread(path)
    uids = [image.SOPInstanceUID for image in images]
    of_one_file = [frame.index + 1 for frame in frames if frame.index is not None]
    if of_one_file:
        back = read.get_pixels_by_source_frame(uids[0], of_one_file, **options)
    else:
        back = read.get_pixels_by_source_instance(uids, **options)
    if not np.array_equal(back, numbers):
        msg = f"{path.name}, re-opened, differs from the labels in {np.sum(back != numbers)} voxels"
        raise GridMismatch(msg)
