import numpy as np
import pytest

from payerseg.imaging.continuity import interleaves


def body(seed, n=30, noise=10.0):
    """Slices that change slowly from one to the next, in noise."""
    rng = np.random.default_rng(seed)
    parts = rng.normal(0, 200, (3, 40, 40))
    z = np.arange(n)[:, None, None] / 8
    return (
        parts[0] + parts[1] * np.sin(z) + parts[2] * np.cos(z) + rng.normal(0, noise, (n, 40, 40))
    )


@pytest.mark.parametrize("noise", [0.0, 10.0, 300.0])
def test_one_body_does_not_interleave(noise):
    assert not interleaves(body(0, noise=noise))


def test_two_bodies_do_also_in_a_part():
    one, other = body(0), body(1)
    both = np.empty((60, 40, 40))
    both[::2], both[1::2] = one, other
    assert interleaves(both)
    both[20:] = body(0, 60)[20:]
    assert interleaves(both)


def test_one_strange_slice_is_no_second_body():
    volume = body(0)
    volume[12] = body(1)[12]
    assert not interleaves(volume)
    assert not interleaves(volume[:4])


def test_stored_integers_do_not_wrap():
    assert not interleaves(np.clip(body(0) + 1024, 0, None).astype(np.uint16))
