"""Every format: there and back, and the same bytes every time."""

import json

import nibabel as nib
import numpy as np
import pytest

from payerseg.config.schema import PreparationConfig
from payerseg.domain.grid import Grid
from payerseg.domain.landmarks import Landmark, Landmarks
from payerseg.domain.spine_box import SpineBox
from payerseg.domain.vertebra import Vertebra
from payerseg.domain.volume import Volume
from payerseg.errors import ArtifactError, GridMismatch
from payerseg.imaging.files import write_volume
from payerseg.imaging.orient import Orientation
from payerseg.preprocess.preparation import prepare_scan
from payerseg.results import artifacts, formats
from payerseg.results.artifacts import (
    CANDIDATES,
    CT,
    HEATMAPS,
    LANDMARKS_CSV,
    PROJECTION,
    REPORT,
    SCAN,
    SEGMENTATION,
    SPINE_BOX,
    SPINE_HEATMAP,
    VERTEBRAE,
    Artifact,
)
from payerseg.results.case_folder import CaseFolder
from payerseg.results.formats import read_artifact, write_artifact

FLOAT32_MM = 1e-3


@pytest.fixture
def folder(tmp_path):
    return CaseFolder(tmp_path / "case", "case")


@pytest.fixture
def prepared(tmp_path, folder, synthetic_spine, any_grid):
    """A scan stored in an odd order, prepared, its scan.json in place."""
    stored = Orientation((1, 2, 0), (True, False, True)).apply(synthetic_spine(any_grid).ct)
    write_volume(stored.with_array(np.ascontiguousarray(stored.array)), tmp_path / "scan.nii.gz")
    prepared = prepare_scan(tmp_path / "scan.nii.gz", PreparationConfig())
    put(SCAN, prepared.record, folder)
    return prepared


def put(artifact, value, folder):
    path = folder.path(artifact)
    (path if artifact.directory else path.parent).mkdir(parents=True, exist_ok=True)
    write_artifact(artifact, value, path, folder)
    return path


def bytes_of(path):
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    return [(file.name, file.read_bytes()) for file in files]


def sample_values():
    grid = Grid((6, 7, 8), (2.0, 2.0, 3.0), (1.0, 2.0, 3.0))
    rng = np.random.default_rng(0)
    heat = rng.random((*grid.shape, 26)).astype(np.float32)
    return {
        CT: Volume(rng.integers(-1000, 2000, grid.shape).astype(np.int16), grid),
        SPINE_HEATMAP: Volume(heat[..., 0], grid),
        HEATMAPS: Volume(heat, grid),
        SPINE_BOX: SpineBox((1.0, 2.0, 1 / 3), (4.0, 5.0, 6.0)),
        LANDMARKS_CSV: Landmarks([Landmark(Vertebra.T12, (1.0, 2.0, 3.0), 0.5, ("bridged",))]),
        PROJECTION: rng.integers(0, 255, (20, 30, 3)).astype(np.uint8),
        CANDIDATES: {"b": [1, 2.5, None], "a": "größer"},
        REPORT: "<p>größer</p>\n",
    }


VALUES = sample_values()


def test_every_artifact_has_a_codec():
    declared = [item for item in vars(artifacts).values() if isinstance(item, Artifact)]
    assert {item.format for item in declared} <= set(formats._CODECS)
    assert len(declared) > 10


@pytest.mark.parametrize("artifact", sorted(VALUES, key=lambda a: a.name), ids=lambda a: a.name)
def test_the_same_value_gives_the_same_bytes(folder, tmp_path, artifact):
    first = put(artifact, VALUES[artifact], folder)
    other = CaseFolder(tmp_path / "elsewhere" / "another", "another")
    assert [b for _, b in bytes_of(first)] == [
        b for _, b in bytes_of(put(artifact, VALUES[artifact], other))
    ]


@pytest.mark.parametrize(
    "artifact", [SPINE_BOX, LANDMARKS_CSV, CANDIDATES, REPORT], ids=lambda a: a.name
)
def test_plain_values_come_back(folder, artifact):
    path = put(artifact, VALUES[artifact], folder)
    assert read_artifact(artifact, path) == VALUES[artifact]


def test_ct_comes_back(folder):
    got = read_artifact(CT, put(CT, VALUES[CT], folder))
    np.testing.assert_array_equal(got.array, VALUES[CT].array)
    assert got.grid.same_space_as(VALUES[CT].grid, FLOAT32_MM)
    with pytest.raises(ArtifactError, match="int16"):
        put(CT, VALUES[SPINE_HEATMAP], folder)


def test_scan_record_comes_back(folder, prepared):
    assert read_artifact(SCAN, folder.path(SCAN)) == prepared.record


@pytest.mark.parametrize("scale", [1.0, 1e-3, 50.0, -2.0, 0.0])
def test_a_heatmap_keeps_four_digits(folder, scale):
    heat = VALUES[SPINE_HEATMAP].with_array(VALUES[SPINE_HEATMAP].array * np.float32(scale))
    got = read_artifact(SPINE_HEATMAP, put(SPINE_HEATMAP, heat, folder))
    np.testing.assert_allclose(got.array, heat.array, atol=2e-5 * max(abs(scale), 1e-9))


def test_a_heatmap_with_nan_is_refused(folder):
    broken = VALUES[SPINE_HEATMAP].with_array(np.full((6, 7, 8), np.nan, np.float32))
    with pytest.raises(ArtifactError, match="NaN"):
        put(SPINE_HEATMAP, broken, folder)


def test_label_heatmaps_keep_the_highest_and_its_label(folder):
    heat = np.zeros((6, 7, 8, 26), np.float32)
    heat[1, 2, 3, 25], heat[1, 2, 3, 0] = 0.8, 0.5
    got = read_artifact(HEATMAPS, put(HEATMAPS, VALUES[HEATMAPS].with_array(heat), folder))
    assert got.array[1, 2, 3].tolist() == [204, 28]
    assert np.count_nonzero(got.array) == 2
    with pytest.raises(ArtifactError, match="26"):
        put(HEATMAPS, VALUES[SPINE_HEATMAP], folder)


def test_labels_go_to_the_input_and_come_back(tmp_path, folder, prepared):
    labels = prepared.ct.with_array((prepared.ct.array > 200).astype(np.uint8) * 20)
    path = put(SEGMENTATION, labels, folder)
    scan, seg = nib.load(tmp_path / "scan.nii.gz"), nib.load(path)
    np.testing.assert_array_equal(scan.affine, seg.affine)
    np.testing.assert_array_equal(seg.get_fdata() == 20, scan.get_fdata() > 200)
    back = read_artifact(SEGMENTATION, path)
    np.testing.assert_array_equal(back.array, labels.array)
    assert back.grid.same_space_as(prepared.ct.grid, FLOAT32_MM)


def test_labels_elsewhere_are_refused(folder, prepared):
    elsewhere = Volume(
        prepared.ct.array, prepared.ct.grid.window((0, 3, 0), prepared.ct.grid.shape)
    )
    with pytest.raises(GridMismatch):
        put(SEGMENTATION, elsewhere, folder)


def test_masks_whole_or_cropped(folder, prepared):
    whole = prepared.ct.with_array((prepared.ct.array > 200).astype(np.uint8))
    block = whole.cropped((10, 5, 6), (40, 25, 30))
    path = put(VERTEBRAE, {Vertebra.L1: whole, Vertebra.T12: block}, folder)
    assert sorted(p.name for p in path.iterdir()) == ["L1.nii.gz", "T12.nii.gz"]
    back = read_artifact(VERTEBRAE, path)
    assert list(back) == [Vertebra.T12, Vertebra.L1]
    for vertebra, wanted in ((Vertebra.L1, whole), (Vertebra.T12, block)):
        np.testing.assert_array_equal(back[vertebra].array, wanted.array)
        assert back[vertebra].grid.same_space_as(wanted.grid, FLOAT32_MM)


def test_json_refuses_nan_and_objects(folder):
    for value in ({"a": float("nan")}, {"a": object()}):
        with pytest.raises(ArtifactError):
            put(CANDIDATES, value, folder)


@pytest.mark.parametrize(
    "artifact", [CT, SCAN, SPINE_BOX, CANDIDATES, LANDMARKS_CSV, PROJECTION], ids=lambda a: a.name
)
@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00 rubbish", b"[1, 2]"])
def test_damaged_files_are_told(folder, artifact, content):
    path = folder.path(artifact)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    if artifact is CANDIDATES and content == b"[1, 2]":
        assert read_artifact(artifact, path) == json.loads(content)
        return
    with pytest.raises(ArtifactError):
        read_artifact(artifact, path)


def test_an_unknown_format_is_told(folder):
    with pytest.raises(ArtifactError, match="known are"):
        write_artifact(Artifact("x", "x/y", "xml"), 1, folder.root, folder)
