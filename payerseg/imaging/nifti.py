"""NIfTI files: header rules, reading and writing. nibabel knows the format, the rules are ours.

Which matrix counts (`choose_affine`): sform if its code is above 0 and it is usable, else qform if its code
is above 0 and it is usable, else pixdim with nibabel's default (x to the left, origin in the middle). That
is nibabel's rule, made to survive unusable matrices: labels lie where viewers show the scan. Where the header
contradicts itself on sizes or directions, or names no orientation, a person must look; where qform and sform
differ by a shift only, a note says by how much.
"""

from __future__ import annotations

import base64
from pathlib import Path

import nibabel as nib
import numpy as np

from payerseg.domain.grid import Grid
from payerseg.domain.volume import Volume
from payerseg.errors import BadGeometry, NotAThreeDimensionalScan, UnreadableScan
from payerseg.imaging.compression import GZIP_MAGIC, is_gzip, read_exactly, read_head, write_bytes
from payerseg.imaging.raw_scan import RawScan, require_plausible_grid, require_three_dimensions
from payerseg.imaging.scan_record import Fact, Note, SourceHeader

LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
FORM_DISAGREEMENT_MM = 0.1
"""qform and sform that place a corner further apart than this are reported."""
SPACING_DISAGREEMENT = 0.01
"""Part of a spacing, and of 1 in a direction, by which the fields of a header may differ by rounding."""
_EXTENSION_STEP = 16
_NIFTI1_BYTES, _NIFTI2_BYTES = 348, 540
_UNUSABLE_DETERMINANT = 1e-3
_QUATERNION_LIMIT = 1.01
_UNITS = {0: "unknown", 1: "metre", 2: "mm", 3: "micron"}
_GEOMETRY_FIELDS = (
    "pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d",
    "qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z",
)  # fmt: skip
Header = nib.Nifti1Header


def read_nifti(path: Path) -> RawScan:
    """Read a .nii or .nii.gz file as stored, before any rescaling.

    The content decides whether it is gzipped, not the name.

    Raises:
        UnreadableScan: truncated, damaged, or not NIfTI.
        NotAThreeDimensionalScan: 2D, several volumes, or several values per voxel.
        BadGeometry: no matrix of the header is usable.
    """
    header = _read_header(path)
    shape = require_three_dimensions([int(n) for n in header.get_data_shape()], path.name)
    kind = header.get_data_dtype()
    if kind.kind not in "iuf":
        msg = f"{path.name} stores {kind} voxels (colour or complex); expected one number per voxel"
        raise NotAThreeDimensionalScan(msg)
    affine, facts, notes = choose_affine(header)
    grid = Grid.from_matrix(shape[::-1], LPS_FROM_RAS @ affine)
    require_plausible_grid(grid, path.name)
    array, surplus = _read_voxels(path, header, grid.shape)
    if surplus:
        notes.append(
            Note("surplus_bytes", "the file holds more bytes than its header says; ignored")
        )
    if is_gzip(path) != path.name.lower().endswith(".gz"):
        notes.append(Note("misnamed", "the file name says otherwise than the content about gzip"))
    slope, intercept = header.get_slope_inter()
    notes += _scaling_notes(header)
    notes += _extension_notes(path, header)
    source = SourceHeader(_format_name(header), grid, _geometry_of(header))
    facts["stored_type"] = kind.name
    return RawScan(
        array, grid, source,
        slope=1.0 if slope is None else float(slope), intercept=float(intercept or 0.0),
        facts=facts, notes=tuple(notes),
    )  # fmt: skip


def read_channels(path: Path) -> Volume:
    """Read a 4D file of ours: (z, y, x, channel), stored values.

    Raises:
        UnreadableScan: truncated, damaged, or not a 4D NIfTI.
    """
    header = _read_header(path)
    sizes = tuple(int(n) for n in header.get_data_shape())
    if len(sizes) != 4:
        msg = f"{path.name} has sizes {sizes}; expected four"
        raise UnreadableScan(msg)
    array, _ = _read_voxels(path, header, sizes[::-1])
    affine, _, _ = choose_affine(header)
    grid = Grid.from_matrix(sizes[2::-1], LPS_FROM_RAS @ affine)
    return Volume(np.ascontiguousarray(np.moveaxis(array, 0, -1)), grid)


def write_nifti(
    path: Path, array: np.ndarray, grid: Grid, *, slope: float = 1.0, compress: bool = True
) -> None:
    """Write an array (z, y, x) or (z, y, x, channel) with a plain header: sform, and qform where it can be.

    A quaternion cannot hold a sheared grid; there the qform code is 0.
    """
    header = nib.Nifti1Header()
    spatial = array.shape[:3][::-1]
    header.set_data_shape(spatial + array.shape[3:])
    header.set_data_dtype(array.dtype)
    header.set_xyzt_units("mm")
    affine = LPS_FROM_RAS @ grid.matrix
    if grid.is_orthonormal:
        header.set_qform(affine, code=1)
    else:
        header["pixdim"][:4] = [1.0, *grid.spacing_mm]
    header.set_sform(affine, code=1)
    header.set_slope_inter(slope, 0.0)
    _write(path, header, array, compress=compress)


def write_like(path: Path, array: np.ndarray, like: SourceHeader, *, compress: bool = True) -> None:
    """Write an array (z, y, x) in the place of another NIfTI file, its geometry fields bit for bit."""
    geometry = _geometry_header(like)
    header = type(geometry)()
    header.set_data_shape(array.shape[::-1])
    header.set_data_dtype(array.dtype)
    header["scl_slope"], header["scl_inter"] = 1.0, 0.0
    for name in _GEOMETRY_FIELDS:
        header[name] = geometry[name]
    _write(path, header, array, compress=compress)


def geometry_differences(path: Path, like: SourceHeader) -> list[str]:
    """Return the names of geometry fields in which a file differs from a header, by a single bit."""
    written, wanted = _read_header(path), _geometry_header(like)
    if type(written) is not type(wanted):
        return ["file_format"]
    return [name for name in _GEOMETRY_FIELDS if _bits(written, name) != _bits(wanted, name)]


def choose_affine(header: Header) -> tuple[np.ndarray, dict[str, Fact], list[Note]]:
    """Choose the (4, 4) RAS matrix of a header.

    Returns:
        The matrix, facts for the record, and notes on what is unusual.

    Raises:
        BadGeometry: neither sform, qform nor pixdim is usable.
    """
    codes = {name: int(header[f"{name}_code"]) for name in ("sform", "qform")}
    units = _UNITS.get(int(header["xyzt_units"]) & 7, "unknown")
    sform = _usable(header.get_sform()) if codes["sform"] > 0 else None
    qform = _qform(header) if codes["qform"] > 0 else None
    notes: list[Note] = []
    for name, matrix in (("sform", sform), ("qform", qform)):
        if codes[name] > 0 and matrix is None:
            message = f"the header's {name} is singular or not finite; ignored"
            notes.append(Note(f"bad_{name}", message))
    if units in ("metre", "micron"):
        notes.append(Note("units", f"the header says {units}; taken as mm, as nibabel does"))
    if sform is not None:
        notes += _disagreement(sform, qform, header)
    affine, taken_from = (sform, "sform") if sform is not None else (qform, "qform")
    if affine is None:
        affine, taken_from = _usable(_with_sound_pixdim(header).get_base_affine()), "pixdim"
        message = (
            "the header names no usable orientation: left and right, or front and back, may be "
            "exchanged; taken as LAS, as nibabel does"
        )
        notes.append(Note("no_orientation", message, review=True))
    if affine is None:
        pixdim = header["pixdim"][1:4].tolist()
        msg = f"neither sform, qform nor pixdim {pixdim} of the header is a usable geometry"
        raise BadGeometry(msg)
    if _is_shear(affine):
        message = (
            "the header's axes are not at right angles (a tilted gantry): nothing was resampled, the "
            "label map lies where the scan does; programs built on ITK (3D Slicer, ITK-SNAP) open neither"
        )
        notes.append(Note("sheared", message))
    facts: dict[str, Fact] = {
        "sform_code": codes["sform"],
        "qform_code": codes["qform"],
        "units": units,
        "affine_from": taken_from,
    }
    return affine, facts, notes


def _read_header(path: Path) -> Header:
    head = read_head(path, _NIFTI2_BYTES)
    if len(head) < _NIFTI1_BYTES:
        msg = f"{path.name} holds {len(head)} bytes; expected a NIfTI file of at least {_NIFTI1_BYTES}"
        raise UnreadableScan(msg)
    if head[:2] == GZIP_MAGIC:
        msg = f"{path.name} is gzipped twice; unpack it once"
        raise UnreadableScan(msg)
    sizes = {int(np.frombuffer(head[:4], order)[0]) for order in ("<i4", ">i4")}
    second = _NIFTI2_BYTES in sizes and len(head) >= _NIFTI2_BYTES
    kind = nib.Nifti2Header if second else nib.Nifti1Header
    magic = head[4:8] if second else head[344:348]
    if magic[:3] not in (b"n+1", b"n+2"):
        what = "the header of an .hdr/.img pair" if magic[:2] == b"ni" else "not a NIfTI file"
        msg = f"{path.name} is {what}; expected a single-file NIfTI image (.nii or .nii.gz)"
        raise UnreadableScan(msg)
    try:
        header = kind(head[: kind.template_dtype.itemsize], check=False)
        header.get_data_shape(), header.get_data_dtype(), header.get_slope_inter()
        int(header["vox_offset"])
    except (nib.spatialimages.HeaderDataError, ValueError, OverflowError, KeyError) as error:
        msg = f"the NIfTI header of {path.name} is damaged ({error})"
        raise UnreadableScan(msg) from error
    return header


def _read_voxels(path: Path, header: Header, shape: tuple[int, ...]) -> tuple[np.ndarray, int]:
    """Return the stored voxels in C order of `shape` (slowest axis first), and how many bytes follow."""
    kind = header.get_data_dtype()
    header_bytes = _NIFTI2_BYTES if isinstance(header, nib.Nifti2Header) else _NIFTI1_BYTES
    start = max(int(header["vox_offset"]), header_bytes + 4)
    n_bytes = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
    buffer, surplus = read_exactly(path, start, n_bytes)
    return buffer.view(kind).reshape(shape), surplus


def _write(path: Path, header: Header, array: np.ndarray, *, compress: bool) -> None:
    header["vox_offset"] = header.sizeof_hdr + 4
    header["magic"] = header.single_magic
    if array.ndim == 4:
        array = np.moveaxis(array, -1, 0)
    voxels = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder(header.endianness))
    head = header.binaryblock + bytes(4)
    write_bytes(path, [head, memoryview(voxels).cast("B")], compress=compress)


def _usable(matrix: np.ndarray) -> np.ndarray | None:
    matrix = np.asarray(matrix, float)
    lengths = np.linalg.norm(matrix[:3, :3], axis=0)
    if not np.all(np.isfinite(matrix)) or np.any(lengths <= 0):
        return None
    return matrix if abs(np.linalg.det(matrix[:3, :3] / lengths)) >= _UNUSABLE_DETERMINANT else None


def _with_sound_pixdim(header: Header) -> Header:
    """Return a copy whose spacings are positive; some writers store flips there, against the standard."""
    sound = header.copy()
    sound["pixdim"][1:4] = np.abs(sound["pixdim"][1:4])
    if sound["pixdim"][0] not in (1.0, -1.0):
        sound["pixdim"][0] = 1.0
    return sound


def _qform(header: Header) -> np.ndarray | None:
    try:
        return _usable(_with_unit_quaternion(_with_sound_pixdim(header)).get_qform())
    except (nib.spatialimages.HeaderDataError, ValueError):
        return None


def _with_unit_quaternion(header: Header) -> Header:
    """Shorten a quaternion that rounding made a little too long, which nibabel refuses."""
    names = ("quatern_b", "quatern_c", "quatern_d")
    length = float(np.linalg.norm([header[name] for name in names]))
    if 1 < length < _QUATERNION_LIMIT:
        for name in names:
            header[name] = float(header[name]) / length
    return header


def _disagreement(sform: np.ndarray, qform: np.ndarray | None, header: Header) -> list[Note]:
    """Compare the sform, which counts, with pixdim and qform."""
    lengths, pixdim = np.linalg.norm(sform[:3, :3], axis=0), np.abs(header["pixdim"][1:4])
    known = np.isfinite(pixdim) & (pixdim > 0)
    if np.any(np.abs(lengths - pixdim)[known] > SPACING_DISAGREEMENT * lengths[known]):
        said = (" x ".join(f"{v:.4g}" for v in sizes) for sizes in (lengths, pixdim))
        message = "the header contradicts itself: voxels of {} mm by sform, {} mm by pixdim".format(
            *said
        )
        return [Note("spacing_contradiction", f"{message}; the sform counts", review=True)]
    if qform is None:
        return []
    turned = np.abs(sform[:3, :3] / lengths - qform[:3, :3] / np.linalg.norm(qform[:3, :3], axis=0))
    if np.max(turned) > SPACING_DISAGREEMENT and not _is_shear(sform):
        message = (
            "the header contradicts itself: qform and sform turn the scan differently; the sform "
            "counts, as in nibabel"
        )
        return [Note("orientation_contradiction", message, review=True)]
    ends = [(0.0, n - 1.0) for n in header.get_data_shape()[:3]]
    corners = np.array(np.meshgrid(*ends, [1.0])).reshape(4, -1)
    gap = float(np.max(np.linalg.norm((sform - qform) @ corners, axis=0)))
    if gap <= FORM_DISAGREEMENT_MM:
        return []
    message = f"qform and sform place a corner {gap:.2f} mm apart; the sform counts, as in nibabel"
    return [Note("qform_sform_differ", message)]


def _is_shear(matrix: np.ndarray) -> bool:
    """Tell whether no quaternion can hold a matrix, so that a qform must differ from it."""
    columns = matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0)
    return bool(np.max(np.abs(columns.T @ columns - np.eye(3))) > SPACING_DISAGREEMENT)


def _scaling_notes(header: Header) -> list[Note]:
    """Tell what of a damaged rescaling was not used: nibabel takes such a scaling as none."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if np.isinf(slope):
        message = f"the header's scl_slope is {slope:g}; values are taken as stored"
        return [Note("bad_scaling", message, review=True)]
    if slope == 0 and intercept != 0:
        message = f"scl_slope 0 means no scaling; scl_inter {intercept:g} was not used"
        return [Note("unused_intercept", message)]
    return []


def _extension_notes(path: Path, header: Header) -> list[Note]:
    """Walk over the header's extensions, which hold nothing that is needed, and tell of a damaged one."""
    size, stop = header.sizeof_hdr + 4, int(header["vox_offset"])
    if stop < size:
        message = (
            f"the header's vox_offset is {stop:g}; the voxels were read right behind the header"
        )
        return [Note("bad_offset", message)]
    if stop == size or read_head(path, size)[header.sizeof_hdr] == 0:
        return []
    block, at = read_head(path, stop), size
    while at + 8 <= stop:
        step = int.from_bytes(block[at : at + 4], "little" if header.endianness == "<" else "big")
        if step < _EXTENSION_STEP or step % _EXTENSION_STEP or at + step > stop:
            return [Note("bad_extension", "an extension of the header is damaged; ignored")]
        at += step
    return []


def _format_name(header: Header) -> str:
    return "nifti2" if isinstance(header, nib.Nifti2Header) else "nifti1"


def _geometry_of(header: Header) -> str:
    geometry = type(header)(endianness=header.endianness)
    for name in _GEOMETRY_FIELDS:
        geometry[name] = header[name]
    return base64.b64encode(geometry.as_byteswapped("<").binaryblock).decode("ascii")


def _geometry_header(source: SourceHeader) -> Header:
    kind = nib.Nifti2Header if source.file_format == "nifti2" else nib.Nifti1Header
    block = base64.b64decode(source.nifti_geometry)
    return kind(block, endianness="<", check=False)


def _bits(header: Header, name: str) -> bytes:
    return np.asarray(header.as_byteswapped("<")[name]).tobytes()
