import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict, replace

import pytest

from payerseg.driver.lock import CaseLocks, Owner
from payerseg.errors import UsageError


def write_lock(folder, owner, case_id="a"):
    path = folder / "locks" / f"{case_id}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(owner)) if owner else "")
    return path


@pytest.fixture
def me():
    return Owner.this_process("run_1")


def test_a_case_is_locked_once(tmp_path):
    first, second = CaseLocks(tmp_path, "run_1"), CaseLocks(tmp_path, "run_2")
    assert first.acquire(["a", "b"]) == ()
    with pytest.raises(UsageError, match=f"in the hands of run run_1 .process {os.getpid()} on"):
        second.acquire(["c", "b"])
    assert not (tmp_path / "locks" / "c.json").exists(), "all or none"
    assert second.acquire(["c"]) == ()
    first.release()
    second.release()
    assert second.acquire(["a", "b", "c"]) == ()


def test_the_lock_of_a_dead_process_is_taken_over_and_explained(tmp_path, me):
    child = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], stdout=subprocess.PIPE, check=True
    )
    dead = replace(me, pid=int(child.stdout), run_id="run_0", born="1")
    write_lock(tmp_path, dead, "a")
    write_lock(tmp_path, dead, "b")
    (remark,) = CaseLocks(tmp_path, "run_2").acquire(["a", "b"])
    assert "took over 2 case(s) from run run_0" in remark
    assert f"process {dead.pid} on {platform.node()} is no longer alive" in remark


@pytest.mark.skipif(sys.platform != "linux", reason="start times come from /proc")
def test_a_number_that_another_process_has_now_is_no_owner(tmp_path, me):
    write_lock(tmp_path, replace(me, born="1"))
    assert CaseLocks(tmp_path, "run_2").acquire(["a"])


def test_a_lock_from_before_the_machine_was_started_is_stale(tmp_path, me):
    write_lock(tmp_path, replace(me, boot="an earlier one"))
    assert CaseLocks(tmp_path, "run_2").acquire(["a"])


def test_another_host_is_believed_and_the_way_out_is_told(tmp_path, me):
    path = write_lock(tmp_path, replace(me, host="elsewhere", pid=1))
    with pytest.raises(UsageError, match="delete") as caught:
        CaseLocks(tmp_path, "run_2").acquire(["a"])
    assert str(path) in str(caught.value)


def test_a_lock_that_is_being_written_is_respected_an_old_empty_one_is_not(tmp_path):
    path = write_lock(tmp_path, None)
    with pytest.raises(UsageError, match="just being locked"):
        CaseLocks(tmp_path, "run_2").acquire(["a"])
    os.utime(path, (1, 1))
    assert CaseLocks(tmp_path, "run_2").acquire(["a"]) == ()


def test_a_release_leaves_others_alone(tmp_path, me):
    path = write_lock(tmp_path, me, "other")
    locks = CaseLocks(tmp_path, "run_2")
    locks.acquire(["a"])
    locks.release()
    assert path.exists()
    assert [item.name for item in path.parent.glob("*.json")] == ["other.json"]
