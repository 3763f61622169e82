import numpy as np
import pytest

from payerseg.config.graph import DecoderSpec
from payerseg.domain.grid import Grid
from payerseg.domain.volume import Volume
from payerseg.postprocess.peaks import (
    REFERENCE_PEAKS,
    PeakRule,
    heatmap_candidates,
    ideal_peak_scale,
    peak_rule,
)

C, S = np.cos(0.3), np.sin(0.3)
GRID = Grid((30, 26, 24), (3.0, 3.0, 3.0), (-40.0, 900.0, -1200.0), (1, 0, 0, 0, C, -S, 0, S, C))


def blobs(points_mm, sigma_mm=6.0, channels=26, grid=GRID):
    """Heatmaps with a Gaussian of height 1 per (channel, point)."""
    world = grid.map_indices_to_world(np.indices(grid.shape).reshape(3, -1).T)
    heat = np.zeros((*grid.shape, channels), np.float32)
    for channel, point in points_mm:
        squared = ((world - point) ** 2).sum(axis=1).reshape(grid.shape)
        heat[..., channel] = np.maximum(heat[..., channel], np.exp(-squared / (2 * sigma_mm**2)))
    return Volume(heat, grid)


def inside(zyx):
    return GRID.map_indices_to_world(np.array([zyx]))[0]


def test_a_perfect_target_is_found_where_it_is_with_value_one():
    point = inside((14.3, 11.8, 12.4))
    found = heatmap_candidates(blobs([(7, point)]), peak_rule(DecoderSpec(), 6.0))
    assert [c.channel for c in found] == [7]
    assert np.linalg.norm(np.subtract(found[0].position_mm, point)) < 0.2
    assert found[0].value == pytest.approx(1.0, abs=0.06)
    assert found[0].channel_values[7] == pytest.approx(found[0].value, rel=1e-4)
    assert sum(found[0].channel_values) == pytest.approx(found[0].value, rel=1e-4)


def test_values_mean_the_same_for_narrow_targets():
    point = inside((14.0, 12.0, 12.0))
    for sigma_mm in (4.0, 6.0, 9.0):
        found = heatmap_candidates(
            blobs([(3, point)], sigma_mm), peak_rule(DecoderSpec(), sigma_mm)
        )
        assert found[0].value == pytest.approx(1.0, abs=0.08)
    assert ideal_peak_scale(6.0, 4.0) == pytest.approx((13 / 9) ** 1.5)


def test_each_candidate_knows_the_heat_of_every_channel():
    upper, lower = inside((20, 12, 12)), inside((11, 12, 12))
    found = heatmap_candidates(blobs([(7, upper), (8, upper), (8, lower)]), PeakRule())
    at_upper = [c for c in found if np.linalg.norm(np.subtract(c.position_mm, upper)) < 3]
    assert sorted(c.channel for c in at_upper) == [7, 8]
    for candidate in at_upper:
        values = candidate.channel_values
        assert values[7] == pytest.approx(values[8], rel=0.05)


def test_sorted_by_channel_then_strength():
    points = [(5, inside((8, 12, 12))), (5, inside((22, 12, 12))), (2, inside((15, 12, 12)))]
    heatmaps = blobs(points)
    heatmaps.array[:15, ..., 5] *= 0.5
    found = heatmap_candidates(heatmaps)
    assert [c.channel for c in found] == [2, 5, 5]
    assert found[1].value > found[2].value


def test_a_vertebra_on_the_volumes_face_is_found_unless_the_reference_rule_is_asked_for():
    heatmaps = blobs([(4, inside((0, 12, 12)))])
    assert len(heatmap_candidates(heatmaps)) == 1
    assert heatmap_candidates(heatmaps, REFERENCE_PEAKS) == []


def test_refinement_never_leaves_the_neighbouring_voxels():
    rng = np.random.default_rng(3)
    heat = rng.uniform(0, 0.4, (12, 12, 12, 2)).astype(np.float32)
    grid = Grid((12, 12, 12), (3.0, 3.0, 3.0))
    for candidate in heatmap_candidates(Volume(heat, grid), PeakRule(sigma_mm=2.0)):
        zyx = grid.map_world_to_indices(np.array([candidate.position_mm]))[0]
        assert np.all(np.abs(zyx - np.round(zyx)) <= 1)
        assert np.all(zyx > -1)


def test_silence_gives_nothing():
    assert heatmap_candidates(Volume(np.zeros((*GRID.shape, 26), np.float32), GRID)) == []
    assert heatmap_candidates(Volume(np.full((*GRID.shape, 26), 0.3, np.float32), GRID)) == []


def test_only_blocks_that_matter_are_smoothed_and_the_result_is_the_same():
    """A far, faint second blob changes the block, not the first candidate."""
    point = inside((8, 12, 12))
    one = heatmap_candidates(blobs([(9, point)]))[0]
    heatmaps = blobs([(9, point), (9, inside((28, 20, 20)))])
    both = [c for c in heatmap_candidates(heatmaps) if np.allclose(c.position_mm, point, atol=2)]
    assert both[0].position_mm == pytest.approx(one.position_mm, abs=0.05)
    assert both[0].value == pytest.approx(one.value, rel=1e-3)
