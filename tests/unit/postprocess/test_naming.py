import json

import numpy as np
import pytest

from payerseg.config.graph import GraphConfig
from payerseg.config.model_card import ModelCard, SamplingSpec, UNetSpec
from payerseg.config.schema import VertebraeLocalizationConfig
from payerseg.domain.grid import Grid
from payerseg.domain.levels import LEVELS, N_OUTPUTS
from payerseg.domain.vertebra import Vertebra
from payerseg.domain.volume import Volume
from payerseg.errors import SpineNotFound
from payerseg.postprocess.naming import (
    decision_record,
    find_places,
    found_from_record,
    found_record,
    name_vertebrae,
    rounded,
)

CARD = ModelCard(
    "vertebrae_localization", UNetSpec((4,), outputs=26), SamplingSpec(3.0, sigma_mm=6.0)
)
SPEC = CARD.decoder
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
    candidates = find_places(heatmaps, CARD, config, GRID)
    decision = name_vertebrae(candidates, GRID, config, SPEC)
    assert tuple(decision.landmarks) == CHAIN
    np.testing.assert_allclose(decision.landmarks.positions_mm, centres, atol=0.3)


@pytest.mark.parametrize("decoder", ["merged", "reference"])
def test_silence_is_no_spine(decoder):
    config = VertebraeLocalizationConfig(decoder=decoder)
    silent = Volume(np.zeros((*GRID.shape, 26), np.float32), GRID)
    with pytest.raises(SpineNotFound):
        name_vertebrae(find_places(silent, CARD, config, GRID), GRID, config, SPEC)


def test_noise_is_no_spine():
    rng = np.random.default_rng(0)
    config = VertebraeLocalizationConfig(graph=GraphConfig())
    grid = Grid((32, 16, 16), (3.0, 3.0, 3.0))
    heat = rng.uniform(-0.2, 0.2, (*grid.shape, 26)).astype(np.float32)
    candidates = find_places(Volume(heat, grid), CARD, config, grid)
    assert candidates.candidates
    with pytest.raises(SpineNotFound):
        name_vertebrae(candidates, grid, config, SPEC)


def test_records_are_plain_json(spine_heatmaps):
    config = VertebraeLocalizationConfig()
    candidates = find_places(spine_heatmaps[0], CARD, config, GRID)
    decision = name_vertebrae(candidates, GRID, config, SPEC)
    record = json.loads(json.dumps(decision_record(decision), allow_nan=False))
    assert list(record["landmarks"]) == [v.name for v in CHAIN]
    assert record["landmarks"]["L1"]["label"] == 20
    assert {"needs_review", "reasons", "level_margin", "alternatives"} <= set(record)
    assert json.loads(json.dumps(found_record(candidates)))["candidates"][0]["label"] == "T12"


def asked(positions_mm):
    """A level network that is sure: T12 carries ribs, the others do not, the sacrum is far."""
    logits = np.zeros((len(positions_mm), N_OUTPUTS))
    order = np.argsort(-positions_mm[:, 2])
    for vertebra, place in zip(CHAIN, order, strict=False):
        logits[place, vertebra.rank] = 9.0
        for side in range(2):
            logits[place, len(LEVELS) + 3 * side] = -6.0 if vertebra.name[0] == "T" else 6.0
    logits[:, -3] = -6.0
    logits[:, -1] = 4.0
    return logits


def test_a_decoder_can_be_run_again_from_what_is_kept(spine_heatmaps):
    config = VertebraeLocalizationConfig()
    found = find_places(spine_heatmaps[0], CARD, config, GRID, asked)
    again = found_from_record(json.loads(json.dumps(found_record(found))))
    one, other = (name_vertebrae(f, GRID, config, SPEC) for f in (found, again))
    assert list(one.landmarks) == list(other.landmarks) == list(CHAIN)
    assert one.level_probability == pytest.approx(other.level_probability, abs=1e-3)
    assert list(one.level_set) == list(other.level_set)
    assert one.anchors == other.anchors


def test_ribs_rename_a_chain_that_heat_names_one_level_off(spine_heatmaps):
    """Heat says T11 to L2; T12's ribs and their absence below say T12 to L3."""
    heatmaps, centres = spine_heatmaps
    heat = np.zeros_like(heatmaps.array)
    for vertebra in CHAIN:
        above = list(Vertebra)[vertebra.rank - (2 if vertebra is Vertebra.L1 else 1)]
        heat[..., above.channel] = heatmaps.array[..., vertebra.channel]
    wide = GRID.window((0, -10, -30), (50, 44, 84))
    config = VertebraeLocalizationConfig()
    shifted = Volume(heat, GRID)
    alone = name_vertebrae(find_places(shifted, CARD, config, wide), wide, config, SPEC)
    both = name_vertebrae(find_places(shifted, CARD, config, wide, asked), wide, config, SPEC)
    assert [v.name for v in alone.landmarks] == ["T11", "T12", "L1", "L2"]
    assert tuple(both.landmarks) == CHAIN
    np.testing.assert_allclose(both.landmarks.positions_mm, centres, atol=0.5)
    assert both.anchors == ("the last ribs are seen at T12 left and right, none at L1",)


def test_the_last_bits_of_another_processor_change_no_byte():
    facts = {"level_probability": {"L1": 0.123456789}, "alternatives": [[1, -3.5e-9], (2.0, "T12")]}
    nudged = {"level_probability": {"L1": 0.12345679},
              "alternatives": [[1, -3.50000001e-9], (2.0, "T12")]}  # fmt: skip
    assert json.dumps(rounded(facts)) == json.dumps(rounded(nudged))
    assert rounded(facts) == {
        "level_probability": {"L1": 0.123457}, "alternatives": [[1, -3.5e-9], [2.0, "T12"]]
    }  # fmt: skip
