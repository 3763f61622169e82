"""What report/ works on: the facts of a case whose result is right."""

from dataclasses import replace

import numpy as np
import pytest
from report_cases import decision_of

from payerseg.domain.landmarks import Landmark, Landmarks
from payerseg.imaging.orient import Orientation
from payerseg.imaging.scan_record import ScanRecord, SourceHeader
from payerseg.report.case_facts import CaseFacts


def facts_of(spine, case_id="case") -> CaseFacts:
    grid = spine.ct.grid
    scan = ScanRecord(
        f"{case_id}.nii.gz",
        SourceHeader("nifti1", grid),
        Orientation((0, 1, 2), (False,) * 3),
        grid,
    )
    labels = spine.labels.with_array(spine.labels.array.astype(np.uint8))
    decision = decision_of(spine.landmarks)
    return CaseFacts(case_id, scan, spine.ct, labels, spine.landmarks, decision)


@pytest.fixture
def facts(synthetic_spine):
    """T10 to L2 at 2 mm, everything right."""
    return facts_of(synthetic_spine())


@pytest.fixture
def make_facts():
    """The function: spine → facts."""
    return facts_of


@pytest.fixture
def with_marks():
    """A function: facts and {vertebra: position, or None to leave it out} → facts with other landmarks."""

    def changed(facts, changes):
        marks = dict(facts.landmarks.items())
        for vertebra, position in changes.items():
            marks.pop(vertebra, None)
            if position is not None:
                marks[vertebra] = Landmark(vertebra, tuple(position))
        landmarks = Landmarks(marks.values())
        return replace(facts, landmarks=landmarks, decision=decision_of(landmarks))

    return changed


@pytest.fixture
def with_labels():
    """A function: facts and a change of the label array in place → facts with other labels."""

    def changed(facts, change):
        array = facts.labels.array.copy()
        change(array)
        return replace(facts, labels=facts.labels.with_array(array))

    return changed
