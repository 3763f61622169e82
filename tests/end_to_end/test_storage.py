"""However a file stores a scan, the result is the same (B1, B6): orders, offsets, headers, types, slabs.

In this process, with networks set by hand, on a scan whose truth is known.
"""

from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest

import payerseg
from payerseg.domain.grid import Grid
from payerseg.domain.volume import Volume
from payerseg.imaging.files import write_volume
from payerseg.imaging.orient import Orientation
from payerseg.stagekit.case_run import StageSetup
from payerseg.stagekit.catalog import PIPELINE, QUALITY_REPORT
from payerseg.stagekit.in_process import InProcessStage

ORDERS = [
    Orientation(p, f) for p in permutations(range(3)) for f in product([False, True], repeat=3)
]
OFFSETS_MM = [(0.0, 0.0, 0.0), (812.5, -1430.25, 2210.0), (-0.37, 0.81, -511.13)]
HEADER_MM = 2e-3
"""NIfTI holds positions as float32; landmarks are written in micrometres."""


@pytest.fixture(scope="module")
def pipeline(handmade_weights):
    return payerseg.Pipeline(payerseg.load_config("tiny_test"), weights=handmade_weights)


@pytest.fixture(scope="module")
def stages(handmade_weights):
    config = payerseg.load_config("tiny_test")
    setups = {
        spec: StageSetup(getattr(config, spec.section), handmade_weights.get(spec.name), 0)
        for spec in PIPELINE
        if spec is not QUALITY_REPORT
    }
    return [InProcessStage(spec, setup) for spec, setup in setups.items()]


@pytest.fixture(scope="module", params=["plain", "oblique", "sheared"])
def scan(request, synthetic_spine, synthetic_grids):
    return synthetic_spine(synthetic_grids[request.param](), coded=True)


@pytest.fixture(scope="module")
def expected(pipeline, scan, tmp_path_factory):
    path = tmp_path_factory.mktemp("expected") / "scan.nii.gz"
    write_volume(scan.ct, path)
    return pipeline(path)


def shifted(ct, offset_mm):
    grid = ct.grid
    origin = tuple(np.add(grid.origin_mm, offset_mm))
    return Volume(ct.array, Grid(grid.shape, grid.spacing_mm, origin, grid.direction))


def assert_same(result, expected, order, offset_mm):
    """Landmarks in mm and the mask, voxel for voxel."""
    assert list(result.landmarks) == list(expected.landmarks)
    gap = result.landmarks.positions_mm - expected.landmarks.positions_mm - np.array(offset_mm)
    assert np.abs(gap).max() < HEADER_MM
    mask = order.inverse.apply(result.labels).array
    # a header's rounding may move a border by a voxel here and there
    assert np.mean(mask != expected.labels.array) < 1e-5


def test_the_truth_is_found(scan, expected):
    assert list(expected.landmarks) == list(scan.landmarks)
    gap = expected.landmarks.positions_mm - scan.landmarks.positions_mm
    assert np.linalg.norm(gap, axis=1).max() < 2
    for vertebra in scan.landmarks:
        found, true = (x.array == vertebra.verse_label for x in (expected.labels, scan.labels))
        assert 2 * (found & true).sum() / (found.sum() + true.sum()) > 0.85, vertebra


@pytest.mark.parametrize("number", [10, 37])
def test_b1_storage_order_and_offset_change_nothing(pipeline, scan, expected, number, tmp_path):
    order, offset = ORDERS[number], OFFSETS_MM[number % 3]
    path = tmp_path / "scan.nii.gz"
    write_volume(order.apply(shifted(scan.ct, offset)), path)
    assert_same(pipeline(path), expected, order, offset)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(48))
def test_b1_all_48_orders(pipeline, scan, expected, number, tmp_path):
    path = tmp_path / "scan.nii.gz"
    write_volume(ORDERS[number].apply(scan.ct), path)
    assert_same(pipeline(path), expected, ORDERS[number], (0.0, 0.0, 0.0))


def test_b1_the_mask_lies_on_the_file(stages, scan, tmp_path):
    """The label file's header is the scan's: shape, affine, codes, units, zooms, by another reader."""
    stored = Orientation((2, 0, 1), (True, True, False)).apply(scan.ct)
    write_volume(stored, tmp_path / "scan.nii.gz")
    image = nib.load(tmp_path / "scan.nii.gz")
    image.set_sform(image.affine, 4)
    if scan.ct.grid.is_orthonormal:
        image.set_qform(image.affine, 2)
    nib.save(image, tmp_path / "coded.nii.gz")
    for stage in stages:
        stage("coded", tmp_path / "out", tmp_path / "coded.nii.gz")
    source = nib.load(tmp_path / "coded.nii.gz")
    mask = nib.load(tmp_path / "out/step3_vertebrae_segmentation/coded_seg.nii.gz")
    assert mask.shape == source.shape
    np.testing.assert_array_equal(mask.affine, source.affine)
    for key in ("qform_code", "sform_code", "pixdim", "srow_x", "srow_y", "srow_z"):
        np.testing.assert_array_equal(mask.header[key], source.header[key], err_msg=key)
    assert mask.header.get_xyzt_units() == source.header.get_xyzt_units()
    assert nib.aff2axcodes(mask.affine) == nib.aff2axcodes(source.affine) != ("L", "P", "S")
    assert mask.get_data_dtype() == np.uint8
    assert len(np.unique(mask.dataobj)) == 1 + len(scan.landmarks)


@pytest.mark.parametrize(
    ("spacing_mm", "extent_mm", "levels"),
    [
        pytest.param((2.0, 2.0, 2.0), (120.0, 120.0, 60.0), ("T12", "L1"), id="slab of 60 mm"),
        pytest.param((3.0, 3.0, 0.1), (120.0, 120.0, 320.0), ("T8", "L3"), id="b7 3200 slices"),
    ],
)
def test_short_and_long_scans(pipeline, synthetic_spine, spacing_mm, extent_mm, levels):
    sizes = [round(e / s) for e, s in zip(extent_mm, spacing_mm, strict=True)]
    scan = synthetic_spine(Grid(tuple(sizes[::-1]), spacing_mm), *levels, coded=True)
    result = pipeline(scan.ct)
    assert list(result.landmarks) == list(scan.landmarks)
    assert result.labels.grid == scan.ct.grid
    gap = result.landmarks.positions_mm - scan.landmarks.positions_mm
    assert np.linalg.norm(gap, axis=1).max() < 3
