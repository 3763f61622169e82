"""One driver per case: lock files that say who holds them, and that a dead owner cannot keep.

A lock belongs to a case, not to the output folder, so that several shards can work in one folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from payerseg.errors import UsageError

LOCKS_FOLDER = "locks"
GUARD_FILE = ".guard"
# A lock file without content is one that is being written, unless it is older than this.
UNWRITTEN_S = 5.0
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Owner:
    """Who holds a lock.

    Attributes:
        pid, host: the process.
        born: when the process started, as the system counts; tells it from a later one of the same number.
        boot: which start of the machine, where known.
        since: when it took the lock, for people.
        run_id: what it is doing.
    """

    pid: int
    host: str
    born: str
    boot: str
    since: str
    run_id: str

    @classmethod
    def this_process(cls, run_id: str) -> Owner:
        """Describe ourselves."""
        since = datetime.now().astimezone().isoformat(timespec="seconds")
        pid = os.getpid()
        return cls(pid, platform.node(), _born(pid), _boot(), since, run_id)

    def is_gone(self) -> bool:
        """Tell whether the process is surely dead; on another host nothing is sure."""
        if self.host != platform.node():
            return False
        if self.boot != _boot():
            return True
        return not _alive(self.pid) or (bool(self.born) and _born(self.pid) != self.born)


class CaseLocks:
    """The locks of one run."""

    def __init__(self, house_folder: Path, run_id: str) -> None:
        """Prepare; nothing is locked yet."""
        self._folder = house_folder / LOCKS_FOLDER
        self._owner = Owner.this_process(run_id)
        self._held: list[Path] = []

    def acquire(self, case_ids: Iterable[str]) -> tuple[str, ...]:
        """Lock all cases or none; return remarks on locks taken over from dead runs.

        Raises:
            UsageError: a case is in the hands of another run; says whose, and what to do.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        taken_over: dict[Owner, int] = {}
        try:
            with _guarded(self._folder / GUARD_FILE):
                for case_id in case_ids:
                    dead = self._acquire_one(self._folder / f"{case_id}.json", case_id)
                    if dead is not None:
                        taken_over[dead] = taken_over.get(dead, 0) + 1
        except UsageError:
            self.release()
            raise
        return tuple(
            f"took over {count} case(s) from run {owner.run_id} of {owner.since}: its process "
            f"{owner.pid} on {owner.host} is no longer alive"
            for owner, count in taken_over.items()
        )

    def release(self) -> None:
        """Give all locks back."""
        while self._held:
            self._held.pop().unlink(missing_ok=True)

    def _acquire_one(self, path: Path, case_id: str) -> Owner | None:
        dead = None
        if not self._create(path):
            dead = _read_owner(path)
            if dead is None and not _is_forgotten(path):
                msg = f"case {case_id!r} is just being locked by another run; try again"
                raise UsageError(msg)
            if dead is not None and not dead.is_gone():
                raise UsageError(_held_message(case_id, dead, path))
            path.unlink(missing_ok=True)
            if not self._create(path):
                msg = f"case {case_id!r} was locked by another run just now; try again"
                raise UsageError(msg)
        self._held.append(path)
        return dead

    def _create(self, path: Path) -> bool:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            return False
        try:
            os.write(descriptor, json.dumps(asdict(self._owner)).encode())
        finally:
            os.close(descriptor)
        return True


def _held_message(case_id: str, owner: Owner, path: Path) -> str:
    if owner.host == platform.node():
        todo = "wait for it, or end it"
    else:
        todo = f"wait for it; if that machine is surely not working on it any more, delete {path}"
    return (
        f"case {case_id!r} is in the hands of run {owner.run_id} (process {owner.pid} on "
        f"{owner.host}, since {owner.since}); {todo}"
    )


def _read_owner(path: Path) -> Owner | None:
    try:
        return Owner(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _is_forgotten(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > UNWRITTEN_S
    except FileNotFoundError:
        return True


@contextlib.contextmanager
def _guarded(path: Path) -> Iterator[None]:
    """Let one process of this host at a time judge and replace dead owners' locks."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    with path.open("w") as file:
        with contextlib.suppress(OSError):  # a network folder without locks: the risk is tiny
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _alive(pid: int) -> bool:
    if sys.platform == "win32":
        return True  # unknown; os.kill would end it
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not _is_zombie(pid)


def _stat_fields(pid: int) -> list[str]:
    """Return the fields of /proc/<pid>/stat after the name (which may hold spaces)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def _is_zombie(pid: int) -> bool:
    fields = _stat_fields(pid)
    return bool(fields) and fields[0] == "Z"


def _born(pid: int) -> str:
    fields = _stat_fields(pid)
    return fields[19] if len(fields) > 19 else ""


def _boot() -> str:
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""
