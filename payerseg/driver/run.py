"""The heart of the driver: for every stage decide, run, collect; nothing is dropped, nothing hidden."""

from __future__ import annotations

import contextlib
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from payerseg.driver.dicom_inputs import SERIES_FOLDER
from payerseg.driver.exports import write_exports
from payerseg.driver.freshness import State, Verdict, decide, prune_case, restores
from payerseg.driver.lock import CaseLocks
from payerseg.driver.messages import (
    CaseRecord,
    Listener,
    Message,
    Notice,
    ProcessRecord,
    RunEnded,
    RunStarted,
    RunSummary,
    StageClock,
    StageDecided,
    exit_code_of,
)
from payerseg.driver.preflight import Preflight, check_before_start
from payerseg.driver.run_folder import RunFolder, new_run_id
from payerseg.driver.settings import RunSettings, StagePlan
from payerseg.driver.stage_run import StageRun, outcome_of
from payerseg.driver.status_files import StatusFiles
from payerseg.errors import ArtifactError, OutOfResources, PayersegError, UsageError
from payerseg.results.case_folder import PARTIAL_FOLDER, Case
from payerseg.results.fingerprint import HashMemo
from payerseg.results.manifest import StageManifest
from payerseg.results.stage_folder import clear_result, remove
from payerseg.results.status import CaseSummary, StageOutcome, StageState
from payerseg.stagekit.protocol import ExitCode, describe_failure

STILL_TRUE = {StageState.FRESH, StageState.EDITED}
NOT_REPLACED = "results that a person edited are kept (--force replaces them and keeps a copy)"
BLOCKING = {
    StageState.FAILED: "failed",
    StageState.REFUSED: "was edited in a way that cannot be used",
    StageState.BLOCKED: "is blocked",
    StageState.NOT_RUN: "has not run",
}


def run_pipeline(settings: RunSettings, listener: Listener | None = None) -> RunSummary:
    """Do a run.

    Args:
        settings: what to do.
        listener: is told everything as it happens.

    Returns:
        Every case's status and the exit code; also after an interrupt (130).

    Raises:
        UsageError, ConfigError, BundleError: something cannot work; nothing was started.
        OutOfResources: the output folder cannot be written to.
    """
    with _series_folder(settings) as series_folder:
        return _run_from(settings, series_folder, listener)


@contextlib.contextmanager
def _series_folder(settings: RunSettings) -> Iterator[Path]:
    """Say where DICOM series files are kept; a dry run leaves nothing behind."""
    if not settings.dry_run:
        yield settings.driver_folder / SERIES_FOLDER
        return
    with tempfile.TemporaryDirectory(prefix="payerseg-dry-run-") as name:
        yield Path(name)


def _run_from(settings: RunSettings, series_folder: Path, listener: Listener | None) -> RunSummary:
    memo = settings.open_memo()
    preflight = check_before_start(settings, memo, series_folder)
    run = PipelineRun(settings, preflight, memo, listener or (lambda _message: None))
    if settings.dry_run:
        return run.run()
    locks = CaseLocks(settings.driver_folder, run.run_id)
    with _interrupted_by_terminate():
        try:
            run.lock(locks)
            return run.run()
        finally:
            locks.release()


@contextlib.contextmanager
def _interrupted_by_terminate() -> Iterator[None]:
    """Take SIGTERM, as a scheduler or a shutdown sends it, for Ctrl-C: end in order, give locks back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class PipelineRun:
    """One run over a set of cases.

    Attributes:
        run_id: its name.
    """

    def __init__(
        self, settings: RunSettings, preflight: Preflight, memo: HashMemo, listener: Listener
    ) -> None:
        """Take what the preflight found."""
        self.run_id = new_run_id(settings.driver_folder)
        self._settings = settings
        self._preflight = preflight
        self._listener = listener
        self._memo = memo
        self._folder = RunFolder(settings.driver_folder, self.run_id)
        self._cases = {case.case_id: case for case in preflight.cases}
        self._records = {
            case.case_id: CaseRecord(case.case_id, case.image) for case in preflight.cases
        }
        self._restores: dict[str, Mapping[str, tuple[str, ...]]] = {}
        self._statuses = StatusFiles(settings, self.run_id)
        self._held: Mapping[str, str] = {}
        self._notices: list[str] = []
        self._all_written = True
        self._processes: list[ProcessRecord] = []
        self._exit_code: ExitCode | None = None
        self._began = time.monotonic()

    def run(self) -> RunSummary:
        """Run all stages and write everything down."""
        self._begin()
        try:
            self._run_stages()
        except KeyboardInterrupt:
            self._exit_code = ExitCode.CANCELLED
            self._leave_open("the run was interrupted")
        return self._end()

    def lock(self, locks: CaseLocks) -> None:
        """Lock the cases; what another run works on is left to it, and told.

        Raises:
            UsageError: other runs hold all cases.
            OutOfResources: the output folder cannot be written to.
        """
        try:
            remarks, self._held = locks.acquire(self._cases)
        except OSError as error:
            raise OutOfResources(describe_failure(error).message) from error
        if self._held and len(self._held) == len(self._cases):
            first, *others = self._held.values()
            raise UsageError(f"{first}; likewise {len(others)} more" if others else first)
        self.tell_all(remarks)
        first = self._settings.pipeline[0].name
        for case_id, reason in self._held.items():
            del self._cases[case_id]
            outcome = StageOutcome(StageState.NOT_RUN, message=reason)
            self._records[case_id].stages[first] = outcome

    def tell_all(self, notices: tuple[str, ...]) -> None:
        """Pass on remarks of others."""
        for text in notices:
            self._tell(Notice(text))

    def _begin(self) -> None:
        stages = tuple(self._settings.pipeline[i].name for i in self._settings.stage_range())
        for refusal in self._preflight.refusals:
            outcome = StageOutcome(StageState.FAILED, refusal.kind, refusal.message)
            record = CaseRecord(refusal.case_id, refusal.image)
            record.stages[self._settings.pipeline[0].name] = outcome
            self._records[refusal.case_id] = record
        for case_id, record in self._records.items():
            record.before = self._statuses.read(case_id)
        if not self._settings.dry_run:
            self._folder.open(self._settings, self._preflight.environment)
            self._write_unfinished(
                case_id for case_id, record in self._records.items() if not record.before
            )
        folder = None if self._settings.dry_run else self._folder.root
        self._tell(RunStarted(self.run_id, folder, len(self._records), stages))
        self.tell_all(self._preflight.notices)

    def _run_stages(self) -> None:
        stages = self._settings.stage_range()
        for case_id, case in self._cases.items():
            self._restores[case_id] = self._find_restores(case, stages)
        for index in range(stages.stop):
            if self._exit_code is ExitCode.REJECTED:
                self._leave_open("the run stopped, as a stage refused its settings or weights")
                return
            self._run_stage(index)

    def _find_restores(self, case: Case, stages: range) -> Mapping[str, tuple[str, ...]]:
        """Find what was pruned and is needed again: everything that may run must find its inputs."""
        plans, folder = self._preflight.plans, self._settings.case_folder(case.case_id)

        def may_run(index: int) -> bool:
            verdict = decide(case, folder, plans[index], self._memo)
            return verdict.stale or verdict.to_take_over

        first = next(
            (i for i in stages if self._settings.forces(plans[i].spec.name) or may_run(i)), None
        )
        if first is None:
            return {}
        return restores(folder, plans[: stages.stop], plans[first : stages.stop])

    def _run_stage(self, index: int) -> None:
        plan = self._preflight.plans[index]
        verdicts: dict[str, Verdict] = {}
        for case_id, case in self._cases.items():
            if self._passes_by(self._records[case_id], plan):
                continue
            verdicts[case_id] = self._judge(
                case, plan, in_range=index in self._settings.stage_range()
            )
        n_blocked = len(self._cases) - len(verdicts)
        self._tell(StageDecided(plan.spec.name, verdicts, n_blocked))
        for case_id, verdict in verdicts.items():
            if not verdict.stale:
                self._records[case_id].stages[plan.spec.name] = self._kept(case_id, plan, verdict)
        stale = {case_id: verdict for case_id, verdict in verdicts.items() if verdict.stale}
        if not self._settings.force:
            self._spare_a_persons_work(plan, stale)
        edited = [case_id for case_id, verdict in verdicts.items() if verdict.to_take_over]
        edited = [case_id for case_id in edited if not verdicts[case_id].stale]
        if self._settings.dry_run:
            for case_id, verdict in stale.items():
                self._records[case_id].stages[plan.spec.name] = StageOutcome(
                    StageState.NOT_RUN, message="would run", reasons=verdict.reasons
                )
            return
        if edited:
            self._take_over(plan, edited)
        if stale:
            self._run_processes(index, stale)

    def _spare_a_persons_work(self, plan: StagePlan, stale: dict[str, Verdict]) -> None:
        """Leave out cases whose new result would replace what a person corrected and was taken over."""
        for case_id in [case_id for case_id, verdict in stale.items() if verdict.precious]:
            verdict = stale.pop(case_id)
            message = f"{NOT_REPLACED}, though they are stale: {'; '.join(verdict.reasons)}"
            outcome = StageOutcome(StageState.REFUSED, message=message, reasons=verdict.reasons)
            self._records[case_id].stages[plan.spec.name] = outcome

    def _take_over(self, plan: StagePlan, case_ids: Iterable[str]) -> None:
        """Let the stage's own program bring its results in step with what people edited."""
        cases = [self._cases[case_id] for case_id in case_ids]
        run = StageRun(plan, self._settings, self._folder, self._tell, takes_over=True)
        why = {case.case_id: ("edited by a person",) for case in cases}
        self._write_unfinished(why)
        try:
            run.run(cases, why, StageClock(plan.spec.name, 1, 1, len(cases)))
        finally:
            self._processes += run.processes
            for case_id, outcome in run.outcomes.items():
                state = outcome.state
                state = StageState.EDITED if state is StageState.DONE else state
                self._records[case_id].stages[plan.spec.name] = replace(outcome, state=state)

    def _passes_by(self, record: CaseRecord, plan: StagePlan) -> bool:
        """Give a case its outcome if it ended at an earlier stage; tell whether it did."""
        end = record.ends()
        if end is None:
            return False
        stage = next(name for name, outcome in record.stages.items() if outcome is end)
        if end.state is StageState.NO_SPINE:
            outcome = StageOutcome(StageState.NO_SPINE, message=end.message)
        elif end.state is StageState.NOT_RUN and self._settings.dry_run:
            return False
        else:
            outcome = StageOutcome(StageState.BLOCKED, message=f"{stage} {BLOCKING[end.state]}")
        record.stages[plan.spec.name] = outcome
        return True

    def _judge(self, case: Case, plan: StagePlan, *, in_range: bool) -> Verdict:
        """Decide about a case, with everything that this run adds to the plain verdict."""
        folder = self._settings.case_folder(case.case_id)
        verdict = decide(case, folder, plan, self._memo)
        restore = self._restores[case.case_id].get(plan.spec.name, ())
        if not in_range and verdict.stale and verdict.whole and not restore:
            self._tell(
                Notice(
                    f"{case.case_id} · {plan.spec.name} · used as it is, though stale: "
                    + "; ".join(verdict.reasons)
                )
            )
            used = tuple(f"used though stale: {reason}" for reason in verdict.reasons)
            return replace(verdict, state=State.FRESH, reasons=used)
        force = self._settings.forces(plan.spec.name) and in_range
        if force and verdict.precious and not self._settings.force:
            text = f"{case.case_id} · {plan.spec.name} · {NOT_REPLACED}"
            self._tell(Notice(text))
            force = False
        forced = ("forced",) if force and not verdict.stale else ()
        if restore or forced:
            return replace(
                verdict, state=State.STALE, reasons=(*forced, *restore, *verdict.reasons)
            )
        return verdict

    def _kept(self, case_id: str, plan: StagePlan, verdict: Verdict) -> StageOutcome:
        """Return the outcome of a result that is still true."""
        path = self._settings.case_folder(case_id).manifest_path(plan.spec.folder)
        if not self._settings.dry_run:
            remove(path.with_name(PARTIAL_FOLDER))  # of a stage that was killed in its last act
        manifest = StageManifest.read(path)
        if manifest is None:
            msg = f"{path} has just gone; is another program changing the results?"
            raise ArtifactError(msg)
        if verdict.state is State.REFUSED:
            return StageOutcome(StageState.REFUSED, message="; ".join(verdict.reasons))
        state = StageState.EDITED if verdict.state is State.EDITED else StageState.FRESH
        outcome = replace(outcome_of(manifest, state), reasons=verdict.reasons)
        if state is StageState.EDITED and not plan.spec.edits:
            # its doubts were about what the person has replaced; stage 4 checks what lies there now
            outcome = replace(outcome, message="", needs_review=False)
        return outcome

    def _run_processes(self, index: int, stale: Mapping[str, Verdict]) -> None:
        plan, stages = self._preflight.plans[index], self._settings.stage_range()
        runnable = self._runnable(index, stale)
        stage = StageRun(plan, self._settings, self._folder, self._tell)
        clock = StageClock(plan.spec.name, index - stages.start + 1, len(stages), len(runnable))
        reasons = {case_id: verdict.reasons for case_id, verdict in stale.items()}
        self._write_unfinished(case.case_id for case in runnable)
        try:
            if runnable:
                end = stage.run(runnable, reasons, clock)
                if end.rejected:
                    self._exit_code = ExitCode.REJECTED
                elif end.bug:
                    self._exit_code = ExitCode.BUG
        finally:
            self._take_outcomes(index, stage.outcomes)
            self._processes += stage.processes

    def _runnable(self, index: int, stale: Mapping[str, Verdict]) -> list[Case]:
        """Return the cases to run; before --from-stage only what was pruned is made again."""
        plan, runnable = self._preflight.plans[index], []
        for case_id in stale:
            in_range = index in self._settings.stage_range()
            if in_range or plan.spec.name in self._restores[case_id]:
                runnable.append(self._cases[case_id])
                continue
            message = "it has no whole result, and the run begins with a later stage"
            outcome = StageOutcome(
                StageState.BLOCKED, message=message, reasons=stale[case_id].reasons
            )
            self._records[case_id].stages[plan.spec.name] = outcome
        return runnable

    def _take_outcomes(self, index: int, outcomes: Mapping[str, StageOutcome]) -> None:
        plan = self._preflight.plans[index]
        for case_id, outcome in outcomes.items():
            record = self._records[case_id]
            record.stages[plan.spec.name] = outcome
            if outcome.state is StageState.FAILED:
                self._write_status(record.summary(self.run_id), durable=True)
            if outcome.state is not StageState.NO_SPINE:
                continue
            folder = self._settings.case_folder(case_id)
            for later in self._preflight.plans[index + 1 :]:
                # these results belong to a spine that is no longer found
                if folder.manifest_path(later.spec.folder).exists():
                    clear_result(folder, later.spec.folder, later.spec.writes)

    def _leave_open(self, message: str) -> None:
        """Give every case without an outcome one that says so."""
        for index in range(self._settings.stage_range().stop):
            plan = self._preflight.plans[index]
            for case_id in self._cases:
                record = self._records[case_id]
                if plan.spec.name in record.stages or self._passes_by(record, plan):
                    continue
                record.stages[plan.spec.name] = StageOutcome(StageState.NOT_RUN, message=message)

    def _survey_later_stages(self) -> None:
        """Find what is still true of the stages after --to-stage; what is stale there is left out."""
        for plan in self._preflight.plans[self._settings.stage_range().stop :]:
            for case_id, case in self._cases.items():
                record = self._records[case_id]
                end = record.ends()
                complete = len(record.stages) == self._preflight.plans.index(plan)
                if end is not None or not complete:
                    continue
                folder = self._settings.case_folder(case_id)
                verdict = decide(case, folder, plan, self._memo)
                if not verdict.stale:
                    record.stages[plan.spec.name] = self._kept(case_id, plan, verdict)

    def _end(self) -> RunSummary:
        self._survey_later_stages()
        stages = [spec.name for spec in self._settings.pipeline]
        records = [record for _, record in sorted(self._records.items())]
        cases = tuple(record.summary(self.run_id, stages) for record in records)
        if not self._settings.dry_run:
            self._write_down(cases)
        exit_code = ExitCode.OK if self._settings.dry_run else exit_code_of(cases)
        if exit_code is ExitCode.OK and not self._all_written:
            exit_code = ExitCode.SOME_FAILED
        exit_code = exit_code if self._exit_code is None else self._exit_code
        seconds = time.monotonic() - self._began
        summary = RunSummary(
            self.run_id,
            self._settings.output,
            cases,
            exit_code,
            seconds,
            tuple(self._notices),
            tuple(self._processes),
            self._settings.dry_run,
        )
        if not self._settings.dry_run:
            self._try(lambda: self._folder.close(summary.to_json()), "the run's summary")
        self._listener(RunEnded(summary))
        return summary

    def _write_down(self, cases: tuple[CaseSummary, ...]) -> None:
        """Prune, and write everything that is derived."""
        for case in cases:
            if case.good:
                folder, keep = self._settings.case_folder(case.case_id), self._settings.driver.keep
                self._try(partial(prune_case, folder, self._settings.pipeline, keep), "pruning")
            # of a case that is fresh nothing new is told: not worth a wait for the disk
            states = {outcome.state for outcome in case.stages.values()}
            self._write_status(case, durable=not states <= STILL_TRUE)
        self._try(self._memo.save, "the hash memo")
        judged = {case.case_id: case for case in cases if case.case_id not in self._held}
        export = lambda: self.tell_all(write_exports(self._settings, judged, self._memo))  # noqa: E731
        self._try(export, "the tables of all cases", promised=True)

    def _write_unfinished(self, case_ids: Iterable[str]) -> None:
        """Say of cases about to be worked on that they are not done; what is fresh keeps its status."""
        for case_id in case_ids:
            image = self._records[case_id].image
            self._tell_status(case_id, partial(self._statuses.write_unfinished, case_id, image))

    def _write_status(self, case: CaseSummary, *, durable: bool = False) -> None:
        self._tell_status(case.case_id, partial(self._statuses.write, case, durable=durable))

    def _tell_status(self, case_id: str, write: Callable[[], object]) -> None:
        if case_id not in self._held:  # the run that works on it says how it ended
            self._try(write, f"the status of {case_id!r}", promised=True)

    def _try(self, write: Callable[[], object], what: str, *, promised: bool = False) -> None:
        """Write something derived; where that fails, the results stay true and people are told.

        Where it was `promised`, as tables and statuses are, the exit code tells too.
        """
        try:
            write()
        except (OSError, PayersegError) as error:
            self._all_written = self._all_written and not promised
            self._tell(Notice(f"could not write {what}: {error}"))

    def _tell(self, message: Message) -> None:
        if isinstance(message, Notice):
            self._notices.append(message.text)
        self._listener(message)
