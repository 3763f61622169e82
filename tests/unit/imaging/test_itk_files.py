"""MetaImage and NRRD through SimpleITK."""

import numpy as np
import pytest
import SimpleITK as sitk

from payerseg.domain.grid import Grid
from payerseg.domain.volume import Volume
from payerseg.errors import BadGeometry, NotAThreeDimensionalScan, UnreadableScan
from payerseg.imaging.files import read_scan, read_volume, write_volume
from payerseg.imaging.itk_files import volume_from_itk, volume_to_itk

ENDINGS = (".mha", ".mhd", ".nrrd")
ROUNDING_MM = 1e-4


def on(grid, kind=np.int16):
    array = np.random.default_rng(0).integers(-1000, 2000, (7, 6, 5)).astype(kind)
    return Volume(array, Grid(array.shape, grid.spacing_mm, grid.origin_mm, grid.direction))


@pytest.mark.parametrize("ending", ENDINGS)
def test_round_trip_on_any_grid(tmp_path, any_grid, ending):
    volume = on(any_grid)
    write_volume(volume, tmp_path / f"a{ending}")
    got = read_volume(tmp_path / f"a{ending}")
    np.testing.assert_array_equal(got.array, volume.array)
    assert got.grid.same_space_as(volume.grid, ROUNDING_MM)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int32, np.float32, np.float64])
def test_types_stay(tmp_path, kind):
    volume = Volume(
        np.abs(on(Grid((4, 4, 4), (1, 1, 1))).array // 16).astype(kind), Grid((7, 6, 5), (1, 1, 1))
    )
    write_volume(volume, tmp_path / "a.mha")
    assert read_volume(tmp_path / "a.mha").array.dtype == kind


def test_images_and_volumes(any_grid):
    volume = on(any_grid)
    back = volume_from_itk(volume_to_itk(volume))
    np.testing.assert_array_equal(back.array, volume.array)
    assert back.grid.same_space_as(volume.grid, 1e-9)


@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
def test_one_volume_stored_as_4d(tmp_path, ending):
    image = volume_to_itk(on(Grid((7, 6, 5), (1.0, 2.0, 3.0), (9.0, 8.0, 7.0))))
    sitk.WriteImage(sitk.JoinSeries([image]), str(tmp_path / f"a{ending}"))
    raw = read_scan(tmp_path / f"a{ending}")
    np.testing.assert_array_equal(raw.array, sitk.GetArrayFromImage(image))
    assert raw.grid.same_space_as(volume_from_itk(image).grid, ROUNDING_MM)


@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
@pytest.mark.parametrize("what", ["2d", "4d", "rgb", "complex"])
def test_not_three_dimensional(tmp_path, ending, what):
    image = volume_to_itk(on(Grid((7, 6, 5), (1, 1, 1))))
    if what == "2d":
        image = image[:, :, 0]
    elif what == "4d":
        image = sitk.JoinSeries([image, image])
    elif what == "rgb":
        image = sitk.Cast(sitk.Compose([image] * 3), sitk.sitkVectorUInt8)
    elif ending == ".nrrd":
        image = sitk.RealAndImaginaryToComplex(*[sitk.Cast(image, sitk.sitkFloat32)] * 2)
    else:
        pytest.skip("MetaImage cannot hold complex numbers")
    sitk.WriteImage(image, str(tmp_path / f"a{ending}"))
    with pytest.raises(NotAThreeDimensionalScan):
        read_scan(tmp_path / f"a{ending}")


@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
@pytest.mark.parametrize("keep", [0.2, 0.6, 0.97])
@pytest.mark.parametrize("compress", [True, False])
def test_truncated(tmp_path, ending, keep, compress):
    path = tmp_path / f"a{ending}"
    rng = np.random.default_rng(0)
    image = sitk.GetImageFromArray(rng.integers(-1000, 2000, (30, 40, 50)).astype(np.int16))
    sitk.WriteImage(image, str(path), compress)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(UnreadableScan, match=f"a{ending}"):
        read_scan(path)


def test_voxel_file_is_missing(tmp_path):
    write_volume(on(Grid((7, 6, 5), (1, 1, 1))), tmp_path / "a.mhd")
    for voxels in tmp_path.glob("a.*raw"):
        voxels.unlink()
    with pytest.raises(UnreadableScan):
        read_scan(tmp_path / "a.mhd")


@pytest.mark.parametrize("ending", ENDINGS)
def test_text_renamed(tmp_path, ending):
    (tmp_path / f"a{ending}").write_text("hello, I am a text file\n")
    with pytest.raises(UnreadableScan):
        read_scan(tmp_path / f"a{ending}")


def test_a_header_that_promises_the_moon(tmp_path):
    header = "NRRD0004\ntype: double\ndimension: 3\nsizes: 1500 1500 1500\nencoding: gzip\nendian: little\n\n"
    (tmp_path / "a.nrrd").write_text(header)
    with pytest.raises(UnreadableScan):
        read_scan(tmp_path / "a.nrrd")


NRRD_HEADER = """NRRD0004
type: int16
dimension: 3
space: {space}
sizes: 10 9 8
space directions: (1,0,0) (0,2,0) (0,0.5,3)
kinds: domain domain domain
endian: little
encoding: raw
space origin: (10,20,30)

"""
META_HEADER = """ObjectType = Image
NDims = 3
BinaryData = True
BinaryDataByteOrderMSB = False
TransformMatrix = {axes}
Offset = 10 20 30
ElementSpacing = {spacing}
DimSize = 10 9 8
ElementType = MET_SHORT
ElementDataFile = LOCAL
"""


@pytest.mark.parametrize(
    ("space", "signs"),
    [
        ("left-posterior-superior", (1, 1, 1)),
        ("RAS", (-1, -1, 1)),
        ("left-anterior-superior", (1, -1, 1)),
    ],
)
def test_nrrd_says_where_its_axes_point(tmp_path, space, signs):
    content = NRRD_HEADER.format(space=space).encode() + bytes(2 * 10 * 9 * 8)
    (tmp_path / "a.nrrd").write_bytes(content)
    matrix = read_scan(tmp_path / "a.nrrd").grid.matrix
    wanted = np.array([[1, 0, 0, 10], [0, 2, 0.5, 20], [0, 0, 3, 30]]) * np.array(signs)[:, None]
    np.testing.assert_allclose(matrix[:3], wanted, atol=1e-9)


@pytest.mark.parametrize(
    ("axes", "spacing"), [("1 0 0 1 0 0 0 0 1", "1 2 3"), ("1 0 0 0 1 0 0 0 1", "0 2 3")]
)
def test_unusable_geometry(tmp_path, axes, spacing):
    content = META_HEADER.format(axes=axes, spacing=spacing).encode() + bytes(2 * 10 * 9 * 8)
    (tmp_path / "a.mha").write_bytes(content)
    with pytest.raises(BadGeometry, match=r"a\.mha"):
        read_scan(tmp_path / "a.mha")


def test_a_vector_image_in_memory_is_refused():
    image = sitk.Compose([sitk.Image([4, 4, 4], sitk.sitkFloat32)] * 2)
    with pytest.raises(NotAThreeDimensionalScan):
        volume_from_itk(image)


@pytest.mark.parametrize(
    ("name", "local"),
    [("../b.raw", ""), ("{out}/b.raw", ""), ("LIST", "\na.raw\n../b.raw\n"), ("x/../../b.raw", "")],
)
def test_voxels_outside_the_headers_folder_are_not_read(tmp_path, name, local):
    (tmp_path / "in").mkdir()
    sitk.WriteImage(volume_to_itk(on(Grid((4, 4, 4), (1, 1, 1)))), str(tmp_path / "in" / "b.mhd"))
    (tmp_path / "in" / "b.raw").rename(tmp_path / "b.raw")
    text = (tmp_path / "in" / "b.mhd").read_text()
    named = f"ElementDataFile = {name.format(out=tmp_path)}{local}"
    (tmp_path / "in" / "b.mhd").write_text(text.replace("ElementDataFile = b.raw", named))
    with pytest.raises(UnreadableScan, match="outside its own folder"):
        read_scan(tmp_path / "in" / "b.mhd")
