"""A run on standard error: one readable line for everything that happens, and a live line below them.

The live line tells stage, cases, what is being done now, and how long it will take; where the output is
no terminal there is no such line.
"""

from __future__ import annotations

import shutil
import sys
from typing import TextIO

from payerseg.driver.freshness import NO_RESULT
from payerseg.driver.messages import (
    CaseEnded,
    Listener,
    Message,
    Notice,
    Progress,
    RunEnded,
    RunStarted,
    RunSummary,
    StageDecided,
    StageEvent,
)
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
        case StageEvent():
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


BAR_CELLS = 12
# Typical time of a stage for one case, relative to each other; only to guess at stages not yet begun.
TYPICAL_COST = {
    "preparation": 2.0,
    "spine_localization": 1.0,
    "vertebrae_localization": 3.0,
    "vertebrae_segmentation": 8.0,
    "quality_report": 3.0,
}
CLEAR_LINE = "\r\x1b[2K"


class LiveDisplay:
    """Shows a run; `lines` prints what shall stay."""

    def __init__(self, lines: Listener, stream: TextIO) -> None:
        self._lines = lines
        self._stream = stream
        self._stages: tuple[str, ...] = ()
        self._doing = ""
        self._shown = ""

    def __call__(self, message: Message) -> None:
        """Handle one message: print what stays, redraw what changes."""
        if isinstance(message, RunStarted):
            self._stages = message.stages
        if isinstance(message, StageEvent):
            self._doing = doing_now(message) or self._doing
        if not isinstance(message, StageEvent):
            self._erase()
            self._lines(message)
        if isinstance(message, StageDecided | RunEnded):
            self._doing = ""
        elif isinstance(message, StageEvent | CaseEnded):
            self._draw(status_line(message.progress, self._doing, self._stages))

    def _erase(self) -> None:
        if self._shown:
            self._stream.write(CLEAR_LINE)
            self._stream.flush()
            self._shown = ""

    def _draw(self, text: str) -> None:
        width = shutil.get_terminal_size().columns - 1
        text = text if len(text) <= width else text[: max(0, width - 1)] + "…"
        if text != self._shown:
            self._stream.write(CLEAR_LINE + text)
            self._stream.flush()
            self._shown = text


def doing_now(message: StageEvent) -> str:
    """Say what an event tells about the case in hand; "" if nothing."""
    event = message.event
    case_id, name = str(event.get("case_id", "")), event.get("event")
    if name == "stage_started":
        return "loading"
    if name == "case_started":
        return case_id
    if name != "progress":
        return ""
    done, total = event.get("done", 0), event.get("total", 0)
    count = f" {done}/{total}" if total else ""
    return f"{case_id}: {event.get('step', '')}{count}"


def status_line(progress: Progress, doing: str, stages: tuple[str, ...]) -> str:
    """Return the line, not yet cut to the terminal's width."""
    share = progress.cases_done / progress.n_cases if progress.n_cases else 1.0
    filled = round(BAR_CELLS * share)
    parts = [
        f"{progress.stage_number}/{progress.n_stages} {progress.stage}",
        f"{'█' * filled}{'░' * (BAR_CELLS - filled)} {progress.cases_done}/{progress.n_cases} cases",
    ]
    left_s = left_in_run_s(progress, stages)
    parts += [f"about {duration(left_s)} left"] if left_s else []
    parts += [doing] if doing else []
    return " · ".join(parts)


def left_in_run_s(progress: Progress, stages: tuple[str, ...]) -> float | None:
    """Estimate the rest of the run, s; None before the first case of the stage is done.

    The stage's own rest is measured; later stages are guessed from its pace and `TYPICAL_COST`.
    """
    if progress.left_s is None or not progress.cases_done:
        return None
    pace = progress.elapsed_s / progress.cases_done / TYPICAL_COST.get(progress.stage, 1.0)
    later = stages[stages.index(progress.stage) + 1 :] if progress.stage in stages else ()
    costs = sum(TYPICAL_COST.get(stage, 1.0) for stage in later)
    return progress.left_s + pace * costs * progress.n_cases


def choose_listener(lines: Listener, stream: TextIO) -> Listener:
    """Return the live display on a terminal, else the plain lines."""
    return LiveDisplay(lines, stream) if stream.isatty() else lines
