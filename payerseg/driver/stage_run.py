"""Work items through a stage's processes: request, process, outcomes; a crash costs one item only.

A stage's items are scans, the DICOM inventory's are inputs of the user, a training's is a network.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from payerseg.config.schema import DriverConfig
from payerseg.config.weights import programs_parent
from payerseg.driver.messages import (
    CaseEnded,
    Listener,
    Notice,
    ProcessRecord,
    StageClock,
    StageEvent,
)
from payerseg.driver.run_folder import EventLog, RequestFiles, RunFolder
from payerseg.driver.settings import RunSettings, StagePlan
from payerseg.driver.supervisor import (
    Child,
    ChildEnd,
    Command,
    EndedBy,
    Event,
    Timers,
    child_environment,
)
from payerseg.errors import ArtifactError, GridMismatch, InputError, PayersegError
from payerseg.results.case_folder import Case
from payerseg.results.fingerprint import Stamp, scan_bytes, stamp_of
from payerseg.results.manifest import StageManifest
from payerseg.results.stage_folder import clear_result
from payerseg.results.status import StageOutcome, StageState
from payerseg.stagekit.catalog import StageSpec
from payerseg.stagekit.protocol import BUG_KIND, OUT_OF_MEMORY_KIND, CaseRequest, EventName

CRASH_KINDS = {EndedBy.STARTUP: "timeout", EndedBy.SILENCE: "frozen", EndedBy.CASE: "timeout"}
CRASHED_KIND = "crashed"
_OF_AN_EDIT: tuple[type[PayersegError], ...] = (ArtifactError, GridMismatch, InputError)
OF_AN_EDIT = frozenset(e.kind for e in (*_OF_AN_EDIT, *InputError.__subclasses__()))
"""Kinds of failure for which a person's edit is to blame, not the program or the machine."""
CASE_S_VOXELS = 150e6
"""Scan size that `driver.case_s` is meant for."""


def start_program(
    spec: StageSpec,
    files: RequestFiles,
    driver: DriverConfig,
    case_s: Callable[[str | None], float],
) -> Child:
    """Return a stage's program, ready to run on a request.

    Args:
        spec: which program.
        files: the request, and where its log goes.
        driver: device, engine, threads, timers.
        case_s: case id to the time it may take.
    """
    environment = child_environment(driver, os.environ)
    command = Command(spec.module, files.request, programs_parent(), environment, files.log)
    return Child(command, Timers(driver.startup_s, driver.silence_s, case_s, driver.grace_s))


@dataclass(frozen=True, slots=True)
class StageEnd:
    """What a stage came to.

    Attributes:
        outcomes: of every case asked for.
        rejected: the stage refused its settings or weights: the run must stop.
        bug: the stage failed outside a case for an unforeseen reason.
    """

    outcomes: Mapping[str, StageOutcome]
    rejected: bool = False
    bug: bool = False


class StageRun:
    """Does one stage for the cases that need it, or takes over what people edited in its results."""

    def __init__(
        self,
        plan: StagePlan,
        settings: RunSettings,
        folder: RunFolder,
        listener: Listener,
        *,
        takes_over: bool = False,
    ) -> None:
        """Prepare; nothing runs yet.

        Args:
            plan: of the stage.
            settings: of the run.
            folder: of the run.
            listener: is told everything.
            takes_over: run the stage's program for edits; what it fails at is left as it was.
        """
        if takes_over:
            spec = replace(plan.spec, module=plan.spec.edits, weights=False)
            plan = replace(plan, spec=spec, weights=None, fingerprint=None)
        self._plan = plan
        self._takes_over = takes_over
        self._settings = settings
        self._folder = folder
        self._listener = listener
        self._reasons: Mapping[str, tuple[str, ...]] = {}
        self._outcomes: dict[str, StageOutcome] = {}
        self._old: dict[str, Stamp | None] = {}
        self._processes: list[ProcessRecord] = []
        self._clock = StageClock(plan.spec.name, 1, 1, 0)
        self.log: Path | None = None
        """Standard error of the latest process."""

    def run(
        self, cases: Sequence[Case], reasons: Mapping[str, tuple[str, ...]], clock: StageClock
    ) -> StageEnd:
        """Run until every case has an outcome.

        Args:
            cases: in the order to be done.
            reasons: case id to why it has to run.
            clock: counts them.

        Raises:
            OutOfResources: no request can be written.
            KeyboardInterrupt: a person ended it; `outcomes` holds what was done.
        """
        self._reasons, self._clock = reasons, clock
        self._old = {case.case_id: self._manifest_stamp(case.case_id) for case in cases}
        waiting = list(cases)
        for number in range(self._settings.driver.max_restarts + 1):
            files, end = self._run_process(number, waiting)
            self._settle_in_flight(end, files)
            began = len(waiting)
            waiting = [case for case in waiting if case.case_id not in self._outcomes]
            if not waiting:
                self._tell_oddities(end, files)
                return StageEnd(self._outcomes)
            if len(waiting) == began:
                return self._fail_before_first_case(waiting, end, files)
        self._give_up(waiting)
        return StageEnd(self._outcomes)

    @property
    def processes(self) -> tuple[ProcessRecord, ...]:
        """What each process so far cost."""
        return tuple(self._processes)

    @property
    def outcomes(self) -> Mapping[str, StageOutcome]:
        """What was done so far."""
        return self._outcomes

    def _run_process(self, number: int, cases: Sequence[Case]) -> tuple[RequestFiles, ChildEnd]:
        driver = self._settings.driver
        stem = f"{'edits' if self._takes_over else 'request'}-{number}"
        request = self._plan.request(self._folder.run_id, self._items(cases), driver.heartbeat_s)
        place = self._folder.root / self._plan.spec.folder.removeprefix("step")
        files = RequestFiles.write(place, stem, request)
        self.log = files.log
        log = EventLog(files.events)
        process = ProcessRecord(self._plan.spec.name, len(cases))
        self._processes.append(process)
        began = time.monotonic()
        try:
            child = start_program(self._plan.spec, files, driver, self._case_limits(cases))
            end = child.run(lambda event: self._hear(event, log))
        finally:
            log.close()
            process.seconds = process.seconds or round(time.monotonic() - began, 3)
        process.ending = end.describe()
        if log.trouble:
            self._listener(Notice(log.trouble))
        return files, end

    def _items(self, cases: Sequence[Case]) -> Iterator[CaseRequest]:
        for case in cases:
            image = case.image if self._plan.spec.reads_scan else None
            yield CaseRequest(case.case_id, self._settings.case_folder(case.case_id).root, image)

    def _case_limits(self, cases: Sequence[Case]) -> Callable[[str | None], float]:
        """Return the time limit of each case, s: longer for larger scans, none for a training.

        The file's size stands for the number of voxels: a compressed CT has about a byte a voxel, an
        uncompressed one two, so the limit is at worst generous.
        """
        if not self._plan.spec.has_time_limit:
            return lambda _case_id: math.inf
        driver = self._settings.driver
        sizes = {case.case_id: scan_bytes(case.image) for case in cases if case.image is not None}

        def limit_s(case_id: str | None) -> float:
            return driver.case_s * max(1.0, sizes.get(case_id or "", 0) / CASE_S_VOXELS)

        return limit_s

    def _hear(self, event: Event, log: EventLog) -> None:
        log.write(event)
        self._processes[-1].hear(event)
        case_id = str(event.get("case_id", ""))
        match event["event"]:
            case EventName.CASE_DONE:
                self._settle(case_id, self._outcome_on_disk(case_id))
            case EventName.CASE_FAILED:
                kind, message = str(event.get("kind", BUG_KIND)), str(event.get("message", ""))
                self._settle(case_id, StageOutcome(StageState.FAILED, kind, message))
            case _:
                pass
        self._listener(StageEvent(event, self._clock.now()))

    def _settle(self, case_id: str, outcome: StageOutcome) -> None:
        reasons = self._reasons.get(case_id, ())
        refused = self._takes_over and outcome.kind in OF_AN_EDIT
        state = StageState.REFUSED if refused else outcome.state
        outcome = replace(outcome, state=state, reasons=reasons)
        self._outcomes[case_id] = outcome
        self._clock.case_ended()
        self._listener(CaseEnded(case_id, self._plan.spec.name, outcome, self._clock.now()))

    def _outcome_on_disk(self, case_id: str) -> StageOutcome:
        """Believe the manifest, not the event."""
        path = self._settings.case_folder(case_id).manifest_path(self._plan.spec.folder)
        try:
            manifest = StageManifest.read(path)
        except ArtifactError as error:
            return StageOutcome(StageState.FAILED, error.kind, str(error))
        if manifest is None:
            message = f"the stage said done, but there is no {path}"
            return StageOutcome(StageState.FAILED, "protocol", message)
        return outcome_of(manifest, StageState.DONE)

    def _manifest_stamp(self, case_id: str) -> Stamp | None:
        """Tell one manifest from the next: a process may have died before it took the old one away."""
        folder = self._settings.case_folder(case_id)
        try:
            return stamp_of(folder.manifest_path(self._plan.spec.folder))
        except OSError:
            return None

    def _settle_in_flight(self, end: ChildEnd, files: RequestFiles) -> None:
        """Blame the case that was being worked on, unless its manifest was already in place."""
        case_id = end.in_flight
        if case_id is None or case_id in self._outcomes:
            return
        spec = self._plan.spec
        if not self._takes_over:
            on_disk = self._outcome_on_disk(case_id)
            is_new = self._manifest_stamp(case_id) != self._old[case_id]
            if is_new and on_disk.state is not StageState.FAILED:
                self._settle(case_id, on_disk)
                return
            clear_result(self._settings.case_folder(case_id), spec.folder, spec.writes)
        kind = CRASH_KINDS[end.timer] if end.timer else CRASHED_KIND
        message = f"the process {end.describe()}; {self._folder.describe_log(files.log)}"
        self._settle(case_id, StageOutcome(StageState.FAILED, kind, message))

    def _fail_before_first_case(
        self, waiting: Sequence[Case], end: ChildEnd, files: RequestFiles
    ) -> StageEnd:
        """Fail all cases: the process did not come to a first one, and would not the next time either."""
        if end.rejected is not None:
            kind = str(end.rejected.get("kind", "protocol"))
            message = (
                str(end.rejected.get("message", "")) or "the stage refused, and did not say why"
            )
        else:
            kind = CRASH_KINDS[end.timer] if end.timer else CRASHED_KIND
            message = (
                f"before its first case the process {end.describe()}; "
                f"{self._folder.describe_log(files.log)}"
            )
        for case in waiting:
            self._settle(case.case_id, StageOutcome(StageState.FAILED, kind, message))
        foreseen = end.rejected is not None and kind not in (BUG_KIND, OUT_OF_MEMORY_KIND)
        return StageEnd(self._outcomes, rejected=foreseen, bug=kind == BUG_KIND)

    def _give_up(self, waiting: Sequence[Case]) -> None:
        restarts = self._settings.driver.max_restarts
        message = (
            f"{self._plan.spec.name} was restarted {restarts} times after crashes and ended again; "
            "run the same command again to go on with this case"
        )
        for case in waiting:
            self._settle(case.case_id, StageOutcome(StageState.NOT_RUN, message=message))

    def _tell_oddities(self, end: ChildEnd, files: RequestFiles) -> None:
        """Tell what went wrong although every case has its outcome."""
        name = self._plan.spec.name
        if not end.finished and end.in_flight is None:
            self._listener(
                Notice(f"{name}: all cases are settled, but the process {end.describe()}")
            )
        if end.bad_lines:
            text = f"{name}: {end.bad_lines} line(s) on its output were no events; see {files.log}"
            self._listener(Notice(text))


def outcome_of(manifest: StageManifest, state: StageState) -> StageOutcome:
    """Return the outcome that a manifest stands for.

    Args:
        manifest: of a complete result.
        state: what to call it if the case goes on.
    """
    return StageOutcome(
        state if manifest.status == "done" else StageState.NO_SPINE,
        message="; ".join(filter(None, (manifest.message, *manifest.review_reasons))),
        seconds=manifest.seconds,
        peak_rss_mb=manifest.peak_rss_mb,
        needs_review=manifest.needs_review,
    )
