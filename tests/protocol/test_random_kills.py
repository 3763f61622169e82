"""A hundred deaths at random acts, then the same command again: no byte lost, no status untrue.

Who dies: the driver or a stage, just before a random one of its acts on files; or both at once, at a random
time. Every second run is to replace older results of which a person has edited one.
"""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from payerseg.config.weights import programs_parent

pytestmark = pytest.mark.slow
HERE = Path(__file__).resolve().parent
DEATHS = 100
OLD = {"a": "extra", "b": "two", "c": "review"}
NEW = {"a": "one", "b": "2", "c": "extra", "d": "four"}
BY_HAND = "what a person wrote\n"
DRIVER = """
import sys
from pathlib import Path
from fake_stages.bench import Bench
from fake_stages.dying import die_at
from fake_stages.fake_catalog import LONG_PIPELINE
bench = object.__new__(Bench)
bench.inputs, bench.output, bench.pipeline = Path(sys.argv[1]), Path(sys.argv[2]), LONG_PIPELINE
die_at(int(sys.argv[3]), sys.argv[2])
raise SystemExit(bench.run().exit_code)
"""
MOST_ACTS = {"driver": 90, "stage": 40}
NEVER = 10**9
HALVES = 8
"""When both die is drawn within the whole run, then, where that had ended, within half of it, and so on."""


class Scene:
    """A folder of scans to be done, on an empty disk or over older results; and how it must end."""

    def __init__(self, bench, root, *, replaces):
        self.bench, self.start = bench, root / "start"
        self.start.mkdir()
        if replaces:
            bench.scans(**OLD)
            bench.run()
            from fake_stages.fake_catalog import DERIVED

            bench.path(DERIVED, "b").write_text(BY_HAND)
            shutil.copytree(bench.output, self.start, dirs_exist_ok=True)
        bench.scans(**NEW)
        began = time.monotonic()
        self.expected = self.end()
        self.seconds = time.monotonic() - began
        assert not replaces or BY_HAND.encode() in self.expected.values()

    def reset(self):
        shutil.rmtree(self.bench.output, ignore_errors=True)
        shutil.copytree(self.start, self.bench.output)

    def end(self):
        """Let the command come to its end; return every artifact."""
        summary = self.bench.run()
        assert summary.exit_code == 0, summary.to_json()
        return self.bench.artifacts()

    def run_and_die(self, victim, dice):
        """Run the driver, let the victim die; return what happened, "" if it lived."""
        acts = HALVES if victim == "both" else dice.randrange(1, MOST_ACTS[victim])
        while acts:
            self.reset()
            happened = self._once(victim, acts, dice)
            if happened:
                return happened
            acts //= 2  # the process had come to its end before
        return ""

    def _once(self, victim, acts, dice):
        path = os.pathsep.join([str(programs_parent()), str(HERE)])
        environment = os.environ | {"PYTHONPATH": path}
        environment |= {"FAKE_DIE_AT": str(acts)} if victim == "stage" else {}
        last_act = str(acts if victim == "driver" else NEVER)
        places = [str(self.bench.inputs), str(self.bench.output), last_act]
        driver = subprocess.Popen([sys.executable, "-c", DRIVER, *places], env=environment)
        if victim == "both":
            time.sleep(dice.uniform(0.05, self.seconds * acts / HALVES))
            stages = children_of(driver.pid)
            for pid in (driver.pid, *stages):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        code = driver.wait()
        if victim == "stage":
            runs = sorted(self.bench.output.glob(".payerseg/runs/*/summary.json"))
            return f"at act {acts}" if "SIGKILL" in runs[-1].read_text() else ""
        if code != -signal.SIGKILL:
            return ""
        return f"at act {acts}" if victim == "driver" else f"with {len(stages)} stage(s)"


def children_of(pid):
    """Return the processes that a process has started."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    with contextlib.suppress(OSError):
        return [int(text) for text in path.read_text().split()]
    return []


@pytest.fixture(scope="module", params=[False, True], ids=["new", "over older results"])
def scene(request, tmp_path_factory):
    """One after the other, so that an undisturbed run is done once for fifty deaths."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(HERE)
        patch.setenv("PYTHONPATH", str(HERE))
        from fake_stages.bench import Bench
        from fake_stages.fake_catalog import LONG_PIPELINE

        root = tmp_path_factory.mktemp("kills")
        yield Scene(Bench(root, LONG_PIPELINE), root, replaces=request.param)
        for name in [name for name in sys.modules if name.startswith("fake_stages")]:
            del sys.modules[name]


@pytest.mark.parametrize("number", range(DEATHS // 2))
def test_nothing_is_lost(scene, number, record_property):
    dice = random.Random(number)
    victim = dice.choice(("driver", "stage", "both"))
    happened = scene.run_and_die(victim, dice)
    record_property("outcome", f"{victim} dies {happened}")
    assert happened, f"{victim} lived"
    bench, scans = scene.bench, {path: path.read_bytes() for path in scene.bench.inputs.iterdir()}
    assert bench.untruths() == []
    assert scene.end() == scene.expected
    assert {path: path.read_bytes() for path in bench.inputs.iterdir()} == scans
    assert not list(bench.output.glob("*/step*/.partial"))
    assert {path.name for path in bench.output.glob(".payerseg/locks/*")} <= {".guard"}
