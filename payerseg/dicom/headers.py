"""What of a DICOM file matters for a volume, one record per frame; patient data is never even parsed.

`dcmread` is given the tags to parse; none of them names a person. Single-slice and multi-frame
(enhanced, legacy converted) objects come to the same record.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Any

import pydicom
from pydicom.dataset import Dataset, FileDataset
from pydicom.errors import BytesLengthException, InvalidDicomError

from payerseg.dicom.source import MAX_MEMBER_BYTES
from payerseg.errors import UnreadableScan

READ_TAGS = [
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID",
    "Modality", "SeriesNumber", "SeriesDescription", "InstanceNumber", "ImageType",
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness",
    "RescaleSlope", "RescaleIntercept", "RescaleType", "AcquisitionNumber", "AcquisitionTime",
    "TemporalPositionIdentifier", "TriggerTime", "NominalPercentageOfCardiacPhase", "ContentTime",
    "ConvolutionKernel", "KVP", "SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue",
    "PixelPaddingRangeLimit", "NumberOfFrames", "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
]  # fmt: skip
SPLIT_TAGS = (
    "AcquisitionNumber", "TemporalPositionIdentifier", "NominalPercentageOfCardiacPhase",
    "TriggerTime", "AcquisitionTime", "ConvolutionKernel", "KVP", "ImageType", "ContentTime",
)  # fmt: skip
"""In this order they may tell apart volumes that share a series and a place."""
DECODING_ERRORS = (
    InvalidDicomError, BytesLengthException, OSError, EOFError, ValueError, TypeError, AttributeError,
    LookupError, struct.error, NotImplementedError, OverflowError, RecursionError, zlib.error,
)  # fmt: skip
"""What pydicom raises for files that are damaged in their header."""
_META_START = b"DICM\x02\x00\x00\x00UL\x04\x00"
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_META_BYTES, _CHUNK_BYTES = 1024, 1 << 22
MAX_SIDE = 16384
MAX_FRAMES = 100_000


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
        uid: of the instance.
        study, series, frame_of_reference: UIDs.
        series_number, description, modality, sop_class, image_type: as in the header.
        order: instance number, then frame.
        rows, columns: size.
        spacing_mm: (row distance, column distance) = (y, x); None if missing.
        orientation: six cosines, x then y; None if missing.
        position_mm: LPS centre of the first pixel; None if missing.
        thickness_mm: slice thickness; 0 if unknown.
        slope, intercept, rescale_type: of the rescaling; slope None if the header has none.
        pixels: how they are stored.
        phase: values of SPLIT_TAGS.
        truncated: the file is too short for the pixels its header promises.
    """

    member: str
    index: int | None
    uid: str
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
    phase: Mapping[str, str] = field(default_factory=dict)
    truncated: bool = False


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
            _check_deflated(file, member)
            data = pydicom.dcmread(
                file, stop_before_pixels=True, force=True, specific_tags=READ_TAGS
            )
            if not data.get("SOPClassUID") or "Rows" not in data or "Columns" not in data:
                return []
            rest = size_bytes - file.tell()
            return _frames_of(data, member, rest)
    except DECODING_ERRORS as error:
        msg = f"{member} is damaged ({type(error).__name__} in its header); copy or export it again"
        raise UnreadableScan(msg) from None  # its text may quote any part of the header


def _check_deflated(file: IO[bytes], member: str) -> None:
    """Inflate a deflated file within bounds: pydicom does it at once, whatever comes out.

    Raises:
        UnreadableScan: it becomes larger than an image file may be.
    """
    head = file.read(_META_BYTES)
    file.seek(0)
    if head[128:140] != _META_START or _DEFLATED not in head:
        return
    start = 144 + int.from_bytes(head[140:144], "little")
    file.seek(start)
    inflater, left = zlib.decompressobj(-zlib.MAX_WBITS), MAX_MEMBER_BYTES
    while left > 0 and (packed := inflater.unconsumed_tail or file.read(_CHUNK_BYTES)):
        left -= len(inflater.decompress(packed, _CHUNK_BYTES))
    file.seek(0)
    if left <= 0:
        msg = f"{member} inflates to more than {MAX_MEMBER_BYTES} bytes; expected an image file"
        raise UnreadableScan(msg)


def _frames_of(data: FileDataset, member: str, rest_bytes: int) -> list[Frame]:
    count = _integer(data, "NumberOfFrames", 1) or 1
    per_frame = data.get("PerFrameFunctionalGroupsSequence")
    rows, columns = int(data.Rows), int(data.Columns)
    if not (0 < rows <= MAX_SIDE and 0 < columns <= MAX_SIDE and 0 < count <= MAX_FRAMES):
        msg = f"{rows} x {columns} pixels, {count} frames"
        raise ValueError(msg)
    pixels = _pixel_format(data)
    syntax = pydicom.uid.UID(pixels.transfer_syntax)
    needed = count * rows * columns * pixels.samples * max(1, pixels.allocated // 8)
    if syntax.is_compressed:  # how many bytes it takes is known to the decoder only
        needed = 1
    truncated = rest_bytes < needed and not syntax.is_deflated
    if not per_frame and count == 1:
        return [_frame(data, [data], member, None, (pixels, truncated))]
    shared = [*(data.get("SharedFunctionalGroupsSequence") or [])]
    groups = [*(per_frame or [])]
    return [
        _frame(data, [*groups[k : k + 1], *shared, data], member, k, (pixels, truncated))
        for k in range(count)
    ]


def _frame(
    data: FileDataset,
    places: list[Dataset],
    member: str,
    index: int | None,
    stored: tuple[PixelFormat, bool],
) -> Frame:
    """Build a record; what varies by frame is looked for in `places`, the frame's own group first."""
    position = _look(places, "PlanePositionSequence", "ImagePositionPatient")
    orientation = _look(places, "PlaneOrientationSequence", "ImageOrientationPatient")
    spacing = _look(places, "PixelMeasuresSequence", "PixelSpacing")
    thickness = _look(places, "PixelMeasuresSequence", "SliceThickness")
    values = "PixelValueTransformationSequence"
    slope = _numbers(_look(places, values, "RescaleSlope"), 1)
    intercept = _numbers(_look(places, values, "RescaleIntercept"), 1)
    image_type = _look(places, "CTImageFrameTypeSequence", "FrameType") or data.get("ImageType")
    return Frame(
        member=member,
        index=index,
        uid=str(data.get("SOPInstanceUID", "")),
        study=str(data.get("StudyInstanceUID", "")),
        series=str(data.get("SeriesInstanceUID", "")),
        frame_of_reference=str(data.get("FrameOfReferenceUID", "")),
        series_number=_integer(data, "SeriesNumber", None),
        description=str(data.get("SeriesDescription") or ""),
        modality=str(data.get("Modality") or "").upper(),
        sop_class=str(data.get("SOPClassUID", "")),
        image_type=_texts(image_type),
        order=(_integer(data, "InstanceNumber", 0) or 0, index or 0),
        rows=int(data.Rows),
        columns=int(data.Columns),
        spacing_mm=_numbers(spacing, 2),
        orientation=_numbers(orientation, 6),
        position_mm=_numbers(position, 3),
        thickness_mm=(_numbers(thickness, 1) or (0.0,))[0],
        slope=slope[0] if slope else None,
        intercept=intercept[0] if intercept else 0.0,
        rescale_type=str(_look(places, values, "RescaleType") or "").upper().strip(),
        pixels=stored[0],
        phase=_phase(data, places),
        truncated=stored[1],
    )


def _phase(data: Dataset, places: list[Dataset]) -> dict[str, str]:
    """Return what may tell volumes of one series apart; in multi-frame objects it lies in sequences."""
    found = {tag: "\\".join(_texts(data.get(tag))) for tag in SPLIT_TAGS}
    content = "FrameContentSequence"
    found["AcquisitionNumber"] = str(
        _look(places, content, "FrameAcquisitionNumber") or found["AcquisitionNumber"]
    )
    for tag, name in (
        ("TemporalPositionIdentifier", "TemporalPositionIndex"),
        ("ContentTime", "StackID"),
    ):
        found[tag] = str(_look(places, content, name) or found[tag])
    return found


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
    meta = getattr(data, "file_meta", None)
    syntax = str(meta.get("TransferSyntaxUID", "")) if meta is not None else ""
    allocated = _integer(data, "BitsAllocated", 16) or 16
    stored = _integer(data, "BitsStored", allocated) or allocated
    signed = bool(_integer(data, "PixelRepresentation", 0))
    return PixelFormat(
        transfer_syntax=syntax or _syntax_without_meta(data),
        allocated=allocated,
        stored=stored,
        high_bit=_integer(data, "HighBit", stored - 1) or stored - 1,
        signed=signed,
        samples=_integer(data, "SamplesPerPixel", 1) or 1,
        padding=_padding(data, allocated, signed=signed),
    )


def _syntax_without_meta(data: FileDataset) -> str:
    implicit, little = data.original_encoding
    if implicit:
        return str(pydicom.uid.ImplicitVRLittleEndian)
    return str(
        pydicom.uid.ExplicitVRLittleEndian
        if little is not False
        else pydicom.uid.ExplicitVRBigEndian
    )


def _padding(data: Dataset, bits: int, *, signed: bool) -> tuple[int, int] | None:
    """Return the range of stored values that mean "nothing here", in the pixels' own sign."""
    first = _integer(data, "PixelPaddingValue", None)
    if first is None:
        return None
    last = _integer(data, "PixelPaddingRangeLimit", first)
    ends = [
        _wrapped(value, bits, signed=signed) for value in (first, first if last is None else last)
    ]
    return min(ends), max(ends)


def _wrapped(value: int, bits: int, *, signed: bool) -> int:
    """Bring a value that was written with the wrong sign (63536 for -2000) into the pixels' range."""
    size = 1 << bits
    value %= size
    return value - size if signed and value >= size // 2 else value


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


def _integer(data: Dataset, keyword: str, default: int | None) -> int | None:
    value = data.get(keyword)
    try:
        return default if value is None or value == "" else int(value)
    except (TypeError, ValueError):
        return default


def _texts(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, str | bytes) or not hasattr(value, "__iter__"):
        return (str(value).strip().upper(),)
    return tuple(str(item).strip().upper() for item in value)
