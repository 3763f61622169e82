"""The reference's augmentation, drawn by us."""

import numpy as np

from payerseg.training.augment_reference import (
    STAGE3_RANGES,
    ReferenceRanges,
    ReferenceWarp,
    draw_reference,
    draw_reference_intensity,
)

SIZE, SPACING, CENTER = np.array((64, 64, 96)), np.full(3, 2.0), np.array((80.0, 60.0, 150.0))


def test_same_seed_same_draws_and_ranges_hold() -> None:
    first = draw_reference(np.random.default_rng(3), STAGE3_RANGES, with_crop=False)
    again = draw_reference(np.random.default_rng(3), STAGE3_RANGES, with_crop=False)
    np.testing.assert_array_equal(first.elastic_mm, again.elastic_mm)
    assert np.abs(first.shift_mm).max() <= 10
    assert first.crop is None
    assert np.abs(first.elastic_mm).max() > 20
    flips = [
        draw_reference(np.random.default_rng(seed), ReferenceRanges(), with_crop=True).flip
        for seed in range(40)
    ]
    assert 5 < np.sum(flips, axis=0)[0] < 35
    assert np.sum(flips, axis=0)[1:].tolist() == [0, 0]


def test_real_displacement_stays_below_the_node_range() -> None:
    draws = draw_reference(np.random.default_rng(5), ReferenceRanges(), with_crop=False)
    warp = ReferenceWarp(draws, SIZE, SPACING, CENTER)
    points = np.random.default_rng(1).uniform(0, (128, 128, 192), (500, 3))
    moved = np.abs(warp.displacement_mm(points)).max()
    assert 1 < moved < 25


def test_zero_draws_are_the_identity_up_to_centring() -> None:
    zero = ReferenceRanges(0.0, 0.0, 0.0, 0.0, 0.0)
    draws = draw_reference(np.random.default_rng(0), zero, with_crop=False)
    warp = ReferenceWarp(draws, SIZE, SPACING, CENTER)
    middle = (SIZE - 1) * SPACING / 2
    np.testing.assert_allclose(warp(np.array([middle])), [CENTER])
    np.testing.assert_allclose(warp(np.array([middle + 5])), [CENTER + 5])


def test_intensity_stays_in_range() -> None:
    hu = np.linspace(-1024, 3000, 50)
    value = draw_reference_intensity(np.random.default_rng(2))(hu)
    assert value.dtype == np.float32
    assert value.min() >= -1
    assert value.max() <= 1
    assert np.all(np.diff(value) >= 0)
