"""Tiles cover every voxel, whatever the sizes, and joining them changes nothing that agrees."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from payerseg.inference.tiles import (
    WEIGHT_FLOOR,
    blend_tiles,
    merge_tiles_by_maximum,
    plan_tiles,
    reference_tiles,
    tile_size,
    tile_weights,
)


@st.composite
def layouts(draw):
    multiple = draw(st.sampled_from([1, 2, 4]))
    axes = []
    for _ in range(3):
        tile = draw(st.integers(1, 6))
        axes.append((draw(st.integers(tile, 30)) * multiple, tile * multiple))
    shape, tile = zip(*axes, strict=True)
    return shape, tile, draw(st.sampled_from([0.0, 0.25, 0.5, 0.9])), multiple


@settings(max_examples=150, deadline=None)
@given(layouts())
def test_every_voxel_is_covered_within_the_whole(layout):
    shape, tile, overlap, multiple = layout
    starts = plan_tiles(shape, tile, overlap, multiple)
    assert len(set(starts)) == len(starts)
    for axis in range(3):
        places = sorted({start[axis] for start in starts})
        assert places[0] == 0
        assert places[-1] == shape[axis] - tile[axis]
        assert all(place % multiple == 0 for place in places)
        steps = np.diff(places)
        assert np.all(steps <= tile[axis])
        allowed = max(multiple, tile[axis] * (1 - overlap))
        assert np.all(steps <= multiple * math.ceil(allowed / multiple))


def test_there_is_no_limit_to_the_number_of_tiles():
    assert len(plan_tiles((800, 64, 64), (16, 16, 16), 0.75)) > 500


@pytest.mark.parametrize(
    ("shape", "tile", "overlap", "multiple"),
    [
        ((8, 8, 8), (9, 8, 8), 0.5, 1),
        ((8, 8, 8), (8, 8, 8), 1.0, 1),
        ((8, 8, 8), (0, 8, 8), 0.5, 1),
        ((9, 8, 8), (8, 8, 8), 0.5, 4),
    ],
)
def test_impossible_plans_are_refused(shape, tile, overlap, multiple):
    with pytest.raises(ValueError, match="expected tiles within the whole"):
        plan_tiles(shape, tile, overlap, multiple)


def test_weights_are_smooth_symmetric_and_never_zero():
    weights = tile_weights((16, 1, 10))
    assert weights.min() >= WEIGHT_FLOOR**3 * 0.999
    np.testing.assert_array_equal(weights, weights[::-1, :, ::-1])
    assert np.unravel_index(weights.argmax(), weights.shape)[0] in (7, 8)
    line = tile_weights((16, 1, 1))[:, 0, 0]
    np.testing.assert_allclose((line[:8] + line[8:])[1:-1], 1, atol=1e-6)
    assert np.abs(np.diff(line)).max() < 0.2


@settings(max_examples=40, deadline=None)
@given(layouts(), st.integers(0, 2**31))
def test_tiles_that_agree_join_to_the_whole(layout, seed):
    shape, tile, overlap, multiple = layout
    whole = np.random.default_rng(seed).normal(size=(*shape, 2)).astype("float32")
    starts = plan_tiles(shape, tile, max(overlap, 0.25) if overlap < 0.9 else 0.5, multiple)

    def outputs():
        for start in starts:
            block = tuple(slice(a, a + n) for a, n in zip(start, tile, strict=True))
            yield start, whole[block]

    np.testing.assert_allclose(blend_tiles(outputs(), shape, 2), whole, atol=1e-5)
    np.testing.assert_array_equal(merge_tiles_by_maximum(outputs(), shape, 2), whole)


def test_blending_fades_between_tiles_that_differ():
    starts = plan_tiles((12, 1, 1), (8, 1, 1), 0.5)
    outputs = [(start, np.full((8, 1, 1, 1), float(i))) for i, start in enumerate(starts)]
    found = blend_tiles(outputs, (12, 1, 1), 1)[:, 0, 0, 0]
    assert np.all(found[:4] == 0)
    assert np.all(found[8:] == 1)
    assert np.all(np.diff(found[3:9]) > 0)


@settings(max_examples=100, deadline=None)
@given(
    st.tuples(*[st.integers(1, 40)] * 3),
    st.integers(1, 4),
    st.integers(1, 10**6),
    st.integers(1, 64),
)
def test_tile_size_keeps_the_bound_or_the_least_side(blocks, multiple, max_voxels, least):
    shape = tuple(n * multiple for n in blocks)
    tile = tile_size(shape, max_voxels, multiple, least)
    assert all(n % multiple == 0 and 1 <= n <= whole for n, whole in zip(tile, shape, strict=True))
    floor = multiple * math.ceil(least / multiple)
    assert math.prod(tile) <= max_voxels or max(tile) <= floor
    if math.prod(shape) <= max_voxels:
        assert tile == shape


def test_the_longest_side_shrinks_first():
    assert tile_size((320, 96, 96), 96 * 96 * 128, 16) == (128, 96, 96)


def test_the_references_tiles_reach_the_end():
    assert reference_tiles((10,), (4,), (3,)) == [(0,), (3,), (6,)]
    assert reference_tiles((10, 5), (4, 5), (0, 0)) == [(0, 0), (4, 0), (6, 0)]
