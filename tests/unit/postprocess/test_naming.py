import json

import numpy as np
import pytest

from payerseg.config.graph import GraphConfig
from payerseg.config.schema import VertebraeLocalizationConfig
from payerseg.domain.grid import Grid
from payerseg.domain.vertebra import Vertebra
from payerseg.domain.volume import Volume
from payerseg.errors import SpineNotFound
from payerseg.postprocess.naming import (
    candidates_record,
    decision_record,
    find_candidates,
    name_vertebrae,
    rounded,
)

GRID = Grid((50, 24, 24), (3.0, 3.0, 3.0), (-30.0, 10.0, -400.0))
CHAIN = (Vertebra.T12, Vertebra.L1, Vertebra.L2, Vertebra.L3)


@pytest.fixture(scope="module")
def spine_heatmaps():
    """Perfect targets of T12 to L3 at 3 mm, and their centres."""
    steps = np.array([(0, 0, 0), (0, -7, 30), (0, -8, 32), (0, -6, 33)], float)
    centres = np.array([5.0, 50.0, -275.0]) - np.cumsum(steps, axis=0)
    world = GRID.map_indices_to_world(np.indices(GRID.shape).reshape(3, -1).T)
    heat = np.zeros((*GRID.shape, 26), np.float32)
    for vertebra, centre in zip(CHAIN, centres, strict=True):
        squared = ((world - centre) ** 2).sum(axis=1).reshape(GRID.shape)
        heat[..., vertebra.channel] = np.exp(-squared / (2 * 6.0**2))
    return Volume(heat, GRID), centres


@pytest.mark.parametrize("decoder", ["merged", "reference"])
def test_from_heatmaps_to_names(spine_heatmaps, decoder):
    heatmaps, centres = spine_heatmaps
    config = VertebraeLocalizationConfig(decoder=decoder)
    candidates = find_candidates(heatmaps, 6.0, config)
    decision = name_vertebrae(candidates, GRID, config)
    assert tuple(decision.landmarks) == CHAIN
    np.testing.assert_allclose(decision.landmarks.positions_mm, centres, atol=0.3)


@pytest.mark.parametrize("decoder", ["merged", "reference"])
def test_silence_is_no_spine(decoder):
    config = VertebraeLocalizationConfig(decoder=decoder)
    silent = Volume(np.zeros((*GRID.shape, 26), np.float32), GRID)
    with pytest.raises(SpineNotFound):
        name_vertebrae(find_candidates(silent, 6.0, config), GRID, config)


def test_noise_is_no_spine():
    rng = np.random.default_rng(0)
    config = VertebraeLocalizationConfig(graph=GraphConfig())
    grid = Grid((32, 16, 16), (3.0, 3.0, 3.0))
    heat = rng.uniform(-0.2, 0.2, (*grid.shape, 26)).astype(np.float32)
    candidates = find_candidates(Volume(heat, grid), 6.0, config)
    assert candidates
    with pytest.raises(SpineNotFound):
        name_vertebrae(candidates, grid, config)


def test_records_are_plain_json(spine_heatmaps):
    config = VertebraeLocalizationConfig()
    candidates = find_candidates(spine_heatmaps[0], 6.0, config)
    decision = name_vertebrae(candidates, GRID, config)
    record = json.loads(json.dumps(decision_record(decision), allow_nan=False))
    assert list(record["landmarks"]) == [v.name for v in CHAIN]
    assert record["landmarks"]["L1"]["label"] == 20
    assert {"needs_review", "reasons", "level_margin", "alternatives"} <= set(record)
    assert json.loads(json.dumps(candidates_record(candidates)))[0]["label"] == "T12"


def test_the_last_bits_of_another_processor_change_no_byte():
    facts = {"level_probability": {"L1": 0.123456789}, "alternatives": [[1, -3.5e-9], (2.0, "T12")]}
    nudged = {"level_probability": {"L1": 0.12345679},
              "alternatives": [[1, -3.50000001e-9], (2.0, "T12")]}  # fmt: skip
    assert json.dumps(rounded(facts)) == json.dumps(rounded(nudged))
    assert rounded(facts) == {
        "level_probability": {"L1": 0.123457}, "alternatives": [[1, -3.5e-9], [2.0, "T12"]]
    }  # fmt: skip
