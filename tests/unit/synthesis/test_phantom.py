import numpy as np

from payerseg.domain.vertebra import Vertebra
from payerseg.synthesis.phantom import make_phantom
from payerseg.synthesis.scans import Extent


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
