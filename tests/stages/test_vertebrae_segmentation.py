"""Stage 3 without a network: what it does before it asks one."""

from payerseg.domain.landmarks import Landmarks
from payerseg.results.artifacts import CT, LANDMARKS_CSV
from stages.vertebrae_segmentation import VertebraeSegmentation


class EmptyTable:
    """A case of which a person deleted every landmark."""

    def __init__(self):
        self.ended, self.notes = None, {}

    def read(self, artifact):
        return {CT: None, LANDMARKS_CSV: Landmarks()}[artifact]

    def end_as(self, status, message):
        self.ended = status, message

    def note(self, key, value):
        self.notes[key] = value


def test_an_emptied_table_asks_for_a_look():
    case = EmptyTable()
    VertebraeSegmentation.__call__(object.__new__(VertebraeSegmentation), case)
    assert case.ended[0] == "no_spine"
    assert "lists no vertebra" in case.ended[1]
    assert case.notes["needs_review"] is True
    assert case.notes["review_reasons"] == [case.ended[1]]
