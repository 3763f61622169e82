"""The record of a run: requests, events, logs, and what it was asked. Kept, so that it can be replayed."""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from payerseg import records
from payerseg.atomic import write_text
from payerseg.config.load import to_toml
from payerseg.driver.settings import RunSettings
from payerseg.driver.supervisor import log_tail
from payerseg.errors import OutOfResources, UsageError
from payerseg.stagekit.protocol import StageRequest, describe_failure

RUNS_FOLDER = "runs"
RUN_FILE = "run.json"
CONFIG_FILE = "config.toml"


def new_run_id(driver_folder: Path) -> str:
    """Return a name: the next number, the time (UTC), and what keeps it from meeting another run's."""
    earlier = runs_in_order(driver_folder)
    number = _number(earlier[-1].name) + 1 if earlier else 1
    return f"{number:05d}_{datetime.now(UTC):%Y-%m-%dT%H-%M-%SZ}_{secrets.token_hex(2)}"


def runs_in_order(driver_folder: Path) -> list[Path]:
    """Return the folders of all runs, the first one first.

    By their numbers, as clocks differ between machines and are set; runs from before there were numbers
    are named by time alone, and come first.
    """
    folders = (driver_folder / RUNS_FOLDER).glob("*/")
    return sorted(folders, key=lambda path: (_number(path.name), path.name))


def _number(run_id: str) -> int:
    head = run_id.partition("_")[0]
    return int(head) if re.fullmatch("[0-9]{5,18}", head) else 0


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What a run was asked, beside its settings: the contents of run.json.

    Attributes: as of `RunSettings`; `environment` holds the variables set for every stage process.
    """

    weights: Mapping[str, Path]
    run_id: str = ""
    inputs: tuple[Path, ...] = ()
    from_stage: str | None = None
    to_stage: str | None = None
    force: bool = False
    only_cases: tuple[str, ...] = ()
    shard: tuple[int, int] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


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

    @classmethod
    def write(cls, folder: Path, stem: str, request: StageRequest) -> RequestFiles:
        """Write a request; the names of its files begin with `stem`.

        Raises:
            OutOfResources: the disk is full.
        """
        files = cls(
            folder / f"{stem}.json", folder / f"{stem}.events.jsonl", folder / f"{stem}.stderr.log"
        )
        try:
            folder.mkdir(parents=True, exist_ok=True)
            files.request.write_text(request.to_json(), encoding="utf-8")
            files.log.touch()
        except OSError as error:
            raise OutOfResources(describe_failure(error).message) from error
        return files


class RunFolder:
    """One run's folder.

    Attributes:
        root: where it lies.
        run_id: its name.
    """

    def __init__(self, driver_folder: Path, run_id: str, *, stays: bool = True) -> None:
        """Name the folder; nothing is written yet.

        Args:
            driver_folder: of the output folder.
            run_id: from `new_run_id`.
            stays: whether people can look into it afterwards.
        """
        self.run_id = run_id
        self.root = driver_folder / RUNS_FOLDER / run_id
        self._stays = stays

    def open(self, settings: RunSettings, environment: Mapping[str, str]) -> None:
        """Write down what was asked.

        Raises:
            OutOfResources: the disk is full.
        """
        facts = RunFacts(
            run_id=self.run_id,
            inputs=settings.inputs,
            weights=settings.weights,
            from_stage=settings.from_stage,
            to_stage=settings.to_stage,
            force=settings.force,
            only_cases=settings.only_cases,
            shard=settings.shard,
            environment=environment,
        )
        try:
            write_text(self.root / RUN_FILE, records.to_json(facts), durable=True)
            write_text(self.root / CONFIG_FILE, to_toml(settings.config))
        except OSError as error:
            raise OutOfResources(describe_failure(error).message) from error

    def describe_log(self, log: Path) -> str:
        """Say where a process's log is; or what it ends with, where nobody can look it up."""
        if self._stays:
            return f"its log is {log}"
        said = log_tail(log)
        return f"its log ends with:\n{said}" if said else "its log is empty"

    def close(self, summary: str) -> None:
        """Write down how it ended, beside what was asked."""
        write_text(self.root / "summary.json", summary)


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


def last_run(driver_folder: Path) -> Path | None:
    """Return the folder of the latest run that has written down its settings."""
    runs = [run for run in runs_in_order(driver_folder) if os.path.isfile(run / CONFIG_FILE)]
    return runs[-1] if runs else None


def read_weights(run: Path) -> Mapping[str, Path]:
    """Return the weights that a run used, by stage name.

    Raises:
        UsageError: its run.json is missing or damaged.
    """
    path = run / RUN_FILE
    remedy = "remove the folder to fall back on an earlier run, or run again with the scans"
    facts = records.read(RunFacts, path, remedy, UsageError)
    if facts is None:
        msg = f"{path} is missing, which names the weights of the last run; {remedy}"
        raise UsageError(msg)
    return facts.weights
