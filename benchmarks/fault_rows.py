"""Rows of the campaign's table, and the parts of it that are slow tests."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1] / "tests"
PARTS = {
    "damages": "end_to_end/test_damaged_state.py",
    "headers": "end_to_end/test_fuzzed_headers.py",
    "kills": "protocol/test_random_kills.py",
    "disk": "protocol/test_full_disk.py",
    "many": "protocol/test_many_cases.py",
}
"""Part → the test that is it: 127 damaged results, 200 headers, 100 deaths, full disks, 3,000 cases."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; `right` is None where it could not be tried here."""

    script: str
    case: str
    outcome: str
    right: bool | None
    said: str = ""

    def __str__(self) -> str:
        verdict = {True: "right", False: "WRONG", None: "skip "}[self.right]
        said = " ".join(self.said.split())
        return f"{verdict} | {self.script} | {self.case} | {self.outcome} | {said[:160]}"


class _Teller:
    """A plugin of pytest that tells every test as a row, as soon as it has ended."""

    def __init__(self, tell: Callable[[Row], None]) -> None:
        self._tell = tell

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call" and report.outcome == "passed":
            return
        path, _, test = report.nodeid.partition("::")
        part = next((name for name, file in PARTS.items() if path.endswith(file)), path)
        case = test.partition("[")[2].removesuffix("]") or test
        told = dict(report.user_properties)
        right = None if report.skipped else report.passed
        crash = getattr(report.longrepr, "reprcrash", None)
        said = crash.message if crash else told.get("said", "")
        said = report.longrepr[2] if isinstance(report.longrepr, tuple) else said
        self._tell(Row(part, case, str(told.get("outcome", report.outcome)), right, said))


def run_tests(parts: Iterable[str], tell: Callable[[Row], None]) -> None:
    """Run parts of the campaign that are tests; `tell` gets a row for each."""
    files = [str(TESTS / PARTS[part]) for part in parts]
    options = ["-m", "slow", "-q", "-p", "no:cacheprovider", f"--rootdir={TESTS.parent}"]
    options += ["-c", str(TESTS.parent / "pyproject.toml")]
    with contextlib.redirect_stdout(io.StringIO()) as heard:
        code = pytest.main([*options, *files], plugins=[_Teller(tell)])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        tell(Row("pytest", "", f"exit {int(code)}", right=False, said=heard.getvalue()[-400:]))


def print_row(row: Row) -> None:
    """Print it where nothing is redirected."""
    print(row, file=sys.__stdout__, flush=True)
