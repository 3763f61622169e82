"""The training of a network as a work item of a process of its own, run as a stage is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from payerseg.config.load import section_to_dict
from payerseg.config.schema import DriverConfig, RunConfig
from payerseg.config.training import TrainingConfig
from payerseg.driver.inputs import tidy_path
from payerseg.driver.messages import Message, StageClock, StageEvent
from payerseg.driver.run_folder import RunFolder, new_run_id
from payerseg.driver.settings import RunSettings, StagePlan
from payerseg.driver.stage_run import CRASH_KINDS, CRASHED_KIND, StageRun
from payerseg.driver.supervisor import Event, check_backend
from payerseg.results.case_folder import Case
from payerseg.results.status import StageState
from payerseg.stagekit.catalog import NETWORK_TRAINING

EXIT_CODES = {"config": 2, "dataset": 2, "usage": 2, "bug": 1}
SOME_FAILED = 3


@dataclass(frozen=True, slots=True)
class TrainingEnd:
    """How the training of a network ended.

    Attributes:
        folder: of checkpoints, history and best weights.
        ok: whether it was done; else `message` says why not.
        message: for people.
        exit_code: of the command: 0, 2 (refused), 3 (failed) or 1 (a bug).
    """

    folder: Path
    ok: bool
    message: str = ""
    exit_code: int = 0


def training_name(config: TrainingConfig) -> str:
    """Return the name of a training's folder."""
    return config.network if config.fold is None else f"{config.network}_fold{config.fold}"


def run_training(
    config: TrainingConfig, driver: DriverConfig, output: Path, on_event: Callable[[Event], None]
) -> TrainingEnd:
    """Train one network in a process of its own and follow it to its end.

    Args:
        config: what was chosen.
        driver: device, backend, threads, timers; a training has no time limit and is not restarted.
        output: the training lies in `<output>/<network>`; one that is there is resumed.
        on_event: called for every event.

    Raises:
        ConfigError: the engine is not installed.
    """

    def listen(message: Message) -> None:
        if isinstance(message, StageEvent):
            on_event(message.event)

    check_backend(driver.backend)
    settings = RunSettings(
        tidy_path(output), config=RunConfig(driver=replace(driver, max_restarts=0))
    )
    case = Case(training_name(config))
    plan = StagePlan(NETWORK_TRAINING, section_to_dict(config), seed=config.seed)
    folder = RunFolder(settings.driver_folder, new_run_id(settings.driver_folder))
    run = StageRun(plan, settings, folder, listen)
    run.run([case], {}, StageClock(NETWORK_TRAINING.name, 1, 1, 1))
    outcome, place = run.outcomes[case.case_id], settings.case_folder(case.case_id).root
    if outcome.state is StageState.DONE:
        return TrainingEnd(place, ok=True)
    code = EXIT_CODES.get(outcome.kind, SOME_FAILED)
    if outcome.kind in (*CRASH_KINDS.values(), CRASHED_KIND):
        message = f"{outcome.message}; run the same command to go on"
    else:
        message = f"{outcome.message} (log: {run.log})"
    return TrainingEnd(place, ok=False, message=message, exit_code=code)
