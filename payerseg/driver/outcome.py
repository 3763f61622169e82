"""How cases end: per stage, per case, per run. Every case has an outcome; none is dropped."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from payerseg.stagekit.protocol import EventName, ExitCode


class StageState(StrEnum):
    """What became of one stage for one case in this run."""

    FRESH = "fresh"  # done earlier and still true
    EDITED = "edited"  # fresh, changed by a person
    DONE = "done"  # done in this run
    NO_SPINE = "no_spine"  # the case ends here or ended earlier: a result
    FAILED = "failed"
    BLOCKED = "blocked"  # an earlier stage has no result
    NOT_RUN = "not_run"  # would run; the run ended before, or was a dry one


HAS_RESULT = frozenset({StageState.FRESH, StageState.EDITED, StageState.DONE, StageState.NO_SPINE})


class CaseStatus(StrEnum):
    """Final statuses; beside them `failed_<stage>_<kind>` and `done_to_<stage>`."""

    OK = "ok"
    OK_NEEDS_REVIEW = "ok_needs_review"
    NO_SPINE = "no_spine"
    BLOCKED = "blocked"
    NOT_RUN = "not_run"


_FINISHED = frozenset({CaseStatus.OK, CaseStatus.OK_NEEDS_REVIEW, CaseStatus.NO_SPINE})
_PARTLY = "done_to_"


@dataclass(frozen=True, slots=True)
class StageOutcome:
    """One stage for one case.

    Attributes:
        state: what became of it.
        kind: of a failure: `PayersegError.kind`, "bug", "out_of_memory", "crashed", "timeout", "frozen".
        message: for people: why it failed, is blocked, did not run, has no spine, or needs review.
        reasons: why it had to run, or remarks on why not.
        seconds, peak_rss_mb: of the run that made the result.
        needs_review: whether the stage asks for a person's eye.
    """

    state: StageState
    kind: str = ""
    message: str = ""
    reasons: tuple[str, ...] = ()
    seconds: float = 0.0
    peak_rss_mb: float = 0.0
    needs_review: bool = False


@dataclass(frozen=True, slots=True)
class CaseSummary:
    """One case at the end of a run.

    Attributes:
        case_id: its name.
        status: of the closed set: ok, ok_needs_review, no_spine, done_to_<stage> (all that was asked
            for; with _needs_review behind it where a person should look), failed_<stage>_<kind>,
            blocked, not_run.
        message: one sentence for people; empty when all is done and ok.
        image: the scan; None if it is not known.
        stages: in pipeline order.
        run_id: which run wrote this.
    """

    case_id: str
    status: str
    message: str
    image: Path | None
    stages: Mapping[str, StageOutcome]
    run_id: str = ""

    @property
    def good(self) -> bool:
        """Whether the case needs no attention of the operator."""
        return is_good(self.status)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        data = asdict(self)
        return data | {"image": None if self.image is None else str(self.image)}


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
            "notices": list(self.notices),
            "processes": [asdict(process) for process in self.processes],
            "cases": [case.to_dict() for case in self.cases],
        }
        return json.dumps(data, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


@dataclass(slots=True)
class CaseRecord:
    """What is known of a case while the run goes on.

    Attributes:
        case_id, image: as in `Case`.
        stages: outcomes so far, in pipeline order.
    """

    case_id: str
    image: Path | None
    stages: dict[str, StageOutcome] = field(default_factory=dict)

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
            status = f"{_PARTLY}{last}{review}"
            partly = f"done up to {last}, later stages were not asked for"
            message = f"{partly}; {message}" if message else partly
        return CaseSummary(self.case_id, status, message, self.image, dict(self.stages), run_id)

    def _final(self) -> tuple[str, str]:
        for name, outcome in self.stages.items():
            if outcome.state is StageState.FAILED:
                return failed_status(name, outcome.kind), f"{name}: {outcome.message}"
        review = [
            f"{name}: {item.message}" for name, item in self.stages.items() if item.needs_review
        ]
        for state in (StageState.NO_SPINE, StageState.NOT_RUN, StageState.BLOCKED):
            name = next((n for n, outcome in self.stages.items() if outcome.state is state), None)
            if name is None:
                continue
            message = f"{name}: {self.stages[name].message}"
            if review and state is StageState.NO_SPINE:
                said = review if message in review else [*review, message]
                return str(CaseStatus.OK_NEEDS_REVIEW), "; ".join(said)
            return str(CaseStatus(state.value)), message
        if review:
            return str(CaseStatus.OK_NEEDS_REVIEW), "; ".join(review)
        return str(CaseStatus.OK), ""


def is_good(status: str) -> bool:
    """Tell whether a case with this status is done as it was asked for."""
    return status in _FINISHED or status.startswith(_PARTLY)


def failed_status(stage: str, kind: str) -> str:
    """Return the status of a case that failed."""
    return f"failed_{stage}_{kind}"


def exit_code_of(cases: tuple[CaseSummary, ...]) -> ExitCode:
    """Return the driver's exit code for a run that came to its end."""
    return ExitCode.OK if all(case.good for case in cases) else ExitCode.SOME_FAILED
