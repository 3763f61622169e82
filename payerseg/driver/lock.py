"""One driver per case: lock files that say who holds them, and that a dead owner cannot keep.

A lock belongs to a case, not to the output folder, so that several shards can work in one folder.
All locks of a run are links to one file, its lease, which is written before any lock exists; so a lock
is never seen half-written, and touching the lease now and then keeps all of them alive.
Whether an owner is gone is told by its process where it runs beside us, else by the age of its lease.
"""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from payerseg import records
from payerseg.atomic import write_text
from payerseg.errors import ArtifactError

LOCKS_FOLDER = "locks"
GUARD_FILE = ".guard"
BEAT_S = 15.0
BEATS_MISSED = 8
"""A lease that was not renewed for so many heartbeats has expired."""
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
PROCESS_NAMES = Path("/proc/self/ns/pid")


@dataclass(frozen=True, slots=True)
class Owner:
    """Who holds a lock: the contents of its file.

    Attributes:
        pid, host: the process.
        born: when the process started, as the system counts; tells it from a later one of the same number.
        boot: which start of the machine, and which world of process numbers in it, where known.
        since: when it took the lock, for people.
        run_id: what it is doing.
        beat_s: how often it renews its lease, s; 0 = never, as before there were leases.
    """

    pid: int
    host: str
    born: str
    boot: str
    since: str
    run_id: str
    beat_s: float = 0.0

    @classmethod
    def this_process(cls, run_id: str, beat_s: float = BEAT_S) -> Owner:
        """Describe ourselves."""
        since = datetime.now(UTC).isoformat(timespec="seconds")
        pid = os.getpid()
        return cls(pid, platform.node(), _born(pid), _boot(), since, run_id, beat_s)

    def is_gone(self, age_s: float) -> bool:
        """Tell whether the process is surely dead, or has let its lease expire.

        Args:
            age_s: of the lease.
        """
        if (self.host, self.boot) == (platform.node(), _boot()):
            return not _alive(self.pid) or (bool(self.born) and _born(self.pid) != self.born)
        if self.beat_s:
            return age_s > BEATS_MISSED * self.beat_s
        # without a lease: an earlier start of this machine is over, on another one nothing is sure
        return self.host == platform.node()


class CaseLocks:
    """The locks of one run."""

    def __init__(self, driver_folder: Path, run_id: str, beat_s: float = BEAT_S) -> None:
        """Prepare; nothing is locked yet."""
        self._folder = driver_folder / LOCKS_FOLDER
        self._owner = Owner.this_process(run_id, beat_s)
        self._lease = self._folder / f".{run_id}.lease"
        self._held: list[Path] = []
        self._copies: list[Path] = []  # locks that could not be links
        self._given_back = threading.Event()
        self._beats: threading.Thread | None = None

    def acquire(self, case_ids: Iterable[str]) -> tuple[tuple[str, ...], dict[str, str]]:
        """Lock the cases that no other run holds.

        Returns:
            Remarks on locks taken over from dead runs, and case id to the reason why a case could
            not be locked: whose it is, and what to do.

        Raises:
            OSError: the folder cannot be written to.
        """
        write_text(self._lease, records.to_json(self._owner))
        self._beats = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._beats.start()
        taken_over: Counter[Owner] = Counter()
        refused: dict[str, str] = {}
        with _guarded(self._folder / GUARD_FILE):
            for case_id in case_ids:
                path = self._folder / f"{case_id}.json"
                try:
                    dead = self._acquire_one(path)
                except _Held as reason:
                    refused[case_id] = f"case {case_id!r} {reason}"
                    continue
                self._held.append(path)
                taken_over.update([dead] if dead is not None else [])
            self._remove_old_leases()
        remarks = tuple(
            f"took over {count} case(s) from run {owner.run_id} of {owner.since}: its process "
            f"{owner.pid} on {owner.host} is no longer alive"
            for owner, count in taken_over.items()
        )
        return remarks, refused

    def release(self) -> None:
        """Give all locks back; one that another run has taken over is its own."""
        self._given_back.set()
        if self._beats is not None:
            self._beats.join()
        while self._held:
            path = self._held.pop()
            with contextlib.suppress(OSError, ArtifactError):
                if _read_owner(path) == self._owner:
                    path.unlink()
        with contextlib.suppress(OSError):
            self._lease.unlink()

    def _beat(self) -> None:
        while not self._given_back.wait(self._owner.beat_s):
            for path in (self._lease, *tuple(self._copies)):
                with contextlib.suppress(OSError):
                    os.utime(path)

    def _remove_old_leases(self) -> None:
        """Remove what killed runs have left whose locks have all been taken over."""
        for lease in self._folder.glob(".*.lease"):
            with contextlib.suppress(OSError, ArtifactError):
                owner = _read_owner(lease)
                gone = owner is None or owner.is_gone(_age_s(lease, self._lease))
                if gone and lease.stat().st_nlink == 1:
                    lease.unlink()

    def _acquire_one(self, path: Path) -> Owner | None:
        """Lock a case; return the dead owner whose lock was in the way."""
        if self._create(path):
            return None
        try:
            owner = _read_owner(path)
        except ArtifactError as error:
            msg = f"may be in the hands of another run: {error}"
            raise _Held(msg) from error
        if owner is not None and not owner.is_gone(_age_s(path, self._lease)):
            raise _Held(_describe(owner, path))
        path.unlink(missing_ok=True)
        if not self._create(path):
            msg = "was locked by another run just now; try again"
            raise _Held(msg)
        return owner

    def _create(self, path: Path) -> bool:
        try:
            path.hardlink_to(self._lease)
        except FileExistsError:
            return False
        except OSError:  # a file system without links
            with contextlib.suppress(FileExistsError), path.open("x", encoding="utf-8") as file:
                file.write(self._lease.read_text(encoding="utf-8"))
                self._copies.append(path)
                return True
            return False
        return True


class _Held(Exception):
    """A case is, or may be, another run's."""


def _describe(owner: Owner, path: Path) -> str:
    todo = "wait for it, or end it"
    if owner.host != platform.node():
        end_s = BEATS_MISSED * owner.beat_s
        if_dead = f"is taken over {end_s:.0f} s after its end" if end_s else f"then delete {path}"
        todo = f"wait for it; if that machine no longer works on it: the case {if_dead}"
    return (
        f"is in the hands of run {owner.run_id} (process {owner.pid} on {owner.host}, since "
        f"{owner.since}); {todo}"
    )


def _read_owner(path: Path) -> Owner | None:
    """Read a lock; None for one that is gone, or empty, as a kill left those of earlier versions.

    Raises:
        ArtifactError: it is damaged, or of a newer version.
    """
    with contextlib.suppress(OSError):
        if path.is_file() and not path.stat().st_size:
            return None
    return records.read(Owner, path, "if no run works on the case, delete it")


def _age_s(path: Path, lease: Path) -> float:
    """Return how long ago a lock was renewed, s, by the clock of the disk that both files lie on."""
    try:
        os.utime(lease)
        return lease.stat().st_mtime - path.stat().st_mtime
    except OSError:
        return 0.0


@contextlib.contextmanager
def _guarded(path: Path) -> Iterator[None]:
    """Let one process at a time judge and replace dead owners' locks."""
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
        return f"{BOOT_ID.read_text(encoding='ascii').strip()} {PROCESS_NAMES.readlink()}"
    except OSError:
        return ""
