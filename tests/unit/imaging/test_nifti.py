"""NIfTI headers as they occur, and as they should not."""

import gzip

import nibabel as nib
import numpy as np
import pytest

from payerseg.domain.grid import Grid
from payerseg.errors import BadGeometry, NotAThreeDimensionalScan, UnreadableScan
from payerseg.imaging.files import read_volume
from payerseg.imaging.nifti import (
    geometry_differences,
    read_channels,
    read_nifti,
    write_like,
    write_nifti,
)

FLOAT32_MM = 1e-3
LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])  # not the module's own, which is what is tested


def stored_array(shape=(12, 10, 8), seed=0):
    """(x, y, z) as nibabel holds it."""
    return np.random.default_rng(seed).integers(-1000, 2000, shape).astype(np.int16)


def oblique_affine(spacing=(1.0, 2.0, 3.0), degrees=20.0, origin=(-30.0, 40.0, -500.0)):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
    affine = np.eye(4)
    affine[:3, :3] = turn * spacing
    affine[:3, 3] = origin
    return affine


def save(path, array, sform=None, qform=None, codes=(1, 1), kind=nib.Nifti1Image):
    """Write with nibabel: an independent writer."""
    image = kind(array, None)
    image.header.set_data_shape(array.shape)
    image.set_sform(sform, code=codes[0] if sform is not None else 0)
    image.set_qform(qform, code=codes[1] if qform is not None else 0)
    nib.save(image, path)
    return path


def codes_of(raw):
    return {note.code for note in raw.notes}


def test_agrees_with_nibabel(tmp_path):
    affine = oblique_affine()
    path = save(tmp_path / "a.nii.gz", stored_array(), affine, affine)
    raw = read_nifti(path)
    np.testing.assert_array_equal(raw.array, stored_array().transpose(2, 1, 0))
    np.testing.assert_allclose(raw.grid.matrix, LPS_FROM_RAS @ nib.load(path).affine, atol=1e-6)
    assert codes_of(raw) == set()


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_both_versions_and_plain_files(tmp_path, kind):
    affine = oblique_affine()
    path = save(tmp_path / "a.nii", stored_array(), affine, affine, kind=kind)
    raw = read_nifti(path)
    np.testing.assert_array_equal(raw.array, stored_array().transpose(2, 1, 0))
    assert raw.source.file_format == ("nifti1" if kind is nib.Nifti1Image else "nifti2")


def test_big_endian(tmp_path):
    image = nib.Nifti1Image(stored_array(), oblique_affine())
    swapped = nib.Nifti1Image(stored_array().astype(">i2"), None, image.header.as_byteswapped(">"))
    nib.save(swapped, tmp_path / "a.nii")
    got = read_volume(tmp_path / "a.nii")
    np.testing.assert_array_equal(got.array, stored_array().transpose(2, 1, 0))
    assert got.array.dtype.isnative
    write_like(tmp_path / "b.nii.gz", got.array, read_nifti(tmp_path / "a.nii").source)
    assert read_volume(tmp_path / "b.nii.gz").grid.same_space_as(got.grid, 1e-6)


def test_sform_counts_when_both_disagree(tmp_path):
    moved = oblique_affine()
    moved[0, 3] += 5
    raw = read_nifti(save(tmp_path / "a.nii", stored_array(), moved, oblique_affine()))
    np.testing.assert_allclose(raw.grid.matrix, LPS_FROM_RAS @ moved, atol=1e-5)
    assert codes_of(raw) == {"qform_sform_differ"}
    assert "5.00 mm" in raw.notes[0].message


def test_sform_code_zero_means_qform(tmp_path):
    path = save(tmp_path / "a.nii", stored_array(), None, oblique_affine())
    raw = read_nifti(path)
    np.testing.assert_allclose(raw.grid.matrix, LPS_FROM_RAS @ oblique_affine(), atol=1e-4)
    assert raw.facts["affine_from"] == "qform"


@pytest.mark.parametrize("bad", ["zero", "nan", "flat"])
def test_unusable_sform_falls_back_to_qform(tmp_path, bad):
    path = save(tmp_path / "a.nii", stored_array(), oblique_affine(), oblique_affine())
    image = nib.load(path)
    header = image.header.copy()
    for k, name in enumerate(("srow_x", "srow_y", "srow_z")):
        values = {"zero": 0.0, "nan": np.nan, "flat": 1.0}[bad]
        header[name] = np.array([values, values, values, k])
    content = bytearray(path.read_bytes())
    content[:348] = header.binaryblock
    path.write_bytes(bytes(content))
    raw = read_nifti(path)
    assert raw.facts["affine_from"] == "qform"
    assert "bad_sform" in codes_of(raw)
    np.testing.assert_allclose(raw.grid.matrix, LPS_FROM_RAS @ oblique_affine(), atol=1e-4)


def test_a_quaternion_a_little_too_long_still_counts(tmp_path):
    """Half a turn about x (b = 1) in few digits; without it the scan would lie mirrored."""
    save(tmp_path / "a.nii", stored_array(), None, np.diag([1.0, -2.0, -3.0, 1.0]))
    content = bytearray((tmp_path / "a.nii").read_bytes())
    header = nib.Nifti1Header(bytes(content[:348]), check=False)
    header["quatern_b"], header["quatern_c"] = 1.0005, 0.0003
    content[:348] = header.binaryblock
    (tmp_path / "a.nii").write_bytes(bytes(content))
    raw = read_nifti(tmp_path / "a.nii")
    assert raw.facts["affine_from"] == "qform"
    wanted = LPS_FROM_RAS @ np.diag([1.0, -2.0, -3.0, 1.0])
    np.testing.assert_allclose(raw.grid.matrix, wanted, atol=5e-3)


def test_no_orientation_falls_back_to_pixdim_as_nibabel(tmp_path):
    image = nib.Nifti1Image(stored_array(), None)
    image.header.set_zooms((1.0, 2.0, 3.0))
    nib.save(image, tmp_path / "a.nii")
    raw = read_nifti(tmp_path / "a.nii")
    np.testing.assert_allclose(raw.grid.matrix, LPS_FROM_RAS @ nib.load(tmp_path / "a.nii").affine)
    assert codes_of(raw) == {"no_orientation"}


def test_nothing_usable_is_refused(tmp_path):
    nib.save(nib.Nifti1Image(stored_array(), np.eye(4)), tmp_path / "a.nii")
    content = bytearray((tmp_path / "a.nii").read_bytes())
    header = nib.Nifti1Header(bytes(content[:348]), check=False)
    header["pixdim"][1:4] = 0
    header["sform_code"] = header["qform_code"] = 0
    content[:348] = header.binaryblock
    (tmp_path / "a.nii").write_bytes(bytes(content))
    with pytest.raises(BadGeometry):
        read_nifti(tmp_path / "a.nii")


def test_sheared_sform_comes_back(tmp_path):
    affine = oblique_affine()
    affine[1, 2] += 0.8
    raw = read_nifti(save(tmp_path / "a.nii.gz", stored_array(), affine, oblique_affine()))
    assert not raw.grid.is_orthonormal
    np.testing.assert_allclose(raw.grid.matrix, LPS_FROM_RAS @ affine, atol=1e-5)


@pytest.mark.parametrize("compress", [True, False])
def test_our_own_files_keep_any_grid(tmp_path, any_grid, compress):
    array = stored_array((7, 6, 5)).transpose(2, 1, 0)
    grid = Grid(array.shape, any_grid.spacing_mm, any_grid.origin_mm, any_grid.direction)
    path = tmp_path / ("a.nii.gz" if compress else "a.nii")
    write_nifti(path, array, grid, compress=compress)
    got = read_nifti(path)
    np.testing.assert_array_equal(got.array, array)
    assert got.grid.same_space_as(grid, FLOAT32_MM)
    assert codes_of(got) == (set() if grid.is_orthonormal else {"sheared"})
    np.testing.assert_allclose(nib.load(path).affine, LPS_FROM_RAS @ grid.matrix, atol=FLOAT32_MM)
    assert int(nib.load(path).header["qform_code"]) == int(grid.is_orthonormal)


def test_channels_round_trip(tmp_path):
    array = np.random.default_rng(1).integers(0, 255, (5, 6, 7, 2)).astype(np.uint8)
    write_nifti(tmp_path / "a.nii.gz", array, Grid((5, 6, 7), (1.0, 1.0, 1.0)))
    np.testing.assert_array_equal(read_channels(tmp_path / "a.nii.gz").array, array)
    assert nib.load(tmp_path / "a.nii.gz").shape == (7, 6, 5, 2)


def test_rescaled_values(tmp_path):
    grid = Grid((5, 6, 7), (1.0, 1.0, 1.0))
    array = np.arange(210, dtype=np.int16).reshape(5, 6, 7)
    write_nifti(tmp_path / "a.nii.gz", array, grid, slope=0.5)
    got = read_volume(tmp_path / "a.nii.gz")
    np.testing.assert_allclose(got.array, array * 0.5)
    assert got.array.dtype == np.float32


def test_one_volume_stored_as_4d(tmp_path):
    nib.save(nib.Nifti1Image(stored_array()[..., None], np.eye(4)), tmp_path / "a.nii.gz")
    assert read_nifti(tmp_path / "a.nii.gz").grid.shape == (8, 10, 12)


@pytest.mark.parametrize(
    "shape", [(12, 10), (12, 10, 1), (12, 1, 10), (12, 10, 8, 2), (6, 6, 6, 1, 3)]
)
def test_not_three_dimensional(tmp_path, shape):
    nib.save(nib.Nifti1Image(np.zeros(shape, np.int16), np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(NotAThreeDimensionalScan):
        read_nifti(tmp_path / "a.nii")


@pytest.mark.parametrize("kind", [[("R", "u1"), ("G", "u1"), ("B", "u1")], np.complex64])
def test_several_values_per_voxel(tmp_path, kind):
    nib.save(nib.Nifti1Image(np.zeros((12, 10, 8), kind), np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(NotAThreeDimensionalScan, match="one number per voxel"):
        read_nifti(tmp_path / "a.nii")


@pytest.mark.parametrize("keep", [0.02, 0.3, 0.9, 0.999])
def test_truncated_gzip(tmp_path, keep):
    nib.save(nib.Nifti1Image(stored_array((60, 50, 40)), np.eye(4)), tmp_path / "a.nii.gz")
    content = (tmp_path / "a.nii.gz").read_bytes()
    (tmp_path / "a.nii.gz").write_bytes(content[: int(keep * len(content))])
    with pytest.raises(UnreadableScan, match=r"a\.nii\.gz"):
        read_nifti(tmp_path / "a.nii.gz")


def test_gzip_without_its_last_byte(tmp_path):
    nib.save(nib.Nifti1Image(stored_array((60, 50, 40)), np.eye(4)), tmp_path / "a.nii.gz")
    content = (tmp_path / "a.nii.gz").read_bytes()
    (tmp_path / "a.nii.gz").write_bytes(content[:-1])
    with pytest.raises(UnreadableScan):
        read_nifti(tmp_path / "a.nii.gz")


def test_damaged_gzip(tmp_path):
    nib.save(nib.Nifti1Image(stored_array((60, 50, 40)), np.eye(4)), tmp_path / "a.nii.gz")
    content = bytearray((tmp_path / "a.nii.gz").read_bytes())
    content[len(content) // 2] ^= 0xFF
    (tmp_path / "a.nii.gz").write_bytes(bytes(content))
    with pytest.raises(UnreadableScan):
        read_nifti(tmp_path / "a.nii.gz")


def test_truncated_plain_file(tmp_path):
    nib.save(nib.Nifti1Image(stored_array(), np.eye(4)), tmp_path / "a.nii")
    content = (tmp_path / "a.nii").read_bytes()
    (tmp_path / "a.nii").write_bytes(content[:-10])
    with pytest.raises(UnreadableScan, match="truncated"):
        read_nifti(tmp_path / "a.nii")


def test_a_header_that_promises_the_moon_takes_no_memory(tmp_path):
    header = nib.Nifti1Header()
    header.set_data_shape((1500, 1500, 1500))
    header.set_data_dtype(np.float64)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    for name, content in (
        ("a.nii", header.binaryblock),
        ("a.nii.gz", gzip.compress(header.binaryblock)),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UnreadableScan, match="promises"):
            read_nifti(tmp_path / name)


@pytest.mark.parametrize("content", [b"hello, I am a text file\n", b"x" * 400, bytes(1000)])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_not_a_nifti_file(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UnreadableScan):
        read_nifti(tmp_path / name)


def test_half_of_a_pair(tmp_path):
    nib.save(nib.Nifti1Pair(stored_array(), np.eye(4)), tmp_path / "a.img")
    (tmp_path / "a.nii").write_bytes((tmp_path / "a.hdr").read_bytes())
    with pytest.raises(UnreadableScan, match="pair"):
        read_nifti(tmp_path / "a.nii")


def test_content_decides_about_gzip(tmp_path):
    nib.save(nib.Nifti1Image(stored_array(), np.eye(4)), tmp_path / "a.nii")
    (tmp_path / "a.nii").rename(tmp_path / "b.nii.gz")
    raw = read_nifti(tmp_path / "b.nii.gz")
    np.testing.assert_array_equal(raw.array, stored_array().transpose(2, 1, 0))
    assert codes_of(raw) == {"misnamed"}


def test_surplus_bytes_are_noted(tmp_path):
    nib.save(nib.Nifti1Image(stored_array(), np.eye(4)), tmp_path / "a.nii")
    with (tmp_path / "a.nii").open("ab") as file:
        file.write(bytes(100))
    assert codes_of(read_nifti(tmp_path / "a.nii")) == {"surplus_bytes"}


@pytest.mark.parametrize("spacing", [1e-4, 300.0])
def test_implausible_spacing(tmp_path, spacing):
    affine = np.diag([spacing, 1.0, 1.0, 1.0])
    nib.save(nib.Nifti1Image(stored_array(), affine), tmp_path / "a.nii")
    with pytest.raises(BadGeometry, match="spacing"):
        read_nifti(tmp_path / "a.nii")


def test_geometry_is_copied_bit_for_bit(tmp_path):
    """Also where qform and sform disagree and where pixdim is negative; and no text goes along."""
    moved = oblique_affine()
    moved[:3, 3] += 0.1
    path = save(tmp_path / "a.nii", stored_array(), moved, oblique_affine(), codes=(2, 3))
    content = bytearray(path.read_bytes())
    header = nib.Nifti1Header(bytes(content[:348]), check=False)
    header["pixdim"][2] *= -1
    header["descrip"] = b"patient name"
    content[:348] = header.binaryblock
    path.write_bytes(bytes(content))
    raw = read_nifti(path)
    write_like(tmp_path / "b.nii.gz", raw.array, raw.source)
    assert geometry_differences(tmp_path / "b.nii.gz", raw.source) == []
    written = gzip.decompress((tmp_path / "b.nii.gz").read_bytes())[:348]
    copy = nib.Nifti1Header(written, check=False)
    for name in ("pixdim", "srow_x", "srow_y", "srow_z", "quatern_b", "qoffset_x", "sform_code"):
        assert np.asarray(copy[name]).tobytes() == np.asarray(header[name]).tobytes(), name
    assert copy["descrip"].item() == b""


def test_a_moved_file_is_told(tmp_path):
    raw = read_nifti(save(tmp_path / "a.nii", stored_array(), oblique_affine(), oblique_affine()))
    other = read_nifti(save(tmp_path / "b.nii", stored_array(), oblique_affine(degrees=21), None))
    write_like(tmp_path / "c.nii.gz", raw.array, raw.source)
    assert "srow_x" in geometry_differences(tmp_path / "c.nii.gz", other.source)


def patched(path, **fields):
    """Overwrite header fields, sane or not; `srow_x` and the like take whole rows."""
    content = bytearray(path.read_bytes())
    header = nib.Nifti1Header(bytes(content[:348]), check=False)
    for name, value in fields.items():
        header[name] = value
    content[:348] = header.binaryblock
    path.write_bytes(bytes(content))
    return path


def reviewed(raw):
    return {note.code for note in raw.notes if note.review}


@pytest.mark.parametrize("sizes", [(8,), (184,), (4088,), (8, 1 << 20, 500)])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_extensions_of_any_length_are_passed_over(tmp_path, sizes, kind):
    image = kind(stored_array(), oblique_affine())
    for size in sizes:
        image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"x" * size))
    nib.save(image, tmp_path / "a.nii.gz")
    raw = read_nifti(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(raw.array, stored_array().transpose(2, 1, 0))
    assert codes_of(raw) == set()


@pytest.mark.parametrize("size", [0, 17, 1 << 20, -16])
def test_a_damaged_extension_costs_a_note(tmp_path, size):
    save(tmp_path / "a.nii", stored_array(), oblique_affine(), oblique_affine())
    content = (tmp_path / "a.nii").read_bytes()
    block = b"\1\0\0\0" + np.array([size, 6], "<i4").tobytes() + b"x" * 184
    (tmp_path / "a.nii").write_bytes(content[:348] + block + content[352:])
    patched(tmp_path / "a.nii", vox_offset=348 + len(block))
    raw = read_nifti(tmp_path / "a.nii")
    np.testing.assert_array_equal(raw.array, stored_array().transpose(2, 1, 0))
    assert codes_of(raw) == {"bad_extension"}


def test_voxel_sizes_that_contradict_each_other_are_reviewed(tmp_path):
    long = oblique_affine((1.0, 2.0, 4.0))
    path = save(tmp_path / "a.nii", stored_array(), long, oblique_affine())
    raw = read_nifti(patched(path, pixdim=[1, 1, 2, 3, 0, 0, 0, 0]))
    assert reviewed(raw) == {"spacing_contradiction"}
    assert "1 x 2 x 4 mm by sform, 1 x 2 x 3 mm by pixdim" in raw.notes[0].message
    np.testing.assert_allclose(raw.grid.spacing_mm, (1, 2, 4), rtol=1e-5)
    same = save(tmp_path / "b.nii", stored_array(), oblique_affine(), oblique_affine())
    for rounded in ([1, 1.0002, 1.9996, 3], [1, 1, 2, -3], [0] * 4):
        raw = read_nifti(patched(same, pixdim=[*rounded, 0, 0, 0, 0]))
        assert not reviewed(raw)


def test_forms_that_turn_the_scan_differently_are_reviewed(tmp_path):
    flipped = oblique_affine() @ np.diag([1, 1, -1, 1.0])
    for other in (flipped, oblique_affine(degrees=100.0)):
        raw = read_nifti(save(tmp_path / "a.nii", stored_array(), other, oblique_affine()))
        assert reviewed(raw) == {"orientation_contradiction"}
    nearly = oblique_affine(degrees=20.2)
    raw = read_nifti(save(tmp_path / "a.nii", stored_array(), nearly, oblique_affine()))
    assert not reviewed(raw)


def test_an_unknown_orientation_is_reviewed(tmp_path):
    nib.save(nib.Nifti1Image(stored_array(), None), tmp_path / "a.nii")
    assert reviewed(read_nifti(tmp_path / "a.nii")) == {"no_orientation"}


@pytest.mark.parametrize(
    ("slope", "intercept", "code", "review"),
    [
        (np.inf, 0.0, "bad_scaling", True),
        (-np.inf, -1024.0, "bad_scaling", True),
        (0.0, -1024.0, "unused_intercept", False),
    ],
)
def test_a_scaling_that_is_not_used_is_told(tmp_path, slope, intercept, code, review):
    path = save(tmp_path / "a.nii", stored_array(), oblique_affine(), oblique_affine())
    raw = read_nifti(patched(path, scl_slope=slope, scl_inter=intercept))
    assert [(note.code, note.review) for note in raw.notes] == [(code, review)]
    assert not raw.is_rescaled
    assert codes_of(read_nifti(patched(path, scl_slope=np.nan, scl_inter=np.nan))) == set()


def test_axes_that_are_not_at_right_angles_are_told(tmp_path):
    tilted = oblique_affine()
    tilted[1, 2] += 0.5
    raw = read_nifti(save(tmp_path / "a.nii", stored_array(), tilted, None, codes=(1, 0)))
    codes = codes_of(raw) - {"spacing_contradiction"}  # nibabel leaves pixdim alone
    assert codes == {"sheared"}


@pytest.mark.parametrize("offset", [0, 100, -9e26])
def test_voxels_said_to_lie_inside_the_header_are_read_behind_it_and_told(tmp_path, offset):
    path = save(tmp_path / "a.nii", stored_array(), oblique_affine(), oblique_affine())
    raw = read_nifti(patched(path, vox_offset=offset))
    assert codes_of(raw) == {"bad_offset"}
    np.testing.assert_array_equal(raw.array, stored_array().transpose(2, 1, 0))


@pytest.mark.parametrize("offset", [np.nan, np.inf])
def test_voxels_said_to_lie_nowhere_are_refused(tmp_path, offset):
    path = save(tmp_path / "a.nii", stored_array(), oblique_affine())
    with pytest.raises(UnreadableScan, match="damaged"):
        read_nifti(patched(path, vox_offset=offset))
