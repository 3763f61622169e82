"""kill -9 at any moment, then the same command again: the same bytes."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from payerseg.config.weights import programs_parent

HERE = Path(__file__).resolve().parent
DRIVER = """
import signal, sys
# a shell starts what it puts in the background, this suite perhaps, deaf to interrupts
signal.signal(signal.SIGINT, signal.default_int_handler)
from pathlib import Path
from fake_stages.bench import Bench
bench = object.__new__(Bench)
from fake_stages.fake_catalog import LONG_PIPELINE
bench.inputs, bench.output, bench.pipeline = Path(sys.argv[1]), Path(sys.argv[2]), LONG_PIPELINE
print(bench.run().to_json())
"""
SCANS = {"a": "one", "b": "slow", "c": "extra", "d": "four"}


def environment():
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(programs_parent()), str(HERE)])}


@pytest.fixture
def long_bench(bench):
    from fake_stages.fake_catalog import LONG_PIPELINE

    bench.pipeline = LONG_PIPELINE
    return bench


def start_driver(bench, stdout=subprocess.DEVNULL):
    command = [sys.executable, "-c", DRIVER, str(bench.inputs), str(bench.output)]
    return subprocess.Popen(command, env=environment(), stdout=stdout)


def newest_child(bench):
    """Return the pid of the stage process that spoke last, if any."""
    logs = sorted(bench.output.glob(".payerseg/runs/*/*/*.events.jsonl"), key=os.path.getmtime)
    for log in reversed(logs):
        text = log.read_text()
        if '"pid": ' in text:
            return int(text.split('"pid": ')[1].split(",")[0])
    return None


@pytest.mark.parametrize("victim", ["driver", "stage"])
def test_killed_again_and_again(long_bench, victim):
    bench = long_bench
    bench.scans(**SCANS)
    bench.run()
    expected = bench.artifacts()
    shutil.rmtree(bench.output)
    for delay_s in (0.4, 0.7, 1.0, 1.4):
        driver = start_driver(bench)
        time.sleep(delay_s)
        pid = driver.pid if victim == "driver" else newest_child(bench)
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if victim == "driver":
            driver.kill()
        driver.wait()
    summary = bench.run()
    assert summary.exit_code == 0, summary.to_json()
    assert bench.artifacts() == expected
    assert not list(bench.output.glob("*/step*/.partial"))


def test_killed_at_every_act_on_a_file(long_bench):
    """An old result is being replaced; the process dies before each file act, one after the other."""
    from fake_stages.dying import DIED, build_and_die

    bench = long_bench
    bench.scans(a="extra")
    bench.build()
    old = bench.output.rename(bench.output.with_name("old"))
    bench.scans(a="review")
    bench.build()
    expected = bench.artifacts()
    number, died = 0, DIED
    while died == DIED:
        number += 1
        shutil.rmtree(bench.output)
        shutil.copytree(old, bench.output)
        died = build_and_die(bench, number)
        assert bench.untruths() == []
        bench.build()
        assert bench.artifacts() == expected, f"differs after a death at act {number}"
    assert died == 0
    assert number > 25, "the test must have met the acts"


@pytest.mark.parametrize("asked", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_is_told_and_can_be_continued(long_bench, asked):
    bench = long_bench
    bench.scans(**SCANS | {"b": "sleep"})  # so that the signal comes in time on a busy machine too
    driver = start_driver(bench, stdout=subprocess.PIPE)
    deadline = time.monotonic() + 30
    while not list(bench.output.glob("a/step1*/manifest.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    driver.send_signal(asked)
    out, _ = driver.communicate(timeout=30)
    assert driver.returncode == 0
    assert b'"exit_code": 130' in out
    assert b"the run was interrupted" in out
    left = {path.name for path in bench.output.glob(".payerseg/locks/*")}
    assert left == {".guard"}, "locks are given back"
    bench.scans(**SCANS)
    assert bench.run().exit_code == 0
