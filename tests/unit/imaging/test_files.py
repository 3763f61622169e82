"""The door to image files, and labels in the place of a scan."""

import nibabel as nib
import numpy as np
import pytest

from payerseg.domain.grid import Grid
from payerseg.domain.volume import Volume
from payerseg.errors import GridMismatch, UnreadableScan
from payerseg.imaging.files import (
    read_label_map,
    read_scan,
    read_volume,
    verify_written_labels,
    write_labels,
    write_volume,
)
from payerseg.imaging.orient import Orientation
from payerseg.imaging.scan_record import LabelMap

ENDINGS = (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd")
FLOAT32_MM = 1e-3


def scan_on(grid, seed=0):
    array = np.random.default_rng(seed).integers(-1000, 2000, (7, 6, 5)).astype(np.int16)
    return Volume(array, Grid(array.shape, grid.spacing_mm, grid.origin_mm, grid.direction))


def labels_on(volume, seed=0):
    rng = np.random.default_rng(seed)
    return volume.with_array(rng.integers(0, 29, volume.grid.shape).astype(np.uint8))


@pytest.mark.parametrize("ending", ENDINGS)
def test_labels_lie_exactly_on_the_input(tmp_path, any_grid, ending):
    scan = Orientation((2, 0, 1), (True, False, True)).apply(scan_on(any_grid))
    path = tmp_path / f"scan{ending}"
    write_volume(scan.with_array(np.ascontiguousarray(scan.array)), path)
    stored = read_volume(path)
    write_labels(labels_on(stored), tmp_path / "seg.nii.gz", like=path)
    back = read_volume(tmp_path / "seg.nii.gz")
    np.testing.assert_array_equal(back.array, labels_on(stored).array)
    assert back.grid.same_space_as(stored.grid, FLOAT32_MM)
    if ending.startswith(".nii"):
        np.testing.assert_array_equal(
            nib.load(tmp_path / "seg.nii.gz").affine, nib.load(path).affine
        )
        assert back.grid == stored.grid


def test_labels_of_another_grid_are_refused(tmp_path):
    scan = scan_on(Grid((7, 6, 5), (1, 1, 1)))
    write_volume(scan, tmp_path / "scan.nii.gz")
    shifted = Volume(scan.array, Grid(scan.grid.shape, (1, 1, 1), (0, 0, 1)))
    with pytest.raises(GridMismatch):
        write_labels(labels_on(shifted), tmp_path / "seg.nii.gz", like=tmp_path / "scan.nii.gz")


def test_verification_finds_a_changed_voxel_and_a_moved_grid(tmp_path):
    scan = scan_on(Grid((7, 6, 5), (1, 1, 1)))
    write_volume(scan, tmp_path / "scan.nii.gz")
    header = read_scan(tmp_path / "scan.nii.gz").source
    labels = labels_on(scan)
    write_labels(labels, tmp_path / "seg.nii.gz", like=header)
    changed = labels.array.copy()
    changed[3, 3, 3] += 1
    with pytest.raises(GridMismatch, match="does not hold"):
        verify_written_labels(tmp_path / "seg.nii.gz", LabelMap(labels.with_array(changed), header))
    moved = nib.load(tmp_path / "seg.nii.gz")
    moved.set_sform(moved.affine + np.diag([0, 0, 0.001, 0]), code=1)
    nib.save(moved, tmp_path / "moved.nii.gz")
    with pytest.raises(GridMismatch, match="srow_z"):
        verify_written_labels(tmp_path / "moved.nii.gz", LabelMap(labels, header))


@pytest.mark.parametrize(("largest", "kind"), [(28, np.uint8), (255, np.uint8), (300, np.int16)])
def test_labels_are_stored_small(tmp_path, largest, kind):
    scan = scan_on(Grid((7, 6, 5), (1, 1, 1)))
    write_volume(scan, tmp_path / "scan.nii.gz")
    labels = scan.with_array(np.full(scan.grid.shape, largest, np.int64))
    write_labels(labels, tmp_path / "seg.nii.gz", like=tmp_path / "scan.nii.gz")
    assert read_volume(tmp_path / "seg.nii.gz").array.dtype == kind


def test_a_plain_file_beside_a_gzipped_one_is_never_taken_for_it(tmp_path):
    """SimpleITK reads a.nii when asked for a.nii.gz beside it."""
    grid = Grid((7, 6, 5), (1, 1, 1))
    write_volume(Volume(np.ones(grid.shape, np.int16), grid), tmp_path / "a.nii.gz")
    write_volume(Volume(np.zeros(grid.shape, np.int16), grid), tmp_path / "a.nii")
    assert read_volume(tmp_path / "a.nii.gz").array.all()
    assert not read_volume(tmp_path / "a.nii").array.any()


@pytest.mark.parametrize("ending", ENDINGS)
def test_empty_directory_missing(tmp_path, ending):
    (tmp_path / f"zero{ending}").touch()
    (tmp_path / f"dir{ending}").mkdir()
    for name, reason in (("zero", "0 bytes"), ("dir", "directory"), ("none", "does not exist")):
        with pytest.raises(UnreadableScan, match=reason):
            read_scan(tmp_path / f"{name}{ending}")


def test_no_right_to_read(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "a.nii").write_bytes(bytes(400))
    monkeypatch.setattr("payerseg.imaging.files.read_nifti", refuse)
    with pytest.raises(UnreadableScan, match="Permission denied"):
        read_scan(tmp_path / "a.nii")


def test_unknown_endings(tmp_path):
    (tmp_path / "a.tiff").write_bytes(b"II*\0")
    with pytest.raises(UnreadableScan, match="unknown ending"):
        read_scan(tmp_path / "a.tiff")
    with pytest.raises(UnreadableScan, match="unknown ending"):
        write_volume(scan_on(Grid((7, 6, 5), (1, 1, 1))), tmp_path / "a.jpg")


@pytest.mark.parametrize("kind", [bool, np.float16, np.int64, np.uint64])
def test_types_that_nifti_does_not_hold(tmp_path, kind):
    grid = Grid((7, 6, 5), (1, 1, 1))
    array = (scan_on(grid).array > 0).astype(kind)
    write_volume(Volume(array, grid), tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nii.gz").array, array)


def test_label_maps_are_whole_numbers(tmp_path, any_grid):
    labels = labels_on(scan_on(any_grid))
    sloped = labels.array.astype(np.float32) * np.nextafter(np.float32(1), np.float32(2))
    write_volume(labels.with_array(sloped), tmp_path / "sloped.nii.gz")
    found = read_label_map(tmp_path / "sloped.nii.gz").array
    assert found.dtype.kind == "i"
    assert np.array_equal(found, labels.array)
    for name, wrong in (("halves", 0.5), ("nan", np.nan)):
        write_volume(labels.with_array(sloped + np.float32(wrong)), tmp_path / f"{name}.nii.gz")
        with pytest.raises(UnreadableScan, match="fractions or no numbers"):
            read_label_map(tmp_path / f"{name}.nii.gz")
