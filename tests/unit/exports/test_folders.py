"""Each file is read back by a reader that shares no code with its writer."""

import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from payerseg.datasets.point_files import read_csv_points, read_verse_points
from payerseg.domain.colors import COLORS
from payerseg.domain.landmarks import Landmarks
from payerseg.errors import ArtifactError
from payerseg.exports.bids import export_bids
from payerseg.exports.case_result import find_results
from payerseg.exports.folders import (
    export_flat,
    export_itksnap,
    export_slicer,
    export_verse,
    verse_centroids,
)
from payerseg.results.artifacts import LANDMARKS_CSV
from payerseg.results.manifest import StageManifest


def positions(landmarks):
    return {v: np.array(mark.position_mm) for v, mark in landmarks.items()}


def assert_same_points(found, expected, tolerance_mm):
    assert list(found) == list(expected)
    gap = np.abs(found.positions_mm - expected.positions_mm)
    assert gap.max() <= tolerance_mm


def test_verse_by_nibabel(results, cases, tmp_path):
    """Voxel index → nibabel's affine → RAS mm must be the landmark."""
    mask, centroids = export_verse(cases, tmp_path / "verse")
    assert mask.name == "sub-01_ct_seg-vert_msk.nii.gz"
    image, rows = nib.load(mask), json.loads(centroids.read_text())
    codes = nib.aff2axcodes(image.affine)
    assert rows[0] == {"direction": list(codes)}
    for row, (vertebra, mark) in zip(rows[1:], results[1].landmarks.items(), strict=True):
        assert row["label"] == vertebra.verse_label
        ras = nib.affines.apply_affine(image.affine, [row["X"], row["Y"], row["Z"]])
        assert ras * (-1, -1, 1) == pytest.approx(mark.position_mm, abs=0.05)


def test_verse_by_the_truth_reader(results, cases, tmp_path):
    _, path = export_verse(cases, tmp_path / "verse")
    labels = cases[0].read_labels()
    found = read_verse_points(path, labels.grid)
    assert_same_points(found, results[1].landmarks, 0.05)


def test_verse_mask_is_the_segmentation(cases, tmp_path):
    mask, _ = export_verse(cases, tmp_path / "verse")
    assert mask.read_bytes() == cases[0].segmentation.read_bytes()


def test_verse_refuses_an_empty_list(cases):
    with pytest.raises(ArtifactError, match="at least one"):
        verse_centroids(Landmarks(), cases[0].read_labels().grid)


def test_flat(results, cases, tmp_path):
    written = export_flat(cases, tmp_path / "flat")
    assert [p.name for p in written] == [
        "sub-01_ct_segmentation.nii.gz",
        "sub-01_ct_landmarks.csv",
        "sub-01_ct_landmarks.json",
    ]
    assert_same_points(read_csv_points(written[1]), results[1].landmarks, 1e-3)
    rows = json.loads(written[2].read_text())
    for row, (vertebra, mark) in zip(rows, results[1].landmarks.items(), strict=True):
        assert row["label"] == vertebra.verse_label
        assert [row[axis] for axis in "XYZ"] == pytest.approx(mark.position_mm, abs=1e-3)


def test_slicer(results, cases, tmp_path):
    table, _, markups = export_slicer(cases, tmp_path / "slicer")
    data = json.loads(markups.read_text())
    assert data["@schema"].endswith("markups-schema-v1.0.3.json#")
    (markup,) = data["markups"]
    assert (markup["type"], markup["coordinateSystem"]) == ("Fiducial", "LPS")
    for point, (vertebra, mark) in zip(
        markup["controlPoints"], results[1].landmarks.items(), strict=True
    ):
        assert (point["label"], point["positionStatus"]) == (vertebra.name, "defined")
        assert point["position"] == pytest.approx(mark.position_mm, abs=1e-3)
    rows = [r.split() for r in table.read_text().splitlines() if not r.startswith("#")]
    assert all(len(row) == 6 for row in rows)
    colors = {int(i): tuple(map(int, rgb)) for i, _, *rgb, _ in rows}
    assert colors.pop(0) == (0, 0, 0)
    assert colors == COLORS


def test_itksnap(cases, tmp_path):
    table, _ = export_itksnap(cases, tmp_path / "snap")
    lines = table.read_text().splitlines()
    assert lines[1] == "# ITK-SnAP Label Description File"
    rows = [line for line in lines if not line.startswith("#")]
    assert rows[0].split(maxsplit=7) == ["0", "0", "0", "0", "0", "0", "0", '"Clear Label"']
    for row in rows[1:]:
        index, *rgb, alpha, visible, mesh, name = row.split(maxsplit=7)
        assert tuple(map(int, rgb)) == COLORS[int(index)]
        assert (alpha, visible, mesh) == ("1", "1", "1")
        assert name.startswith('"')
        assert name.endswith('"')


def test_what_is_no_result_is_named(tmp_path, put, spine, seal):
    put(tmp_path, "a", spine.labels, spine.landmarks)
    put(tmp_path, "b", None, spine.landmarks)
    empty = put(tmp_path, "c", None, Landmarks())
    path = empty.manifest_path(LANDMARKS_CSV.step)
    replace(StageManifest.read(path), status="no_spine", message="nothing there").write(path)
    (tmp_path / "notes").mkdir()
    found = find_results(tmp_path)
    assert [case.case_id for case in found.cases] == ["a"]
    assert found.without == {"c": "no spine: nothing there"}
    assert found.refused == {"b": "not segmented: done up to vertebrae_localization"}


def test_one_case_that_cannot_be_written_hinders_no_other(tmp_path, put, spine):
    for name in "ab":
        put(tmp_path / "results", name, spine.labels, spine.landmarks)
    cases = find_results(tmp_path / "results").cases
    for export in (export_flat, export_verse, export_slicer, export_itksnap, export_bids):
        cases[0].segmentation.unlink(missing_ok=True)  # gone since it was looked at
        failed = {}
        written = export(cases, tmp_path / export.__name__, failed.__setitem__)
        assert list(failed) == ["a"], export
        assert any("b" in path.name and path.name.endswith(".nii.gz") for path in written)
        with pytest.raises((ArtifactError, OSError)):
            export(cases, tmp_path / "raising")


def test_no_results_folder(tmp_path):
    with pytest.raises(ArtifactError, match="holds no case"):
        find_results(tmp_path)
    with pytest.raises(ArtifactError, match="not a folder"):
        find_results(tmp_path / "nothing")
