"""P5, P7, P21: local maxima, spine box, largest component."""

import json

import numpy as np
import pytest

from payerseg.config.load import load_config
from payerseg.domain.grid import Grid
from payerseg.domain.volume import Volume
from payerseg.errors import SpineNotFound
from payerseg.imaging.regions import largest_component
from payerseg.postprocess.peaks import REFERENCE_PEAKS, heatmap_candidates
from payerseg.postprocess.spine_box import box_rule, find_spine_box

VALID_BOXES = {*(f"spine_{k}" for k in range(10)), "two_components", "diagonal_26conn"}


@pytest.fixture(scope="module")
def golden(shared_dir):
    return shared_dir / "reference" / "golden"


def test_p5_local_maxima(golden):
    arrays = np.load(golden / "heatmap_local_maxima.npz")
    cases = sorted({name.split("/")[0] for name in arrays.files})
    n_found = 0
    for case in cases:
        heat = np.moveaxis(arrays[f"{case}/heatmaps"], 0, -1)
        grid = Grid(heat.shape[:3], (2.0, 2.0, 2.0), tuple(arrays[f"{case}/offset"]))
        found = heatmap_candidates(Volume(heat, grid), REFERENCE_PEAKS)
        assert [c.channel for c in found] == arrays[f"{case}/channel"].tolist()
        positions = np.array([c.position_mm for c in found]).reshape(-1, 3)
        expected = arrays[f"{case}/coords_xyz_mm"].reshape(-1, 3)
        np.testing.assert_allclose(positions, expected, rtol=0, atol=1e-3)
        values = [c.value for c in found]
        np.testing.assert_allclose(values, arrays[f"{case}/value"], rtol=0, atol=1e-5)
        n_found += len(found)
    assert len(cases) == 12
    assert n_found > 20


def test_p7_spine_box(golden):
    """By the `reference` preset, as a user gets it."""
    rule = box_rule(load_config("reference").spine_localization)
    arrays = np.load(golden / "spine_bb.npz")
    index = json.loads((golden / "spine_bb_index.json").read_text())
    assert {c["name"] for c in index} >= VALID_BOXES
    for case in index:
        key = f"{case['index']:02d}"
        heat = arrays[f"{key}/heatmap"]
        volume = Volume(heat, Grid(heat.shape, (8.0, 8.0, 8.0), tuple(arrays[f"{key}/offset"])))
        if case["name"] in VALID_BOXES:
            box = find_spine_box(volume, rule=rule)
            assert box.low_mm == tuple(arrays[f"{key}/start"]), case["name"]
            assert box.high_mm == tuple(arrays[f"{key}/end"]), case["name"]
        elif case["name"] != "constant":  # a sure answer everywhere is no noise: it gets its box
            with pytest.raises(SpineNotFound):
                find_spine_box(volume)


def test_p21_largest_component(golden):
    arrays = np.load(golden / "largest_component.npz")
    for case in range(8):
        mask = arrays[f"{case}/mask"]
        for connectivity, name in ((26, "payerseg_lcc"), (18, "verse_lcc")):
            expected = arrays[f"{case}/{name}"] != 0
            if not mask.any():
                expected = np.zeros_like(expected)  # Q27: the reference returns its input
            assert np.array_equal(largest_component(mask, connectivity), expected), (case, name)
