"""Does what the text says; anything else it turns into capitals."""

import ctypes
import errno
import os
import signal
import sys
import time
from pathlib import Path

from fake_stages.dying import die_as_told
from fake_stages.fake_catalog import BEHAVE, DERIVED, EXTRA, TEXT
from payerseg.errors import BundleError
from payerseg.stagekit.worker import run_stage


def sleep(_):
    time.sleep(60)


def segfault(_):
    ctypes.string_at(0)


def kill_itself(_):
    os.kill(os.getpid(), signal.SIGKILL)


def freeze(_):
    ctypes.PyDLL(None).sleep(60)  # PyDLL, unlike CDLL, does not release the interpreter's lock


def ignore_sigterm(_):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(60)


def end_early(_):
    os._exit(0)


def noise(_):
    print("a print")
    os.write(1, b"native noise\n" * 100)
    os.system("echo noise of a grandchild")


def flood(_):
    for _i in range(5000):
        sys.stderr.write("x" * 1000 + "\n")


def fill_disk(case):
    with case.path_for(DERIVED) as path:
        path.write_text("half of it")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def out_of_memory(_):
    raise MemoryError


def bug(_):
    raise KeyError("nobody thought of this")


def write_nothing(case):
    case.end_message = "no output"


def review(case):
    case.note("needs_review", True)
    case.note("review_reasons", ["the level is uncertain", "one mask is small"])


def extra(case):
    with case.path_for(EXTRA) as folder:
        (folder / "a.txt").write_text("a")
        (folder / "b.txt").write_text("b")


def leave_grandchild(_):
    import subprocess

    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3)"])


def slow(case):
    for i in range(30):
        case.progress("count", i, 30)
        time.sleep(0.1)


ACTIONS = {
    name: action
    for name, action in list(globals().items())
    if callable(action) and getattr(action, "__module__", "") == __name__
}


class Behave:
    def __init__(self, setup):
        trick = os.environ.get("FAKE_SETUP", "")
        if trick == "reject":
            raise BundleError("these weights are for another stage")
        if trick == "bug":
            raise KeyError("setup")
        if trick == "memory":
            raise MemoryError
        if trick == "segfault":
            ctypes.string_at(0)
        if trick == "hang":
            time.sleep(60)
        self.setup = setup

    def __call__(self, case):
        text = Path(case.folder.path(TEXT)).read_text()
        if text in ACTIONS:
            ACTIONS[text](case)
        if text == "write_nothing":
            return
        if text == "grow":
            time.sleep(float(os.environ.get("FAKE_SLEEP", "0")))
        with case.path_for(DERIVED) as path:
            path.write_text(f"{text.upper()} {self.setup.config.threshold}\n")


if os.environ.get("FAKE_SETUP") == "slow_import":
    time.sleep(60)

if __name__ == "__main__":
    die_as_told()
    raise SystemExit(run_stage(BEHAVE, Behave))
