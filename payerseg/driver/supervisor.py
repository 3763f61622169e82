"""One child process: start it, listen to it, time it, end it. The only file that starts a process.

Three timers, because they mean different things:

* startup: from the start to `stage_started` (imports on a slow disk, a dead device driver);
* silence: from any event to the next (a frozen interpreter sends no heartbeat);
* case: from one milestone to the next (alive but stuck). Milestones are `stage_started`, `case_started`,
  `case_done`, `case_failed`, so loading the weights is timed as well.

A heartbeat proves that the interpreter breathes, not that the work advances; hence silence and case.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from payerseg.config.schema import DriverConfig
from payerseg.config.weights import programs_parent
from payerseg.errors import ConfigError, OutOfResources, ProtocolError
from payerseg.stagekit.protocol import EventName, decode_event, describe_exit

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)


def child_environment(driver: DriverConfig, inherited: Mapping[str, str]) -> dict[str, str]:
    """Return a stage process's whole environment: set before it exists, never at import.

    Args:
        driver: device, backend, threads.
        inherited: the driver's own environment.
    """
    return {**inherited, **chosen_variables(driver, inherited)}


def chosen_variables(driver: DriverConfig, inherited: Mapping[str, str]) -> dict[str, str]:
    """Return only what we set; it is written to run.json."""
    # Our folder first, as `stages` is a name that other packages use too; named in PYTHONPATH, as the
    # working directory alone is not searched under PYTHONSAFEPATH.
    path = os.pathsep.join(filter(None, (str(programs_parent()), inherited.get("PYTHONPATH", ""))))
    chosen = {
        "PYTHONPATH": path,
        "PYTHONUTF8": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONHASHSEED": "0",  # same order of sets, same bytes
        "KERAS_BACKEND": driver.backend,
        "TF_CPP_MIN_LOG_LEVEL": inherited.get("TF_CPP_MIN_LOG_LEVEL", "2"),
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        "PAYERSEG_DEVICE": driver.device,
    }
    if driver.threads:
        chosen |= dict.fromkeys(THREAD_VARIABLES, str(driver.threads))
    return chosen | _device_variables(driver.device)


def check_backend(backend: str) -> None:
    """Refuse an engine that is not installed, before a process is started for nothing.

    Raises:
        ConfigError: says what to install.
    """
    if find_spec(backend) is None:
        extra = f"payerseg[{backend}]" if backend != "tensorflow" else "payerseg"
        msg = f"backend {backend} is not installed; run: pip install {extra!r}, or choose another"
        raise ConfigError(msg)


def _device_variables(device: str) -> dict[str, str]:
    number = device.partition(":")[2]
    if device == "cpu":
        return {"CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu"}
    return {"CUDA_VISIBLE_DEVICES": number} if number else {}


LEASH_OPTION = "--leashed"
LINE_LIMIT_BYTES = 1 << 22
MILESTONES = (
    EventName.STAGE_STARTED,
    EventName.CASE_STARTED,
    EventName.CASE_DONE,
    EventName.CASE_FAILED,
)
POLL_S = 0.25
# What may still lie in the pipe after the process has ended; a grandchild may hold it open for ever.
DRAIN_S = 2.0
TAIL_BYTES = 4000

Event = Mapping[str, Any]


class EndedBy(StrEnum):
    """Which timer ended a child."""

    STARTUP = "startup"
    SILENCE = "silence"
    CASE = "case"


@dataclass(frozen=True, slots=True)
class Command:
    """What to start.

    Attributes:
        module: run with `python -m`.
        request: its argument.
        folder: working directory.
        environment: whole, not in addition.
        log: takes standard error; a file, as a pipe could fill up and block both sides.
    """

    module: str
    request: Path
    folder: Path
    environment: Mapping[str, str]
    log: Path


@dataclass(frozen=True, slots=True)
class Timers:
    """Limits in seconds.

    Attributes:
        startup_s, silence_s: as above.
        case_s: case id to limit; None asks for the limit outside a case.
        grace_s: between asking a child to end and killing it.
    """

    startup_s: float
    silence_s: float
    case_s: Callable[[str | None], float]
    grace_s: float


@dataclass(frozen=True, slots=True)
class ChildEnd:
    """How a child ended.

    Attributes:
        returncode: negative for a signal.
        finished: whether it said `stage_finished`; one that did not has not finished, whatever its code.
        rejected: whether it said `stage_rejected`, and why.
        in_flight: the case it was working on.
        timer: which timer ended it, if one did.
        limit_s: of that timer.
        bad_lines: number of lines on its standard output that were no events.
    """

    returncode: int
    finished: bool
    rejected: Event | None
    in_flight: str | None
    timer: EndedBy | None
    limit_s: float
    bad_lines: int

    def describe(self) -> str:
        """Say it in words."""
        reasons = {
            EndedBy.STARTUP: f"did not start within {self.limit_s:g} s",
            EndedBy.SILENCE: f"gave no sign of life for {self.limit_s:g} s; its interpreter is frozen",
            EndedBy.CASE: f"took longer than {self.limit_s:g} s",
        }
        if self.timer is not None:
            return f"{reasons[self.timer]}, and was ended"
        if self.returncode == 0 and not self.finished:
            return "ended without stage_finished, with exit code 0"
        return f"ended by {describe_exit(self.returncode)}"


class Child:
    """A running stage process."""

    def __init__(self, command: Command, timers: Timers) -> None:
        """Prepare; nothing runs yet."""
        self._command = command
        self._timers = timers
        self._on_event: Callable[[Event], None] = lambda _event: None
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._finished = False
        self._rejected: Event | None = None
        self._in_flight: str | None = None
        self._bad_lines = 0
        self._started = False
        self._last_event = self._last_milestone = time.monotonic()

    def run(self, on_event: Callable[[Event], None] | None = None) -> ChildEnd:
        """Start the process, follow it to its end, and leave nothing of it behind.

        Args:
            on_event: called for every event, in order, in this thread.

        Raises:
            OutOfResources: no process can be started.
        """
        self._on_event = on_event or self._on_event
        with self._command.log.open("ab") as log:
            process = self._start(log)
        reader = threading.Thread(target=self._read, args=(process.stdout,), daemon=True)
        reader.start()
        timer: EndedBy | None = None
        limit_s = 0.0
        try:
            timer, limit_s = self._follow(process)
        finally:  # also when a person interrupts
            _end(process, self._timers.grace_s)
            reader.join(DRAIN_S)
            self._drain()
            with contextlib.suppress(OSError):
                process.stdin.close()  # type: ignore[union-attr]
        return ChildEnd(
            process.returncode,
            self._finished,
            self._rejected,
            self._in_flight,
            timer,
            limit_s,
            self._bad_lines,
        )

    def _start(self, log: IO[bytes]) -> subprocess.Popen[bytes]:
        command = self._command
        arguments = [sys.executable, "-m", command.module, str(command.request), LEASH_OPTION]
        self._last_event = self._last_milestone = time.monotonic()
        try:
            return subprocess.Popen(
                arguments,
                stdin=subprocess.PIPE,  # the leash: it ends when we do
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=command.folder,
                env=dict(command.environment),
                # ended as a group; Ctrl-C in a terminal is for the driver, which then ends its child
                start_new_session=sys.platform != "win32",
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
        except OSError as error:
            msg = f"cannot start {command.module}: {error.strerror}; is the machine out of memory?"
            raise OutOfResources(msg) from error

    def _read(self, stdout: IO[bytes]) -> None:
        """Pass lines on; runs in a thread of its own, as only that is portable."""
        with stdout:
            while line := stdout.readline(LINE_LIMIT_BYTES):
                self._lines.put(line)
        self._lines.put(None)

    def _follow(self, process: subprocess.Popen[bytes]) -> tuple[EndedBy | None, float]:
        """Handle events until the process ends or a timer does."""
        overdue = False
        while True:
            timer, limit_s, left_s = self._nearest_limit()
            if left_s <= 0 and overdue:
                return timer, limit_s
            # A second look, as the driver itself may have slept (Ctrl-Z) while events were waiting.
            overdue = left_s <= 0
            closed = self._handle_waiting(POLL_S if overdue else min(left_s, POLL_S))
            if closed:  # it ends now, or it is cut off
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(self._timers.grace_s)
            if closed or (process.poll() is not None and self._lines.empty()):
                return None, 0.0

    def _handle_waiting(self, timeout_s: float) -> bool:
        """Wait for a line, handle all that are there; return whether the output was closed."""
        with contextlib.suppress(queue.Empty):
            line = self._lines.get(timeout=timeout_s)
            for _ in range(self._lines.qsize()):
                if line is None:
                    break
                self._handle(line)
                line = self._lines.get()
            if line is not None:
                self._handle(line)
            return line is None
        return False

    def _nearest_limit(self) -> tuple[EndedBy, float, float]:
        """Return the timer that ends first, its limit and what is left of it, s."""
        now, timers = time.monotonic(), self._timers
        if not self._started:
            limit_s = timers.startup_s
            return EndedBy.STARTUP, limit_s, limit_s - (now - self._last_milestone)
        case_s = timers.case_s(self._in_flight)
        return min(
            (EndedBy.SILENCE, timers.silence_s, timers.silence_s - (now - self._last_event)),
            (EndedBy.CASE, case_s, case_s - (now - self._last_milestone)),
            key=lambda item: item[2],
        )

    def _drain(self) -> None:
        """Handle what was said before the end."""
        with contextlib.suppress(queue.Empty):
            while (line := self._lines.get_nowait()) is not None:
                self._handle(line)

    def _handle(self, line: bytes) -> None:
        try:
            event = decode_event(line)
        except ProtocolError:
            self._bad_lines += 1
            return
        self._last_event = time.monotonic()
        name = event["event"]
        if name in MILESTONES:
            self._last_milestone = self._last_event
        match name:
            case EventName.STAGE_STARTED:
                self._started = True
            case EventName.STAGE_REJECTED:
                self._rejected = event
            case EventName.CASE_STARTED:
                self._in_flight = event.get("case_id")
            case EventName.CASE_DONE | EventName.CASE_FAILED:
                self._in_flight = None
            case EventName.STAGE_FINISHED:
                self._finished = True
            case _:
                pass
        self._on_event(event)


def log_tail(path: Path) -> str:
    """Return the end of a log, for a message about a crash."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            return file.read().decode("utf-8", "replace").strip()
    except OSError:
        return ""


def _end(process: subprocess.Popen[bytes], grace_s: float) -> None:
    """End a process and its group: ask, wait, kill; then collect it, so that no zombie stays."""
    if process.poll() is None:
        _ask_to_end(process)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace_s)
    _kill(process)
    process.wait()


def _ask_to_end(process: subprocess.Popen[bytes]) -> None:
    if sys.platform == "win32":
        process.send_signal(signal.CTRL_BREAK_EVENT)
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGTERM)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of the group, also grandchildren of a process that has ended."""
    if sys.platform == "win32":
        process.kill()
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
