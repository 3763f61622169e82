"""The live line on a terminal: stage, cases, what is being done now, and how long it will take.

Plain lines stay above it; where the output is no terminal there is no such line.
"""

from __future__ import annotations

import shutil
from typing import TextIO

from payerseg.driver.console import duration
from payerseg.driver.messages import (
    CaseEnded,
    CaseTold,
    Listener,
    Message,
    Progress,
    RunEnded,
    RunStarted,
    StageDecided,
)

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
        if isinstance(message, CaseTold):
            self._doing = doing_now(message) or self._doing
        if not isinstance(message, CaseTold):
            self._erase()
            self._lines(message)
        if isinstance(message, StageDecided | RunEnded):
            self._doing = ""
        elif isinstance(message, CaseTold | CaseEnded):
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


def doing_now(message: CaseTold) -> str:
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
