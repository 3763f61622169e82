"""Start the training of a network as a stage process, through the same supervisor as inference."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from payerseg.config.installation import programs_parent
from payerseg.config.load import section_to_dict
from payerseg.config.schema import DriverConfig
from payerseg.config.training import TrainingConfig
from payerseg.driver.child_env import check_backend, child_environment
from payerseg.driver.inputs import tidy_path
from payerseg.driver.run_folder import RUNS_FOLDER, EventLog, new_run_id
from payerseg.driver.supervisor import Child, ChildEnd, Command, Event, Timers
from payerseg.results.case_folder import HOUSE_FOLDER
from payerseg.stagekit.catalog import NETWORK_TRAINING
from payerseg.stagekit.protocol import CaseRequest, EventName, StageRequest

Tell = Callable[[Event], None]
NO_LIMIT_S = float("inf")


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
    config: TrainingConfig, driver: DriverConfig, output: Path, tell: Tell
) -> TrainingEnd:
    """Train one network in a process of its own and follow it to its end.

    Args:
        config: what was chosen.
        driver: device, backend, threads, timers; a training has no time limit.
        output: the training lies in `<output>/<network>`; one that is there is resumed.
        tell: called for every event.

    Raises:
        ConfigError: the engine is not installed.
    """
    check_backend(driver.backend)
    output = tidy_path(output)
    name, run_id = training_name(config), new_run_id(output / HOUSE_FOLDER)
    folder = output / name
    folder.mkdir(parents=True, exist_ok=True)
    request = StageRequest(
        run_id=run_id,
        stage=NETWORK_TRAINING.name,
        stage_version=NETWORK_TRAINING.version,
        cases=(CaseRequest(name, folder),),
        config=section_to_dict(config),
        seed=config.seed,
        heartbeat_s=driver.heartbeat_s,
    )
    run = output / HOUSE_FOLDER / RUNS_FOLDER / run_id
    run.mkdir(parents=True, exist_ok=True)
    path = run / "request-0.json"
    path.write_text(request.to_json(), encoding="utf-8")
    command = Command(
        module=NETWORK_TRAINING.module,
        request=path,
        folder=programs_parent(),
        environment=child_environment(driver, os.environ),
        log=run / "request-0.stderr.log",
    )
    timers = Timers(driver.startup_s, driver.silence_s, lambda _case: NO_LIMIT_S, driver.grace_s)
    listener = _Listener(tell, EventLog(run / "request-0.events.jsonl"))
    end = Child(command, timers, listener).run()
    return listener.ending(folder, end, command.log)


class _Listener:
    """Logs events, passes them on and remembers how the training ended."""

    def __init__(self, tell: Tell, log: EventLog) -> None:
        self._tell = tell
        self._log = log
        self._failure: Event | None = None
        self._done = False

    def __call__(self, event: Event) -> None:
        self._log.write(event)
        if event["event"] == EventName.CASE_FAILED:
            self._failure = event
        self._done = self._done or event["event"] == EventName.CASE_DONE
        self._tell(event)

    def ending(self, folder: Path, end: ChildEnd, log: Path) -> TrainingEnd:
        self._log.close()
        if self._done:
            return TrainingEnd(folder, ok=True)
        trouble = self._failure or end.rejected
        if trouble is None:
            message = f"the training process {end.describe()}; run the same command to go on; {log}"
            return TrainingEnd(folder, ok=False, message=message, exit_code=3)
        kind, text = str(trouble.get("kind", "")), str(trouble.get("message", ""))
        code = {"config": 2, "dataset": 2, "usage": 2, "bug": 1}.get(kind, 3)
        return TrainingEnd(folder, ok=False, message=f"{text} (log: {log})", exit_code=code)


class EtaClock:
    """Estimates the time left from the pace of this process, not of earlier ones."""

    def __init__(self) -> None:
        self._first: tuple[int, float] | None = None

    def left_s(self, done: int, total: int) -> float | None:
        """Return seconds to the end, None before a pace is known."""
        now = time.monotonic()
        if self._first is None:
            self._first = (done, now)
            return None
        steps, seconds = done - self._first[0], now - self._first[1]
        return (total - done) * seconds / steps if steps > 0 else None
