"""Good series, whatever their form, give the volume that SimpleITK's GDCM reader gives."""

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk

from payerseg.domain.grid import Grid
from payerseg.domain.volume import Volume
from payerseg.errors import BadGeometry, UnreadableScan
from payerseg.imaging.itk_files import volume_from_itk

TILT = np.deg2rad(15)


def gdcm(folder):
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return volume_from_itk(reader.Execute())


def turned(grid, angle, axis):
    c, s = np.cos(angle), np.sin(angle)
    i, j = [k for k in range(3) if k != axis]
    turn = np.eye(4)
    turn[i, i], turn[i, j], turn[j, i], turn[j, j] = c, -s, s, c
    return Grid.from_matrix(grid.shape, turn @ grid.matrix)


def sagittal(grid):
    """Columns to the back, rows to the feet, slices to the left: (x, y, z) axes are P, I, then the normal."""
    matrix = np.eye(4)
    matrix[:3, 0] = (0, grid.spacing_mm[0], 0)
    matrix[:3, 1] = (0, 0, -grid.spacing_mm[1])
    matrix[:3, 2] = (-grid.spacing_mm[2], 0, 0)
    matrix[:3, 3] = grid.origin_mm
    return Grid.from_matrix(grid.shape, matrix)


GRIDS = {
    "plain": lambda g: g,
    "thin": lambda g: Grid((20, 30, 30), (1.5, 1.5, 0.625), g.origin_mm),
    "oblique": lambda g: turned(turned(g, 0.3, 0), -0.2, 2),
    "sagittal": sagittal,
    "prone": lambda g: turned(g, np.pi, 2),
    "feet_first": lambda g: turned(g, np.pi, 0),
}


@pytest.mark.parametrize("name", sorted(GRIDS))
def test_equals_gdcm(dicom, tmp_path, name):
    volume = dicom.phantom(GRIDS[name](dicom.grid()))
    folder = dicom.save(dicom.slices(volume), tmp_path / "s")
    raw = dicom.read(folder)
    oracle = gdcm(folder)
    assert raw.grid.same_space_as(oracle.grid, 1e-3)
    assert np.array_equal(raw.values(), oracle.array)
    assert raw.grid.same_space_as(volume.grid, 1e-3)
    assert np.array_equal(raw.values(), volume.array)


@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize("slope", [1, 0.5])
def test_sign_and_slope(dicom, ct, tmp_path, signed, slope):
    even = Volume(ct.array // 2 * 2, ct.grid)
    intercept = 0 if signed else -1024
    tags = {"PixelRepresentation": signed, "RescaleSlope": slope, "RescaleIntercept": intercept}
    folder = dicom.save(dicom.slices(even, **tags), tmp_path / "s")
    raw = dicom.read(folder)
    assert np.array_equal(raw.values(), even.array)
    assert np.array_equal(raw.values(), gdcm(folder).array)


def test_rescaling_may_differ_by_slice(dicom, ct, tmp_path):
    files = dicom.slices(ct)
    for k, data in enumerate(files):
        stored = np.frombuffer(data.PixelData, "<u2").astype(int)
        data.RescaleSlope, data.RescaleIntercept = 0.5, -1024 - 10 * k
        data.PixelData = (2 * (stored + 10 * k)).astype("<u2").tobytes()
    raw = dicom.read(dicom.save(files, tmp_path / "s"))
    assert np.array_equal(raw.values(), ct.array)


def test_without_rescaling_values_are_as_stored_and_it_is_told(dicom, ct, tmp_path):
    files = dicom.slices(ct)
    for data in files:
        del data.RescaleSlope, data.RescaleIntercept
    raw = dicom.read(dicom.save(files, tmp_path / "s"))
    assert np.array_equal(raw.values(), ct.array.astype(int) + 1024)
    assert "dicom_no_rescale" in {note.code for note in raw.notes}


@pytest.mark.parametrize("high_bit", [11, 13])
@pytest.mark.parametrize("signed", [0, 1])
def test_bits_that_are_not_of_the_pixel_are_ignored(dicom, ct, tmp_path, high_bit, signed):
    files = dicom.slices(ct, RescaleIntercept=0 if signed else -1024, PixelRepresentation=signed)
    rng = np.random.default_rng(0)
    for data in files:
        stored = np.frombuffer(data.PixelData, "<u2") & 0x0FFF
        shifted = stored << (high_bit - 11)
        rubbish = rng.integers(0, 1 << 16, stored.shape).astype("<u2")
        mask = 0x0FFF << (high_bit - 11)
        data.PixelData = ((shifted & mask) | (rubbish & (0xFFFF ^ mask))).astype("<u2").tobytes()
        data.BitsStored, data.HighBit = 12, high_bit
    raw = dicom.read(dicom.save(files, tmp_path / "s"))
    assert np.array_equal(raw.values(), ct.array)


@pytest.mark.parametrize(
    ("stored", "tag", "signed"), [(63536, 63536, 0), (-2000, 63536, 1), (-2000, -2000, 1)]
)
def test_padding_is_air(dicom, ct, tmp_path, stored, tag, signed):
    files = dicom.slices(ct, RescaleIntercept=0 if signed else -1024, PixelRepresentation=signed)
    for data in files:
        pixels = np.frombuffer(data.PixelData, "<i2" if signed else "<u2").copy()
        pixels[:7] = stored
        data.PixelData = pixels.tobytes()
        data.add_new("PixelPaddingValue", "SS" if tag < 0 else "US", tag)
    raw = dicom.read(dicom.save(files, tmp_path / "s"))
    expected = ct.array.copy()
    expected.reshape(len(expected), -1)[:, :7] = -1024
    assert np.array_equal(raw.values(), expected)
    assert "84 padding pixels" in next(n.message for n in raw.notes if n.code == "dicom_padding")


def test_padding_that_may_be_tissue_is_left(dicom, ct, tmp_path):
    files = dicom.slices(ct, PixelPaddingValue=1024 + 30)
    raw = dicom.read(dicom.save(files, tmp_path / "s"))
    assert np.array_equal(raw.values(), ct.array)


def tilted(grid, angle):
    """Slices turned about x while the table goes on along z."""
    matrix = grid.matrix
    matrix[:3, 1] = np.array([0, np.cos(angle), np.sin(angle)]) * grid.spacing_mm[1]
    return Grid.from_matrix(grid.shape, matrix)


@pytest.mark.parametrize("angle", [TILT, -TILT])
@pytest.mark.parametrize("signed", [0, 1])
def test_a_gantry_tilt_is_undone_within_the_planes(dicom, tmp_path, angle, signed):
    """Straight lines of values stay where they are in the world, on a grid that ITK can hold."""
    sheared = tilted(dicom.grid(), angle)
    points = sheared.map_indices_to_world(np.indices(sheared.shape).reshape(3, -1).T)
    slope = np.array([2.0, 3.0, -1.5])
    values = np.rint(points @ slope).reshape(sheared.shape).astype(np.int16)
    tags = {"PixelRepresentation": signed, "RescaleIntercept": 0 if signed else -1024}
    files = dicom.slices(Volume(values, sheared), GantryDetectorTilt=15, **tags)
    raw = dicom.read(dicom.save(files, tmp_path / "s"))
    assert raw.grid.is_orthonormal
    assert raw.array.dtype.kind == ("i" if signed else "u")
    found = raw.values()
    places = raw.grid.map_indices_to_world(np.indices(raw.grid.shape).reshape(3, -1).T)
    inside = sheared.map_world_to_indices(places)
    inside = np.all((inside >= 0) & (inside <= np.array(sheared.shape) - 1), axis=1)
    assert np.sum(inside) > 0.85 * values.size
    assert np.max(np.abs(found.ravel()[inside] - places[inside] @ slope)) <= 1.01
    assert -1024 in found[[0, 0, -1, -1], [0, -1, 0, -1], 0]  # air where a slice has no pixels
    assert raw.facts["gantry_tilt_degrees"] == pytest.approx(15, abs=0.01)
    note = next(note.message for note in raw.notes if note.code == "gantry_tilt")
    assert "tilted by 15.0 degrees" in note
    assert "onto a rectangular grid" in note


def test_what_is_written_of_a_tilted_series_opens_in_itk(dicom, tmp_path):
    from payerseg.imaging.files import write_labels, write_volume

    files = dicom.slices(dicom.phantom(tilted(dicom.grid(), TILT)))
    raw = dicom.read(dicom.save(files, tmp_path / "s"))
    write_volume(Volume(raw.values().astype(np.int16), raw.grid), tmp_path / "ct.nii.gz")
    labels = Volume((raw.values() > 300).astype(np.uint8), raw.grid)
    write_labels(labels, tmp_path / "seg.nii.gz", raw.source)
    for name in ("ct.nii.gz", "seg.nii.gz"):
        image = sitk.ReadImage(str(tmp_path / name))  # refuses a sheared matrix
        assert volume_from_itk(image).grid.same_space_as(raw.grid)


def test_rounding_of_positions_is_no_tilt(dicom, ct, tmp_path):
    files = dicom.slices(ct)
    for k, data in enumerate(files):
        x, y, z = data.ImagePositionPatient
        data.ImagePositionPatient = [x, float(y) + 0.004 * k, z]
    raw = dicom.read(dicom.save(files, tmp_path / "s"))
    assert np.array_equal(raw.values(), ct.array)
    assert "gantry_tilt" not in {note.code for note in raw.notes}


def test_two_bodies_in_turn_are_refused(dicom, ct, tmp_path):
    other = dicom.phantom(Grid(ct.grid.shape, ct.grid.spacing_mm, (-47.5, -40.25, 102.125)), seed=1)
    moved = Volume(np.roll(other.array, 12, axis=2), other.grid)
    one = dicom.slices(ct)
    names = ("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")
    uids = {name: one[0][name].value for name in names}
    folder = dicom.save([*one, *dicom.slices(moved, **uids)], tmp_path / "s")
    with pytest.raises(BadGeometry, match="slices of different content interleave"):
        dicom.read(folder)
    told_apart = dicom.slices(moved, **{**uids, "FrameOfReferenceUID": "1.2.3"})
    folder = dicom.save([*one, *told_apart], tmp_path / "t")
    assert np.array_equal(dicom.read(folder, "3/1").values(), ct.array)
    assert np.array_equal(dicom.read(folder, "3/2").values(), moved.array)


def test_cut_instance_uids_are_told(dicom, ct, tmp_path):
    files = dicom.slices(ct)
    for k, data in enumerate(files):
        data.SOPInstanceUID = f"1.2.{k // 3}"
    raw = dicom.read(dicom.save(files, tmp_path / "s"))
    assert np.array_equal(raw.values(), ct.array)
    assert "12 slices have 4 SOPInstanceUIDs" in str(raw.notes)


def test_rounded_positions_are_even(dicom, tmp_path):
    volume = dicom.phantom(Grid((24, 20, 20), (3.0, 3.0, 0.625), (0.0, 0.0, 0.0)))
    files = dicom.slices(volume)
    for k, data in enumerate(files):
        data.ImagePositionPatient = [0, 0, f"{0.625 * k:.1f}"]
    raw = dicom.read(dicom.save(files, tmp_path / "s"))
    assert raw.grid.spacing_mm[2] == pytest.approx(0.625, abs=0.005)


def test_enhanced_multi_frame(dicom, ct, tmp_path):
    order = [5, 0, 3, 1, 11, 2, 4, 6, 10, 7, 9, 8]
    raw = dicom.read(dicom.save([dicom.enhanced(ct, order)], tmp_path / "s"))
    assert np.array_equal(raw.values(), ct.array)
    assert raw.grid.same_space_as(ct.grid, 1e-3)


def test_enhanced_with_two_stacks_gives_two_volumes(dicom, ct, tmp_path):
    data = dicom.enhanced(ct, [*range(12), *range(12)])
    for k, group in enumerate(data.PerFrameFunctionalGroupsSequence):
        content = type(group)()
        content.TemporalPositionIndex = 1 + k // 12
        group.FrameContentSequence = [content]
    pixels = np.frombuffer(data.PixelData, "<u2").reshape(24, -1).copy()
    pixels[12:] += 100
    data.PixelData = pixels.tobytes()
    folder = dicom.save([data], tmp_path / "s")
    first, second = (dicom.read(folder, f"3/{part}").values() for part in (1, 2))
    assert np.array_equal(first, ct.array)
    assert np.array_equal(second, ct.array + 100)


def test_enhanced_in_two_files(dicom, ct, tmp_path):
    top, bottom = dicom.enhanced(ct, list(range(6, 12))), dicom.enhanced(ct, list(range(6)))
    for name in ("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"):
        setattr(bottom, name, top[name].value)
    raw = dicom.read(dicom.save([top, bottom], tmp_path / "s"))
    assert np.array_equal(raw.values(), ct.array)


@pytest.mark.parametrize("implicit", [True, False])
def test_files_without_a_meta_header(dicom, ct, tmp_path, implicit):
    from pydicom import Dataset, dcmwrite

    (tmp_path / "s").mkdir()
    for k, data in enumerate(dicom.slices(ct)):
        bare = Dataset()
        bare.update(data)
        with (tmp_path / "s" / f"IM{k}").open("wb") as file:
            dcmwrite(
                file, bare, implicit_vr=implicit, little_endian=True, enforce_file_format=False
            )
    assert np.array_equal(dicom.read(tmp_path / "s").values(), ct.array)


def compressed(files, syntax):
    for data in files:
        data.compress(syntax, generate_instance_uid=False)
    return files


@pytest.mark.parametrize(
    "name", ["RLELossless", "JPEGLSLossless", "JPEG2000Lossless", "DeflatedExplicitVRLittleEndian"]
)
def test_compressed(dicom, ct, tmp_path, name):
    from pydicom import uid
    from pydicom.pixels import get_encoder

    syntax = getattr(uid, name)
    files = dicom.slices(ct)
    if syntax.is_compressed and syntax.is_encapsulated:
        if not get_encoder(syntax).is_available:
            pytest.skip(f"no encoder for {name}")
        files = compressed(files, syntax)
    else:
        for data in files:
            data.file_meta.TransferSyntaxUID = syntax
    assert np.array_equal(dicom.read(dicom.save(files, tmp_path / "s")).values(), ct.array)


def test_jpeg_lossless(dicom, ct, tmp_path):
    """Written by GDCM, which SimpleITK holds; the most frequent compression in archives."""
    from pydicom import dcmread
    from pydicom.pixels import get_decoder
    from pydicom.uid import JPEGLosslessSV1

    if not get_decoder(JPEGLosslessSV1).is_available:
        pytest.skip("no decoder for JPEG Lossless")
    files = dicom.slices(ct)
    for data in files:
        image = sitk.GetImageFromArray(np.frombuffer(data.PixelData, "<u2").reshape(40, 48))
        writer = sitk.ImageFileWriter()
        writer.SetImageIO("GDCMImageIO")
        writer.UseCompressionOn()
        writer.SetCompressor("JPEG")
        path = tmp_path / "one.dcm"
        writer.SetFileName(str(path))
        writer.Execute(image)
        written = dcmread(path)
        assert written.file_meta.TransferSyntaxUID == JPEGLosslessSV1
        data.PixelData = written.PixelData
        data["PixelData"].VR = "OB"
        data.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    assert np.array_equal(dicom.read(dicom.save(files, tmp_path / "s")).values(), ct.array)


def test_filled_gaps_are_straight_lines_and_ask_for_a_look(dicom, tmp_path):
    grid = Grid((16, 20, 20), (3.0, 3.0, 2.5), (0.0, 0.0, 10.0))
    ramp = np.broadcast_to(100 * np.arange(16)[:, None, None] - 900, grid.shape).astype(np.int16)
    files = dicom.slices(Volume(np.ascontiguousarray(ramp), grid))
    folder = dicom.save([f for k, f in enumerate(files) if k not in (4, 9, 10)], tmp_path / "s")
    assert "3 slice(s) of 16 are missing" in dicom.problem(folder)
    raw = dicom.read(folder, fill_gaps=True)
    assert raw.grid.same_space_as(grid, 1e-3)
    assert np.allclose(raw.values(), ramp, atol=0.01)
    note = next(n for n in raw.notes if n.code == "dicom_slices_interpolated")
    assert "3 of 16" in note.message


def test_thick_and_thin_slices_are_brought_to_the_finer_step(dicom, tmp_path):
    grid = Grid((24, 20, 20), (3.0, 3.0, 2.5), (0.0, 0.0, 10.0))
    ramp = np.broadcast_to(50 * np.arange(24)[:, None, None] - 900, grid.shape).astype(np.int16)
    files = dicom.slices(Volume(np.ascontiguousarray(ramp), grid))
    folder = dicom.save([f for k, f in enumerate(files) if k < 8 or k % 2], tmp_path / "s")
    raw = dicom.read(folder, fill_gaps=True)
    assert raw.grid.same_space_as(grid, 1e-3)
    assert np.allclose(raw.values(), ramp, atol=0.01)


def test_wide_gaps_are_never_filled(dicom, ct, tmp_path):
    files = dicom.slices(ct)
    folder = dicom.save([f for k, f in enumerate(files) if k not in (4, 5, 6)], tmp_path / "s")
    assert "gaps above 10 mm are not filled" in dicom.problem(folder)
    assert not [d for d in dicom.decide(folder, fill_gaps=True) if d.choice == "chosen"]


def test_a_series_that_changed_after_it_was_chosen(dicom, ct, tmp_path):
    from payerseg.dicom.inventory import take_inventory
    from payerseg.dicom.series import read_series

    folder = dicom.save(dicom.slices(ct), tmp_path / "s")
    inventory = take_inventory(folder)
    reference = inventory.reference(inventory.decide("best")[0])
    without = replace(reference, members=(*reference.members[:5], *reference.members[6:]))
    with pytest.raises(BadGeometry, match="missing"):
        read_series(without)
    (folder / reference.members[3]).unlink()
    with pytest.raises(UnreadableScan, match="cannot be read"):
        read_series(reference)


def test_damaged_compressed_pixels(dicom, ct, tmp_path):
    from pydicom.uid import RLELossless

    files = compressed(dicom.slices(ct), RLELossless)
    files[3].PixelData = files[3].PixelData[:60] + b"\0" * 20
    with pytest.raises(UnreadableScan, match="cannot be decoded"):
        dicom.read(dicom.save(files, tmp_path / "s"))
