"""The reference's augmentation, drawn by us."""

import numpy as np

from payerseg.training.augment_reference import (
    STAGE3_RANGES,
    ReferenceRanges,
    as_warp,
    draw_reference,
    draw_reference_intensity,
)

EXTENT_MM = np.array((128.0, 128.0, 192.0))


def test_same_seed_same_draws_and_ranges_hold() -> None:
    first = draw_reference(np.random.default_rng(3), STAGE3_RANGES)
    again = draw_reference(np.random.default_rng(3), STAGE3_RANGES)
    np.testing.assert_array_equal(first.elastic_mm, again.elastic_mm)
    assert np.abs(first.shift_mm).max() <= 10
    assert np.abs(first.elastic_mm).max() > 20
    flips = [
        draw_reference(np.random.default_rng(seed), ReferenceRanges()).flip for seed in range(40)
    ]
    assert 5 < np.sum(flips, axis=0)[0] < 35
    assert np.sum(flips, axis=0)[1:].tolist() == [0, 0]


def test_real_displacement_stays_below_the_node_range() -> None:
    elastic_only = ReferenceRanges(0.0, 0.0, 0.0, 0.0)
    warp = elastic_only.draw_warp(np.random.default_rng(5), EXTENT_MM)
    points = np.random.default_rng(1).uniform(-EXTENT_MM / 2, EXTENT_MM / 2, (500, 3))
    moved = np.abs(warp.map_points(points) - points).max()
    assert 1 < moved < 25


def test_zero_draws_are_the_identity() -> None:
    zero = ReferenceRanges(0.0, 0.0, 0.0, 0.0, 0.0)
    points = np.array([(0.0, 0.0, 0.0), (5.0, -7.0, 11.0)])
    warp = as_warp(draw_reference(np.random.default_rng(0), zero), EXTENT_MM)
    np.testing.assert_allclose(warp.map_points(points), points)


def test_intensity_stays_in_range() -> None:
    hu = np.linspace(-1024, 3000, 50)
    value = draw_reference_intensity(np.random.default_rng(2))(hu)
    assert value.dtype == np.float32
    assert value.min() >= -1
    assert value.max() <= 1
    assert np.all(np.diff(value) >= 0)
