"""A stage run by hand: any request of any run can be replayed without the driver."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from payerseg.config.weights import programs_parent


@pytest.fixture
def request_file(bench):
    bench.scans(a="one")
    bench.run()
    return next(bench.output.glob(".payerseg/runs/*/1_*/request-0.json"))


def start(request, *options, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
    path = os.pathsep.join([str(programs_parent()), os.environ["PYTHONPATH"]])
    return subprocess.Popen(
        [sys.executable, "-m", "fake_stages.behave", str(request), *options],
        env={**os.environ, "PYTHONPATH": path},
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=stderr,
        cwd="/",
    )


def test_replay_gives_the_same_bytes(bench, request_file):
    before = bench.artifacts()
    process = start(request_file)  # without a leash, an empty standard input means nothing
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert b'"stage_finished"' in out.splitlines()[-1]
    assert bench.artifacts() == before
    assert bench.run().cases[0].stages["spine_localization"].state == "fresh"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_log_on_a_full_disk_costs_the_log_only(bench):
    bench.scans(a="bug", b="noise", c="three")
    bench.run()
    request = next(bench.output.glob(".payerseg/runs/*/1_*/request-0.json"))
    with Path("/dev/full").open("w") as full:
        out, _ = start(request, stderr=full).communicate(timeout=30)
    events = [json.loads(line) for line in out.splitlines()]
    failed = {
        event["case_id"]: event["kind"] for event in events if event["event"] == "case_failed"
    }
    assert failed["a"] == "bug"
    assert "c" not in failed
    assert events[-1]["event"] == "stage_finished"


def test_a_leashed_stage_ends_with_its_driver(bench, request_file, monkeypatch):
    monkeypatch.setenv("FAKE_SETUP", "hang")
    process = start(request_file, "--leashed", stdin=subprocess.PIPE)
    assert b"stage_started" in process.stdout.readline()
    process.stdin.close()
    began = time.monotonic()
    assert process.wait(10) == 130
    assert time.monotonic() - began < 5
    process.stdout.close()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's part of the leash is Linux's")
def test_a_frozen_interpreter_ends_with_its_driver(bench):
    """The driver is killed while native code holds the child's interpreter."""
    bench.scans(a="freeze")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from fake_stages.fake_catalog import PIPELINE\n"
        "from pathlib import Path\n"
        "from payerseg.driver.run import run_pipeline\n"
        "from payerseg.driver.settings import RunSettings\n"
        "run_pipeline(RunSettings(Path(sys.argv[3]), (Path(sys.argv[2]),), pipeline=PIPELINE))\n"
    )
    here = str(Path(__file__).parent)
    path = os.pathsep.join([str(programs_parent()), here])
    driver = subprocess.Popen(
        [sys.executable, "-c", code, here, str(bench.inputs), str(bench.output)],
        env={**os.environ, "PYTHONPATH": path},
    )
    try:
        pid = wait_for_case(bench)
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    deadline = time.monotonic() + 5
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(pid), "an orphan stayed"


def wait_for_case(bench):
    """Return the child's pid once it works on its case."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for events in bench.output.glob(".payerseg/runs/*/1_*/*.events.jsonl"):
            text = events.read_text()
            if "case_started" in text:
                return int(text.split('"pid": ')[1].split(",")[0])
        time.sleep(0.05)
    raise AssertionError("the stage never began")


def is_alive(pid):
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('"protocol": 1', '"protocol": 2'), "protocol 2"),
        (('"stage_version": 1', '"stage_version": 9'), "version 9"),
        (('"threshold"', '"treshold"'), "treshold"),
        (('"cases"', '"case"'), "required field `cases`"),
        (("{", ""), "not JSON"),
    ],
)
def test_a_request_that_is_not_understood_is_rejected(request_file, change, said):
    request_file.write_text(request_file.read_text().replace(*change, 1))
    process = start(request_file)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 2
    assert b"stage_rejected" in out
    assert said.encode() in out
