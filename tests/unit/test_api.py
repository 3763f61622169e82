"""The library call, with networks set by hand: what matters is space, status and that nothing is lost."""

import numpy as np
import pytest

import payerseg
from payerseg.domain.grid import Grid
from payerseg.domain.volume import Volume
from payerseg.errors import BundleError, InputError, NotAThreeDimensionalScan, NotHounsfield
from payerseg.imaging.files import read_scan, write_volume
from payerseg.imaging.itk_files import volume_to_itk


@pytest.fixture(scope="module")
def pipeline(handmade_weights):
    return payerseg.Pipeline(payerseg.load_config("tiny_test"), weights=handmade_weights)


@pytest.fixture(scope="module")
def scan(synthetic_spine, synthetic_grids):
    return synthetic_spine(synthetic_grids["oblique"](), coded=True)


@pytest.fixture(scope="module")
def result(pipeline, scan):
    return pipeline(scan.ct)


def test_a_result_lies_on_the_grid_of_the_scan(result, scan):
    assert result.status in ("ok", "ok_needs_review")
    assert bool(result.reasons) == result.needs_review
    assert result.labels.grid == scan.ct.grid
    assert result.labels.array.dtype == np.uint8
    assert len(result.landmarks) >= 3


def test_points_and_masks_agree_in_the_world(result):
    points = result.landmarks.positions_mm
    zyx = np.rint(result.labels.grid.map_world_to_indices(points)).astype(int)
    found = [int(result.labels.array[tuple(index)]) for index in zyx]
    assert found == [vertebra.verse_label for vertebra in result.landmarks]


def test_every_vertebra_is_found_and_named(result, scan):
    assert list(result.landmarks) == list(scan.landmarks)
    gap = result.landmarks.positions_mm - scan.landmarks.positions_mm
    assert np.linalg.norm(gap, axis=1).max() < 2


def test_masks_are_the_vertebrae(result, scan):
    for vertebra in scan.landmarks:
        found = result.labels.array == vertebra.verse_label
        true = scan.labels.array == vertebra.verse_label
        assert 2 * (found & true).sum() / (found.sum() + true.sum()) > 0.85


def test_every_way_to_give_a_scan_gives_the_same(pipeline, result, scan, tmp_path):
    write_volume(scan.ct, tmp_path / "scan.mha")
    for given in (tmp_path / "scan.mha", str(tmp_path / "scan.mha"), volume_to_itk(scan.ct)):
        other = pipeline(given)
        assert np.array_equal(other.labels.array, result.labels.array)
        gap = other.landmarks.positions_mm - result.landmarks.positions_mm
        assert np.abs(gap).max() < 2e-3


def test_a_dicom_folder_and_its_zip_are_scans(pipeline, dicom, synthetic_spine, tmp_path):
    ct = synthetic_spine(coded=True).ct
    folder = dicom.save(dicom.slices(ct), tmp_path / "study")
    expected = pipeline(ct)
    for given in (folder, dicom.zipped(folder)):
        found = pipeline(given)
        assert found.labels.grid.same_space_as(ct.grid)
        assert np.array_equal(found.labels.array, expected.labels.array)


def test_an_array_with_spacing_is_taken_as_lps(pipeline, synthetic_spine):
    ct = synthetic_spine(coded=True).ct
    result = pipeline((ct.array, ct.grid.spacing_mm))
    assert result.labels.grid == Grid(ct.grid.shape, ct.grid.spacing_mm)


def test_the_image_for_sitk_lies_where_the_scan_does(result, scan):
    image, original = result.to_sitk(), volume_to_itk(scan.ct)
    assert image.GetSize() == original.GetSize()
    assert image.GetOrigin() == original.GetOrigin()
    assert image.GetDirection() == original.GetDirection()


def test_without_a_spine_nothing_is_invented(pipeline):
    grid = Grid((60, 60, 60), (2.0, 2.0, 2.0))
    noise = np.random.default_rng(0).normal(40, 10, grid.shape).astype(np.int16)
    noise[:, :20] = -1000
    result = pipeline(Volume(noise, grid))
    # no tissue of a body has such values, so a person is asked to look
    assert result.status == "ok_needs_review"
    assert result.reasons[0]
    assert len(result.landmarks) == 0
    assert result.labels.grid == grid
    assert not result.labels.array.any()


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (np.zeros((4, 4, 4)), InputError),
        ((np.zeros((4, 4)), (1, 1, 1)), InputError),
        ((np.zeros((4, 4, 4)), (1, 1)), InputError),
        ("absent.nii.gz", InputError),
        (None, InputError),
        ((np.full((40, 40, 40), 20000, np.int16), (2.0, 2.0, 2.0)), NotHounsfield),
    ],
)
def test_what_is_no_scan_is_refused(pipeline, given, error):
    with pytest.raises(error):
        pipeline(given)


def test_an_image_of_two_dimensions_is_refused(pipeline, scan):
    image = volume_to_itk(scan.ct)[:, :, 10]
    with pytest.raises(NotAThreeDimensionalScan, match="2 dimensions"):
        pipeline(image)


def test_missing_weights_are_named_before_any_work(tmp_path, handmade_weights):
    weights = {**handmade_weights, "vertebrae_segmentation": tmp_path / "absent"}
    with pytest.raises(BundleError, match="absent"):
        payerseg.Pipeline(weights=weights)


def test_nothing_is_left_behind(pipeline, scan, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    pipeline(scan.ct)
    assert list(tmp_path.iterdir()) == []


def test_the_scan_file_is_not_touched(pipeline, scan, tmp_path):
    path = tmp_path / "scan.nii.gz"
    write_volume(scan.ct, path)
    before = path.read_bytes(), path.stat().st_mtime_ns
    assert pipeline(path).labels.grid.same_space_as(read_scan(path).grid)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert [p.name for p in tmp_path.iterdir()] == ["scan.nii.gz"]


def test_an_array_gives_plain_arrays_and_names(pipeline, result, scan):
    given = scan.ct.array, scan.ct.grid.spacing_mm
    placed = pipeline.run(*given, scan.ct.grid.matrix)
    assert placed.segmentation.shape == scan.ct.array.shape
    assert np.array_equal(placed.segmentation, result.labels.array)
    assert list(placed.landmarks) == [vertebra.name for vertebra in result.landmarks]
    points = np.array(list(placed.landmarks.values()))
    assert np.abs(points - result.landmarks.positions_mm).max() < 2e-3
    assert placed.status == result.status


def test_without_an_affine_points_are_counted_from_the_first_voxel(pipeline, synthetic_spine):
    spine = synthetic_spine(coded=True)
    found = pipeline.run(spine.ct.array, spine.ct.grid.spacing_mm)
    for name, point in found.landmarks.items():
        true = next(m.position_mm for v, m in spine.landmarks.items() if v.name == name)
        assert np.linalg.norm(np.subtract(true, spine.ct.grid.origin_mm) - point) < 2


def test_spacing_and_affine_must_agree(pipeline, scan):
    with pytest.raises(InputError, match="the affine's columns say"):
        pipeline.run(scan.ct.array, (1.0, 2.0, 2.0), scan.ct.grid.matrix)
    with pytest.raises(InputError, match="expected \\(4, 4\\)"):
        pipeline.run(scan.ct.array, (2.0, 2.0, 2.0), np.eye(3))


def test_public_names():
    assert set(payerseg.__all__) <= set(dir(payerseg))
    assert all(getattr(payerseg, name) for name in payerseg.__all__)
    assert payerseg.segment.__doc__
    with pytest.raises(AttributeError, match="no attribute 'bogus'"):
        _ = payerseg.bogus
