"""How a case ended, as its status.json says: per stage and as a whole.

What the last run found; whether the results on disk are still true is another question, which only
their manifests answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from payerseg import records
from payerseg.atomic import write_text
from payerseg.errors import ArtifactError
from payerseg.results.case_folder import CaseFolder


class StageState(StrEnum):
    """What became of one stage for one case in this run."""

    FRESH = "fresh"  # done earlier and still true
    EDITED = "edited"  # fresh, changed by a person
    DONE = "done"  # done in this run
    NO_SPINE = "no_spine"  # the case ends here or ended earlier: a result
    FAILED = "failed"
    REFUSED = "refused"  # a person's edit cannot be used; what was done before it stays
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


PARTLY = "done_to_"
_FINISHED = frozenset({CaseStatus.OK, CaseStatus.OK_NEEDS_REVIEW, CaseStatus.NO_SPINE})


def is_good(status: str) -> bool:
    """Tell whether a case with this status is done as it was asked for."""
    return status in _FINISHED or status.startswith(PARTLY)


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
            blocked, not_run. Where a person's edit is refused, the word of before.
        message: one sentence for people; empty when all is done and ok.
        image: the scan; None if it is not known.
        stages: in pipeline order.
        run_id: which run wrote this.
    """

    case_id: str
    status: str
    message: str = ""
    image: Path | None = None
    stages: Mapping[str, StageOutcome] = field(default_factory=dict)
    run_id: str = ""

    @property
    def good(self) -> bool:
        """Whether the case needs no attention of the operator."""
        refused = any(outcome.state is StageState.REFUSED for outcome in self.stages.values())
        return is_good(self.status) and not refused

    def write(self, folder: CaseFolder, *, durable: bool = False) -> None:
        """Write status.json; `durable` costs a wait for the disk.

        Raises:
            OSError: it cannot be written.
        """
        write_text(folder.status_path, records.to_json(self), durable=durable)


def read_status(folder: CaseFolder) -> CaseSummary | None:
    """Return how the last run ended for a case; None where none has written it down.

    Raises:
        ArtifactError: status.json is damaged, or another case's; names it.
    """
    status = records.read(CaseSummary, folder.status_path, "the next run writes it anew")
    if status is not None and status.case_id != folder.case_id:
        msg = (
            f"{folder.status_path} is of case {status.case_id!r}, expected {folder.case_id!r}; "
            "was a folder renamed or copied? The next run writes it anew"
        )
        raise ArtifactError(msg)
    return status
