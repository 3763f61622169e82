"""What of a DICOM file matters for a volume, one record per frame; what names a person is never kept.

`dcmread` is given the tags to parse. Of the patient only the ID is read, and only to know whether two
slices are of one person: what is kept is a hash with a salt that ends with the process. Single-slice and
multi-frame (enhanced, legacy converted) objects come to the same record.
"""

from __future__ import annotations

import hashlib
import secrets
import struct
import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

import pydicom
from pydicom.dataset import Dataset, FileDataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from payerseg.dicom.source import (
    HEAD_BYTES,
    MAGIC,
    MAX_MEMBER_BYTES,
    MAX_RATIO,
    MIN_SUSPICIOUS_BYTES,
)
from payerseg.errors import UnreadableScan

IN_PLANE = "their place in the plane"
SPLIT_TAGS = (
    "AcquisitionNumber", "TemporalPositionIdentifier", "NominalPercentageOfCardiacPhase",
    "TriggerTime", "AcquisitionTime", "ConvolutionKernel", "KVP", "ImageType", "FrameOfReferenceUID",
    "StudyInstanceUID", "SOPClassUID", "ContentTime", "SliceThickness", IN_PLANE,
)  # fmt: skip
"""In this order they may tell apart volumes that share a series and a place."""
READ_TAGS = [
    *SPLIT_TAGS[:-1], "SOPInstanceUID", "SeriesInstanceUID", "PatientID", "Modality", "SeriesNumber",
    "SeriesDescription", "InstanceNumber", "ImagePositionPatient", "ImageOrientationPatient",
    "PixelSpacing", "RescaleSlope", "RescaleIntercept", "RescaleType", "SamplesPerPixel",
    "PhotometricInterpretation", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit",
    "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit", "NumberOfFrames",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
]  # fmt: skip
CT_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.2",  # CT Image
    "1.2.840.10008.5.1.4.1.1.2.1",  # Enhanced CT Image
    "1.2.840.10008.5.1.4.1.1.2.2",  # Legacy Converted Enhanced CT Image
)
NATIVE_SYNTAXES = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)
DECODING_ERRORS = (
    InvalidDicomError, BytesLengthException, OSError, EOFError, ValueError, TypeError, AttributeError,
    LookupError, struct.error, NotImplementedError, OverflowError, RecursionError, zlib.error,
)  # fmt: skip
"""What pydicom raises for files that are damaged in their header."""
MAX_SIDE = 16384
MAX_FRAMES = 100_000
_CHUNK_BYTES = 1 << 22
_SALT = secrets.token_bytes(16)


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """How pixels are stored.

    Attributes:
        transfer_syntax: UID.
        allocated, stored, high_bit: bits.
        signed: two's complement.
        samples: values per pixel; 3 = colour.
        padding: stored value outside the field of view, (low, high); None if there is none.
    """

    transfer_syntax: str
    allocated: int = 16
    stored: int = 16
    high_bit: int = 15
    signed: bool = False
    samples: int = 1
    padding: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Frame:
    """One slice: a file of its own, or one of several in a file.

    Attributes:
        member: the file's name below its source.
        index: of the frame in a multi-frame file; None for a file of one slice.
        uid: of the instance; not to be relied on, anonymisers cut them.
        patient: salted hash of the patient's ID, the same only within this process.
        study, series, frame_of_reference: UIDs.
        series_number, description, sop_class, image_type: as in the header.
        modality: as in the header; CT where it is empty and the class is a CT's.
        order: instance number, then frame.
        rows, columns: size.
        spacing_mm: (row distance, column distance) = (y, x); None if missing.
        orientation: six cosines, x then y; None if missing.
        position_mm: LPS centre of the first pixel; None if missing.
        thickness_mm: slice thickness; 0 if unknown.
        slope, intercept, rescale_type: of the rescaling; slope None if the header has none.
        pixels: how they are stored.
        tags: values of SPLIT_TAGS.
        truncated: the file is too short for the pixels its header promises.
    """

    member: str
    index: int | None
    uid: str
    patient: str
    study: str
    series: str
    frame_of_reference: str
    series_number: int | None
    description: str
    modality: str
    sop_class: str
    image_type: tuple[str, ...]
    order: tuple[int, int]
    rows: int
    columns: int
    spacing_mm: tuple[float, float] | None
    orientation: tuple[float, ...] | None
    position_mm: tuple[float, float, float] | None
    thickness_mm: float
    slope: float | None
    intercept: float
    rescale_type: str
    pixels: PixelFormat
    tags: Mapping[str, str]
    truncated: bool

    @property
    def has_place(self) -> bool:
        """Whether the header says where in the body it lies."""
        return self.position_mm is not None and self.orientation is not None

    @property
    def is_localizer(self) -> bool:
        """Whether the header calls it a scout."""
        return "LOCALIZER" in self.image_type


@contextmanager
def quiet() -> Iterator[None]:
    """Keep pydicom's warnings to ourselves: they quote values, and their log lies beside the results."""
    was_disabled = pydicom.config.logger.disabled
    pydicom.config.logger.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        pydicom.config.logger.disabled = was_disabled


def read_frames(file: IO[bytes], member: str, size_bytes: int) -> list[Frame]:
    """Read the header of one file.

    Args:
        file: at its start.
        member: its name, for the records.
        size_bytes: of the file.

    Returns:
        One record per frame; none for a DICOM file without an image (report, structure set, directory).

    Raises:
        UnreadableScan: it is no DICOM file, or damaged.
    """
    try:
        with quiet():
            _check_deflated(file, member, size_bytes)
            data = pydicom.dcmread(
                file, stop_before_pixels=True, force=True, specific_tags=READ_TAGS
            )
            if not data.get("SOPClassUID") or "Rows" not in data or "Columns" not in data:
                return _without_image(data, member)
            return _frames_of(data, member, size_bytes - file.tell())
    except DECODING_ERRORS as error:
        msg = f"{member} is damaged ({type(error).__name__} in its header); copy or export it again"
        raise UnreadableScan(msg) from None  # its text may quote any part of the header


def _without_image(data: FileDataset, member: str) -> list[Frame]:
    """Return no frames of what is no image.

    Raises:
        UnreadableScan: it says that it is a CT, so its header was cut off.
    """
    said = data.get("SOPClassUID"), data.file_meta.get("MediaStorageSOPClassUID")
    if any(sop_class in CT_CLASSES for sop_class in said):
        msg = f"{member} is damaged (a CT whose header ends too early); copy or export it again"
        raise UnreadableScan(msg)
    return []


def _check_deflated(file: IO[bytes], member: str, size_bytes: int) -> None:
    """Inflate a deflated file within bounds: pydicom does it at once, whatever comes out.

    Raises:
        UnreadableScan: it becomes larger than an image file may be.
    """
    has_preamble = file.read(HEAD_BYTES)[-len(MAGIC) :] == MAGIC
    file.seek(HEAD_BYTES if has_preamble else 0)
    # as pydicom does: all of group 2, whatever its length element says, or that it has none
    meta = read_dataset(file, False, True, stop_when=lambda tag, _vr, _length: tag.group != 2)
    if str(meta.get("TransferSyntaxUID", "")) != DeflatedExplicitVRLittleEndian:
        file.seek(0)
        return
    limit = min(MAX_MEMBER_BYTES, max(MIN_SUSPICIOUS_BYTES, MAX_RATIO * size_bytes))
    inflater, left = zlib.decompressobj(-zlib.MAX_WBITS), limit
    while left > 0 and (packed := inflater.unconsumed_tail or file.read(_CHUNK_BYTES)):
        left -= len(inflater.decompress(packed, _CHUNK_BYTES))
    file.seek(0)
    if left <= 0:
        msg = f"{member} is too large: it inflates to more than {limit} bytes; expected an image"
        raise UnreadableScan(msg)


def _frames_of(data: FileDataset, member: str, rest_bytes: int) -> list[Frame]:
    count = _integer(data, "NumberOfFrames") or 1
    per_frame = data.get("PerFrameFunctionalGroupsSequence")
    rows, columns = int(data.Rows), int(data.Columns)
    if not (0 < rows <= MAX_SIDE and 0 < columns <= MAX_SIDE and 0 < count <= MAX_FRAMES):
        msg = f"{rows} x {columns} pixels, {count} frames"
        raise ValueError(msg)
    pixels = _pixel_format(data)
    needed = count * rows * columns * pixels.samples * max(1, pixels.allocated // 8)
    if pixels.transfer_syntax not in NATIVE_SYNTAXES:
        needed = 1  # how many bytes it takes is known to the decoder only
    deflated = pixels.transfer_syntax == DeflatedExplicitVRLittleEndian
    stored = pixels, rest_bytes < needed and not deflated
    if not per_frame and count == 1:
        return [_frame(data, [data], member, None, stored)]
    shared = [*(data.get("SharedFunctionalGroupsSequence") or [])]
    groups = [*(per_frame or [])]
    return [
        _frame(data, [*groups[k : k + 1], *shared, data], member, k, stored) for k in range(count)
    ]


def _frame(
    data: FileDataset,
    places: list[Dataset],
    member: str,
    index: int | None,
    stored: tuple[PixelFormat, bool],
) -> Frame:
    """Build a record; what varies by frame is looked for in `places`, the frame's own group first."""
    values, measures = "PixelValueTransformationSequence", "PixelMeasuresSequence"
    slope = _numbers(_look(places, values, "RescaleSlope"), 1)
    intercept = _numbers(_look(places, values, "RescaleIntercept"), 1)
    thickness = _numbers(_look(places, measures, "SliceThickness"), 1)
    orientation = _numbers(_look(places, "PlaneOrientationSequence", "ImageOrientationPatient"), 6)
    position = _numbers(_look(places, "PlanePositionSequence", "ImagePositionPatient"), 3)
    image_type = _look(places, "CTImageFrameTypeSequence", "FrameType") or data.get("ImageType")
    sop_class, modality = str(data.SOPClassUID), str(data.get("Modality") or "").strip().upper()
    patient = str(data.get("PatientID") or "").strip()
    return Frame(
        member=member,
        index=index,
        uid=str(data.get("SOPInstanceUID", "")),
        patient=hashlib.blake2b(
            patient.encode(errors="replace"), key=_SALT, digest_size=16
        ).hexdigest(),
        study=str(data.get("StudyInstanceUID", "")),
        series=str(data.get("SeriesInstanceUID", "")),
        frame_of_reference=str(data.get("FrameOfReferenceUID", "")),
        series_number=_integer(data, "SeriesNumber"),
        description=str(data.get("SeriesDescription") or ""),
        modality=modality or ("CT" if sop_class in CT_CLASSES else ""),
        sop_class=sop_class,
        image_type=_texts(image_type),
        order=(_integer(data, "InstanceNumber") or 0, index or 0),
        rows=int(data.Rows),
        columns=int(data.Columns),
        spacing_mm=_numbers(_look(places, measures, "PixelSpacing"), 2),
        orientation=orientation,
        position_mm=position,
        thickness_mm=thickness[0] if thickness else 0.0,
        slope=slope[0] if slope else None,
        intercept=intercept[0] if intercept else 0.0,
        rescale_type=str(_look(places, values, "RescaleType") or "").upper().strip(),
        pixels=stored[0],
        tags={**_tags(data, places), IN_PLANE: _in_plane(position, orientation)},
        truncated=stored[1],
    )


def _tags(data: Dataset, places: list[Dataset]) -> dict[str, str]:
    """Return what may tell volumes of one series apart; in multi-frame objects it lies in sequences."""
    found = {tag: "\\".join(_texts(data.get(tag))) for tag in SPLIT_TAGS[:-1]}
    for tag, name in (
        ("AcquisitionNumber", "FrameAcquisitionNumber"),
        ("TemporalPositionIdentifier", "TemporalPositionIndex"),
        ("ContentTime", "StackID"),
    ):
        found[tag] = str(_look(places, "FrameContentSequence", name) or found[tag])
    return found


def _in_plane(position: tuple[float, ...] | None, orientation: tuple[float, ...] | None) -> str:
    """Return where in its own plane a slice begins, in whole mm."""
    if position is None or orientation is None:
        return ""
    axes = orientation[:3], orientation[3:]
    return str([round(sum(a * b for a, b in zip(axis, position, strict=True))) for axis in axes])


def _look(places: list[Dataset], sequence: str, keyword: str) -> Any:
    """Return the first value found, in a functional group or, in the last place, in the plain header."""
    for place in places:
        items = place.get(sequence)
        value = items[0].get(keyword) if items else None
        if value is None:
            value = place.get(keyword)
        if value is not None:
            return value
    return None


def _pixel_format(data: FileDataset) -> PixelFormat:
    meta = getattr(data, "file_meta", None) or {}
    allocated = _integer(data, "BitsAllocated") or 16
    stored = _integer(data, "BitsStored") or allocated
    signed = bool(_integer(data, "PixelRepresentation"))
    return PixelFormat(
        transfer_syntax=str(meta.get("TransferSyntaxUID", "")) or _syntax_without_meta(data),
        allocated=allocated,
        stored=stored,
        high_bit=_integer(data, "HighBit") or stored - 1,
        signed=signed,
        samples=_integer(data, "SamplesPerPixel") or 1,
        padding=_padding(data, allocated, signed=signed),
    )


def _syntax_without_meta(data: FileDataset) -> str:
    implicit, little = data.original_encoding
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRBigEndian if little is False else ExplicitVRLittleEndian


def _padding(data: Dataset, bits: int, *, signed: bool) -> tuple[int, int] | None:
    """Return the range of stored values that mean "nothing here", in the pixels' own sign."""
    first = _integer(data, "PixelPaddingValue")
    if first is None:
        return None
    last = _integer(data, "PixelPaddingRangeLimit")
    # a value that was written with the wrong sign (63536 for -2000) is brought into the pixels' range
    ends = [value % (1 << bits) for value in (first, first if last is None else last)]
    if signed:
        ends = [value - (1 << bits) if value >= 1 << (bits - 1) else value for value in ends]
    return min(ends), max(ends)


def _numbers(value: Any, count: int) -> tuple[float, ...] | None:
    """Return `count` finite numbers, or None if there are others."""
    if value is None or isinstance(value, str | bytes):
        items = [value] if value else []
    else:
        items = list(value) if hasattr(value, "__iter__") else [value]
    try:
        numbers = tuple(float(item) for item in items)
    except (TypeError, ValueError):
        return None
    if len(numbers) != count or not all(abs(number) < 1e9 for number in numbers):
        return None
    return numbers


def _integer(data: Dataset, keyword: str) -> int | None:
    value = data.get(keyword)
    try:
        return None if value is None or value == "" else int(value)
    except (TypeError, ValueError):
        return None


def _texts(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, str | bytes) or not hasattr(value, "__iter__"):
        return (str(value).strip().upper(),)
    return tuple(str(item).strip().upper() for item in value)
