"""The label maps of both families under the engine of this process; RECORD_LABELS=1 writes them down."""

import os
from pathlib import Path

import numpy as np
import pytest

import payerseg

RECORDED = Path(__file__).parents[1] / "golden" / "data" / "second_system_labels.npz"


@pytest.fixture(scope="module")
def label_maps(coded_scan, handmade_weights, second_weights):
    config = payerseg.load_config("tiny_test")
    families = {"payer": handmade_weights, "verse_pytorch": second_weights}
    return {
        family: payerseg.segment(coded_scan.ct, config=config, weights=weights).labels.array
        for family, weights in families.items()
    }


def test_the_library_call_gives_the_recorded_label_maps(label_maps):
    if os.environ.get("RECORD_LABELS"):
        np.savez_compressed(RECORDED, **label_maps)
    for family, labels in label_maps.items():
        expected = np.load(RECORDED)[family]
        assert np.count_nonzero(labels != expected) <= 1e-3 * np.count_nonzero(expected), family
