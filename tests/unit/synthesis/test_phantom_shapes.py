import numpy as np
import pytest
from scipy import ndimage

from payerseg.domain.vertebra import Vertebra
from payerseg.synthesis.phantom_shapes import phantom_library, phantom_shape


def test_all_usual_levels_are_there():
    assert set(phantom_library().spines[0].shapes) == set(Vertebra) - {Vertebra.T13, Vertebra.L6}


@pytest.mark.parametrize("name", ["C1", "C2", "C5", "T3", "T9", "T12", "L3", "L5"])
def test_a_vertebra_is_one_piece_with_a_canal(name):
    shape = phantom_shape(Vertebra[name])
    inside = shape.depth > 0
    assert ndimage.label(inside)[1] == 1
    k, j, i = np.round(shape.grid.map_world_to_indices(shape.body.canal_mm[None])[0]).astype(int)
    assert not inside[k, j, i]
    filled = ndimage.binary_fill_holes(np.any(inside, axis=0))
    assert filled[j, i], "the canal is closed all round"


def test_lumbar_bodies_are_larger_than_cervical_ones():
    size = {n: phantom_shape(Vertebra[n]).body.half_size_mm.prod() for n in ("C4", "T6", "L4")}
    assert size["C4"] < size["T6"] < size["L4"]
