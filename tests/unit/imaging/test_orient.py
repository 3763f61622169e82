"""Storage orders: all 48 of them, any geometry, there and back."""

from itertools import permutations, product

import numpy as np
import pytest

from payerseg.domain.grid import Grid
from payerseg.domain.volume import Volume
from payerseg.imaging.orient import Orientation, axis_codes, closest_orientation, to_canonical

ORDERS = [
    Orientation(p, f) for p in permutations(range(3)) for f in product([False, True], repeat=3)
]
CORNER_MM = 1e-9


def numbered(grid):
    return Volume(np.arange(np.prod(grid.shape), dtype=np.int32).reshape(grid.shape), grid)


def small(grid):
    """The same axes with few, unequal voxel counts."""
    return Grid((5, 6, 7), grid.spacing_mm, grid.origin_mm, grid.direction)


def test_there_are_48_orders():
    assert len(set(ORDERS)) == 48


@pytest.mark.parametrize("order", ORDERS)
def test_every_stored_order_becomes_the_same_canonical_volume(any_grid, order):
    scan = numbered(small(any_grid))
    stored = order.apply(scan)
    canonical, orientation = to_canonical(stored)
    np.testing.assert_array_equal(canonical.array, scan.array)
    assert canonical.grid.same_space_as(scan.grid, CORNER_MM)
    back = orientation.undo(canonical)
    np.testing.assert_array_equal(back.array, stored.array)
    assert back.grid.same_space_as(stored.grid, CORNER_MM)


@pytest.mark.parametrize("order", ORDERS[::5])
def test_no_voxel_moves_in_the_world(any_grid, order):
    scan = numbered(small(any_grid))
    stored = order.apply(scan)
    points = scan.grid.map_indices_to_world(np.indices(scan.grid.shape).reshape(3, -1).T)
    index = np.rint(stored.grid.map_world_to_indices(points)).astype(int)
    np.testing.assert_array_equal(stored.array[tuple(index.T)], scan.array.ravel())


@pytest.mark.parametrize("order", ORDERS[::7])
def test_inverse_leads_back(order):
    scan = numbered(Grid((3, 4, 5), (1.0, 2.0, 3.0)))
    np.testing.assert_array_equal(order.inverse.apply(order.apply(scan)).array, scan.array)
    assert order.inverse.inverse == order


@pytest.mark.parametrize("degrees", [45.0, -45.0, 135.0])
@pytest.mark.parametrize("world_axis", range(3))
def test_a_tie_at_45_degrees_is_decided_alike_for_every_order(degrees, world_axis):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    i, j = [k for k in range(3) if k != world_axis]
    turn = np.eye(4)
    turn[i, i], turn[i, j], turn[j, i], turn[j, j] = c, -s, s, c
    rounded = turn.astype(np.float32)  # as a NIfTI header rounds
    scan = numbered(Grid.from_matrix((4, 5, 6), rounded @ np.diag([1.0, 1.0, 1.0, 1.0])))
    results = {to_canonical(order.apply(scan))[0].array.tobytes() for order in ORDERS}
    assert len(results) == 1


def test_channels_stay_last():
    scan = Volume(np.zeros((2, 3, 4, 26)), Grid((2, 3, 4), (1.0, 1.0, 1.0)))
    assert Orientation((2, 1, 0)).apply(scan).array.shape == (4, 3, 2, 26)


def test_a_view_is_not_a_copy():
    scan = numbered(Grid((4, 5, 6), (1.0, 1.0, 1.0)))
    assert np.shares_memory(
        Orientation((1, 0, 2), (True, False, True)).apply(scan).array, scan.array
    )


@pytest.mark.parametrize(
    ("direction", "codes"),
    [
        ((1, 0, 0, 0, 1, 0, 0, 0, 1), "LPS"),
        ((-1, 0, 0, 0, -1, 0, 0, 0, 1), "RAS"),
        ((0, 0, 1, 1, 0, 0, 0, -1, 0), "PIL"),
    ],
)
def test_axis_codes(direction, codes):
    assert axis_codes(Grid((4, 4, 4), (1, 1, 1), direction=direction)) == codes


def test_a_permutation_is_required():
    with pytest.raises(ValueError, match="not a permutation"):
        Orientation((0, 0, 1))


def test_identity_is_named():
    assert closest_orientation(Grid((4, 4, 4), (1, 1, 1))).is_identity
