"""The sweeps against enumeration of every chain."""

import numpy as np
import pytest

from payerseg.config.graph import DecoderSpec, GraphConfig
from payerseg.domain.grid import Grid
from payerseg.domain.vertebra import N_CHANNELS, Vertebra
from payerseg.postprocess.chain_model import N_LABELS, Hypotheses, build_chain_model, chain_moves
from payerseg.postprocess.chain_search import ChainSearch, name_probabilities, weigh_chains
from payerseg.postprocess.places import Places
from payerseg.postprocess.spine_graph import SpinePrior

SPEC = DecoderSpec(max_skip=1)
FIELD = Grid((70, 40, 40), (3.0, 3.0, 3.0), (-60.0, -60.0, -100.0))


@pytest.fixture(scope="module")
def model():
    rng = np.random.default_rng(5)
    positions = np.array([(0, 0, 60.0), (2, -3, 34.0), (1, 4, 6.0)])
    places = Places(positions, rng.uniform(0, 0.5, (3, N_CHANNELS)))
    few = Hypotheses(
        np.array([1.0, 0.9]), np.array([1.0, -1.0]), np.array([0, 1]), np.array([0.0, -2.0])
    )
    return build_chain_model(places, SpinePrior.default(), SPEC, FIELD, few)


def all_chains(model):
    """Yield (hypothesis, ((place, rank), …), score) of every chain, by brute force."""
    steps = {}
    for rank, items in enumerate(model.moves_from):
        for item in items:
            for p, (upper, lower) in enumerate(zip(item.upper_of, item.lower_of, strict=True)):
                steps.setdefault((int(upper), rank), []).append((item, p, int(lower)))

    def grow(h, chain, score):
        place, rank = chain[-1]
        yield h, chain, score + model.end[h, place, rank]
        for item, p, lower in steps.get((place, rank), []):
            below = item.move.lower
            gain = item.scores[h, p] + model.node[h, lower, below]
            if np.isfinite(gain):
                yield from grow(h, (*chain, (lower, below)), score + gain)

    for h in range(len(model.hypotheses)):
        for place in range(len(model.positions_mm)):
            for rank in range(N_LABELS):
                first = model.start[h, place, rank] + model.node[h, place, rank]
                yield from grow(h, ((place, rank),), first)


@pytest.fixture(scope="module")
def enumerated(model):
    return list(all_chains(model))


def test_the_best_chain_is_the_best_of_all(model, enumerated):
    best = ChainSearch.of(model).best()
    hypothesis, chain, score = max(enumerated, key=lambda item: item[2])
    assert best.score == pytest.approx(score, abs=1e-9)
    assert tuple((s.place, s.rank) for s in best.steps) == chain
    assert best.hypothesis == hypothesis
    assert len(enumerated) > 500


def test_the_best_chain_through_every_state(model, enumerated):
    search = ChainSearch.of(model)
    scores, hypotheses = search.best_through()
    expected = np.full(scores.shape, -np.inf)
    for _, chain, score in enumerated:
        for state in chain:
            expected[state] = max(expected[state], score)
    np.testing.assert_allclose(scores, expected, atol=1e-9)
    for place, rank in [(0, 3), (1, 12), (2, 20), (2, 0)]:
        chain = search.through(place, rank, int(hypotheses[place, rank]))
        assert chain.names[place] == rank
        assert chain.score == pytest.approx(expected[place, rank], abs=1e-9)


def test_probabilities_sum_over_all_chains_and_none(model, enumerated):
    weights = np.exp([score for *_, score in enumerated])
    expected = np.zeros((3, N_LABELS))
    for (_, chain, _), weight in zip(enumerated, weights, strict=True):
        for state in chain:
            expected[state] += weight
    expected /= weights.sum() + 1
    np.testing.assert_allclose(name_probabilities(model), expected, atol=1e-9)


def test_dropping_hopeless_sizes_changes_nothing_that_shows():
    z = -np.cumsum([0, 21, 22, 23, 24, 24.5])
    places = Places(np.c_[np.zeros((6, 2)), z], np.eye(N_CHANNELS)[9:15] * 0.8)
    config, spec, prior = GraphConfig(), DecoderSpec(), SpinePrior.default()
    kept = name_probabilities(weigh_chains(places, prior, spec, config, None))
    sizes = Hypotheses.of_sizes(config)
    everything = sizes.with_shifts(np.ones(len(sizes), bool), spec)
    full = name_probabilities(build_chain_model(places, prior, spec, None, everything))
    np.testing.assert_allclose(kept, full, atol=1e-3)


def test_moves_know_every_rare_turn_and_the_silent_ones():
    moves = chain_moves(SpinePrior.default(), DecoderSpec(max_skip=2))
    routes = {
        tuple(list(Vertebra)[r].name for r in (m.upper, *m.silent, m.lower)): m for m in moves
    }
    for route in (("T11", "L1"), ("T12", "T13"), ("T13", "L1"), ("L5", "L6"), ("C6", "T1")):
        assert routes[route].log_prior < 0.1
    assert routes["T11", "T12", "L1"].length_mm > 1.9 * routes["T11", "L1"].length_mm
    assert routes["T3", "T4", "T5", "T6"].length_mm == pytest.approx(64, abs=3)
    assert ("T3", "T5") not in routes
    assert len(routes["T3", "T4", "T5", "T6"].waypoints_mm) == 3
    assert routes["T3", "T4", "T5"].log_prior == pytest.approx(-DecoderSpec().skip_cost)
