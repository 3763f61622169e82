"""What is fresh, what is stale and why: told without running anything."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from pathlib import Path

from payerseg.config.load import load_config
from payerseg.driver.freshness import State, Verdict, decide
from payerseg.driver.inputs import remembered_cases
from payerseg.driver.run_folder import CONFIG_FILE, last_run, read_weights
from payerseg.driver.settings import RunSettings, plan_stages
from payerseg.errors import ArtifactError, UsageError
from payerseg.results.case_folder import DRIVER_FOLDER, CaseFolder
from payerseg.results.status import read_status
from payerseg.stagekit.catalog import PIPELINE, StageSpec


@dataclass(frozen=True, slots=True)
class CaseReport:
    """What is known about a case.

    Attributes:
        case_id: its name.
        status: how the last run that touched it ended for it; "" if that is not recorded.
        message: that run's sentence about it.
        image: the scan, if known.
        verdicts: stage name to verdict on what lies on disk now. A stage after a stale one says so:
            it may yet turn out fresh, if the earlier one comes to the same result.
    """

    case_id: str
    status: str
    message: str
    image: Path | None
    verdicts: dict[str, Verdict]

    @property
    def fresh(self) -> bool:
        """Whether nothing would run."""
        return not any(verdict.stale for verdict in self.verdicts.values())

    @property
    def refused(self) -> bool:
        """Whether an edit of a person cannot be used as it is."""
        return any(verdict.state is State.REFUSED for verdict in self.verdicts.values())


def decide_all(output: Path, settings: RunSettings | None = None) -> tuple[CaseReport, ...]:
    """Judge every case of an output folder.

    Args:
        output: of earlier runs.
        settings: what a run would be asked now; None = what the last one was asked.

    Raises:
        UsageError: there is nothing of the kind.
    """
    if settings is None:
        settings = remembered_settings(output)
    memo = settings.open_memo()
    plans = plan_stages(settings, memo)
    reports = []
    for case in remembered_cases(output):
        folder = settings.case_folder(case.case_id)
        verdicts = {plan.spec.name: decide(case, folder, plan, memo) for plan in plans}
        status, message = _recorded(folder)
        reports.append(CaseReport(case.case_id, status, message, case.image, _chained(verdicts)))
    with contextlib.suppress(OSError):  # results that may only be read; the next time takes longer
        memo.save()
    return tuple(reports)


def remembered_settings(output: Path, pipeline: tuple[StageSpec, ...] = PIPELINE) -> RunSettings:
    """Return the settings and weights of the last run in an output folder, without its inputs.

    Raises:
        UsageError: no run has left any.
    """
    run = last_run(output / DRIVER_FOLDER)
    if run is None:
        msg = f"{output} holds no record of a run; expected the output folder of `payerseg run`"
        raise UsageError(msg)
    config = load_config(file=run / CONFIG_FILE)
    return RunSettings(output, config=config, weights=read_weights(run), pipeline=pipeline)


def _chained(verdicts: dict[str, Verdict]) -> dict[str, Verdict]:
    """Say of stages after a stale one, or after the end of a case, what they depend on."""
    chained: dict[str, Verdict] = {}
    stale_before, ended = "", False
    for name, found in verdicts.items():
        verdict = found
        if ended:
            chained[name] = Verdict(State.FRESH, ("not needed: the case has no spine",), "no_spine")
            continue
        if stale_before and not verdict.stale:
            remark = f"unless {stale_before}, which is stale, comes to another result"
            verdict = replace(verdict, reasons=(*verdict.reasons, remark))
        chained[name] = verdict
        stale_before = stale_before or (name if verdict.stale else "")
        ended = verdict.status == "no_spine" and not verdict.stale
    return chained


def _recorded(folder: CaseFolder) -> tuple[str, str]:
    """Return status and message as the last run wrote them; of what is damaged, what is wrong."""
    try:
        found = read_status(folder)
    except ArtifactError as error:
        return "", str(error)
    return (found.status, found.message) if found is not None else ("", "")
