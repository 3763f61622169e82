"""How much memory a process says it uses."""

import sys

import pytest

from payerseg.stagekit import memory


def test_linux_says_it_in_kibibytes(tmp_path, monkeypatch):
    status = tmp_path / "status"
    status.write_text("Name:\tpython\nVmHWM:\t  2000000 kB\nVmRSS:\t 1000000 kB\n")
    monkeypatch.setattr(memory, "PROC_STATUS", status)
    assert memory.memory_mb() == memory.Memory(now=1024.0, peak=2048.0)
    status.write_text("Name:\tkernel thread\n")
    assert memory.memory_mb() == memory.Memory(0.0, 0.0)


@pytest.mark.parametrize(("platform", "unit"), [("darwin", 1), ("freebsd14", 1024)])
def test_elsewhere_only_the_peak_is_known(tmp_path, monkeypatch, platform, unit):
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(memory, "PROC_STATUS", tmp_path / "none")
    monkeypatch.setattr(sys, "platform", platform)
    used = type("Usage", (), {"ru_maxrss": 3_000_000})
    monkeypatch.setattr(resource, "getrusage", lambda _: used)
    assert memory.memory_mb() == memory.Memory(0.0, 3.0 * unit)


def test_where_nothing_says_it(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "PROC_STATUS", tmp_path / "none")
    monkeypatch.setitem(sys.modules, "resource", None)  # as on Windows
    assert memory.memory_mb() == memory.Memory(0.0, 0.0)
