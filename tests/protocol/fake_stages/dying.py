"""Processes that die at their n-th act on a file: all stages for one case, the driver, or a stage."""

import os
import signal
import sys
import warnings
from pathlib import Path

ACTS = frozenset({"os.link", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree"})
DIED = -signal.SIGKILL


def build_and_die(bench, number):
    """Build in a forked process; return DIED, or 0 if it came to its end before the n-th act."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about threads of other tests; the child starts none
        pid = os.fork()
    if pid == 0:
        try:
            die_at(number, str(bench.output))
            bench.build()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def die_at(number, root):
    """Kill this process just before its n-th act below root."""
    left = [number]

    def watch(event, arguments):
        writes = (
            event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
        )
        if event not in ACTS and not writes:
            return
        if isinstance(arguments[0], int) or root not in os.fsdecode(arguments[0]):
            return
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


def die_as_told():
    """In a stage's process: die where FAKE_DIE_AT says, below the folder of results."""
    number = os.environ.get("FAKE_DIE_AT")
    if number:
        request = Path(sys.argv[1])
        die_at(int(number), str(request.parents[4]))
