"""What a run tells whoever listens: a terminal, a log, a progress bar, a test."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from payerseg.driver.freshness import Verdict
from payerseg.driver.outcome import RunSummary
from payerseg.results.status import StageOutcome


@dataclass(frozen=True, slots=True)
class Notice:
    """Something a person should know; not an error of a case."""

    text: str


@dataclass(frozen=True, slots=True)
class RunStarted:
    """Everything that can fail early has not failed.

    Attributes:
        run_id: its name.
        folder: keeps requests, events and logs.
        n_cases: to be looked at.
        stages: names, in order.
    """

    run_id: str
    folder: Path | None
    n_cases: int
    stages: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StageDecided:
    """Before a stage: which cases will run, and why.

    Attributes:
        stage: its name.
        verdicts: of all cases that can run; only the stale ones will.
        n_blocked: cases without a result of an earlier stage, or without a spine.
    """

    stage: str
    verdicts: Mapping[str, Verdict]
    n_blocked: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a stage is.

    Attributes:
        stage: its name.
        stage_number, n_stages: from 1.
        cases_done, n_cases: of the stage's cases that run; failed ones count as done.
        elapsed_s: since the stage's first process started.
        left_s: estimate for the rest of this stage; None before the first case is done.
        rss_mb: of the process, latest known.
    """

    stage: str
    stage_number: int
    n_stages: int
    cases_done: int
    n_cases: int
    elapsed_s: float
    left_s: float | None
    rss_mb: float


@dataclass(frozen=True, slots=True)
class StageEvent:
    """A stage process said something.

    Attributes:
        event: as in docs/protocol.md.
        progress: after it.
    """

    event: Mapping[str, Any]
    progress: Progress


@dataclass(frozen=True, slots=True)
class CaseEnded:
    """A stage has an outcome for a case that had to run."""

    case_id: str
    stage: str
    outcome: StageOutcome
    progress: Progress


@dataclass(frozen=True, slots=True)
class RunEnded:
    """The last message."""

    summary: RunSummary


Message = Notice | RunStarted | StageDecided | StageEvent | CaseEnded | RunEnded
Listener = Callable[[Message], None]


class EtaClock:
    """Estimates the time left from the pace since it was first asked, not from what was done before."""

    def __init__(self) -> None:
        self._first: tuple[int, float] | None = None

    def left_s(self, done: int, total: int) -> float | None:
        """Return seconds to the end, None before a pace is known."""
        now = time.monotonic()
        if self._first is None:
            self._first = (done, now)
        steps, seconds = done - self._first[0], now - self._first[1]
        return (total - done) * seconds / steps if steps > 0 else None


@dataclass(slots=True)
class StageClock:
    """Counts the cases of one stage and estimates the rest.

    Attributes:
        stage, stage_number, n_stages, n_cases: as in `Progress`.
    """

    stage: str
    stage_number: int
    n_stages: int
    n_cases: int
    _began: float = field(default_factory=time.monotonic)
    _eta: EtaClock = field(default_factory=EtaClock)
    _cases_done: int = 0
    _rss_mb: float = 0.0

    def __post_init__(self) -> None:
        self._eta.left_s(0, self.n_cases)

    def case_ended(self) -> None:
        """Count one case."""
        self._cases_done += 1

    def hear(self, event: Mapping[str, Any]) -> None:
        """Take the memory out of a heartbeat."""
        self._rss_mb = float(event.get("rss_mb", self._rss_mb) or 0.0)

    def now(self) -> Progress:
        """Return where the stage is."""
        elapsed_s, done = time.monotonic() - self._began, self._cases_done
        left_s = self._eta.left_s(done, self.n_cases)
        return Progress(
            self.stage,
            self.stage_number,
            self.n_stages,
            done,
            self.n_cases,
            elapsed_s,
            left_s,
            self._rss_mb,
        )
