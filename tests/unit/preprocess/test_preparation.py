"""The prepared CT: the same for every way one scan can be stored."""

from dataclasses import replace
from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest

from payerseg.config.schema import PreparationConfig
from payerseg.domain.grid import Grid
from payerseg.domain.volume import Volume
from payerseg.errors import BadGeometry, NotHounsfield
from payerseg.imaging.files import read_volume, write_labels, write_volume
from payerseg.imaging.nifti import LPS_FROM_RAS, write_nifti
from payerseg.imaging.orient import Orientation
from payerseg.imaging.raw_scan import RawScan
from payerseg.imaging.scan_record import SourceHeader
from payerseg.preprocess.preparation import HU_RANGE, prepare_raw, prepare_scan

SETTINGS = PreparationConfig()
ORDERS = [
    Orientation(p, f) for p in permutations(range(3)) for f in product([False, True], repeat=3)
]
FLOAT32_MM = 1e-3


@pytest.fixture(scope="module")
def scan(synthetic_spine):
    """Small and of unequal sides and spacings."""
    grid = Grid((30, 35, 40), (2.0, 2.5, 4.0), (-40.0, -43.0, -58.0))
    ct = synthetic_spine(grid).ct
    return ct.with_array(ct.array.clip(-1024))


def stored(volume, path):
    write_volume(volume.with_array(np.ascontiguousarray(volume.array)), path)
    return path


def codes(prepared):
    return {note.code for note in prepared.record.notes}


@pytest.mark.parametrize("order", ORDERS, ids=lambda o: f"{o.axes_zyx}{o.flips_zyx}")
def test_48_orders_give_one_ct_and_labels_return_to_each(tmp_path, scan, order):
    path = stored(order.apply(scan), tmp_path / "scan.nii.gz")
    prepared = prepare_scan(path, SETTINGS)
    np.testing.assert_array_equal(prepared.ct.array, scan.array)
    assert prepared.ct.grid.same_space_as(scan.grid, FLOAT32_MM)
    assert prepared.ct.array.flags.c_contiguous
    bright = prepared.ct.with_array((prepared.ct.array > 200).astype(np.uint8))
    labels = prepared.record.restore(bright)
    write_labels(labels.volume, tmp_path / "seg.nii.gz", like=labels.header)
    np.testing.assert_array_equal(
        nib.load(tmp_path / "seg.nii.gz").get_fdata(), nib.load(path).get_fdata() > 200
    )
    np.testing.assert_array_equal(nib.load(tmp_path / "seg.nii.gz").affine, nib.load(path).affine)


@pytest.mark.parametrize("ending", [".nii", ".mha", ".mhd", ".nrrd"])
def test_every_format_gives_one_ct(tmp_path, scan, ending):
    path = stored(ORDERS[29].apply(scan), tmp_path / f"scan{ending}")
    prepared = prepare_scan(path, SETTINGS)
    np.testing.assert_array_equal(prepared.ct.array, scan.array)
    assert prepared.ct.grid.same_space_as(scan.grid, FLOAT32_MM)


def test_any_geometry_keeps_every_voxel_in_its_place(tmp_path, synthetic_spine, any_grid):
    spine = synthetic_spine(any_grid)
    path = stored(ORDERS[13].apply(spine.ct), tmp_path / "scan.nii.gz")
    prepared = prepare_scan(path, SETTINGS)
    index = np.argwhere(prepared.ct.array > 200)[::97]
    places = prepared.ct.grid.map_indices_to_world(index)
    back = np.rint(spine.ct.grid.map_world_to_indices(places)).astype(int)
    values = prepared.ct.array[tuple(index.T)]
    np.testing.assert_array_equal(values, spine.ct.array[tuple(back.T)])
    assert prepared.record.facts["sheared"] is not any_grid.is_orthonormal


def test_a_moved_header_moves_the_ct_and_nothing_else(tmp_path, scan):
    shift = np.array([700.25, -1300.5, 42.125])
    moved = Volume(scan.array, replace(scan.grid, origin_mm=tuple(shift + scan.grid.origin_mm)))
    here = prepare_scan(stored(scan, tmp_path / "a.nii"), SETTINGS)
    there = prepare_scan(stored(moved, tmp_path / "b.nii"), SETTINGS)
    np.testing.assert_array_equal(here.ct.array, there.ct.array)
    np.testing.assert_allclose(
        there.ct.grid.corners_mm() - here.ct.grid.corners_mm(),
        np.tile(shift, (8, 1)),
        atol=FLOAT32_MM,
    )


@pytest.mark.parametrize("kind", [np.int32, np.float32, np.float64])
def test_stored_types(tmp_path, scan, kind):
    path = stored(scan.with_array(scan.array.astype(kind)), tmp_path / "scan.nii.gz")
    prepared = prepare_scan(path, SETTINGS)
    assert prepared.ct.array.dtype == np.int16
    np.testing.assert_array_equal(prepared.ct.array, scan.array)
    assert prepared.record.facts["stored_type"] == np.dtype(kind).name


@pytest.mark.parametrize("kind", [np.uint16, np.int32])
def test_an_offset_is_removed_and_told(tmp_path, scan, kind):
    path = stored(scan.with_array((scan.array + 1024).clip(0).astype(kind)), tmp_path / "scan.mha")
    prepared = prepare_scan(path, SETTINGS)
    np.testing.assert_array_equal(prepared.ct.array, scan.array.clip(-1024))
    assert "offset_removed" in codes(prepared)


def test_rescaled_data(tmp_path, scan):
    image = nib.Nifti1Image(
        (scan.array.transpose(2, 1, 0) + 1024).astype(np.uint16), LPS_FROM_RAS @ scan.grid.matrix
    )
    image.header.set_slope_inter(1.0, -1024.0)
    nib.save(image, tmp_path / "scan.nii.gz")
    prepared = prepare_scan(tmp_path / "scan.nii.gz", SETTINGS)
    np.testing.assert_array_equal(prepared.ct.array, scan.array)
    assert prepared.record.facts["intercept"] == -1024.0


def test_nan_and_infinities_become_air(tmp_path, scan):
    values = scan.array.astype(np.float32)
    values[3, 4, 5], values[6, 7, 8], values[9, 9, 9] = np.nan, np.inf, -np.inf
    prepared = prepare_scan(stored(scan.with_array(values), tmp_path / "scan.nii.gz"), SETTINGS)
    assert [prepared.ct.array[p] for p in ((3, 4, 5), (6, 7, 8), (9, 9, 9))] == [-1024] * 3
    assert prepared.record.facts["non_finite_voxels"] == 3
    assert "non_finite" in codes(prepared)


def test_values_are_rounded_and_clipped(tmp_path, scan):
    values = scan.array.astype(np.float64)
    values[0, 0, :5] = [40.6, -40.6, 1e9, -1e9, 3071.4]
    prepared = prepare_scan(stored(scan.with_array(values), tmp_path / "scan.nii.gz"), SETTINGS)
    low, high = HU_RANGE
    assert prepared.ct.array[0, 0, :5].tolist() == [41, -41, high, low, 3071]
    assert prepared.record.facts["voxels_above_range"] == 1
    assert "clipped_above" in codes(prepared)


def test_our_own_file_comes_back(tmp_path, synthetic_spine, any_grid):
    path = stored(ORDERS[40].apply(synthetic_spine(any_grid).ct), tmp_path / "scan.nii.gz")
    prepared = prepare_scan(path, SETTINGS)
    write_nifti(tmp_path / "ct.nii.gz", prepared.ct.array, prepared.ct.grid)
    back = read_volume(tmp_path / "ct.nii.gz")
    np.testing.assert_array_equal(back.array, prepared.ct.array)
    assert back.grid.same_space_as(prepared.ct.grid, FLOAT32_MM)


def test_many_thin_slices(tmp_path):
    """More slices than the reference can do (REFERENCE Q5)."""
    array = np.full((3200, 8, 8), -1000, np.int16)
    array[:, 2:7, 1:7] = np.random.default_rng(0).normal(40, 15, (3200, 5, 6)).astype(np.int16)
    path = tmp_path / "scan.nii.gz"
    write_nifti(path, array, Grid(array.shape, (5.0, 5.0, 0.5)))
    np.testing.assert_array_equal(prepare_scan(path, SETTINGS).ct.array, array)


def prepare_volume(volume, name, settings):
    return prepare_raw(
        RawScan(volume.array, volume.grid, SourceHeader("memory", volume.grid)), name, settings
    )


def test_in_memory(scan):
    prepared = prepare_volume(scan, "array", SETTINGS)
    np.testing.assert_array_equal(prepared.ct.array, scan.array)
    restored = prepared.record.restore(prepared.ct.with_array(np.ones(scan.grid.shape, np.uint8)))
    assert restored.volume.grid == scan.grid


def test_too_thin_or_too_coarse(scan):
    thin = Volume(scan.array[:5], scan.grid.window((0, 0, 0), (5, 35, 40)))
    with pytest.raises(BadGeometry, match="at least 30 mm"):
        prepare_volume(thin, "thin", SETTINGS)
    coarse = Volume(scan.array, replace(scan.grid, spacing_mm=(2.0, 2.5, 15.0)))
    with pytest.raises(BadGeometry, match="at most 12 mm"):
        prepare_volume(coarse, "coarse", SETTINGS)


def test_the_hounsfield_check_can_be_switched_off(scan):
    dim = scan.with_array((scan.array / 4000).astype(np.float32))
    with pytest.raises(NotHounsfield):
        prepare_volume(dim, "dim", SETTINGS)
    prepare_volume(dim, "dim", replace(SETTINGS, check_hounsfield=False))


def test_a_unit_matrix_is_reviewed(tmp_path, scan):
    for name, signs in (("a.nii", (-1, -1, 1)), ("b.nii", (1, 1, 1))):
        grid = Grid(scan.array.shape, (1.0, 1.0, 1.0), (0.0,) * 3, tuple(np.diag(signs).ravel()))
        write_nifti(tmp_path / name, scan.array, grid, compress=False)
        settings = replace(SETTINGS, min_size_mm=20.0)
        notes = prepare_scan(tmp_path / name, settings).record.notes
        assert [(note.code, note.review) for note in notes] == [("unit_matrix", True)]
    elsewhere = Grid(scan.array.shape, (1.0, 1.0, 1.0), (5.0, 0.0, 0.0))
    write_nifti(tmp_path / "c.nii", scan.array, elsewhere, compress=False)
    assert not codes(prepare_scan(tmp_path / "c.nii", settings))
