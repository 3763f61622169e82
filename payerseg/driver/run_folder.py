"""The record of a run: requests, events, logs, and what it was asked. Kept, so that it can be replayed."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from payerseg.config.load import to_toml
from payerseg.driver.settings import RunSettings, StagePlan
from payerseg.errors import OutOfResources
from payerseg.results.manifest import write_json
from payerseg.stagekit.failures import describe_failure
from payerseg.stagekit.protocol import StageRequest

RUNS_FOLDER = "runs"
RUN_FILE = "run.json"
CONFIG_FILE = "config.toml"


def new_run_id() -> str:
    """Return a name that sorts by time and does not meet another run's."""
    return f"{datetime.now().astimezone():%Y-%m-%dT%H-%M-%S}_{secrets.token_hex(2)}"


@dataclass(frozen=True, slots=True)
class RequestFiles:
    """The files of one stage process.

    Attributes:
        request: what it was asked.
        events: what it said.
        log: its standard error.
    """

    request: Path
    events: Path
    log: Path


class RunFolder:
    """One run's folder.

    Attributes:
        root: where it lies.
        run_id: its name.
    """

    def __init__(self, house_folder: Path, run_id: str) -> None:
        """Name the folder; nothing is written yet."""
        self.run_id = run_id
        self.root = house_folder / RUNS_FOLDER / run_id

    def open(self, settings: RunSettings, environment: Mapping[str, str]) -> None:
        """Write down what was asked.

        Raises:
            OutOfResources: the disk is full.
        """
        facts = {
            "run_id": self.run_id,
            "inputs": [str(path) for path in settings.inputs],
            "weights": {name: str(path) for name, path in settings.weights.items()},
            "from_stage": settings.from_stage,
            "to_stage": settings.to_stage,
            "force": settings.force,
            "only_cases": list(settings.only_cases),
            "shard": list(settings.shard) if settings.shard else None,
            "environment": dict(environment),
        }
        try:
            write_json(self.root / RUN_FILE, facts)
            (self.root / CONFIG_FILE).write_text(to_toml(settings.config), encoding="utf-8")
        except OSError as error:
            raise OutOfResources(describe_failure(error).message) from error

    def write_request(self, plan: StagePlan, number: int, request: StageRequest) -> RequestFiles:
        """Write a request and return its files.

        Raises:
            OutOfResources: the disk is full.
        """
        folder = self.root / plan.spec.folder.removeprefix("step")
        stem = f"request-{number}"
        files = RequestFiles(
            folder / f"{stem}.json", folder / f"{stem}.events.jsonl", folder / f"{stem}.stderr.log"
        )
        try:
            folder.mkdir(parents=True, exist_ok=True)
            files.request.write_text(request.to_json(), encoding="utf-8")
            files.log.touch()
        except OSError as error:
            raise OutOfResources(describe_failure(error).message) from error
        return files

    def close(self, summary: str) -> None:
        """Write down how it ended, beside what was asked."""
        (self.root / "summary.json").write_text(summary, encoding="utf-8")


class EventLog:
    """Appends events to a file; a disk that is full costs the log, not the run.

    Attributes:
        trouble: why events are missing, if any are.
    """

    def __init__(self, path: Path) -> None:
        """Open it; buffered by line, so that it can be followed."""
        self.trouble = ""
        self._file: IO[str] | None = None
        try:
            self._file = path.open("a", encoding="utf-8", buffering=1)
        except OSError as error:
            self.trouble = f"cannot log events to {path}: {error.strerror}"

    def write(self, event: Mapping[str, Any]) -> None:
        """Append one event."""
        if self._file is None or self.trouble:
            return
        try:
            self._file.write(json.dumps(event, default=str) + "\n")
        except OSError as error:
            self.trouble = f"events are no longer logged: {error.strerror}"

    def close(self) -> None:
        """Close the file."""
        if self._file is None:
            return
        try:
            self._file.close()
        except OSError as error:
            self.trouble = f"events are no longer logged: {error.strerror}"


def last_run(house_folder: Path) -> Path | None:
    """Return the folder of the latest run that has written down its settings."""
    runs = sorted((house_folder / RUNS_FOLDER).glob(f"*/{CONFIG_FILE}"))
    return runs[-1].parent if runs else None


def read_weights(run: Path) -> dict[str, Path]:
    """Return the weights that a run used, by stage name."""
    facts = json.loads((run / RUN_FILE).read_text(encoding="utf-8"))
    return {name: Path(path) for name, path in facts["weights"].items()}
