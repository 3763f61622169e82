"""What driver and stage process say to each other: a request file, JSON lines, an exit code.

The meaning of every field and event is in docs/protocol.md. Standard library only.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Any

from payerseg.errors import ProtocolError

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


# Fields beside `event` and `t` (seconds since the epoch).
EVENT_FIELDS: Mapping[EventName, tuple[str, ...]] = {
    EventName.STAGE_STARTED: ("pid", "versions", "device"),
    EventName.STAGE_REJECTED: ("kind", "message"),
    EventName.CASE_STARTED: ("case_id",),
    EventName.PROGRESS: ("case_id", "step", "done", "total"),
    EventName.NOTE: ("case_id", "key", "value"),
    EventName.CASE_DONE: ("case_id", "status", "message", "seconds", "peak_rss_mb"),
    EventName.CASE_FAILED: ("case_id", "kind", "message", "traceback"),
    EventName.HEARTBEAT: ("rss_mb", "peak_rss_mb"),
    EventName.STAGE_FINISHED: (
        "done",
        "failed",
        "setup_seconds",
        "seconds",
        "cpu_seconds",
        "peak_rss_mb",
    ),
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
        return json.dumps(asdict(self), indent=1, allow_nan=False, default=str) + "\n"

    @classmethod
    def from_json(cls, text: str) -> StageRequest:
        """Read a request.

        Raises:
            ProtocolError: not a request, or of another protocol version.
        """
        try:
            data = json.loads(text)
        except ValueError as error:
            msg = f"the request is not JSON ({error}); expected a file written by the driver"
            raise ProtocolError(msg) from error
        found = data.get("protocol") if isinstance(data, dict) else None
        if found != PROTOCOL:
            msg = (
                f"the request speaks protocol {found!r}, this stage {PROTOCOL}; run payerseg again"
            )
            raise ProtocolError(msg)
        try:
            cases, weights = _cases(data["cases"]), _weights(data["weights"])
            return cls(**{**data, "cases": cases, "weights": weights})
        except (TypeError, KeyError) as error:
            msg = f"the request lacks or has unknown fields ({error}); see docs/protocol.md"
            raise ProtocolError(msg) from error


def encode_event(event: EventName, t: float, fields: Mapping[str, Any]) -> bytes:
    """Return one line; an event is one line and one line is one event."""
    text = json.dumps({"event": event.value, "t": round(t, 3), **fields}, default=str)
    return text.encode("ascii") + b"\n"


def decode_event(line: bytes) -> dict[str, Any]:
    """Read one line.

    Raises:
        ProtocolError: it is not a JSON object with an event name.
    """
    try:
        data = json.loads(line)
    except ValueError as error:
        msg = f"not an event: {line[:80]!r}"
        raise ProtocolError(msg) from error
    if not isinstance(data, dict) or not isinstance(data.get("event"), str):
        msg = f"not an event: {line[:80]!r}"
        raise ProtocolError(msg)
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


def _cases(data: list[dict[str, Any]]) -> tuple[CaseRequest, ...]:
    return tuple(
        CaseRequest(
            item["case_id"], Path(item["folder"]), Path(item["image"]) if item["image"] else None
        )
        for item in data
    )


def _weights(data: dict[str, Any] | None) -> WeightsRequest | None:
    return None if data is None else WeightsRequest(Path(data["path"]), data["fingerprint"])
