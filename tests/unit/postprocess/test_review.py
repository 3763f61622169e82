"""What is said of a decision."""

import pytest

from payerseg.domain.vertebra import Vertebra
from payerseg.postprocess.review import named_range, range_labels

IN_ORDER = sorted(Vertebra, key=lambda v: v.rank)


def labelling(first, last, *, absent=("T13", "L6")):
    names = [v.name for v in IN_ORDER]
    return tuple(n for n in names[names.index(first) : names.index(last) + 1] if n not in absent)


@pytest.mark.parametrize(
    ("labels", "stated"),
    [
        (labelling("T6", "T9"), "T6-T9"),
        (("L3",), "L3"),
        (("T13",), "T13"),
        (labelling("C1", "L5"), "C1-L5"),
        (labelling("T11", "L2", absent=("L6",)), "T11-L2 (T13)"),
        (labelling("L3", "L6", absent=()), "L3-L6 (L6)"),
        (labelling("T10", "L6", absent=()), "T10-L6 (T13, L6)"),
        (labelling("T10", "T13", absent=()), "T10-T13 (T13)"),
        (labelling("T10", "L2", absent=("T12", "T13")), "T10-L2 (no T12)"),
        (labelling("C5", "T2", absent=("C7",)), "C5-T2 (no C7)"),
        (labelling("T1", "L6", absent=("T12",)), "T1-L6 (T13, L6, no T12)"),
    ],
)
def test_a_labelling_and_how_it_is_stated(labels, stated):
    assert named_range(labels) == stated
    assert range_labels(stated) == labels


def test_no_vertebra():
    with pytest.raises(KeyError):
        range_labels("T6-S1")
