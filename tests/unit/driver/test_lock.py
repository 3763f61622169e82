import fcntl
import json
import os
import platform
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace

import pytest

from payerseg.driver.lock import BEAT_S, BEATS_MISSED, CaseLocks, Owner


def write_lock(folder, owner, case_id="a", age_s=0.0):
    path = folder / "locks" / f"{case_id}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(owner)) if owner else "")
    os.utime(path, (time.time() - age_s,) * 2)
    return path


@pytest.fixture
def me():
    return Owner.this_process("run_1")


@pytest.fixture
def take(tmp_path):
    """Lock cases; given back when the test is over."""
    taken = []

    def acquire(*case_ids, run_id="run_2"):
        taken.append(CaseLocks(tmp_path, run_id))
        return taken[-1].acquire(case_ids)

    yield acquire
    for locks in taken:
        locks.release()


def test_a_case_is_locked_once_and_the_others_are_free(tmp_path):
    first, second = CaseLocks(tmp_path, "run_1"), CaseLocks(tmp_path, "run_2")
    assert first.acquire(["a", "b"]) == ((), {})
    remarks, refused = second.acquire(["c", "b"])
    assert remarks == ()
    assert list(refused) == ["b"]
    assert f"in the hands of run run_1 (process {os.getpid()} on" in refused["b"]
    second.release()
    assert (tmp_path / "locks" / "b.json").exists(), "another run's lock stays"
    first.release()
    assert second.acquire(["a", "b", "c"]) == ((), {})
    second.release()
    assert [path.name for path in (tmp_path / "locks").iterdir()] == [".guard"]


def test_the_lock_of_a_dead_process_is_taken_over_and_explained(tmp_path, me, take):
    child = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], stdout=subprocess.PIPE, check=True
    )
    dead = replace(me, pid=int(child.stdout), run_id="run_0", born="1")
    write_lock(tmp_path, dead, "a")
    write_lock(tmp_path, dead, "b")
    (remark,), refused = take("a", "b")
    assert refused == {}
    assert "took over 2 case(s) from run run_0" in remark
    assert f"process {dead.pid} on {platform.node()} is no longer alive" in remark


@pytest.mark.skipif(sys.platform != "linux", reason="start times come from /proc")
def test_a_number_that_another_process_has_now_is_no_owner(tmp_path, me, take):
    write_lock(tmp_path, replace(me, born="1"))
    assert take("a")[1] == {}


EXPIRED_S = BEAT_S * BEATS_MISSED + 1
ELSEWHERE = [{"host": "elsewhere"}, {"boot": "another world of process numbers"}]


@pytest.mark.parametrize("where", ELSEWHERE)
def test_what_cannot_be_seen_from_here_holds_as_long_as_its_lease(tmp_path, me, take, where):
    """Another machine, another container, or this one before it was started again."""
    away = replace(me, pid=1, **where)
    write_lock(tmp_path, away, "a", age_s=EXPIRED_S - 30)
    write_lock(tmp_path, away, "b", age_s=EXPIRED_S)
    remarks, refused = take("a", "b")
    assert list(refused) == ["a"]
    assert "took over 1 case(s)" in remarks[0]


def test_a_lease_is_renewed_for_all_cases_at_once(tmp_path):
    locks = CaseLocks(tmp_path, "run_1", beat_s=0.05)
    locks.acquire(["a", "b"])
    paths = [tmp_path / "locks" / f"{name}.json" for name in "ab"]
    os.utime(paths[0], (1, 1))
    deadline = time.monotonic() + 10
    while min(path.stat().st_mtime for path in paths) < 100 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert min(path.stat().st_mtime for path in paths) > 100
    locks.release()


def test_without_links_a_lock_is_a_copy_and_renewed_too(tmp_path, monkeypatch):
    def no_links(path, target):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("pathlib.Path.hardlink_to", no_links)
    locks = CaseLocks(tmp_path, "run_1", beat_s=0.05)
    assert locks.acquire(["a"]) == ((), {})
    lock = tmp_path / "locks" / "a.json"
    os.utime(lock, (1, 1))
    deadline = time.monotonic() + 10
    while lock.stat().st_mtime < 100 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert lock.stat().st_mtime > 100
    assert list(CaseLocks(tmp_path, "run_2").acquire(["a"])[1]) == ["a"]
    locks.release()
    assert not lock.exists()


def test_a_lock_from_before_leases_is_believed_of_another_host_only(tmp_path, me, take):
    old = replace(me, beat_s=0.0, boot="an earlier start")
    write_lock(tmp_path, old, "a")
    path = write_lock(tmp_path, replace(old, host="elsewhere", pid=1), "b", age_s=1e6)
    _, refused = take("a", "b")
    assert list(refused) == ["b"]
    assert f"then delete {path}" in refused["b"]


@pytest.mark.parametrize("text", ["[]", "[" * 100_000, '{"pid": "x"}', "newer"])
def test_what_cannot_be_understood_is_respected_and_named(tmp_path, me, take, text):
    path = write_lock(tmp_path, me)
    path.write_text(json.dumps(asdict(me) | {"shares": 2}) if text == "newer" else text)
    _, refused = take("a", "b")
    assert list(refused) == ["a"]
    assert str(path) in refused["a"]
    assert "delete it" in refused["a"]


def test_a_folder_in_a_locks_place_is_named(tmp_path, take):
    (tmp_path / "locks" / "a.json").mkdir(parents=True)
    assert "Is a directory" in take("a")[1]["a"]


def test_an_empty_lock_as_a_kill_left_it_hinders_nobody(tmp_path, take):
    write_lock(tmp_path, None)
    assert take("a") == ((), {})


def test_leases_of_killed_runs_are_cleared_away(tmp_path, me, take):
    write_lock(tmp_path, replace(me, born="1"))
    elsewhere, expired = replace(me, host="elsewhere"), {"age_s": EXPIRED_S}
    for name, owner, age in (
        ("dead", replace(me, born="1"), {}),
        ("alive", me, expired),
        ("expired", elsewhere, expired),
        ("young", elsewhere, {}),
    ):
        write_lock(tmp_path, owner, **age).rename(tmp_path / "locks" / f".{name}.lease")
    take("a")
    assert sorted(path.name for path in (tmp_path / "locks").glob(".*.lease")) == [
        ".alive.lease",
        ".run_2.lease",
        ".young.lease",
    ]


def test_one_process_at_a_time_judges_dead_owners(tmp_path, me):
    """Without the guard two runs could each remove the other's fresh lock for a dead one's."""
    write_lock(tmp_path, replace(me, born="1"))
    locks = CaseLocks(tmp_path, "run_2")
    with (tmp_path / "locks" / ".guard").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        waiting = threading.Thread(target=locks.acquire, args=(["a"],))
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
        assert json.loads((tmp_path / "locks" / "a.json").read_text())["run_id"] == "run_1"
    waiting.join(30)
    assert json.loads((tmp_path / "locks" / "a.json").read_text())["run_id"] == "run_2"
    locks.release()


def test_a_lock_that_was_taken_over_is_not_given_back(tmp_path, me):
    locks = CaseLocks(tmp_path, "run_2")
    locks.acquire(["a"])
    path = tmp_path / "locks" / "a.json"
    path.unlink()
    write_lock(tmp_path, me)
    locks.release()
    assert json.loads(path.read_text())["run_id"] == "run_1"
