import numpy as np
import pytest

from payerseg.synthesis.scans import NEGATIVES, synthesize_negative


@pytest.mark.parametrize("kind", NEGATIVES)
def test_each_kind_is_a_ct_of_its_own(kind):
    volume = synthesize_negative(kind, 1, (32, 40, 48))
    assert volume.array.dtype == np.int16
    assert volume.array.shape == (32, 40, 48)
    again = synthesize_negative(kind, 1, (32, 40, 48))
    assert volume.array.tobytes() == again.array.tobytes()


def test_values_are_what_the_name_says():
    mean = {k: synthesize_negative(k, 0, (32, 40, 48)).array for k in NEGATIVES}
    assert mean["air"].mean() == pytest.approx(-1000, abs=15)
    assert abs(np.median(mean["water"][:, 18:22, 22:26])) < 25
    assert np.median(mean["lung"]) < -700
    assert mean["thigh"].max() > 600
    assert mean["head"].max() > 600


def test_an_unknown_kind_is_named():
    with pytest.raises(ValueError, match="'brick' is unknown"):
        synthesize_negative("brick", 0)
