"""MetaImage and NRRD files, through SimpleITK; and volumes from and to SimpleITK images."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from payerseg.domain.grid import Grid
from payerseg.domain.volume import Volume
from payerseg.errors import BadGeometry, InputError, NotAThreeDimensionalScan, UnreadableScan
from payerseg.imaging.compression import MAX_RATIO
from payerseg.imaging.raw_scan import RawScan, require_plausible_grid, require_three_dimensions
from payerseg.imaging.scan_record import SourceHeader

ItkImage = sitk.Image  # for annotations in rooms that do not import SimpleITK
_HEADER_BYTES = 1 << 16
_DATA_FILE = re.compile(
    r"^(?:ElementDataFile\s*=|data ?file:)\s*((?:LIST.*\n(?:.*\n?)*)|.*)",
    re.MULTILINE | re.IGNORECASE,
)
"""What follows is the name of the voxels' file, or after LIST one name a line to the end."""
READERS = {
    ".mha": ("MetaImageIO", "meta"),
    ".mhd": ("MetaImageIO", "meta"),
    ".nrrd": ("NrrdImageIO", "nrrd"),
}


def read_itk(path: Path) -> RawScan:
    """Read a .mha, .mhd or .nrrd file as stored.

    Raises:
        UnreadableScan: truncated, damaged, its voxel file missing, or not such a file.
        BadGeometry: a spacing of zero, or axes that do not span space.
        NotAThreeDimensionalScan: 2D, several volumes, or several values per voxel.
    """
    reader_name, format_name = READERS[path.suffix.lower()]
    _refuse_data_elsewhere(path)
    reader = sitk.ImageFileReader()
    reader.SetImageIO(reader_name)
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        sizes = [int(n) for n in reader.GetSize()]
        _require_one_value(reader, path)
        shape = require_three_dimensions(sizes, path.name)
        _refuse_impossible_size(path, reader, sizes)
        reader.SetExtractSize([*shape, *([0] * (len(sizes) - 3))])
        image = reader.Execute()
    except RuntimeError as error:
        raise _foreseen(error, path, format_name) from error
    volume = volume_from_itk(image)
    require_plausible_grid(volume.grid, path.name)
    facts = {"stored_type": volume.array.dtype.name, "affine_from": format_name}
    return RawScan(volume.array, volume.grid, SourceHeader(format_name, volume.grid), facts=facts)


def write_itk(volume: Volume, path: Path) -> None:
    """Write a volume as .mha, .mhd or .nrrd, compressed."""
    writer = sitk.ImageFileWriter()
    writer.SetImageIO(READERS[path.suffix.lower()][0])
    writer.SetFileName(str(path))
    writer.UseCompressionOn()
    writer.Execute(volume_to_itk(volume))


def volume_from_itk(image: sitk.Image) -> Volume:
    """Return a 3D SimpleITK image as a volume (voxels are copied).

    Raises:
        NotAThreeDimensionalScan: the image is not 3D or has several values per voxel.
    """
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        msg = (
            f"image has {image.GetDimension()} dimensions and {image.GetNumberOfComponentsPerPixel()} "
            "values per voxel; expected a 3D image of one value per voxel"
        )
        raise NotAThreeDimensionalScan(msg)
    array = sitk.GetArrayFromImage(image)
    matrix = np.eye(4)
    matrix[:3, :3] = np.asarray(image.GetDirection()).reshape(3, 3) * np.abs(image.GetSpacing())
    matrix[:3, 3] = image.GetOrigin()
    return Volume(array, Grid.from_matrix(array.shape, matrix))


def volume_to_itk(volume: Volume) -> sitk.Image:
    """Return a volume as a SimpleITK image in the same place; a sheared grid keeps its direction."""
    image = sitk.GetImageFromArray(
        np.ascontiguousarray(volume.array), isVector=volume.array.ndim == 4
    )
    image.SetSpacing(volume.grid.spacing_mm)
    image.SetOrigin(volume.grid.origin_mm)
    image.SetDirection(volume.grid.direction)
    return image


def _foreseen(error: RuntimeError, path: Path, format_name: str) -> InputError:
    """Tell an unusable header from an unreadable file in what ITK says."""
    text = str(error)
    if "Refusing to change" in text:
        msg = f"{path.name} has a zero spacing or axes that do not span space; check its header"
        return BadGeometry(msg)
    reason = text.strip().rsplit("\n", 1)[-1]
    msg = f"{path.name} cannot be read as {format_name} ({reason}); is it complete?"
    return UnreadableScan(msg)


def _refuse_data_elsewhere(path: Path) -> None:
    """Refuse a header whose voxels lie outside its folder: it could name any file of this machine."""
    with path.open("rb") as file:
        head = file.read(_HEADER_BYTES).split(b"\n\n", 1)[0].decode("latin-1")
    named = _DATA_FILE.search(head)
    for name in named[1].splitlines() if named else ():
        if name.strip().startswith(("/", "\\")) or ".." in re.split(r"[\\/]", name.strip()):
            msg = (
                f"{path.name} names its voxels outside its own folder ({name.strip()[:200]}); put "
                "them beside it and name them without a folder"
            )
            raise UnreadableScan(msg)


def _require_one_value(reader: sitk.ImageFileReader, path: Path) -> None:
    count = reader.GetNumberOfComponents()
    name = sitk.GetPixelIDValueAsString(reader.GetPixelID())
    if count != 1 or "complex" in name:
        msg = f"{path.name} stores {count} values per voxel ({name}); expected one number per voxel"
        raise NotAThreeDimensionalScan(msg)


def _refuse_impossible_size(path: Path, reader: sitk.ImageFileReader, sizes: list[int]) -> None:
    """Refuse a header that promises more voxels than the bytes on disk can hold, before memory is taken."""
    if path.suffix.lower() == ".mhd":
        return  # the voxels lie in another file, whose size ITK checks before it reads
    item_bytes = sitk.GetArrayViewFromImage(sitk.Image([1] * 2, reader.GetPixelID())).itemsize
    promised = int(np.prod(sizes, dtype=object)) * item_bytes
    possible = path.stat().st_size * MAX_RATIO
    if promised > possible:
        msg = f"{path.name} is too small for the {promised} bytes of voxels its header promises"
        raise UnreadableScan(msg)
