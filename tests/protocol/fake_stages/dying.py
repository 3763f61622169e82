"""Does all stages for one case in a process of its own, which dies at its n-th act on a file."""

import os
import sys
import warnings

ACTS = frozenset({"os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree"})
DIED = 9


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
    """End this process, as if by SIGKILL, just before the n-th act below root."""
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
            os._exit(DIED)

    sys.addaudithook(watch)
