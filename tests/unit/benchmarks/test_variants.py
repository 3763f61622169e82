"""Versions of a scan: the truth goes where the vertebrae go, and evaluation can read what is written."""

import importlib

import numpy as np
import pytest

from payerseg.domain.grid import Grid
from payerseg.domain.landmarks import Landmark, Landmarks
from payerseg.domain.vertebra import Vertebra
from payerseg.domain.volume import Volume
from payerseg.evaluation.truth import TruthRules, find_truth, read_groups, read_truth

NAMES = ("T11", "T12", "L1", "L2", "L3")
BONE_HU = 900


@pytest.fixture
def variants(repository, monkeypatch):
    """Import benchmarks/variants.py."""
    monkeypatch.syspath_prepend(repository / "benchmarks")
    return importlib.import_module("variants")


@pytest.fixture
def scan(variants):
    """Five bright cubes of 9 mm, 30 mm apart, off every middle of the scan."""
    grid = Grid((70, 66, 58), (3.0, 3.0, 3.0), (-80.0, -120.0, 400.0))
    array = np.full(grid.shape, -50, np.int16)
    marks = []
    for k, name in enumerate(NAMES):
        z, y, x = 65 - 10 * k - 5, 38 + k, 30 + k
        array[z - 1 : z + 2, y - 1 : y + 2, x - 1 : x + 2] = BONE_HU
        point = grid.map_indices_to_world(np.array([[z, y, x]], float))[0]
        marks.append(Landmark(Vertebra[name], tuple(point.tolist())))
    return variants.MarkedScan("a", Volume(array, grid), Landmarks(marks))


def all_versions(variants, scan):
    for group, make in variants.versions(every=1).items():
        found = make(scan)
        for version in [found] if isinstance(found, variants.MarkedScan) else found:
            yield group, version


def test_the_truth_goes_where_the_vertebrae_go(variants, scan):
    groups = {}
    for group, version in all_versions(variants, scan):
        groups.setdefault(group, []).append(version)
        for vertebra, mark in version.truth.items():
            at = version.ct.grid.map_world_to_indices(np.array([mark.position_mm]))[0]
            index = tuple(np.clip(np.rint(at), 0, np.array(version.ct.grid.shape) - 1).astype(int))
            assert version.ct.array[index] > BONE_HU / 2, (version.name, vertebra)
    assert list(groups) == list(variants.versions(1))
    names = [version.name for versions in groups.values() for version in versions]
    assert len(set(names)) == len(names)
    assert all(list(v.truth) == list(scan.truth) for v in groups["tilted 25°"])
    assert not any(part.truth for part in groups["parts without spine"])


def test_a_cut_vertebra_is_neither_asked_for_nor_an_error(variants, scan):
    for version in variants.slabs(scan, 60.0, 30.0, every=1):
        low, high = version.ct.grid.corners_mm()[[0, -1], 2]
        assert all(low + 10 < m.position_mm[2] < high - 10 for m in version.truth.values())
        assert version.unmarked == set(scan.truth) - set(version.truth)
    few = list(variants.slabs(scan, 60.0, 30.0, every=3))
    assert 0 < len(few) < len(list(variants.slabs(scan, 60.0, 30.0, every=1)))


def test_a_child_is_smaller_and_a_mirror_image_is_one(variants, scan):
    small = variants.smaller(scan, 0.6)
    assert np.ptp(small.truth.positions_mm[:, 2]) == pytest.approx(0.6 * 120)
    image = variants.mirrored(scan, 1)
    middle = scan.ct.grid.corners_mm()[:, 1].mean()
    expected = 2 * middle - scan.truth.positions_mm[:, 1]
    np.testing.assert_allclose(image.truth.positions_mm[:, 1], expected)


def test_other_voxels_fill_the_same_faces(variants, scan):
    fine = variants.resampled(scan, 1.25)
    np.testing.assert_allclose(
        fine.ct.grid.corners_mm(), scan.ct.grid.corners_mm(), atol=1.25 / 2 + 1e-6
    )


def test_what_is_written_is_what_evaluation_reads(variants, scan, tmp_path):
    folder = variants.VariantFolder(tmp_path)
    for group, version in all_versions(variants, scan):
        folder.add(version, group, {"patient": "p", "source": "s", "licence": "l"})
    groups, rules = read_groups(tmp_path / "groups.csv"), TruthRules()
    truths = {key: read_truth(files, rules) for key, files in find_truth(tmp_path, rules).items()}
    assert set(truths) == set(groups)
    assert set(groups.values()) == set(variants.versions(1))
    for _, version in all_versions(variants, scan):
        truth = truths[version.name]
        assert list(truth.landmarks) == list(version.truth)
        assert truth.unmarked == version.unmarked
    before = (tmp_path / "groups.csv").read_text()
    folder.add(scan, "whole", {})
    assert (tmp_path / "groups.csv").read_text() == before


def test_volumes_without_a_spine_alone(variants, tmp_path):
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    variants.main([str(data), str(out), "--only", variants.EMPTY], standalone_mode=False)
    groups = read_groups(tmp_path / "out" / "groups.csv")
    assert set(groups.values()) == {variants.EMPTY}
    assert len(groups) == 18
