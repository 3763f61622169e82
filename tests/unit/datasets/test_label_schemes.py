"""Numbers of other tools, spot-checked against their published tables."""

import numpy as np
import pytest

from payerseg.datasets.label_schemes import SCHEMES, scheme_named
from payerseg.domain.vertebra import Vertebra
from payerseg.errors import UsageError

PUBLISHED = {
    "totalsegmentator": {27: "L5", 31: "L1", 32: "T12", 43: "T1", 44: "C7", 50: "C1"},
    "totalsegmentator_v1": {18: "L5", 22: "L1", 23: "T12", 34: "T1", 35: "C7", 41: "C1"},
    "vertebrae_pp": {1: "C1", 7: "C7", 8: "T1", 19: "T12", 24: "L5"},
    "moose": {1: "C1", 8: "T1", 20: "L1", 25: "L6"},
    "vista3d": {33: "L5", 37: "L1", 38: "T12", 49: "T1", 50: "C7", 56: "C1", 131: "L6"},
    "totalspineseg": {11: "C1", 17: "C7", 21: "T1", 32: "T12", 41: "L1", 46: "L6"},
    "verse": {1: "C1", 19: "T12", 28: "T13", 25: "L6"},
}
SACRA = {
    "totalsegmentator": {25, 26},
    "totalsegmentator_v1": {92},
    "moose": {28},
    "vista3d": {97, 127},
    "totalspineseg": {50},
    "vertebrae_pp": set(),
    "verse": {26},
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_numbers_mean_what_the_tool_says(name):
    scheme = scheme_named(name)
    for theirs, vertebra in PUBLISHED[name].items():
        assert scheme.to_verse[theirs] == Vertebra[vertebra].verse_label
    assert {k for k, v in scheme.to_verse.items() if v == 26} == SACRA[name]
    vertebrae = [v for v in scheme.to_verse.values() if v not in (26, 27)]
    assert len(set(vertebrae)) == len(vertebrae) >= 24


def test_convert_drops_what_is_no_spine():
    labels = np.array([[[0, 27, 50, 92, 13]]])
    scheme = SCHEMES["totalsegmentator"]
    assert scheme.convert(labels).tolist() == [[[0, 24, 1, 0, 0]]]
    assert scheme.unknown(labels) == (13, 92)


def test_moose_hips_are_not_a_sacrum():
    assert SCHEMES["moose"].convert(np.array([[[26, 27, 28]]])).tolist() == [[[0, 0, 26]]]


def test_unknown_scheme_is_refused():
    with pytest.raises(UsageError, match="expected one of verse"):
        scheme_named("nora")
