import numpy as np

from payerseg.postprocess.peaks import Candidate
from payerseg.postprocess.places import merge_candidates

HERE, THERE = np.array([10.0, 20.0, 300.0]), np.array([10.0, 20.0, 280.0])


def candidate(channel, point, value, channel_values=()):
    return Candidate(channel, tuple(point), value, channel_values)


def test_candidates_of_two_names_at_one_spot_are_one_place():
    places = merge_candidates(
        [
            candidate(7, HERE, 0.8),
            candidate(8, np.add(HERE, (0, 3, 0)), 0.4),
            candidate(8, THERE, 0.6),
        ],
        7.5,
        9,
    )
    assert len(places) == 2
    assert places.heat[0, 7] == 0.8
    assert places.heat[0, 8] == 0.4
    np.testing.assert_allclose(places.positions_mm[0], np.add(HERE, (0, 3 * 0.16 / 0.8, 0)))
    np.testing.assert_allclose(places.strength, [(0.8**3 + 0.4**3) ** (1 / 3), 0.6])


def test_heat_below_every_peak_is_kept():
    values = [0.0] * 26
    values[7], values[9] = 0.8, 0.03
    places = merge_candidates([candidate(7, HERE, 0.8, tuple(values))], 7.5, 9)
    assert places.heat[0, 9] == 0.03


def test_order_of_the_candidates_does_not_matter():
    rng = np.random.default_rng(0)
    group = [
        candidate(int(c), p, float(v))
        for c, p, v in zip(
            rng.integers(0, 26, 40), rng.uniform(0, 60, (40, 3)), rng.uniform(0, 1, 40), strict=True
        )
    ]
    one = merge_candidates(group, 7.5, 99)
    other = merge_candidates(group[::-1], 7.5, 99)
    np.testing.assert_array_equal(one.positions_mm, other.positions_mm)
    np.testing.assert_array_equal(one.heat, other.heat)


def test_the_weakest_are_left_out_and_none_gives_none():
    group = [candidate(k, np.add(HERE, (0, 0, 30 * k)), 0.1 * k + 0.1) for k in range(6)]
    kept = merge_candidates(group, 7.5, 3)
    np.testing.assert_allclose(kept.strength, [0.6, 0.5, 0.4])
    assert len(merge_candidates([], 7.5, 3)) == 0


def test_faint_noise_in_many_channels_does_not_add_up():
    values = [0.02] * 26
    values[7] = 0.12
    places = merge_candidates([candidate(7, HERE, 0.12, tuple(values))], 7.5, 9)
    assert 0.12 < places.strength[0] < 0.13
