"""What driver and stage process say to each other: a request file, JSON lines, an exit code.

The meaning of every field and event is in docs/protocol.md.
"""

from __future__ import annotations

import errno
import json
import signal
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Any, TypedDict

from payerseg import records
from payerseg.errors import OutOfResources, PayersegError, ProtocolError

DISK_ERRORS = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up"}
# Raised by the engines under Keras, which this room does not import.
MEMORY_ERROR_NAMES = frozenset({"ResourceExhaustedError", "OutOfMemoryError"})
OUT_OF_MEMORY_KIND = "out_of_memory"
BUG_KIND = "bug"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why something failed; `kind` is a `PayersegError.kind`, "out_of_memory", or "bug"."""

    kind: str
    message: str
    traceback: str


def describe_failure(error: BaseException, memory_hint: str = "") -> Failure:
    """Say what an exception means.

    Args:
        error: as caught.
        memory_hint: which settings would need less memory.
    """
    details = "".join(traceback.format_exception(error))
    if isinstance(error, PayersegError):
        return Failure(error.kind, str(error), details)
    if isinstance(error, MemoryError) or type(error).__name__ in MEMORY_ERROR_NAMES:
        hint = memory_hint or "close other programs or use a smaller scan"
        message = f"memory ran out ({type(error).__name__}); {hint}; nothing is retried by itself"
        return Failure(OUT_OF_MEMORY_KIND, message, details)
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        where = f" while writing {error.filename}" if error.filename else ""
        message = (
            f"{DISK_ERRORS[error.errno]}{where}; free some space and run the same command again; "
            "everything already complete is kept"
        )
        return Failure(OutOfResources.kind, message, details)
    return Failure(BUG_KIND, f"{type(error).__name__}: {error}", details)


PROTOCOL = 1


class EventName(StrEnum):
    """Every event a stage may emit."""

    STAGE_STARTED = "stage_started"
    STAGE_REJECTED = "stage_rejected"
    CASE_STARTED = "case_started"
    PROGRESS = "progress"
    NOTE = "note"
    CASE_DONE = "case_done"
    CASE_FAILED = "case_failed"
    HEARTBEAT = "heartbeat"
    STAGE_FINISHED = "stage_finished"


class StageStarted(TypedDict):
    """Libraries are imported, weights not yet loaded."""

    pid: int
    versions: Mapping[str, str]
    device: str


class StageRejected(TypedDict):
    """Request, settings or weights cannot be used; nothing was done."""

    kind: str
    message: str


class CaseStarted(TypedDict):
    """From now on this case is in flight."""

    case_id: str


class ProgressTold(TypedDict):
    """For people; `total` 0 = unknown."""

    case_id: str
    step: str
    done: int
    total: int


class Noted(TypedDict):
    """A fact for the manifest."""

    case_id: str
    key: str
    value: Any


class CaseDone(TypedDict):
    """The manifest is on the disk."""

    case_id: str
    status: str
    message: str
    seconds: float
    peak_rss_mb: float


class CaseFailed(TypedDict):
    """The next case goes on."""

    case_id: str
    kind: str
    message: str
    traceback: str


class Heartbeat(TypedDict):
    """From a thread, every `heartbeat_s`."""

    rss_mb: float
    peak_rss_mb: float


class StageFinished(TypedDict):
    """The required last line."""

    done: int
    failed: int
    setup_seconds: float
    seconds: float
    cpu_seconds: float
    peak_rss_mb: float


# Fields beside `event` and `t` (seconds since the epoch); all are required, further ones are let pass.
EVENT_TYPES: Mapping[str, type] = {
    EventName.STAGE_STARTED: StageStarted,
    EventName.STAGE_REJECTED: StageRejected,
    EventName.CASE_STARTED: CaseStarted,
    EventName.PROGRESS: ProgressTold,
    EventName.NOTE: Noted,
    EventName.CASE_DONE: CaseDone,
    EventName.CASE_FAILED: CaseFailed,
    EventName.HEARTBEAT: Heartbeat,
    EventName.STAGE_FINISHED: StageFinished,
}


class ExitCode(IntEnum):
    """How a stage process ends, and the driver (which never uses OUT_OF_MEMORY)."""

    OK = 0
    BUG = 1
    REJECTED = 2
    SOME_FAILED = 3
    OUT_OF_MEMORY = 4
    CANCELLED = 130


@dataclass(frozen=True, slots=True)
class CaseRequest:
    """One case to be done.

    Attributes:
        case_id: as in the folder's name.
        folder: absolute path of the case folder.
        image: absolute path of the user's scan, for stages that read it.
    """

    case_id: str
    folder: Path
    image: Path | None = None


@dataclass(frozen=True, slots=True)
class WeightsRequest:
    """Which weights, and the hash that the driver saw."""

    path: Path
    fingerprint: str


@dataclass(frozen=True, slots=True)
class StageRequest:
    """Everything a stage process needs; the file is kept and can be replayed by hand.

    Attributes:
        run_id: which run asked; for people.
        stage, stage_version: of the driver's catalog; the stage refuses another.
        cases: in this order.
        config: the stage's own section, complete; no default is left to the child.
        weights: None for a stage without.
        seed: for everything random.
        heartbeat_s: seconds between heartbeats.
        protocol: version of this protocol.
    """

    run_id: str
    stage: str
    stage_version: int
    cases: tuple[CaseRequest, ...]
    config: Mapping[str, Any] = field(default_factory=dict)
    weights: WeightsRequest | None = None
    seed: int = 0
    heartbeat_s: float = 5.0
    protocol: int = PROTOCOL

    def to_json(self) -> str:
        """Return the request as indented JSON."""
        return records.to_json(self, sort_keys=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> StageRequest:
        """Read a request.

        Raises:
            ProtocolError: not a request, or of another protocol version.
        """
        source, remedy = "the request", "expected one that the driver wrote, see docs/protocol.md"
        data = records.decode(dict[str, Any], text, source, remedy, ProtocolError)
        if data.get("protocol") != PROTOCOL:
            msg = (
                f"the request speaks protocol {data.get('protocol')!r}, this stage {PROTOCOL}; "
                "run payerseg again"
            )
            raise ProtocolError(msg)
        return records.convert(cls, data, source, remedy, ProtocolError)


def encode_event(event: EventName, t: float, fields: Mapping[str, Any]) -> bytes:
    """Return one line; an event is one line and one line is one event."""
    text = json.dumps({"event": event.value, "t": round(t, 3), **fields}, default=str)
    return text.encode("ascii") + b"\n"


def decode_event(line: bytes) -> dict[str, Any]:
    """Read one line.

    Raises:
        ProtocolError: it is not a JSON object with an event name, or lacks what that event has.
    """
    source = f"not an event: {line[:80]!r}"
    data = records.decode(dict[str, Any], line, source, "ignored", ProtocolError)
    if not isinstance(data.get("event"), str):
        raise ProtocolError(source)
    fields = EVENT_TYPES.get(data["event"])
    if fields is not None:
        known = {name: data[name] for name in fields.__annotations__ if name in data}
        records.convert(fields, known, source, "ignored", ProtocolError)
    return data


def describe_exit(returncode: int) -> str:
    """Name an exit code or signal for a person."""
    if returncode >= 0:
        known = {code.value: code.name for code in ExitCode}
        return f"exit code {returncode} ({known.get(returncode, 'unknown')})"
    try:
        name = signal.Signals(-returncode).name
    except ValueError:
        name = f"signal {-returncode}"
    hints = {
        "SIGKILL": "; probably the kernel's out-of-memory killer",
        "SIGSEGV": "; a fault in native code",
        "SIGBUS": "; a fault in native code, or a full disk under a memory map",
        "SIGABRT": "; native code gave up",
        "SIGILL": "; a library was built for another processor",
    }
    return f"{name}({returncode}){hints.get(name, '')}"
