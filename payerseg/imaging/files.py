"""The door to image files: the ending chooses the format, the content is checked before it is trusted."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from payerseg.domain.volume import Volume
from payerseg.errors import GridMismatch, UnreadableScan
from payerseg.imaging.itk_files import READERS, read_itk, write_itk
from payerseg.imaging.nifti import geometry_differences, read_nifti, write_like, write_nifti
from payerseg.imaging.raw_scan import RawScan
from payerseg.imaging.scan_record import LabelMap, SourceHeader

NIFTI_ENDINGS = (".nii", ".nii.gz")
SCAN_ENDINGS = (*NIFTI_ENDINGS, *READERS)
_LARGEST_BYTE_LABEL = 255
_WHOLE = 1e-3
"""A slope in the header makes 20.0000009 of 20; probabilities are further from whole numbers."""


def read_scan(path: Path) -> RawScan:
    """Read an image as stored: voxels, grid, header, rescaling.

    Raises:
        UnreadableScan: no such file, a directory, empty, damaged, or of an unknown format.
        NotAThreeDimensionalScan, BadGeometry: as the readers say.
    """
    if path.is_dir():
        msg = f"{path.name} is a directory named like a scan; expected a file"
        raise UnreadableScan(msg)
    if not path.is_file():
        msg = f"{path} does not exist"
        raise UnreadableScan(msg)
    if path.stat().st_size == 0:
        msg = f"{path.name} is empty (0 bytes); copy or export the file again"
        raise UnreadableScan(msg)
    try:
        if path.name.lower().endswith(NIFTI_ENDINGS):
            return read_nifti(path)
        if path.suffix.lower() in READERS:
            return read_itk(path)
    except OSError as error:
        msg = f"{path.name} cannot be opened ({error.strerror or error}); check rights and disk"
        raise UnreadableScan(msg) from error
    msg = f"{path.name} has an unknown ending; expected one of {', '.join(SCAN_ENDINGS)}"
    raise UnreadableScan(msg)


def read_volume(path: Path) -> Volume:
    """Read an image with its values as meant: stored integers stay, rescaled values are float32.

    Raises:
        As `read_scan`.
    """
    raw = read_scan(path)
    values = raw.values()
    return Volume(values.astype(np.float32) if raw.is_rescaled else values, raw.grid)


def read_label_map(path: Path) -> Volume:
    """Read an image whose values are label numbers.

    Returns:
        Integers on the file's grid, in its stored order.

    Raises:
        UnreadableScan: it holds fractions or no numbers; or as `read_scan`.
        NotAThreeDimensionalScan, BadGeometry: as `read_scan`.
    """
    volume = read_volume(path)
    return volume.with_array(whole_numbers(volume.array, path.name))


def whole_numbers(values: np.ndarray, name: str) -> np.ndarray:
    """Return label numbers as integers; what a header's slope added to them is taken off.

    Raises:
        UnreadableScan: `name` holds fractions or no numbers.
    """
    if values.dtype.kind != "f":
        return values
    whole = np.rint(values)
    if not np.all(np.abs(values - whole) <= _WHOLE):  # also False for NaN
        msg = f"{name} holds fractions or no numbers; expected whole label numbers"
        raise UnreadableScan(msg)
    return whole.astype(np.int32)


def lies_like(path: Path, header: SourceHeader) -> bool:
    """Tell whether a label file holds plain integers on the very grid of another file.

    Raises:
        As `read_scan`.
    """
    raw = read_scan(path)
    plain = raw.values().dtype.kind in "ui" and not raw.is_rescaled
    return plain and header.grid.same_space_as(raw.grid)


def write_volume(volume: Volume, path: Path) -> None:
    """Write a volume; .nii.gz and .nii by our writer, .mha, .mhd and .nrrd by SimpleITK.

    Raises:
        UnreadableScan: the ending names no format.
    """
    if path.suffix.lower() in READERS:
        write_itk(volume, path)
        return
    if not path.name.lower().endswith(NIFTI_ENDINGS):
        msg = f"{path.name} has an unknown ending; expected one of {', '.join(SCAN_ENDINGS)}"
        raise UnreadableScan(msg)
    write_nifti(
        path, storable(volume.array), volume.grid, compress=path.name.lower().endswith(".gz")
    )


def write_labels(labels: Volume, path: Path, like: Path | SourceHeader) -> None:
    """Write labels in the very place of another file, and verify by re-opening.

    Args:
        labels: (z, y, x) integers in the stored order of `like`.
        path: gzipped NIfTI is written whatever the name says.
        like: the file the labels belong to, or its header.

    Raises:
        GridMismatch: labels and file do not share a grid, or the written file differs.
    """
    header = like if isinstance(like, SourceHeader) else read_scan(like).source
    label_map = LabelMap(labels, header)
    place_labels(label_map, path)
    verify_written_labels(path, label_map)


def place_labels(label_map: LabelMap, path: Path) -> None:
    """Write labels as gzipped NIfTI in the place of the file whose header they carry, unverified.

    A NIfTI header's geometry is copied bit for bit; for other formats the affine is the physical space
    to float32 precision. Labels up to 255 are stored as uint8.
    """
    array = label_map.volume.array
    if array.dtype != np.uint8:
        small = array.min(initial=0) >= 0 and array.max(initial=0) <= _LARGEST_BYTE_LABEL
        array = array.astype(np.uint8 if small else np.int16)
    if label_map.header.nifti_geometry:
        write_like(path, array, label_map.header)
    else:
        write_nifti(path, array, label_map.header.grid)


def verify_written_labels(path: Path, label_map: LabelMap) -> None:
    """Re-open a written label file and compare every voxel and its place.

    Raises:
        GridMismatch: the file lies elsewhere, differs in a header bit, or in a voxel.
    """
    written = read_nifti(path)
    header = label_map.header
    if not written.grid.same_space_as(header.grid):
        msg = f"{path.name} was written on {written.grid}; expected {header.grid}"
        raise GridMismatch(msg)
    different = geometry_differences(path, header) if header.nifti_geometry else []
    if different:
        msg = f"{path.name} differs from the scan's header in {', '.join(different)}"
        raise GridMismatch(msg)
    if not np.array_equal(written.array, label_map.volume.array):
        msg = f"{path.name} does not hold the labels that were written; is the disk sound?"
        raise GridMismatch(msg)


def storable(array: np.ndarray) -> np.ndarray:
    """Return the array in a type NIfTI can hold: bool as uint8, float16 as float32, int64 as int32."""
    replacements = {"bool": np.uint8, "float16": np.float32, "int64": np.int32, "uint64": np.uint32}
    return array.astype(replacements.get(array.dtype.name, array.dtype), copy=False)
