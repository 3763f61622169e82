"""3,000 tiny cases: done, then asked for again; what is fresh costs no wait for the disk and no writing."""

import os
import time

import pytest

from payerseg.results.case_folder import DRIVER_FOLDER
from payerseg.results.fingerprint import MEMO_FILE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
N_CASES = 3000


def test_3000_cases_and_the_same_again(bench, monkeypatch, record_property):
    from fake_stages.fake_catalog import LONG_PIPELINE

    bench.pipeline = LONG_PIPELINE
    bench.scans(**{f"c{number:04d}": f"text {number}" for number in range(N_CASES)})
    figures, waits = [], []
    sync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (waits.append(file), sync(file)))

    def run():
        waits.clear()
        began = time.monotonic()
        summary = bench.run({"case_s": 600.0})
        figures.append(f"{time.monotonic() - began:.1f} s, {len(waits)} waits of the driver")
        assert summary.exit_code == 0
        assert len(summary.cases) == N_CASES
        return summary

    run()
    expected = bench.artifacts()
    assert len(expected) == 3 * N_CASES
    run()
    first, *others = bench.output.glob("c*/status.json")
    files = [first, *others, bench.output / DRIVER_FOLDER / MEMO_FILE]
    before = {path: path.stat().st_mtime_ns for path in files}
    summary = run()
    record_property("outcome", "; ".join(figures))
    states = {str(outcome.state) for case in summary.cases for outcome in case.stages.values()}
    assert states == {"fresh"}
    assert len(waits) <= 2, "the run's own record only"
    assert before == {path: path.stat().st_mtime_ns for path in files}, "nothing new to write"
    assert bench.artifacts() == expected
    assert bench.untruths() == []
