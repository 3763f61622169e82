"""NIfTI as plain arrays: never mirrored, whatever the file's axis order."""

import numpy as np
import pytest

from payerseg.domain.grid import Grid
from payerseg.domain.volume import Volume
from payerseg.errors import InputError
from payerseg.imaging.arrays import load_nifti, save_nifti
from payerseg.imaging.files import read_volume, write_volume
from payerseg.imaging.orient import Orientation

GRID = Grid((6, 5, 4), (1.5, 2.0, 3.0), (10.0, -20.0, 300.0))


@pytest.fixture
def volume():
    array = np.arange(120, dtype=np.int16).reshape(GRID.shape)
    return Volume(array, GRID)


@pytest.mark.parametrize("flips", [(False, False, False), (True, False, True)])
@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
def test_every_storage_order_loads_as_the_same_array(volume, axes, flips, tmp_path):
    stored = Orientation(axes, flips).apply(volume)
    write_volume(stored, tmp_path / "scan.nii.gz")
    image, spacing, affine = load_nifti(tmp_path / "scan.nii.gz")
    np.testing.assert_array_equal(image, volume.array)
    np.testing.assert_allclose(spacing, GRID.spacing_mm, rtol=1e-6)
    np.testing.assert_allclose(affine, GRID.matrix, atol=1e-4)


def test_what_is_saved_lies_where_the_scan_does(volume, tmp_path):
    write_volume(Orientation((1, 0, 2), (True, False, False)).apply(volume), tmp_path / "s.nii")
    scan = load_nifti(tmp_path / "s.nii")
    save_nifti((scan.image > 50).astype(np.uint8), scan.affine, tmp_path / "labels.nii.gz")
    labels = read_volume(tmp_path / "labels.nii.gz")
    assert labels.grid.same_space_as(volume.grid)
    np.testing.assert_array_equal(labels.array, volume.array > 50)


def test_other_endings_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"scan\.mha is not named like a NIfTI"):
        load_nifti(tmp_path / "scan.mha")
    with pytest.raises(InputError, match="expected"):
        save_nifti(np.zeros((2, 2, 2), np.uint8), np.eye(4), tmp_path / "x.png")
