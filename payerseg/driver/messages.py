"""What a run tells whoever listens: a terminal, a log, a progress bar, a test."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from payerseg import records
from payerseg.driver.freshness import Verdict
from payerseg.results.status import (
    HAS_RESULT,
    PARTLY,
    CaseStatus,
    CaseSummary,
    StageOutcome,
    StageState,
    is_good,
)
from payerseg.stagekit.catalog import QUALITY_REPORT
from payerseg.stagekit.protocol import EventName, ExitCode

RESULTS_STAY = "the results of before the edit lie there as they were"


@dataclass(slots=True)
class ProcessRecord:
    """What one stage process cost; filled in while it speaks.

    Attributes:
        stage: its name.
        n_cases: it was asked to do.
        ending: how it ended, in words.
        device: it was told to use.
        versions: of the libraries it had loaded.
        setup_seconds: from its first line to the loaded weights.
        seconds: from its first line to its last; wall time since its start where it crashed.
        cpu_seconds: of all its threads; 0 where it crashed.
        peak_rss_mb: highest memory it reported, MB.
    """

    stage: str
    n_cases: int
    ending: str = ""
    device: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    setup_seconds: float = 0.0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_rss_mb: float = 0.0

    def hear(self, event: Mapping[str, Any]) -> None:
        """Take what an event tells about the process."""
        peak_mb = float(event.get("peak_rss_mb", 0.0))
        self.peak_rss_mb = max(self.peak_rss_mb, peak_mb)
        match event["event"]:
            case EventName.STAGE_STARTED:
                self.device = str(event.get("device", ""))
                self.versions = dict(event.get("versions", {}))
            case EventName.STAGE_FINISHED:
                self.setup_seconds = float(event.get("setup_seconds", 0.0))
                self.seconds = float(event.get("seconds", 0.0))
                self.cpu_seconds = float(event.get("cpu_seconds", 0.0))
            case _:
                pass


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One run.

    Attributes:
        run_id: its name.
        output: folder of results.
        cases: sorted by case id; refused ones included.
        exit_code: of the driver.
        seconds: wall time.
        notices: what people should know, one sentence each.
        processes: what each stage process cost.
        dry_run: whether nothing was run on purpose.
    """

    run_id: str
    output: Path
    cases: tuple[CaseSummary, ...]
    exit_code: int
    seconds: float = 0.0
    notices: tuple[str, ...] = ()
    processes: tuple[ProcessRecord, ...] = ()
    dry_run: bool = False

    def counts(self) -> dict[str, int]:
        """Return how many cases ended with each status."""
        statuses = [case.status for case in self.cases]
        return {status: statuses.count(status) for status in sorted(set(statuses))}

    def to_json(self) -> str:
        """Return the machine-readable summary."""
        data = {
            "run_id": self.run_id,
            "output": str(self.output),
            "exit_code": int(self.exit_code),
            "seconds": round(self.seconds, 3),
            "dry_run": self.dry_run,
            "counts": self.counts(),
            "notices": self.notices,
            "processes": self.processes,
            "cases": self.cases,
        }
        return records.to_json(data, sort_keys=False)


@dataclass(slots=True)
class CaseRecord:
    """What is known of a case while the run goes on.

    Attributes:
        case_id, image: as in `Case`.
        stages: outcomes so far, in pipeline order.
        before: status that the case had before this run; "" where it had none.
    """

    case_id: str
    image: Path | None
    stages: dict[str, StageOutcome] = field(default_factory=dict)
    before: str = ""

    def ends(self) -> StageOutcome | None:
        """Return the outcome that keeps later stages from running, if there is one."""
        for outcome in self.stages.values():
            if outcome.state not in HAS_RESULT or outcome.state is StageState.NO_SPINE:
                return outcome
        return None

    def summary(self, run_id: str, pipeline: Sequence[str] = ()) -> CaseSummary:
        """Return the case's final word; `pipeline` names all stages, also those not asked for."""
        status, message = self._final()
        if self.ends() is None and self.stages and len(self.stages) < len(pipeline):
            last = list(self.stages)[-1]
            review = "_needs_review" if status == CaseStatus.OK_NEEDS_REVIEW else ""
            status = f"{PARTLY}{last}{review}"
            partly = f"done up to {last}, later stages were not asked for"
            message = f"{partly}; {message}" if message else partly
        return CaseSummary(self.case_id, status, message, self.image, dict(self.stages), run_id)

    def _final(self) -> tuple[str, str]:
        for name, outcome in self.stages.items():
            if outcome.state is StageState.FAILED:
                return failed_status(name, outcome.kind), f"{name}: {outcome.message}"
            if outcome.state is StageState.REFUSED:
                kept = is_good(self.before)
                message = f"{name}: {outcome.message}" + f"; {RESULTS_STAY}" * kept
                return self.before if kept else str(CaseStatus.BLOCKED), message
        asking = {name: item for name, item in self.stages.items() if item.needs_review}
        if QUALITY_REPORT.name in asking:  # it repeats what the stages before it said, each once
            asking = {QUALITY_REPORT.name: asking[QUALITY_REPORT.name]}
        review = [f"{name}: {item.message}" for name, item in asking.items()]
        for state in (StageState.NO_SPINE, StageState.NOT_RUN, StageState.BLOCKED):
            ended = next((n for n, outcome in self.stages.items() if outcome.state is state), None)
            if ended is None:
                continue
            message = f"{ended}: {self.stages[ended].message}"
            if review and state is StageState.NO_SPINE:
                said = review if message in review else [*review, message]
                return str(CaseStatus.OK_NEEDS_REVIEW), "; ".join(said)
            return str(CaseStatus(state.value)), message
        if review:
            return str(CaseStatus.OK_NEEDS_REVIEW), "; ".join(review)
        return str(CaseStatus.OK), ""


def failed_status(stage: str, kind: str) -> str:
    """Return the status of a case that failed."""
    return f"failed_{stage}_{kind}"


def exit_code_of(cases: tuple[CaseSummary, ...]) -> ExitCode:
    """Return the driver's exit code for a run that came to its end."""
    return ExitCode.OK if all(case.good for case in cases) else ExitCode.SOME_FAILED


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
    """

    stage: str
    stage_number: int
    n_stages: int
    cases_done: int
    n_cases: int
    elapsed_s: float
    left_s: float | None


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

    def __post_init__(self) -> None:
        self._eta.left_s(0, self.n_cases)

    def case_ended(self) -> None:
        """Count one case."""
        self._cases_done += 1

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
        )
