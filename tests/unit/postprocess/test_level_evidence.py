import numpy as np
import pytest

from payerseg.domain.grid import Grid
from payerseg.domain.levels import LEVELS, N_OUTPUTS, S1_RANK
from payerseg.domain.vertebra import Vertebra
from payerseg.postprocess.level_evidence import LevelEvidence

POSITIONS = np.array([[100.0, 100.0, 100.0]])


def evidence_of(level=None, ribs=(0, 0), sacrum=0.0, field=None, positions=POSITIONS):
    logits = np.zeros((1, N_OUTPUTS))
    if level is not None:
        logits[0, LEVELS.index(level)] = 12.0
    n = len(LEVELS)
    for side, sign in enumerate(ribs):
        logits[0, n + 3 * side] = -sign
    logits[0, n + 6] = sacrum
    return LevelEvidence.of_logits(logits, positions, field)


def best(nats):
    return list(Vertebra)[int(np.argmax(nats[0, :26]))].name


def test_the_level_that_was_chosen_is_the_likeliest():
    for name in ("C4", "T7", "L2"):
        assert best(evidence_of(name).level_nats()) == name


@pytest.mark.parametrize(("usual", "rare"), [("L5", "L6"), ("T12", "T13")])
def test_rare_levels_are_never_told_by_their_look(usual, rare):
    nats = evidence_of(usual).level_nats()
    assert nats[0, Vertebra[usual].rank] == nats[0, Vertebra[rare].rank]


def test_ribs_tell_thoracic_from_others():
    ribbed, bare = evidence_of(ribs=(6, 6)).rib_nats()[0], evidence_of(ribs=(-6, -6)).rib_nats()[0]
    for name in ("T1", "T6", "T12", "T13"):
        assert ribbed[Vertebra[name].rank] - ribbed[Vertebra.L1.rank] > 3
        assert bare[Vertebra.L1.rank] - bare[Vertebra[name].rank] > 2
    one_sided = evidence_of(ribs=(6, -6)).rib_nats()[0]
    assert abs(one_sided[Vertebra.T12.rank] - one_sided[Vertebra.L1.rank]) < 2


def test_a_side_that_the_scan_does_not_reach_shows_no_rib():
    """The voxels end 20 mm to the left of the centre: only the right side speaks."""
    field = Grid((100, 100, 60), (2.0, 2.0, 2.0))
    seen = evidence_of(ribs=(6, -6), field=field)
    assert np.isnan(seen.ribs[0, 0])
    assert not np.isnan(seen.ribs[0, 1])
    assert best(seen.rib_nats()[:, :26] + 1e-6 * np.arange(26)[::-1]) not in {
        f"T{k}" for k in range(1, 14)
    }
    neither = Grid((100, 100, 15), (2.0, 2.0, 2.0), (86.0, 0.0, 0.0))
    assert np.all(evidence_of(ribs=(6, 6), field=neither).rib_nats() == 0)


def test_anchors_speak_for_themselves_and_against_others():
    nats = evidence_of("C2").anchor_nats()[0]
    assert nats[Vertebra.C2.rank] - nats[Vertebra.C3.rank] > 5
    sacrum = evidence_of("S1")
    assert sacrum.level[0, S1_RANK] > 0.99
    assert np.all(sacrum.anchor_nats()[0, :26] < -2)
    assert np.all(evidence_of("T7").anchor_nats()[0, 3:26] > -0.1)


def test_what_follows_below():
    follows, absent = evidence_of(sacrum=6.0).sacrum_nats()
    assert follows[0] > absent[0] + 3
