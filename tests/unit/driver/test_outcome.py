"""The one word that a case ends with."""

import pytest

from payerseg.driver.messages import CaseRecord, exit_code_of
from payerseg.results.status import CaseSummary, StageOutcome, StageState
from payerseg.stagekit.protocol import ExitCode

DONE = StageOutcome(StageState.DONE)
NO_SPINE = StageOutcome(StageState.NO_SPINE, message="landmarks.csv lists no vertebra")
PIPELINE = ("preparation", "vertebrae_localization", "vertebrae_segmentation", "quality_report")


def summary(*outcomes):
    record = CaseRecord("a", None, dict(zip(PIPELINE, outcomes, strict=False)))
    return record.summary("run", PIPELINE)


def test_no_spine_is_a_result():
    found = summary(DONE, NO_SPINE, NO_SPINE, NO_SPINE)
    assert (found.status, found.good) == ("no_spine", True)


@pytest.mark.parametrize("doubting", [0, 1])
def test_no_spine_with_any_doubt_is_never_silent(doubting):
    outcomes = [DONE, NO_SPINE, NO_SPINE, NO_SPINE]
    doubted = outcomes[doubting]
    message = doubted.message or "the values are in doubt"
    outcomes[doubting] = StageOutcome(doubted.state, message=message, needs_review=True)
    found = summary(*outcomes)
    assert found.status == "ok_needs_review"
    assert message in found.message
    assert found.message.count("landmarks.csv lists no vertebra") == 1


@pytest.mark.parametrize("last", range(1, 4))
def test_a_part_says_how_far_it_came(last):
    found = summary(*[DONE] * last)
    assert found.status == f"done_to_{PIPELINE[last - 1]}"
    assert found.good
    assert summary(*[DONE] * 4).status == "ok"


def test_each_reason_is_said_once():
    """The report repeats what the stages before it said."""
    asking = StageOutcome(StageState.DONE, message="the level is uncertain", needs_review=True)
    report = StageOutcome(
        StageState.DONE, message="The level is uncertain; L1 is small", needs_review=True
    )
    found = summary(DONE, asking, DONE, report)
    assert found.status == "ok_needs_review"
    assert found.message == "quality_report: The level is uncertain; L1 is small"
    assert summary(DONE, asking, DONE).message.count("the level is uncertain") == 1


def test_one_failed_case_of_many_is_told_by_the_exit_code():
    good, failed = CaseSummary("a", "ok"), CaseSummary("b", "failed_preparation_unreadable")
    assert exit_code_of((good, good)) == ExitCode.OK
    assert exit_code_of((good, failed)) == ExitCode.SOME_FAILED
