"""The scan in the page is the scan: same places, same HU within a step, not too large."""

import base64
import gzip

import numpy as np

from payerseg.report import viewer_data as vd
from payerseg.report.viewer_data import LEVELS_HU, reduced_grid, to_levels, viewer_data


def unpacked(data):
    """What the browser makes of it."""
    plain = data.to_dict()
    shape = tuple(plain["size"][::-1])
    scan, labels = (
        np.frombuffer(gzip.decompress(base64.b64decode(plain[name])), np.uint8).reshape(shape)
        for name in ("scan", "labels")
    )
    return LEVELS_HU[np.cumsum(scan, axis=2, dtype=np.uint8)], labels


def test_levels_are_near_where_it_matters():
    hu = np.arange(-1024, 3072, dtype=np.float32)
    back = LEVELS_HU[to_levels(hu)].astype(float)
    error = np.abs(back - hu)
    assert LEVELS_HU.size <= 256
    assert error[(hu > -200) & (hu < 296)].max() <= 4
    assert error[(hu > -1000) & (hu < 900)].max() <= 10
    assert to_levels(np.array([9000.0]))[0] == LEVELS_HU.size - 1


def test_hu_and_labels_are_at_their_places(make_facts, synthetic_spine, any_grid):
    facts = make_facts(synthetic_spine(any_grid, noise_hu=0.0))
    data = viewer_data(facts.ct, facts.labels, 2.0)
    hu, labels = unpacked(data)
    assert data.grid.is_orthonormal
    for vertebra, mark in facts.landmarks.items():
        z, y, x = np.rint(data.grid.map_world_to_indices(mark.position_mm)[0]).astype(int)
        assert labels[z, y, x] == vertebra.verse_label
        assert abs(int(hu[z, y, x]) - 350) < 12


def test_the_whole_scan_is_inside_and_no_finer_than_asked_or_stored(any_grid):
    grid = reduced_grid(any_grid, 2.5)
    low, high = any_grid.corners_mm().min(axis=0), any_grid.corners_mm().max(axis=0)
    slack = np.asarray(grid.spacing_mm) / 2 + 1e-6
    assert (grid.corners_mm().min(axis=0) <= low + slack).all()
    assert (grid.corners_mm().max(axis=0) >= high - slack).all()
    assert min(grid.spacing_mm) >= 2.5 - 1e-6
    if any_grid.spacing_mm[2] == 4.0:
        assert abs(grid.spacing_mm[2] - 4.0) < 1e-6


def test_large_scans_get_coarser(any_grid, monkeypatch):
    monkeypatch.setattr(vd, "MAX_VOXELS", 20_000)
    assert np.prod(reduced_grid(any_grid, 0.5).shape) <= 20_000


def test_the_same_scan_gives_the_same_bytes(facts):
    assert viewer_data(facts.ct, facts.labels, 3.0) == viewer_data(facts.ct, facts.labels, 3.0)
