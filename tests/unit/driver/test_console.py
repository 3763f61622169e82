import io
from dataclasses import replace
from pathlib import Path

import pytest

from payerseg.driver.console import Console, duration, lines_of, one_line
from payerseg.driver.freshness import NO_RESULT, State, Verdict
from payerseg.driver.messages import (
    CaseEnded,
    CaseRecord,
    Notice,
    Progress,
    RunEnded,
    RunSummary,
    StageDecided,
    StageEvent,
    exit_code_of,
)
from payerseg.results.status import StageOutcome, StageState

PROGRESS = Progress("preparation", 1, 5, 2, 4, 10.0, 10.0)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")],
)
def test_durations(seconds, said):
    assert duration(seconds) == said


def test_reasons_are_spoken_but_not_the_obvious_one():
    verdicts = {
        "a": Verdict(State.STALE, (NO_RESULT,)),
        "b": Verdict(State.STALE, ("weights changed (71aa→c93e)", "ct changed (0011→2233)")),
        "c": Verdict(State.FRESH),
    }
    assert lines_of(StageDecided("preparation", verdicts, 2)) == [
        "preparation: 2 to run, 1 fresh, 2 not possible",
        "  b · preparation · stale: weights changed (71aa→c93e); ct changed (0011→2233)",
    ]


def test_outcomes_are_lines_and_chatter_is_not():
    done = StageOutcome(StageState.DONE, seconds=3, needs_review=True)
    failed = StageOutcome(StageState.FAILED, "unreadable", "it is empty")
    assert lines_of(CaseEnded("a", "preparation", done, PROGRESS)) == [
        "  [2/4, about 10 s left] a · preparation · done in 3 s, needs review"
    ]
    assert lines_of(CaseEnded("a", "preparation", failed, PROGRESS))[0].endswith(
        "failed (unreadable): it is empty"
    )
    assert lines_of(StageEvent({"event": "progress"}, PROGRESS)) == []


def record(*states):
    found = CaseRecord("a", None)
    names = ("preparation", "spine_localization", "vertebrae_localization")
    for name, state in zip(names, states, strict=False):
        found.stages[name] = StageOutcome(state, "bug" if state == "failed" else "", "why")
    return found


@pytest.mark.parametrize(
    ("states", "status", "exit_code"),
    [
        ((StageState.DONE, StageState.FRESH), "ok", 0),
        ((StageState.DONE, StageState.EDITED), "ok", 0),
        ((StageState.FRESH, StageState.NO_SPINE, StageState.NO_SPINE), "no_spine", 0),
        (
            (StageState.DONE, StageState.FAILED, StageState.BLOCKED),
            "failed_spine_localization_bug",
            3,
        ),
        ((StageState.DONE, StageState.NOT_RUN, StageState.BLOCKED), "not_run", 3),
        ((StageState.BLOCKED, StageState.BLOCKED), "blocked", 3),
    ],
)
def test_the_closed_set_of_statuses(states, status, exit_code):
    summary = record(*states).summary("run")
    assert summary.status == status
    assert exit_code_of((summary,)) == exit_code
    assert bool(summary.message) == (status != "ok")


@pytest.mark.parametrize("doubtful", ["preparation", "vertebrae_localization"])
def test_no_spine_in_a_doubtful_scan_asks_for_a_review(doubtful):
    found = record(StageState.DONE, StageState.DONE, StageState.NO_SPINE)
    found.stages[doubtful] = replace(found.stages[doubtful], needs_review=True, message="doubt")
    summary = found.summary("run")
    assert summary.status == "ok_needs_review"
    assert f"{doubtful}: doubt" in summary.message


def test_the_end_is_told_with_everything_that_needs_attention():
    good = record(StageState.DONE).summary("r")
    bad = record(StageState.FAILED).summary("r")
    summary = RunSummary("r", Path("/out"), (good, bad), 3, 5.0)
    assert lines_of(RunEnded(summary)) == [
        "done in 5 s: 1 failed_preparation_bug, 1 ok · results in /out",
        "  a · failed_preparation_bug · preparation: why",
    ]


def test_a_dry_run_claims_no_results():
    planned = record(StageState.NOT_RUN).summary("r")
    summary = RunSummary("r", Path("/out"), (planned,), 0, 0.1, dry_run=True)
    assert lines_of(RunEnded(summary))[0] == (
        "dry run: nothing was started, nothing written · results would be in /out"
    )


def test_the_console_prints_to_its_stream():
    stream = io.StringIO()
    Console(stream)(Notice("something"))
    assert stream.getvalue() == "note: something\n"


def test_a_name_cannot_break_a_line_or_turn_it_around():
    assert one_line("a\nb\t\u202ec · é≥") == "a\\nb\\t\\u202ec · é≥"
