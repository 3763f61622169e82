import numpy as np
import pytest

from payerseg.config.graph import GraphConfig
from payerseg.domain.landmarks import Landmark, Landmarks
from payerseg.postprocess.calibration import DecodedExample, fit_temperature, level_loss


def examples(simulator, chain_shift, n=8):
    rng = np.random.default_rng(0)
    failures = simulator.Failures(chain_shift, 0.02, (0.25, 0.35), 1.0, 0, 0, 0)
    out = []
    for _ in range(n):
        spine = simulator.draw_spine(rng)
        low = rng.uniform(-350, -150)
        case = simulator.simulate(rng, simulator.slab(spine, low, 90.0), failures)
        truth = Landmarks(Landmark(v, tuple(p.tolist())) for v, p in case.truth.items())
        out.append(DecodedExample(case.candidates, truth, case.field))
    return out


def test_a_network_that_errs_by_whole_slabs_gets_a_higher_temperature(simulator):
    config = GraphConfig(common_error=1e-6)  # else that setting absorbs the errors
    trials = (0.5, 2.0, 8.0)
    sure = fit_temperature(examples(simulator, 0.05), config=config, temperatures=trials)
    erring = fit_temperature(examples(simulator, 0.8), config=config, temperatures=trials)
    assert erring.temperature > sure.temperature
    assert sure.losses[sure.temperature] < 0.2
    assert erring.losses[erring.temperature] < erring.losses[0.5]


def test_an_example_without_truth_or_candidates_says_nothing(simulator):
    example = examples(simulator, 0.1, n=1)[0]
    assert level_loss(example) < 1
    assert level_loss(DecodedExample([], example.truth)) is None
    assert level_loss(DecodedExample(example.candidates, Landmarks())) is None
    with pytest.raises(ValueError, match="none of 1 examples"):
        fit_temperature([DecodedExample([], example.truth)], temperatures=(1.0,))
