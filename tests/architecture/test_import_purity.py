"""Importing does no work; the driver and the command line stay light."""

import json
import subprocess
import sys

HEAVY = ("numpy", "keras", "tensorflow", "SimpleITK", "scipy", "pandas", "nibabel")
PURE = """
import importlib, json, os, pkgutil, sys, threading
import payerseg
for heavy in ("keras", "SimpleITK", "pandas", "networkx", "nibabel", "scipy.ndimage", "scipy.signal",
              "tensorboardX"):
    importlib.import_module(heavy)  # what third parties do at import is theirs
sys.stdout.flush()
blame = []
names = [m.name for m in pkgutil.walk_packages(payerseg.__path__, "payerseg.")]
for name in sorted(n for n in names if not n.endswith("__main__")):
    before = dict(os.environ), os.getcwd(), threading.active_count()
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("payerseg"):
            blame.append(f"{name}: {error}")
    if before != (dict(os.environ), os.getcwd(), threading.active_count()):
        blame.append(f"{name} changed environment, folder or threads")
print(json.dumps(blame))
"""
LIGHT = """
import importlib, json, sys
importlib.import_module({name!r})
print(json.dumps(sorted(set({heavy!r}) & set(sys.modules))))
"""


def run_python(code, cwd):
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.strip().splitlines()
    assert len(lines) == 1, f"importing printed: {lines[:-1]}"
    return json.loads(lines[0])


def test_importing_does_no_work(repository):
    assert run_python(PURE, repository) == []


def test_the_driver_is_light(repository):
    assert run_python(LIGHT.format(name="payerseg.driver.run", heavy=HEAVY), repository) == []


def test_the_command_line_is_light(repository):
    assert run_python(LIGHT.format(name="payerseg.cli.app", heavy=HEAVY), repository) == []


def test_the_package_is_light(repository):
    heavy = (*HEAVY, "payerseg.api")
    assert run_python(LIGHT.format(name="payerseg", heavy=heavy), repository) == []
