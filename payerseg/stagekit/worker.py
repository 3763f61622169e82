"""The child's side of the protocol: `run_stage` turns a stage class into a program.

    python -m stages.<name> request.json [--leashed]

Standard output carries events and nothing else: its descriptor is moved away and replaced by
standard error before the stage is built, so prints of Python and native libraries land in the log.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib.metadata
import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from payerseg.config.load import section_from_dict
from payerseg.errors import PayersegError, ProtocolError
from payerseg.stagekit.case_run import CaseResult, Provenance, StageSetup, build_stage, run_case
from payerseg.stagekit.case_work import CaseWork
from payerseg.stagekit.catalog import StageSpec
from payerseg.stagekit.memory import memory_mb
from payerseg.stagekit.protocol import (
    OUT_OF_MEMORY_KIND,
    CaseRequest,
    EventName,
    ExitCode,
    Failure,
    StageRequest,
    describe_failure,
    encode_event,
)

LEASH_OPTION = "--leashed"
LIBRARIES = ("payerseg", "numpy", "keras", "tensorflow", "torch", "jax", "SimpleITK", "nibabel")
SYS_PRCTL_PDEATHSIG = 1
SIGKILL = 9

StageClass = Callable[[StageSetup[Any]], Callable[[CaseWork], None]]
DoCase = Callable[[StageSpec, Callable[[CaseWork], None], CaseRequest, Provenance, Any], CaseResult]


@dataclass(frozen=True, slots=True)
class Program:
    """What `run_stage` was called with."""

    spec: StageSpec
    stage_class: StageClass
    do_case: DoCase


class EventWriter:
    """Writes events to a private copy of standard output; safe to call from several threads.

    Attributes:
        closed: set when nothing can be written any more.
    """

    def __init__(self, descriptor: int) -> None:
        """Take over a file descriptor."""
        self.closed = threading.Event()
        self._descriptor = descriptor
        self._lock = threading.Lock()

    def __call__(self, event: EventName, fields: Mapping[str, Any]) -> None:
        """Emit one event; a reader that is gone is the leash's business, not ours."""
        line = encode_event(event, time.time(), fields)
        with self._lock, contextlib.suppress(BrokenPipeError):
            while line and not self.closed.is_set():
                line = line[os.write(self._descriptor, line) :]

    def close(self) -> None:
        """Drop everything that is said from now on."""
        with self._lock:
            self.closed.set()
            os.close(self._descriptor)


def run_stage(
    spec: StageSpec,
    stage_class: StageClass,
    arguments: Sequence[str] | None = None,
    do_case: DoCase = run_case,
) -> int:
    """Do a request and return the exit code.

    Args:
        spec: of this stage.
        stage_class: built once, then called with every case.
        arguments: of the command line, default `sys.argv[1:]`.
        do_case: `take_over_edits` for a program that takes over what a person edited.
    """
    options = list(sys.argv[1:] if arguments is None else arguments)
    leashed = LEASH_OPTION in options
    paths = [option for option in options if option != LEASH_OPTION]
    if len(paths) != 1:
        sys.stderr.write(f"usage: python -m {spec.module} request.json [{LEASH_OPTION}]\n")
        return ExitCode.REJECTED
    with _guarded_stdout() as say:
        faulthandler.enable()
        if leashed:
            _put_on_leash()
        try:
            return _run_request(Program(spec, stage_class, do_case), Path(paths[0]), say)
        except KeyboardInterrupt:
            return ExitCode.CANCELLED


def _run_request(program: Program, path: Path, say: EventWriter) -> int:
    clock, spec = time.monotonic(), program.spec
    try:
        request = _read_request(spec, path)
        config = section_from_dict(spec.config_type(), dict(request.config), str(path))
    except PayersegError as error:
        return _reject(describe_failure(error), say)
    versions = _versions()
    say(EventName.STAGE_STARTED, {"pid": os.getpid(), "versions": versions, "device": _device()})
    _start_heartbeat(request.heartbeat_s, say)
    weights = request.weights
    setup = StageSetup(config, weights.path if weights else None, request.seed)
    try:
        stage, loaded = build_stage(
            program.stage_class, setup, weights.fingerprint if weights else None
        )
    except Exception as error:  # noqa: BLE001 (whatever a stage raises becomes an event)
        return _reject(describe_failure(error, _memory_hint(spec)), say, error)
    setup_seconds = time.monotonic() - clock
    provenance = Provenance(request.config, loaded, request.seed, versions)
    failed = sum(not _run_one(program, stage, case, provenance, say) for case in request.cases)
    fields = {
        "done": len(request.cases) - failed,
        "failed": failed,
        "setup_seconds": round(setup_seconds, 3),
        "seconds": round(time.monotonic() - clock, 3),
        "cpu_seconds": round(time.process_time(), 3),
        "peak_rss_mb": memory_mb().peak,
    }
    say(EventName.STAGE_FINISHED, fields)
    return ExitCode.SOME_FAILED if failed else ExitCode.OK


def _run_one(
    program: Program,
    stage: Callable[[CaseWork], None],
    case: CaseRequest,
    provenance: Provenance,
    say: EventWriter,
) -> bool:
    """Do one case; a failure is an event, and the next case goes on."""
    say(EventName.CASE_STARTED, {"case_id": case.case_id})
    try:
        result = program.do_case(program.spec, stage, case, provenance, say)
    except Exception as error:  # noqa: BLE001 (whatever a stage raises becomes an event)
        failure = describe_failure(error, _memory_hint(program.spec))
        fields = {"kind": failure.kind, "message": failure.message, "traceback": failure.traceback}
        say(EventName.CASE_FAILED, {"case_id": case.case_id, **fields})
        _log(failure.traceback)
        return False
    done = {"status": result.status, "message": result.message, "seconds": result.seconds}
    say(EventName.CASE_DONE, {"case_id": case.case_id, **done, "peak_rss_mb": memory_mb().peak})
    return True


def _read_request(spec: StageSpec, path: Path) -> StageRequest:
    try:
        content = path.read_bytes()
    except OSError as error:
        msg = f"cannot read the request {path} ({error}); expected a file written by the driver"
        raise ProtocolError(msg) from error
    request = StageRequest.from_json(content)
    if (request.stage, request.stage_version) != (spec.name, spec.version):
        msg = (
            f"the request is for {request.stage} version {request.stage_version}, "
            f"this is {spec.name} version {spec.version}; run payerseg again"
        )
        raise ProtocolError(msg)
    if spec.weights and request.weights is None:
        msg = f"{spec.name} needs weights and the request names none"
        raise ProtocolError(msg)
    return request


def _reject(failure: Failure, say: EventWriter, error: Exception | None = None) -> int:
    """Say why nothing can be done; foreseen reasons are told apart from bugs by the exit code."""
    _log(failure.traceback)
    say(EventName.STAGE_REJECTED, {"kind": failure.kind, "message": failure.message})
    if failure.kind == OUT_OF_MEMORY_KIND:
        return ExitCode.OUT_OF_MEMORY
    foreseen = error is None or isinstance(error, PayersegError)
    return ExitCode.REJECTED if foreseen else ExitCode.BUG


@contextlib.contextmanager
def _guarded_stdout() -> Iterator[EventWriter]:
    """Keep standard output for events; everything else that is printed goes to standard error."""
    sys.stdout.flush()
    # os.dup is not inherited by programs we start, so they cannot hold the driver's pipe open
    original, say = os.dup(1), EventWriter(os.dup(1))
    os.dup2(2, 1)
    try:
        yield say
    finally:
        _empty_stdout()
        say.close()
        os.dup2(original, 1)
        os.close(original)


def _empty_stdout() -> None:
    """Write what is still buffered, or drop it: among the events it would be taken for one."""
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(nowhere)
        sys.stdout.flush()


def _start_heartbeat(interval_s: float, say: EventWriter) -> None:
    """Prove every few seconds that the interpreter breathes (not that the work advances)."""

    def beat() -> None:
        while not say.closed.is_set():
            memory = memory_mb()
            say(EventName.HEARTBEAT, {"rss_mb": memory.now, "peak_rss_mb": memory.peak})
            say.closed.wait(interval_s)

    threading.Thread(target=beat, name="heartbeat", daemon=True).start()


def _put_on_leash() -> None:
    """End this process when the driver is gone, so that no orphan keeps a GPU or a case folder.

    The driver holds our standard input open and never writes. On Linux the kernel is asked as well:
    it also ends a process whose interpreter is stuck in native code.
    """
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(SYS_PRCTL_PDEATHSIG, SIGKILL)

    def wait_for_end() -> None:
        while os.read(0, 1):
            pass
        os._exit(ExitCode.CANCELLED)

    threading.Thread(target=wait_for_end, name="leash", daemon=True).start()


def _log(text: str) -> None:
    """Write to standard error, which may lie on the very disk that is full."""
    with contextlib.suppress(OSError):
        sys.stderr.write(text)
        sys.stderr.flush()


def _memory_hint(spec: StageSpec) -> str:
    return f"--set {spec.section}.memory_mb=... bounds it" if spec.weights else ""


def _versions() -> dict[str, str]:
    """Return versions of what is loaded, without loading anything."""
    loaded = [name for name in LIBRARIES if name in sys.modules]
    found = {"python": platform.python_version(), "system": platform.platform(terse=True)}
    for name in loaded:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _device() -> str:
    """Return which device the driver chose for us; the engine is not loaded for it."""
    return os.environ.get("PAYERSEG_DEVICE", "unknown")
