import numpy as np

from payerseg.config.model_card import LevelNetSpec, ModelCard, SamplingSpec
from payerseg.domain.levels import N_OUTPUTS
from payerseg.inference.level_views import PLACES_PER_VIEW, read_levels, view_centers

SPEC = LevelNetSpec(shape_zyx=(64, 24, 24))
CARD = ModelCard("vertebra_levels", SPEC, SamplingSpec(3.0, base_mm=2.5), output="levels")


def chain(n, step_mm=30.0):
    return np.stack([np.full(n, 10.0), np.full(n, 20.0), -step_mm * np.arange(n)], axis=1)


def test_every_place_is_seen_well_inside_a_view():
    for n in (1, 2, 5, 12, 20):
        points = chain(n)
        z = np.array([center[2] for center in view_centers(points)])
        assert np.abs(points[:, 2, None] - z).min(axis=1).max() <= 40


def test_answers_come_back_in_the_order_of_the_places():
    """A network that says where in the world a place lies is asked in views of its own."""
    points = chain(14)[np.random.default_rng(0).permutation(14)]
    base = np.zeros((300, 40, 40), np.float32)
    origin = np.array([-40.0, -30.0, -500.0])
    base[:] = (origin[2] + 2.5 * np.arange(300))[:, None, None]

    def forward(picture, places):
        assert picture.shape == (1, *SPEC.shape_zyx, 1)
        assert places.shape == (1, PLACES_PER_VIEW, 3)
        index = np.clip(np.rint(places[0]).astype(int), 0, np.array(SPEC.shape_zyx) - 1)
        out = np.zeros((1, len(index), N_OUTPUTS), np.float32)
        out[0, :, 0] = picture[0, index[:, 0], index[:, 1], index[:, 2], 0]
        return out

    answer = read_levels(forward, CARD, base, origin, 2.5, points)
    expected = points[:, 2] / 600  # the window
    np.testing.assert_allclose(answer[:, 0], expected, atol=3.0 / 600)


def test_many_places_are_asked_about_in_several_passes():
    points = np.random.default_rng(0).uniform(-10, 10, (PLACES_PER_VIEW + 5, 3))
    calls = []

    def forward(picture, places):
        calls.append(len(places[0]))
        return np.ones((1, PLACES_PER_VIEW, N_OUTPUTS), np.float32)

    answer = read_levels(forward, CARD, np.zeros((80, 40, 40)), np.full(3, -50.0), 2.5, points)
    assert len(calls) == 2 * len(view_centers(points))
    np.testing.assert_allclose(answer, 1.0)
