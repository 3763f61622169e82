"""A run as plain lines on standard error: one readable line for everything that happens."""

from __future__ import annotations

import sys
from typing import TextIO

from payerseg.driver.freshness import NO_RESULT
from payerseg.driver.messages import (
    CaseEnded,
    CaseTold,
    Message,
    Notice,
    Progress,
    RunEnded,
    RunStarted,
    StageDecided,
)
from payerseg.driver.outcome import RunSummary
from payerseg.results.status import StageOutcome, StageState


class Console:
    """A listener that prints; nothing moves, so it suits logs and pipes."""

    def __init__(self, stream: TextIO | None = None) -> None:
        """Print to a stream, by default standard error: standard output is for results."""
        self._stream = stream if stream is not None else sys.stderr

    def __call__(self, message: Message) -> None:
        """Print a message; what only matters to a moving display is left out."""
        for line in lines_of(message):
            print(one_line(line), file=self._stream, flush=True)


def lines_of(message: Message) -> list[str]:
    """Return a message as lines of text, none for what would be noise."""
    match message:
        case Notice(text):
            return [f"note: {text}"]
        case RunStarted():
            stages = " → ".join(message.stages)
            return [f"run {message.run_id}: {message.n_cases} case(s), {stages}"]
        case StageDecided():
            return _decided_lines(message)
        case CaseEnded():
            return [_ended_line(message)]
        case RunEnded(summary):
            return summary_lines(summary)
        case CaseTold():
            return []


def one_line(text: str) -> str:
    """Spell out what would break a line or turn it around: names of scans may hold anything."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def summary_lines(summary: RunSummary) -> list[str]:
    """Return how a run ended: counts, then every case that needs attention."""
    counts = ", ".join(f"{count} {status}" for status, count in summary.counts().items())
    ended = f"done in {duration(summary.seconds)}: {counts or 'no cases'}"
    head = f"{ended} · results in {summary.output}"
    if summary.dry_run:
        head = (
            f"dry run: nothing was started, nothing written · results would be in {summary.output}"
        )
    needy = [case for case in summary.cases if case.message]
    return [head, *(f"  {case.case_id} · {case.status} · {case.message}" for case in needy)]


def duration(seconds: float) -> str:
    """Return a duration as people say it: 8 s, 3 min 20 s, 2 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def progress_text(progress: Progress) -> str:
    """Return where a stage is, with the time it will still take once that can be told."""
    left = f", about {duration(progress.left_s)} left" if progress.left_s else ""
    return f"{progress.cases_done}/{progress.n_cases}{left}"


def _decided_lines(message: StageDecided) -> list[str]:
    verdicts = message.verdicts
    stale = {case_id: verdict for case_id, verdict in verdicts.items() if verdict.stale}
    n_fresh = len(verdicts) - len(stale)
    passed = f", {message.n_blocked} not possible" if message.n_blocked else ""
    lines = [f"{message.stage}: {len(stale)} to run, {n_fresh} fresh{passed}"]
    for case_id, verdict in verdicts.items():
        if verdict.reasons and verdict.reasons != (NO_RESULT,):
            reasons = "; ".join(verdict.reasons)
            lines.append(f"  {case_id} · {message.stage} · {verdict.state}: {reasons}")
    return lines


def _ended_line(message: CaseEnded) -> str:
    what = f"  [{progress_text(message.progress)}] {message.case_id} · {message.stage}"
    return f"{what} · {_outcome_text(message.outcome)}"


def _outcome_text(outcome: StageOutcome) -> str:
    if outcome.state is StageState.DONE:
        review = ", needs review" if outcome.needs_review else ""
        return f"done in {duration(outcome.seconds)}{review}"
    kind = f" ({outcome.kind})" if outcome.kind else ""
    return f"{outcome.state}{kind}: {outcome.message}"
