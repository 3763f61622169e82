import numpy as np
import pytest
from scipy import ndimage

from payerseg.domain.vertebra import Vertebra
from payerseg.synthesis.phantom import make_phantom, phantom_library, phantom_shape
from payerseg.synthesis.scans import Extent


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


def test_the_default_phantom_shows_a_trunk():
    scan = make_phantom()
    names = [v.name for v in scan.landmarks]
    assert names[names.index("C7") :] == [v.name for v in Vertebra if 7 <= v.verse_label <= 24]
    air = np.mean(scan.ct.array < -300)
    assert 0.2 < air < 0.8, "a body in air, with lungs"


def test_ribs_are_bone_but_no_vertebra():
    extent = Extent(
        (2.5, 2.5, 2.5), side_mm=150, front_mm=150, back_mm=70, above_mm=20, below_mm=20,
        first=Vertebra.T6, last=Vertebra.T9,
    )  # fmt: skip
    scan = make_phantom(1, extent=extent)
    bone = (scan.ct.array > 250) & (scan.labels.array == 0)
    assert np.count_nonzero(bone) > 500
