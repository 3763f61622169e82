"""Slices that are missing, doubled, shuffled, blank or of two bodies in turn; and scans where none is."""

import numpy as np
import pytest
from scipy import ndimage

from payerseg.domain.grid import Grid
from payerseg.domain.volume import Volume
from payerseg.imaging.continuity import continuity_notes, interleaves


def body(n_slices=60, noise_hu=20.0):
    """A (z, y, x) column of slowly changing tissue in air."""
    rng = np.random.default_rng(0)
    tissue = ndimage.gaussian_filter(rng.normal(0, 1, (n_slices, 40, 40)), (4, 2, 2))
    hu = 120 * tissue / tissue.std()
    hu += rng.normal(0, noise_hu, hu.shape)
    y, x = np.ogrid[-1:1:40j, -1:1:40j]
    return np.where(x**2 + y**2 < 0.8, hu, -1000).astype(np.int16)


def told(array, spacing=(3.0, 3.0, 2.0)):
    notes = continuity_notes(Volume(array, Grid(array.shape, spacing)))
    assert all(note.review for note in notes)
    return [note.code for note in notes]


@pytest.mark.parametrize("noise_hu", [0.0, 20.0, 150.0])
def test_a_sound_stack_is_silent(noise_hu):
    assert told(body(noise_hu=noise_hu)) == []


def test_missing_slices_jump_where_they_lack():
    array = np.delete(body(), range(25, 40), axis=0)
    (note,) = continuity_notes(Volume(array, Grid(array.shape, (3.0, 3.0, 2.0))))
    assert note.code == "slice_jump"
    assert "z = 49 mm" in note.message


def test_halves_stacked_by_acquisition_order_jump():
    assert told(np.concatenate([body()[0::2], body()[1::2]])) == ["slice_jump"]


def test_slices_out_of_order():
    assert told(np.random.default_rng(1).permutation(body())) == ["shuffled_slices"]
    pairs = body().reshape(30, 2, 40, 40)[:, ::-1].reshape(60, 40, 40)
    assert told(pairs) == ["shuffled_slices"]


def test_doubled_slices():
    assert told(np.repeat(body(), 2, axis=0))[0] == "doubled_slices"
    array = body()
    array[30] = array[29]
    assert told(array) == ["doubled_slices"]


def test_blank_slices_inside_but_not_at_the_ends():
    array = body()
    array[:3], array[-2:] = -1024, -1024
    assert told(array) == []
    array[30:34] = -1024
    assert told(array) == ["blank_slices"]


def test_too_few_or_empty_slices_tell_nothing():
    assert told(body()[:8]) == []
    assert told(np.full((30, 20, 20), -1000, np.int16)) == []


def turning_body(seed, n=30, noise=10.0):
    """Slices that change slowly from one to the next, in noise."""
    rng = np.random.default_rng(seed)
    parts = rng.normal(0, 200, (3, 40, 40))
    z = np.arange(n)[:, None, None] / 8
    return (
        parts[0] + parts[1] * np.sin(z) + parts[2] * np.cos(z) + rng.normal(0, noise, (n, 40, 40))
    )


@pytest.mark.parametrize("noise", [0.0, 10.0, 300.0])
def test_one_body_does_not_interleave(noise):
    assert not interleaves(turning_body(0, noise=noise))


def test_two_bodies_do_also_in_a_part():
    one, other = turning_body(0), turning_body(1)
    both = np.empty((60, 40, 40))
    both[::2], both[1::2] = one, other
    assert interleaves(both)
    both[20:] = turning_body(0, 60)[20:]
    assert interleaves(both)


def test_one_strange_slice_is_no_second_body():
    volume = turning_body(0)
    volume[12] = turning_body(1)[12]
    assert not interleaves(volume)
    assert not interleaves(volume[:4])


def test_stored_integers_do_not_wrap():
    assert not interleaves(np.clip(turning_body(0) + 1024, 0, None).astype(np.uint16))
