import numpy as np
import pytest

from payerseg.domain.vertebra import Vertebra
from payerseg.training.targets import unmarked_places


def marks(*names, step=25.0):
    """A straight spine, head first, `step` mm apart."""
    return np.array([(Vertebra[n].channel, 5.0, 7.0, -step * i) for i, n in enumerate(names)])


@pytest.mark.parametrize(
    ("missing", "z"), [("T8", 25.0), ("T7", 50.0), ("T12", -75.0), ("L1", -100.0)]
)
def test_unmarked_neighbours_lie_one_step_beyond_the_ends(missing, z):
    places = unmarked_places((Vertebra[missing].channel,), marks("T9", "T10", "T11"))
    np.testing.assert_allclose(places[Vertebra[missing].channel], (5, 7, z))


def test_a_thirteenth_rib_carrier_lies_where_the_first_lumbar_would():
    places = unmarked_places(
        (Vertebra.T13.channel, Vertebra.L1.channel), marks("T10", "T11", "T12")
    )
    np.testing.assert_allclose(places[Vertebra.T13.channel], places[Vertebra.L1.channel])


def test_what_lies_between_marks_or_beyond_a_single_one_has_no_place():
    assert unmarked_places((Vertebra.T10.channel,), marks("T9", "T11")) == {}
    assert unmarked_places((Vertebra.T10.channel,), marks("T9")) == {}
